"""Whether a batch of events is later than all that are known, told without reading these.

Then what the target holds open is all that the batch's versions depend on, and the log of events
need not be read. Delta's statistics answer for the log's files.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.types import (
    ByteType,
    DataType,
    IntegerType,
    LongType,
    ShortType,
    StructType,
    TimestampType,
)

from tidemark.spark.history import SEQUENCE
from tidemark.spark.rules import quoted

_WHOLE_NUMBERS = (ByteType, ShortType, IntegerType, LongType)


def leading(schema: StructType) -> str | None:
    """Name what the events of a schema are sorted by first, in SQL.

    Returns:
        The sequence, or its first field; None if it is of a type that is not compared here.
    """
    name, kind = SEQUENCE, schema[SEQUENCE].dataType
    if isinstance(kind, StructType):
        name, kind = f"{SEQUENCE}.{quoted(kind[0].name)}", kind[0].dataType
    return name if _is_compared(kind) else None


def earliest(schema: StructType, *, among: Column) -> Column:
    """Find the first moment in a pass over events: a number for `are_all_earlier`.

    Args:
        schema: The events' columns.
        among: Which events count.

    Returns:
        An aggregate; NULL if there is none, or none that is compared.
    """
    name = leading(schema)
    if name is None:
        return sf.lit(None).cast("bigint")
    least = sf.min(sf.when(among, sf.col(SEQUENCE)))
    kind = schema[SEQUENCE].dataType
    value = least[kind[0].name] if isinstance(kind, StructType) else least
    first = kind[0].dataType if isinstance(kind, StructType) else kind
    return sf.unix_micros(value) if isinstance(first, TimestampType) else value.cast("bigint")


def are_all_earlier(known: DataFrame, moment: int | None) -> bool:
    """Tell whether all known events are earlier than a moment; False if that can't be told.

    An event whose first field is NULL sorts before all others.
    """
    name = leading(known.schema)
    if name is None or moment is None:
        return False
    value = sf.lit(moment)
    if not isinstance(known.select(name).schema[0].dataType, _WHOLE_NUMBERS):
        value = sf.timestamp_micros(value)
    return known.where(sf.col(name) >= value).isEmpty()


def _is_compared(kind: DataType) -> bool:
    return isinstance(kind, (*_WHOLE_NUMBERS, TimestampType))
