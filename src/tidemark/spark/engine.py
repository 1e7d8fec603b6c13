"""Which engine the code runs on."""

from __future__ import annotations

import os


def is_databricks() -> bool:
    """Tell whether this process runs on Databricks: its runtimes set DATABRICKS_RUNTIME_VERSION.

    Serverless compute and standard access mode are Spark Connect there: neither ``sparkContext``
    nor the JVM can be reached.
    """
    return bool(os.environ.get("DATABRICKS_RUNTIME_VERSION"))
