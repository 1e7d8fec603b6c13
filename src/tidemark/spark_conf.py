"""What Spark is told at its start, without importing pyspark: Airflow's Dag parse reads it too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tidemark.azure_url import is_azure
from tidemark.jars import azure_jar_folder, class_archive, jar_folder, submit_variables

# Needed on every open-source Spark: Delta itself, and the meaning of a timestamp.
COMMON_CONF: dict[str, str] = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "false",
}
# Hadoop's driver leaves threads behind that would keep Java alive for ever.
_AZURE_CONF = {"spark.submit.callSystemExitOnMainExit": "true"}
# For a laptop's `local[*]` alone: the defaults are made for a cluster (200 shuffle partitions, 50
# partitions to read a Delta log) and cost seconds on small data. There, what is generated
# (`session.suit_to` turns that back on for much data), planned anew or checked for each query costs
# more than it saves, and Hadoop's other way to write a checkpoint starts two processes for each
# file. For many millions of rows, give the connection a cluster's master.
LOCAL_CONF: dict[str, str] = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    # A run over two tables has more than Spark's 100, of which the next job could use none.
    "spark.sql.codegen.cache.maxEntries": "1000",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.lightweightPlanChangeValidation": "false",
    "spark.sql.shuffle.partitions": "2",
    # To list a table's folders of days: else a task for each of them.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "8",
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing"
        ".FileSystemBasedCheckpointFileManager"
    ),
    # The context outlives its job (`spark.kept_context`), and the next may bring other rules.
    "spark.python.worker.reuse": "false",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
# The collector that starts no threads of its own.
LOCAL_JAVA_OPTIONS = "-XX:+UseSerialGC -Xmn350m"


def is_local(master: str) -> bool:
    """Tell whether a Spark master runs everything in one JVM on this machine."""
    # Not "localhost", which may be a cluster's master.
    return master == "local" or master.startswith("local[")


def conf_for(master: str, lake_root: str = "") -> dict[str, str]:
    """Give the settings to start Spark with; they hold no secret.

    They name Delta's JARs, those that the lake needs and, on a laptop, the archive of classes, if
    the set-up has made them.

    Args:
        master: Where it runs (``local[*]``, ``spark://host:7077``).
        lake_root: The lake's root.
    """
    jars = sorted(str(jar) for jar in jar_folder().glob("*.jar"))
    if is_azure(lake_root):
        # Behind the others, or Java would not take classes from the archive.
        jars += sorted(str(jar) for jar in azure_jar_folder().glob("*.jar"))
    common = COMMON_CONF | (_AZURE_CONF if is_azure(lake_root) else {})
    if not is_local(master):
        return common | ({"spark.jars": ",".join(jars)} if jars else {})
    # On the class path and not in `spark.jars`: only there Java takes classes from an archive.
    on_class_path = {"spark.driver.extraClassPath": os.pathsep.join(jars)} if jars else {}
    java = {"spark.driver.extraJavaOptions": _java_options()}
    return common | LOCAL_CONF | java | on_class_path


def small_job() -> str:
    """Give the path of a script that does once what the jobs do, without any data of ours."""
    return str(Path(__file__).parent / "spark" / "small_job.py")


def job_variables(environ: Mapping[str, str], master: str) -> dict[str, str]:
    """Give the variables that a job's spark-submit gets beside the worker's own environment."""
    # On a laptop the host's name may lead to an address that changes with the network.
    local = {"SPARK_LOCAL_IP": "127.0.0.1"} if is_local(master) else {}
    return submit_variables(environ) | local


def _java_options() -> str:
    archive = class_archive()
    # Spark splits Java's options at blanks: with one in the path, Java would not start at all.
    if not archive.exists() or " " in str(archive):
        return LOCAL_JAVA_OPTIONS
    # Another Java than the one that made it passes over it, and need not say so.
    return f"{LOCAL_JAVA_OPTIONS} -XX:SharedArchiveFile={archive} -Xlog:disable -Xlog:all=error"
