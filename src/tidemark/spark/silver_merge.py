"""One batch of bronze rows into silver: every change appended, the current state merged.

Both writes carry Delta's application transaction, the stream's id and the batch's number, so that
a batch that is run again writes nothing twice, wherever the first attempt ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession, Window, WindowSpec
from pyspark.sql import functions as sf
from pyspark.sql.types import StructType

from tidemark.layout import Lake
from tidemark.metadata import Table
from tidemark.spark.bronze_stream import FILE
from tidemark.spark.databricks import RESCUED
from tidemark.spark.deletion_vectors import enable_when_large
from tidemark.spark.rules import column, quoted
from tidemark.spark.stream import once

_RANK, _REPEATED = "_rank", "_repeated"


@dataclass(frozen=True)
class SilverTable:
    """A table's two Delta tables.

    Attributes:
        key: The columns that identify a row; matched null-safe.
        cursor: Orders versions of a key that were read together; absent in some tables.
        changes: URL of every distinct change.
        current: URL of the current state.
    """

    key: tuple[str, ...]
    cursor: str | None
    changes: str
    current: str


@dataclass(frozen=True)
class Batch:
    """A stream's batch: its rows and what identifies it across restarts.

    Attributes:
        rows: The cleaned rows.
        stream: The streaming query's id; a new checkpoint begins a new one.
        number: The batch's number in the stream.
    """

    rows: DataFrame
    stream: str
    number: int


@dataclass(frozen=True)
class BatchFacts:
    """What a batch held, counted in one pass.

    Attributes:
        rows_in: Rows read from bronze.
        changes: Distinct changes among them.
        files: The bronze files they come from.
        oldest: The smallest `_sequence`, UTC.
        rescued: Rows with values that did not fit the schema.
    """

    rows_in: int
    changes: int
    files: frozenset[str]
    oldest: datetime
    rescued: int = 0


def silver_table(lake: Lake, table: Table) -> SilverTable:
    """Say where a table's silver lies, and how its rows are told apart."""
    name = table.lake_name
    changes, current = (lake.url(path) for path in (lake.changes(name), lake.silver(name)))
    return SilverTable(table.key, table.cursor, changes, current)


@contextmanager
def ranked(batch: Batch, table: SilverTable) -> Iterator[tuple[DataFrame, BatchFacts]]:
    """Order each key's versions, newest first, and keep the result while both tables are written.

    Rows of one key and `_sequence` are one change: all but the first are marked as repeated.
    """
    newest_first = _newest_first(table, batch.rows.columns)
    previous = sf.lag("_sequence").over(newest_first)
    marks = {
        _RANK: sf.row_number().over(newest_first),
        _REPEATED: previous.eqNullSafe(sf.col("_sequence")),
    }
    rows = batch.rows.withColumns(marks).persist()
    try:
        yield rows, _facts(rows)
    finally:
        rows.unpersist()


def write_batch(
    batch: Batch, rows: DataFrame, facts: BatchFacts, table: SilverTable, *, in_order: bool
) -> int:
    """Append a batch's changes and merge its newest versions into the current state.

    The deletes that end a full reload are changes like others: they belong into `rows`.

    Args:
        batch: What identifies the batch.
        rows: Its ranked rows.
        facts: What was counted in them.
        table: Where they go.
        in_order: All of the changes that silver has are known to be older.

    Returns:
        How many changes there were to append.
    """
    session = rows.sparkSession
    if not facts.rescued:
        rows = rows.drop(RESCUED)  # no column of silver until there is one such row
    known = None if in_order else _known(session, table, facts.oldest)
    changes = rows.where(~sf.col(_REPEATED)).drop(_RANK, _REPEATED, FILE)
    newest = rows.where(sf.col(_RANK) == 1).drop(_RANK, _REPEATED, FILE)
    count = facts.changes
    if known is not None:
        # The rows of a lost checkpoint come again, under a new stream's id.
        changes = _without(
            changes, known, table, sf.col("new._sequence") == sf.col("old._sequence")
        )
        count = changes.count()
        deletes = known.where("_operation = 'delete'")
        newest = _without(newest, deletes, table, sf.col("new._sequence") < sf.col("old._sequence"))
    if count:
        with once(session, batch.stream, batch.number, "changes"):
            _append(changes, table)
    if (batch.number or known is not None) and not DeltaTable.isDeltaTable(session, table.current):
        # It was lost, or an earlier attempt ended before it was made.
        newest = _newest_of_all(session, table)
    enable_when_large(session, table.current)
    with once(session, batch.stream, batch.number, "current"):
        _merge(newest, table)
    return count


def _newest_first(table: SilverTable, columns: list[str]) -> WindowSpec:
    order = [name for name in ("_sequence", table.cursor, "_digest") if name in columns]
    by_key = Window.partitionBy(*map(column, table.key))
    return by_key.orderBy(*(column(name).desc() for name in order if name))


def _newest_of_all(session: SparkSession, table: SilverTable) -> DataFrame:
    changes = session.read.format("delta").load(table.changes)
    rank = sf.row_number().over(_newest_first(table, changes.columns))
    return changes.withColumn(_RANK, rank).where(sf.col(_RANK) == 1).drop(_RANK)


def _facts(rows: DataFrame) -> BatchFacts:
    rescued = column(RESCUED).isNotNull() if RESCUED in rows.columns else sf.lit(False)
    found = rows.agg(
        sf.count("*"),
        sf.count_if(~sf.col(_REPEATED)),
        sf.collect_set(FILE),
        sf.unix_micros(sf.min("_sequence")),
        sf.count_if(rescued),
    ).collect()[0]
    oldest = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=found[3] or 0)
    return BatchFacts(found[0], found[1], frozenset(found[2]), oldest, found[4])


def _known(session: SparkSession, table: SilverTable, oldest: datetime) -> DataFrame | None:
    """Look up the changes that are not older than the batch; Delta's statistics find the files."""
    if not DeltaTable.isDeltaTable(session, table.changes):
        return None
    changes = session.read.format("delta").load(table.changes)
    known = changes.where(sf.col("_sequence") >= sf.lit(oldest))
    known = known.select(*map(column, table.key), "_sequence", "_operation")
    return None if known.isEmpty() else known


def _without(rows: DataFrame, known: DataFrame, table: SilverTable, when: Column) -> DataFrame:
    condition = _same_key(table.key, "new", "old") & when
    return rows.alias("new").join(known.alias("old"), condition, "left_anti")


def _same_key(key: tuple[str, ...], one: str, other: str) -> Column:
    condition = sf.lit(True)
    for name in map(quoted, key):
        condition &= sf.col(f"{one}.{name}").eqNullSafe(sf.col(f"{other}.{name}"))
    return condition


def _append(changes: DataFrame, table: SilverTable) -> None:
    session = changes.sparkSession
    writer = changes.write.format("delta").mode("append").option("mergeSchema", "true")
    if not DeltaTable.isDeltaTable(session, table.changes):
        # Gold streams from it, so that nothing may be rewritten; and what is looked up must have
        # statistics, though it stands behind the first 32 columns of a wide table.
        looked_up = ",".join(map(quoted, [*table.key, "_sequence", "_operation"]))
        writer = writer.option("delta.appendOnly", "true")
        writer = writer.option("delta.dataSkippingStatsColumns", looked_up)
    writer.save(table.changes)


def _merge(newest: DataFrame, table: SilverTable) -> None:
    session = newest.sparkSession
    if not DeltaTable.isDeltaTable(session, table.current):
        newest.where("_operation <> 'delete'").write.format("delta").save(table.current)
        return
    target = DeltaTable.forPath(session, table.current)
    source = _completed(newest, target.toDF().schema)
    newer = "new._sequence > old._sequence"
    (
        target.alias("old")
        .merge(source.alias("new"), _same_key(table.key, "new", "old"))
        .withSchemaEvolution()
        .whenMatchedDelete(f"{newer} AND new._operation = 'delete'")
        .whenMatchedUpdateAll(newer)
        .whenNotMatchedInsertAll("new._operation <> 'delete'")
        .execute()
    )


def _completed(rows: DataFrame, target: StructType) -> DataFrame:
    # Delta keeps a column's old value where the source of a MERGE does not have it.
    have = {name.lower() for name in rows.columns}
    absent = [field for field in target if field.name.lower() not in have]
    return rows.withColumns({f.name: sf.lit(None).cast(f.dataType) for f in absent})
