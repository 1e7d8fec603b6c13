"""How much memory rows take once they are sent to wherever a table is read."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as sf
from pyspark.sql.types import BinaryType, StringType, StructType

from tidemark.spark.rules import column

_WORD = 8  # bytes: what Spark's row has for each field, and rounds a text up to


def bytes_of(schema: StructType, *, among: Column) -> Column:
    """Add up what rows take: a word for each field, and behind it what texts and binaries hold.

    Args:
        schema: The rows' columns.
        among: Which rows count.

    Returns:
        An aggregate, in bytes; NULL if no row counts.
    """
    size = sf.lit(_WORD * len(schema)).cast("bigint")
    for field in schema:
        if isinstance(field.dataType, StringType | BinaryType):
            size += sf.coalesce(sf.octet_length(column(field.name)), sf.lit(0))
    return sf.sum(sf.when(among, size))
