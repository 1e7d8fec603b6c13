"""The Spark context that one job leaves to the next, with no trace of itself in it.

Spark forgets with a context the code that it has compiled for it, and that is worth more than a
small table's work. A session is each job's own: settings, views and functions stay in it. Where a
job has added anything to the context itself, the context ends with the job.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pyspark import SparkContext
from pyspark.sql import SparkSession

_AZURE = "spark.hadoop.fs.azure"


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
    with suppress(Exception):  # the job has ended well, whatever is wrong with its context
        session = SparkSession.getActiveSession()
        if well and session is not None and _is_as_it_began(jvm, context, session):
            session.catalog.clearCache()
            for rows in context._jsc.getPersistentRDDs().values():  # noqa: SLF001  none in Python
                rows.unpersist(True)
            return
    context.stop()


def _is_as_it_began(jvm: Any, context: SparkContext, session: SparkSession) -> bool:
    """Tell whether nothing is at work in a context, and nothing was added to it.

    What opens a lake in Azure is the context's own setting: a key of one job is not for another.
    """
    java = context._jsc.sc()  # noqa: SLF001
    shared = session._jsparkSession.sharedState()  # noqa: SLF001
    catalog = shared.externalCatalog()
    hadoop = jvm.org.apache.spark.deploy.SparkHadoopUtil.get().newConfiguration(java.conf())
    return bool(
        java.dagScheduler().activeJobs().isEmpty()
        and shared.activeStreamingQueries().isEmpty()
        and java.listFiles().isEmpty()
        and java.listJars().isEmpty()
        and shared.globalTempViewManager().listViewNames("*").isEmpty()
        and catalog.listDatabases().size() == 1
        and catalog.listTables("default").isEmpty()
        and not any(name.startswith(_AZURE) for name, _ in context.getConf().getAll())
        and _settings(java.hadoopConfiguration()).equals(_settings(hadoop))
    )


def _settings(hadoop: Any) -> Any:
    """Give Hadoop's settings, without the one that Spark itself adds with the first session."""
    settings = hadoop.getPropsWithPrefix("")
    settings.remove("hive.metastore.warehouse.dir")
    return settings
