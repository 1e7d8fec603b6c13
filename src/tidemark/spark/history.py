"""What change events amount to: the rows as they are now (SCD1) and every version (SCD2).

The semantics are Databricks' AUTO CDC: https://docs.databricks.com/aws/en/ldp/cdc. Both results are
functions of the *set* of a key's events: neither the order in which they arrive nor repetition
changes them. Where the documentation leaves a choice, two events of one key with one sequence, a
delete wins over an upsert, and of two upserts the one whose columns, by name, sort last.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as sf
from pyspark.sql.types import MapType, StructType, VariantType

from tidemark.spark.change_flow import ChangeFlow
from tidemark.spark.rules import column

SEQUENCE, DELETED = "__SEQUENCE", "__DELETED"
START, END = "__START_AT", "__END_AT"
_LAST, _BEGINS, _BOUNDARY = "__LAST", "__BEGINS", "__BOUNDARY"


def events_of(rows: DataFrame, flow: ChangeFlow) -> DataFrame:
    """Bring a source's rows into the form of events.

    Returns:
        The columns that the target gets, `SEQUENCE` and `DELETED`.
    """
    excluded = {name.lower() for name in flow.except_columns}
    deleted = sf.expr(flow.apply_as_deletes or "false")
    return rows.select(
        *(column(name) for name in rows.columns if name.lower() not in excluded),
        sf.expr(flow.sequence_by).alias(SEQUENCE),
        sf.coalesce(deleted, sf.lit(False)).alias(DELETED),
    )


def newest(events: DataFrame, keys: Sequence[str]) -> DataFrame:
    """Keep the newest event of each key, deletes included."""
    order = sf.struct(SEQUENCE, DELETED, content(events.schema, keys))
    chosen = sf.max_by(sf.struct(*map(column, events.columns)), order).alias("chosen")
    return events.groupBy(*map(column, keys)).agg(chosen).select("chosen.*")


def versions(events: DataFrame, keys: Sequence[str], tracked: Sequence[str]) -> DataFrame:
    """Turn all events of some keys into these keys' versions.

    A version begins where a tracked column differs from the key's preceding event, or where that
    one was a delete. It shows the columns of its latest event, and ends where the next version
    begins or a delete stands.

    Args:
        events: From `events_of`.
        keys: The columns that identify a row.
        tracked: The columns whose change begins a version; all but the keys if empty.

    Returns:
        The events' columns without `SEQUENCE` and `DELETED`; `START` and `END`, of the sequence's
        type. The current version has no `END`.
    """
    by_key = Window.partitionBy(*map(column, keys))
    in_order = by_key.orderBy(SEQUENCE)
    with_ties = by_key.orderBy(SEQUENCE, DELETED, content(events.schema, keys))
    state = sf.struct(sf.lit(0), *map(column, tracked or _others(events.columns, keys)))
    before, was_deleted = (sf.lag(value).over(in_order) for value in (state, sf.col(DELETED)))
    opened = sf.when(sf.col(_BEGINS), sf.col(SEQUENCE))
    after = sf.lead(_BOUNDARY).over(in_order)
    return (
        # Of the events with one sequence the last one counts.
        events.withColumn(_LAST, ~sf.lead(SEQUENCE).over(with_ties).eqNullSafe(sf.col(SEQUENCE)))
        .where(_LAST)
        .withColumn(_BEGINS, ~sf.col(DELETED) & (~before.eqNullSafe(state) | was_deleted))
        .withColumn(_BOUNDARY, sf.col(DELETED) | sf.col(_BEGINS))
        .withColumns(
            {
                _LAST: sf.coalesce(after, sf.lit(True)),
                START: sf.last(opened, ignorenulls=True).over(in_order),
                END: sf.lead(SEQUENCE).over(in_order),
            }
        )
        .where(sf.col(_LAST) & ~sf.col(DELETED))
        .drop(SEQUENCE, DELETED, _LAST, _BEGINS, _BOUNDARY)
    )


def content(schema: StructType, keys: Sequence[str], prefix: str = "") -> Column:
    """Give an event's columns as one value that sorts, whatever their order in the table.

    Args:
        schema: The events' or the target's columns.
        keys: Columns that need no comparing.
        prefix: What the columns' names begin with where they are looked up.
    """
    names = sorted(
        (f.name for f in schema if not isinstance(f.dataType, MapType | VariantType)),
        key=str.lower,
    )
    return sf.struct(
        # A struct needs a field, even where a table has keys only.
        sf.lit(0),
        *(column(prefix + name) for name in _others(names, keys)),
    )


def _others(names: Sequence[str], keys: Sequence[str]) -> list[str]:
    left_out = {name.lower() for name in (*keys, SEQUENCE, DELETED)}
    return [name for name in names if name.lower() not in left_out]
