"""How much memory rows take once they are sent to wherever a table is read."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as sf
from pyspark.sql.types import (
    AtomicType,
    BinaryType,
    DecimalType,
    StringType,
    StructField,
    StructType,
)

from tidemark.spark.rules import column

_WORD = 8  # bytes: what Spark's row has for each field, and rounds a text up to
_DIGITS_IN_A_WORD = 18


def bytes_of(schema: StructType, *, among: Column) -> Column:
    """Add up what rows take: a word for each field, and behind it what does not fit into one.

    Args:
        schema: The rows' columns.
        among: Which rows count.

    Returns:
        An aggregate, in bytes; NULL if no row counts.
    """
    size = sf.lit(_WORD * len(schema)).cast("bigint")
    for field in schema:
        behind = _behind(field)
        if behind is not None:
            size += sf.coalesce(behind, sf.lit(0))
    return sf.sum(sf.when(among, size))


def _behind(field: StructField) -> Column | None:
    kind, value = field.dataType, column(field.name)
    if isinstance(kind, StringType | BinaryType):
        return sf.octet_length(value)
    if isinstance(kind, DecimalType):
        return sf.lit(2 * _WORD) if kind.precision > _DIGITS_IN_A_WORD else None
    # Of structs, arrays and maps the text is about as long as what Spark holds.
    return None if isinstance(kind, AtomicType) else sf.octet_length(sf.to_json(value))
