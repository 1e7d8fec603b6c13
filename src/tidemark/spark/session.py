"""The Spark session of a job: the same code under spark-submit, in a test and on Databricks."""

from __future__ import annotations

import os
import sys

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from tidemark.spark_conf import conf_for

# Spark's warnings (native libraries, loopback address, window without partition) are about the
# machine, not about the data; what a job has to say it prints itself.
LOG_LEVEL = "ERROR"


def build_session(app_name: str, master: str | None = None) -> SparkSession:
    """Start a session with Delta, in UTC; or return the one that is active (Databricks).

    Args:
        app_name: What Spark's own pages call the job.
        master: Where to run when Python starts Spark itself, by default ``local[*]``. Under
            spark-submit its ``--master`` counts, and so does each setting that was submitted:
            ours only fill in what is missing.
    """
    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    submitted = _submitted()
    chosen = submitted.get("spark.master") or master or "local[*]"
    wanted = conf_for(chosen) | {"spark.master": chosen, "spark.log.level": LOG_LEVEL}
    if not submitted:
        # A rule's UDF runs in a Python of its own, which must be this one.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app_name)
    for key, value in wanted.items():
        if key not in submitted:
            builder = builder.config(key, value)
    return builder.getOrCreate()


def tables_at_once(session: SparkSession) -> int:
    """Say how many tables to work on side by side: one a core, and not so many as to starve."""
    return max(2, min(8, session.sparkContext.defaultParallelism))


def _submitted() -> dict[str, str]:
    """Return the settings of the spark-submit that started this process; empty if none did."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    SparkContext._ensure_initialized()  # noqa: SLF001  the only way to the JVM before a context
    return dict(SparkConf().getAll())
