"""Run a job's script in a Java machine that served other jobs before, and leave it clean.

The script runs as it would under spark-submit, with a session of its own. Delta's tables are looked
at anew, because a folder may have been swapped for another since.
"""

from __future__ import annotations

import importlib
import runpy
import sys
import time
from pathlib import Path
from typing import Any

from pyspark import SparkContext

from tidemark.spark import kept_context

_NOT_ASKED_FOR = ("pandas", "pyarrow")


def main() -> None:
    """Run the script that the arguments name; its exit code is this process's own."""
    _spare_what_nobody_asked_for()
    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(script).parent)
    SparkContext._ensure_initialized()  # noqa: SLF001  the only way to the JVM before a context
    jvm: Any = SparkContext._jvm  # noqa: SLF001
    jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    _be_told_apart()
    kept_context.join(jvm)
    well = False
    try:
        runpy.run_path(script, run_name="__main__")
        well = True
    except SystemExit as end:
        well = not end.code
        raise
    finally:
        kept_context.leave(jvm, well=well)


def _spare_what_nobody_asked_for() -> None:
    """Load the module by which pyspark tells whether NumPy is there, as if pandas were not.

    pyspark asks it of every value that a column is made of, and it loads pandas and Arrow for
    tests of pyspark's own: half of the time that a job's Python takes. A rule that works with
    pandas loads it itself.
    """
    absent = [name for name in _NOT_ASKED_FOR if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's word for: not to be found
    try:
        importlib.import_module("pyspark.testing.utils")
    finally:
        for name in absent:
            del sys.modules[name]


def _be_told_apart() -> None:
    """Give our functions that Java calls other numbers than those of earlier jobs had.

    When Java lets go of a function, at any time, it tells whoever is at work now, by the number
    alone; and Python counts from 0 in each process.
    """
    gateway: Any = SparkContext._gateway  # noqa: SLF001
    gateway.gateway_property.pool.next_id = time.time_ns()


if __name__ == "__main__":
    main()
