"""One Spark session for all Spark tests: starting one takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from pyspark.sql import SparkSession

from tidemark import spark_conf
from tidemark.spark.session import build_session

# A job's JVM ends before Java's second compiler has paid; this one lives for ten minutes.
_JAVA_OPTIONS = spark_conf.LOCAL_JAVA_OPTIONS.replace("-XX:TieredStopAtLevel=1 ", "")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """Give a local session with Delta, in UTC."""
    with patch.object(spark_conf, "LOCAL_JAVA_OPTIONS", _JAVA_OPTIONS):
        session = build_session("tidemark-tests", master="local[2]")
    yield session
    session.stop()
