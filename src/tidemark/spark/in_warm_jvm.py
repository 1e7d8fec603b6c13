"""Run a job's script in a Java machine that served other jobs before, and leave it clean.

The script runs as it would under spark-submit, with a session of its own. Delta's tables are looked
at anew, because a folder may have been swapped for another since. The Spark context stays for the
next job where the script went well and left nothing at work: what Spark has learned and prepared is
worth more than a small table's work.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from pyspark import SparkContext
from pyspark.sql import SparkSession


def main() -> None:
    """Run the script that the arguments name; its exit code is this process's own."""
    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(script).parent)
    SparkContext._ensure_initialized()  # noqa: SLF001  the only way to the JVM before a context
    jvm: Any = SparkContext._jvm  # noqa: SLF001
    jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    _join(jvm)
    well = False
    try:
        runpy.run_path(script, run_name="__main__")
        well = True
    except SystemExit as end:
        well = not end.code
        raise
    finally:
        _leave(jvm, well=well)


def _join(jvm: Any) -> None:
    """Take over the context that the last job left, if there is one."""
    left = getattr(getattr(jvm.org.apache.spark, "SparkContext$"), "MODULE$").getActive()
    if left.isDefined():
        SparkContext(appName="job", jsc=jvm.JavaSparkContext(left.get()))


def _leave(jvm: Any, *, well: bool) -> None:
    """Leave the context to the next job, without the session; or end both."""
    context = SparkContext._active_spark_context  # noqa: SLF001
    if context is None:
        return
    if not well or _is_in_use(context):
        context.stop()
        return
    sessions = SparkSession._get_j_spark_session_module(jvm)  # noqa: SLF001
    sessions.clearActiveSession()
    sessions.clearDefaultSession()


def _is_in_use(context: SparkContext) -> bool:
    """Tell whether a job left something that would go on, or open what it opened.

    What opens Azure is the context's own setting, and the key of one job is not for another.
    """
    session = SparkSession.getActiveSession()
    opened = any(key.startswith("spark.hadoop.fs.azure") for key, _ in context.getConf().getAll())
    return bool(
        opened
        or context.statusTracker().getActiveJobsIds()
        or context._jsc.getPersistentRDDs()  # noqa: SLF001  Python has no word for it
        or (session is not None and session.streams.active)
    )


if __name__ == "__main__":
    main()
