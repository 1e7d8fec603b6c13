"""AUTO CDC on Delta tables: a batch of events into a target, safe to repeat and to interrupt.

The result never depends on how the events were split into batches. What that takes beside the
target is kept in one auxiliary table: for SCD type 1 the deletes, so that an older upsert that
comes late stays deleted; for SCD type 2 every event, because a late one may cut a version in two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from tidemark.errors import PipelineError
from tidemark.spark.change_flow import ChangeFlow
from tidemark.spark.deletion_vectors import enable_when_large
from tidemark.spark.history import DELETED, END, SEQUENCE, START, content, newest, versions
from tidemark.spark.later import are_all_earlier, leading
from tidemark.spark.row_size import bytes_of
from tidemark.spark.rules import column, quoted
from tidemark.spark.stream import once

FEW_BYTES = 32 << 20  # in a memory that may be a gigabyte
_GONE, _NEW = "__GONE", "__NEW_"


@dataclass(frozen=True)
class Target:
    """A flow and where it writes.

    Attributes:
        flow: The declaration.
        table: URL of the target's Delta table.
        auxiliary: URL of the Delta table kept beside it.
    """

    flow: ChangeFlow
    table: str
    auxiliary: str


@dataclass(frozen=True)
class Events:
    """A stream's batch as events, and what identifies it across restarts.

    Attributes:
        rows: From `tidemark.spark.history.events_of`; read several times, so better persisted.
        has_deletes: Whether there is a delete among them.
        stream: The streaming query's id; a new checkpoint begins a new one.
        number: The batch's number in the stream, from 0.
        earliest: The first of their moments, from `tidemark.spark.later.earliest`; None if it is
            not known.
        size: What they take in memory, in bytes, by `tidemark.spark.row_size`.
    """

    rows: DataFrame
    has_deletes: bool
    stream: str
    number: int
    earliest: int | None = None
    size: int = 0


def apply_events(events: Events, target: Target) -> None:
    """Bring a target up to a batch of events.

    Raises:
        PipelineError: What earlier batches left behind is gone.
    """
    if target.flow.scd_type == 1:
        _require(events, target, target.table)
        remember_deletes(events, target)
        merge_newest(events, target)
    else:
        _require(events, target, target.auxiliary)
        session = events.rows.sparkSession
        first = not DeltaTable.isDeltaTable(session, target.auxiliary)
        # Asked before the append: after one that was cut off, a batch is no longer later.
        later = not first and _is_later(events, target)
        append_events(events, target)
        if later and DeltaTable.isDeltaTable(session, target.table):
            merge_later(events, target)
        else:
            merge_versions(events, target, events.rows if first else None)


def remember_deletes(events: Events, target: Target) -> None:
    """SCD type 1, first half: note the deleted keys, each with its latest delete."""
    if not events.has_deletes:
        return
    keys, session = target.flow.keys, events.rows.sparkSession
    # A key whose newest event is no delete needs no note: the target's row will hold its order.
    deleted = newest(events.rows, keys).where(DELETED).select(*map(column, keys), SEQUENCE)
    if not DeltaTable.isDeltaTable(session, target.auxiliary):
        deleted.write.format("delta").save(target.auxiliary)
        return
    (
        DeltaTable.forPath(session, target.auxiliary)
        .alias("old")
        .merge(deleted.alias("new"), _same(keys))
        .whenMatchedUpdateAll(f"new.{SEQUENCE} > old.{SEQUENCE}")
        .whenNotMatchedInsertAll()
        .execute()
    )


def merge_newest(events: Events, target: Target) -> None:
    """SCD type 1, second half: merge each key's newest event, unless a newer one is known."""
    keys, session = target.flow.keys, events.rows.sparkSession
    new = newest(events.rows, keys)
    if DeltaTable.isDeltaTable(session, target.auxiliary):
        deletes = session.read.format("delta").load(target.auxiliary)
        outdated = f"NOT new.{DELETED} AND new.{SEQUENCE} <= old.{SEQUENCE}"
        condition = _same(keys) & sf.expr(outdated)
        new = new.alias("new").join(deletes.alias("old"), condition, "left_anti")
    if not DeltaTable.isDeltaTable(session, target.table):
        new.where(~sf.col(DELETED)).drop(SEQUENCE, DELETED).write.format("delta").save(target.table)
        return
    new = _in_shape(new, target.table)
    schema = new.drop(SEQUENCE, DELETED).schema
    # Renamed, so that plain names in `sequence_by` mean the target's columns.
    renamed = new.select(*(column(name).alias(_NEW + name) for name in new.columns))
    here, there = sf.expr(target.flow.sequence_by), sf.col(_NEW + SEQUENCE)
    tie = (there == here) & (content(schema, keys, _NEW) > content(schema, keys))
    deleted = sf.col(_NEW + DELETED)
    values: dict[str, str | Column] = {quoted(n): column(_NEW + n) for n in schema.names}
    enable_when_large(session, target.table)
    with once(session, events.stream, events.number, "current"):
        (
            DeltaTable.forPath(session, target.table)
            .merge(renamed, _all(column(k).eqNullSafe(column(_NEW + k)) for k in keys))
            .whenMatchedDelete(deleted & (there >= here))
            .whenMatchedUpdate(~deleted & ((there > here) | tie), values)
            .whenNotMatchedInsert(~deleted, values)
            .execute()
        )


def append_events(events: Events, target: Target) -> None:
    """SCD type 2, first half: add the events to those known."""
    writer = events.rows.write.format("delta").mode("append").option("mergeSchema", "true")
    session = events.rows.sparkSession
    looked_up = leading(events.rows.schema)
    if looked_up and not DeltaTable.isDeltaTable(session, target.auxiliary):
        # It stands behind the first 32 columns of a wide table, which alone get statistics.
        writer = writer.option("delta.dataSkippingStatsColumns", looked_up)
    with once(session, events.stream, events.number, "events"):
        writer.save(target.auxiliary)


def merge_versions(events: Events, target: Target, known: DataFrame | None = None) -> None:
    """SCD type 2, second half: compute the touched keys' versions anew, and merge what differs.

    It reads nothing of the batch but its keys: run again, or after a crash, it ends the same.

    Args:
        events: The batch.
        target: Where it goes.
        known: All events, if they are at hand; they are read otherwise.
    """
    flow, session = target.flow, events.rows.sparkSession
    if known is None:
        known = session.read.format("delta").load(target.auxiliary)
    if not DeltaTable.isDeltaTable(session, target.table):
        versions(known, flow.keys, flow.track).write.format("delta").save(target.table)
        return
    enable_when_large(session, target.table)
    touched = events.rows.select(*map(column, flow.keys))
    new = versions(_of(known, touched, flow.keys), flow.keys, flow.track)
    new = _in_shape(new, target.table)
    old = _of(session.read.format("delta").load(target.table), touched, flow.keys)
    identity = (*flow.keys, START)
    _merge(_difference(new, old, identity), target.table, identity)


def merge_later(events: Events, target: Target) -> None:
    """SCD type 2, second half, of events later than all known: go on from the open versions.

    It ends as `merge_versions` does. A key's closed versions stay as they are, and its open one
    stands for the event that it shows.
    """
    flow, session = target.flow, events.rows.sparkSession
    enable_when_large(session, target.table)
    rows = _in_shape(events.rows, target.table)
    touched = events.rows.select(*map(column, flow.keys))
    table = session.read.format("delta").load(target.table)
    # Read once. Persisted, it would be planned anew after the MERGE, whose target it reads.
    open_now = table.where(sf.col(END).isNull())
    old = _of(open_now, touched, flow.keys).localCheckpoint()
    shown = old.withColumns({SEQUENCE: sf.col(START), DELETED: sf.lit(False)})
    new = versions(rows.unionByName(shown).drop(START, END), flow.keys, flow.track)
    identity = (*flow.keys, START)
    difference = _difference(new, old, identity)
    # Spark can't know how few they are, and would sort and shuffle the table in each of its scans.
    _merge(
        sf.broadcast(difference) if _are_few(events, old) else difference, target.table, identity
    )


def _are_few(events: Events, old: DataFrame) -> bool:
    """Tell whether what differs can be sent to wherever the target is read.

    It holds the events, and for each version that one closes or deletes that version's whole row.
    """
    if events.size > FEW_BYTES:
        return False
    closed = old.agg(bytes_of(old.schema, among=sf.lit(True))).collect()[0][0] or 0
    return bool(events.size + closed <= FEW_BYTES)


def _is_later(events: Events, target: Target) -> bool:
    known = events.rows.sparkSession.read.format("delta").load(target.auxiliary)
    return are_all_earlier(known, events.earliest)


def _require(events: Events, target: Target, table: str) -> None:
    if events.number and not DeltaTable.isDeltaTable(events.rows.sparkSession, table):
        message = (
            f"{target.flow.target}: {table} is gone, but not the stream's checkpoint, so that the "
            f"changes read before would be lost; remove {target.table}, its _quarantine, "
            f"{target.auxiliary} and the checkpoint together, and run again: all is built anew "
            "from silver"
        )
        raise PipelineError(message)


def _difference(new: DataFrame, old: DataFrame, identity: Sequence[str]) -> DataFrame:
    names = new.columns
    gone = sf.col(f"new.{START}").isNull()
    rows = (sf.struct(*(sf.col(f"{side}.{quoted(n)}") for n in names)) for side in ("new", "old"))
    this, that = rows
    chosen = [
        sf.when(gone, sf.col(f"old.{quoted(n)}")).otherwise(sf.col(f"new.{quoted(n)}")).alias(n)
        for n in names
    ]
    joined = new.alias("new").join(old.alias("old"), _same(identity), "full_outer")
    return joined.where(~this.eqNullSafe(that)).select(*chosen, gone.alias(_GONE))


def _merge(difference: DataFrame, table: str, identity: Sequence[str]) -> None:
    names = [quoted(n) for n in difference.columns if n != _GONE]
    values: dict[str, str | Column] = {n: sf.col(f"new.{n}") for n in names}
    (
        DeltaTable.forPath(difference.sparkSession, table)
        .alias("old")
        .merge(difference.alias("new"), _same(identity))
        .whenMatchedDelete(f"new.{_GONE}")
        .whenMatchedUpdate(set=values)
        .whenNotMatchedInsert(f"NOT new.{_GONE}", values)
        .execute()
    )


def _of(rows: DataFrame, touched: DataFrame, keys: Sequence[str]) -> DataFrame:
    return rows.alias("old").join(touched.alias("new"), _same(keys), "left_semi")


def _in_shape(rows: DataFrame, table: str) -> DataFrame:
    """Give rows and table the same columns: new ones to the table, NULL to the rows."""
    session = rows.sparkSession
    there = session.read.format("delta").load(table).schema
    have, known = ({n.lower() for n in names} for names in (rows.columns, there.names))
    visible = rows.drop(SEQUENCE, DELETED)
    if {name.lower() for name in visible.columns} - known:
        empty = visible.where("false")
        empty.write.format("delta").mode("append").option("mergeSchema", "true").save(table)
    missing = {f.name: sf.lit(None).cast(f.dataType) for f in there if f.name.lower() not in have}
    return rows.withColumns(missing)


def _same(keys: Sequence[str]) -> Column:
    sides = ((sf.col(f"new.{quoted(k)}"), sf.col(f"old.{quoted(k)}")) for k in keys)
    return _all(new.eqNullSafe(old) for new, old in sides)


def _all(conditions: Iterator[Column]) -> Column:
    result = sf.lit(True)
    for condition in conditions:
        result &= condition
    return result
