"""The Spark context that one job leaves to the next, with no trace of itself in it.

Spark forgets with a context the code that it has compiled for it, and that is worth more than a
small table's work. A session is each job's own: settings, views and functions stay in it.
"""

from __future__ import annotations

from typing import Any

from pyspark import SparkContext
from pyspark.sql import SparkSession


def join(jvm: Any) -> None:
    """Begin a session in the context that the last job left; nothing, if there is none.

    Args:
        jvm: The Java machine.
    """
    left = SparkSession._get_j_spark_session_module(jvm).getDefaultSession()  # noqa: SLF001
    if left.isEmpty() or left.get().sparkContext().isStopped():
        return
    context = SparkContext(appName="job", jsc=jvm.JavaSparkContext(left.get().sparkContext()))
    # One that is made of the last: each that is made of nothing listens to the context for ever.
    SparkSession(context, left.get().newSession())


def leave(jvm: Any, *, well: bool) -> None:
    """Leave the context to the next job; or end it, where it is no longer as it began.

    Args:
        jvm: The Java machine.
        well: Whether the job ended well; otherwise its threads may be at work still.
    """
    context = SparkContext._active_spark_context  # noqa: SLF001
    if context is None:
        return
    session = SparkSession.getActiveSession()
    if not well or session is None or session.streams.active or _is_changed(jvm, context):
        context.stop()
        return
    session.catalog.clearCache()
    for rows in context._jsc.getPersistentRDDs().values():  # noqa: SLF001  no word in Python
        rows.unpersist(True)


def _is_changed(jvm: Any, context: SparkContext) -> bool:
    """Tell whether a context works still, or opens files otherwise than another would.

    What opens a lake in Azure is the context's own setting: a key of one job is not for another.
    """
    java = context._jsc.sc()  # noqa: SLF001
    hadoop = jvm.org.apache.spark.deploy.SparkHadoopUtil.get().newConfiguration(java.conf())
    return bool(
        any(name.startswith("spark.hadoop.fs.azure") for name, _ in context.getConf().getAll())
        or not java.dagScheduler().activeJobs().isEmpty()
        or not _settings(java.hadoopConfiguration()).equals(_settings(hadoop))
    )


def _settings(hadoop: Any) -> Any:
    """Give Hadoop's settings, without the one that Spark itself adds with the first session."""
    settings = hadoop.getPropsWithPrefix("")
    settings.remove("hive.metastore.warehouse.dir")
    return settings
