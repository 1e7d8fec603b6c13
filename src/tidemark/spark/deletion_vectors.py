"""Deletion vectors for tables that have grown large, so that a MERGE writes what it changes.

Without them Delta writes every file anew that holds a changed row: of a million rows all, when one
in a hundred changes. With them it notes which rows of a file no longer count, and writes the new
ones beside. A reader must know of them, so that a small table, which is quickly written anew, stays
one that any reader takes.
"""

from __future__ import annotations

from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from tidemark.spark.engine import is_databricks
from tidemark.spark.rules import quoted
from tidemark.spark.session import bytes_in

LARGE_ROWS = 200_000
# Less than this is written anew in no time, and need not be counted.
NEGLIGIBLE_BYTES = 1 << 20
_PROPERTY = "delta.enableDeletionVectors"


def enable_when_large(session: SparkSession, path: str) -> None:
    """Give a table deletion vectors if it is large and nobody has decided about them.

    It makes a commit of its own, and at most once in a table's life: to be called before a MERGE
    and outside of `tidemark.spark.stream.once`, or that commit might pass for the batch's.

    Args:
        session: The session.
        path: URL of a Delta table; nothing is done where there is none.
    """
    if is_databricks():
        return  # which decides by itself, and lets nobody but Spark look into the lake
    if bytes_in(session, path) < NEGLIGIBLE_BYTES or not DeltaTable.isDeltaTable(session, path):
        return
    table = f"delta.{quoted(path)}"
    # Not by DESCRIBE DETAIL, which has Spark read the whole log to add up its files.
    if any(row["key"] == _PROPERTY for row in session.sql(f"SHOW TBLPROPERTIES {table}").collect()):
        return
    # Delta answers from the statistics in its log.
    if session.read.format("delta").load(path).count() >= LARGE_ROWS:
        session.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('{_PROPERTY}' = 'true')")
