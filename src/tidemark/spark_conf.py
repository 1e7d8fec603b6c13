"""What Spark is told at its start, without importing pyspark: Airflow's Dag parse reads it too."""

from __future__ import annotations

from tidemark.jars import jar_folder

# Needed on every open-source Spark: Delta itself, and the meaning of a timestamp.
COMMON_CONF: dict[str, str] = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "false",
}
# For a laptop's `local[*]` alone: the defaults are made for a cluster (200 shuffle partitions, 50
# partitions to read a Delta log) and cost seconds on small data. The JVM lives for half a minute:
# its first compiler tier is the faster one, and code that Spark generates and compiles for each
# query costs more than it saves. For millions of rows, give the connection a cluster's master.
LOCAL_CONF: dict[str, str] = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.driver.host": "127.0.0.1",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}


def is_local(master: str) -> bool:
    """Tell whether a Spark master runs everything in one JVM on this machine."""
    # Not "localhost", which may be a cluster's master.
    return master == "local" or master.startswith("local[")


def conf_for(master: str) -> dict[str, str]:
    """Give the settings to start Spark with on `master` (``local[*]``, ``spark://host:7077``)."""
    return COMMON_CONF | (LOCAL_CONF if is_local(master) else {})


def delta_jars() -> list[str]:
    """Give Delta's JARs, which the set-up resolved once into this environment, sorted."""
    return sorted(str(jar) for jar in jar_folder().glob("*.jar"))
