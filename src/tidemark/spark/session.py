"""The Spark session of a job: the same code under spark-submit, in a test and on Databricks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from tidemark.azure_hadoop import azure_conf
from tidemark.azure_url import is_azure
from tidemark.lake_access import load_access
from tidemark.spark.engine import is_databricks
from tidemark.spark.unity_catalog import use_service_credential
from tidemark.spark_conf import conf_for

# Spark's warnings (native libraries, loopback address, window without partition) are about the
# machine, not about the data; what a job has to say it prints itself.
LOG_LEVEL = "ERROR"
_ON_A_CLUSTER = 8  # tables; what it has of cores is not known where there is no SparkContext
_FEW_BYTES = 2 * 2**20  # of Parquet: some twenty thousand rows


def build_session(app_name: str, master: str | None = None, lake_root: str = "") -> SparkSession:
    """Start a session with Delta, in UTC; or return the one that is active (Databricks).

    Args:
        app_name: What Spark's own pages call the job.
        master: Where to run when Python starts Spark itself, by default ``local[*]``. Under
            spark-submit its ``--master`` counts, and so does each setting that was submitted:
            ours only fill in what is missing.
        lake_root: The lake's root; in Azure, the session gets what opens it.
    """
    use_service_credential()
    active = SparkSession.getActiveSession()
    if active is not None or is_databricks():
        # There the lake is opened by Unity Catalog, and all settings are the cluster's.
        return active or SparkSession.builder.getOrCreate()
    submitted = _submitted()
    chosen = submitted.get("spark.master") or master or "local[*]"
    wanted = conf_for(chosen, lake_root) | {"spark.master": chosen, "spark.log.level": LOG_LEVEL}
    if is_azure(lake_root):
        wanted |= azure_conf(lake_root, load_access())
    if not submitted:
        # A rule's UDF runs in a Python of its own, which must be this one.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app_name)
    for key, value in wanted.items():
        if key not in submitted:
            builder = builder.config(key, value)
    return builder.getOrCreate()


def suit_to(session: SparkSession, folders: Iterable[str]) -> None:
    """Let Spark generate code where there is enough work for it.

    For a few thousand rows that costs more than it saves, so on a laptop it is off at first
    (`tidemark.spark_conf`); for a hundred thousand, going without takes three times as long.

    Args:
        session: The session.
        folders: URLs of what the work is proportional to.
    """
    if is_databricks():
        return  # its own engine, and perhaps no JVM at hand
    if session.conf.get("spark.sql.codegen.factoryMode") != "NO_CODEGEN":
        return
    if sum(bytes_in(session, folder) for folder in folders) > _FEW_BYTES:
        session.conf.set("spark.sql.codegen.factoryMode", "FALLBACK")
        session.conf.set("spark.sql.codegen.wholeStage", "true")


def bytes_in(session: SparkSession, folder: str) -> int:
    """Say how much lies in a folder, by its URL; 0 if it is not there."""
    context = session.sparkContext
    path = context._jvm.org.apache.hadoop.fs.Path(folder)  # type: ignore[union-attr]  # noqa: SLF001
    files = path.getFileSystem(context._jsc.hadoopConfiguration())  # noqa: SLF001
    return int(files.getContentSummary(path).getLength()) if files.exists(path) else 0


def tables_at_once(session: SparkSession) -> int:
    """Say how many tables to work on side by side: one a core, and not so many as to starve."""
    if is_databricks():
        return _ON_A_CLUSTER
    return max(2, min(8, session.sparkContext.defaultParallelism))


def _submitted() -> dict[str, str]:
    """Return the settings of the spark-submit that started this process; empty if none did."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    SparkContext._ensure_initialized()  # noqa: SLF001  the only way to the JVM before a context
    return dict(SparkConf().getAll())
