"""One Spark session for all Spark tests: starting one takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from tidemark.spark.session import build_session


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """Give a local session with Delta, in UTC."""
    session = build_session("tidemark-tests", master="local[2]")
    yield session
    session.stop()
