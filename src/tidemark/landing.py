"""A planned read carried out: the source's rows, digested and sifted, into one bronze file."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from tidemark.ahead import one_ahead
from tidemark.bronze import Facts, ParquetFile, ReadStamp, bronze_schema, stamp
from tidemark.buckets import DIGEST, bucket_count, with_key
from tidemark.digest import DIGEST_TYPE, row_digests
from tidemark.digest_store import Keep, SeenDigests, digest_file
from tidemark.extract.by_key import read_by_keys
from tidemark.extract.row_count import row_count
from tidemark.extract.source import OpenSource, SourceTable
from tidemark.extract.strategy import (
    OPERATION,
    PRESENT,
    SOURCE_SEQUENCE,
    Changes,
    ReadPlan,
    from_table,
    read_changes,
)
from tidemark.extract.watermark import not_unique
from tidemark.layout import Lake
from tidemark.metadata import Table
from tidemark.storage import Store
from tidemark.watermark import check_not_overtaken
from tidemark.whole_table import Bucket, compare

logger = logging.getLogger(__name__)

_BATCH_ROWS = 50_000
_CHOSEN = "_chosen"


@dataclass(frozen=True)
class TableJob:
    """One table of one run.

    Attributes:
        store: The lake's storage.
        lake: The lake's layout.
        table: The table's metadata.
        run_id: The Dag run's id.
        url: The source as a SQLAlchemy URL; it may hold a password and is never shown.
        mask_key: The key of columns that are masked by HMAC; never shown. None: no column is.
    """

    store: Store
    lake: Lake
    table: Table
    run_id: str
    url: str = field(repr=False)
    mask_key: str | None = field(default=None, repr=False)

    def bronze_file(self, sequence: datetime) -> str:
        """Give the name under which a read of the table is published, in the table's layout."""
        dated = self.table.bronze_layout == "dated"
        return self.lake.bronze_file(self.table.lake_name, sequence, dated=dated)


@dataclass(frozen=True)
class Landing:
    """A read that is about to be carried out.

    Attributes:
        job: The table.
        source: The open source.
        described: The table as the database describes it.
        plan: What to read.
        sequence: The read's own, UTC.
        seen: The digests of rows that may be left out.
        known: What the lake knows of the table, for the read of a whole table; None: nothing.
        has_baseline: Whether `known` is what the last snapshot left.
        deleted_at: The source's clock, as a value of the column by which gold orders history
            (`gold.sequence_by`): a delete has no other place in business time. None without one.
        attempt: Keeps two attempts apart that may be under way under one sequence.
    """

    job: TableJob
    source: OpenSource
    described: SourceTable
    plan: ReadPlan
    sequence: datetime
    seen: SeenDigests | None = None
    known: Iterable[pa.RecordBatch] | None = None
    has_baseline: bool = False
    deleted_at: pa.Scalar | None = None
    attempt: str = ""

    @property
    def file(self) -> str:
        """The name under which the read is published."""
        return self.job.bronze_file(self.sequence)

    @property
    def temporary(self) -> str:
        """The name that is written to."""
        lake, name = self.job.lake, self.job.table.lake_name
        return lake.temporary_file(name, self.sequence, self.attempt)

    @property
    def digests(self) -> str | None:
        """What is kept for the next read; None for a strategy that needs nothing."""
        if self.plan.backfill or not (self.plan.compared or self.plan.remembers):
            return None
        return self.job.lake.digest_file(self.job.table.lake_name, self.sequence)


@dataclass(frozen=True)
class Counts:
    """What a read brought.

    Attributes:
        read: Rows read from the source.
        published: Rows for bronze.
        deleted: Deletes among them.
        versions: The highest `_version`: so many microseconds behind the read's own sequence
            are taken too.
    """

    read: int = 0
    published: int = 0
    deleted: int = 0
    versions: int = 0


def land(landing: Landing) -> Counts:
    """Carry out a read: write its bronze file under the temporary name.

    Raises:
        SourceError: The source refuses, or its key is not unique.
        LakeError: The lake's disk, or this machine's, refuses.
    """
    job, plan = landing.job, landing.plan
    if plan.statement is None:
        return Counts()
    about = {"run_id": job.run_id, "window": plan.window}
    path = job.store.local_path(landing.temporary)
    with (
        ParquetFile(path, bronze_schema(landing.described.columns), about) as bronze,
        _memory(landing) as remember,
    ):
        if plan.compared or (plan.whole and landing.known is not None):
            return _land_whole(landing, bronze, remember)
        return _land_window(landing, bronze, remember)


def upserts(rows: pa.RecordBatch, digests: pa.Array, read: ReadStamp) -> pa.RecordBatch:
    """Make bronze rows of rows that are there."""
    return stamp(rows, Facts(pa.repeat(pa.scalar("upsert"), rows.num_rows), digests), read)


def deletes(keys: pa.RecordBatch, columns: pa.Schema, read: ReadStamp) -> pa.RecordBatch:
    """Make bronze rows of keys that are gone; the other columns are NULL."""
    size, there = keys.num_rows, keys.schema.names
    own = [keys.column(f.name) if f.name in there else pa.nulls(size, f.type) for f in columns]
    rows = pa.RecordBatch.from_arrays(own, schema=columns)
    facts = Facts(pa.repeat(pa.scalar("delete"), size), pa.nulls(size, DIGEST_TYPE))
    return stamp(rows, facts, read)


def dated(
    table: Table, moment: pa.Scalar | None, rows: pa.RecordBatch, gone: pa.Array
) -> pa.RecordBatch:
    """Give deletes their place in business time, if gold orders history by it.

    Args:
        table: The metadata.
        moment: From `deletion_moment`.
        rows: Some rows.
        gone: Of each, whether it is a delete.
    """
    if moment is None or table.gold is None or table.gold.sequence_by is None:
        return rows
    place = rows.schema.get_field_index(table.gold.sequence_by)
    values = pc.if_else(gone, moment, rows.column(place))
    return rows.set_column(place, rows.schema.field(place), values)


def deletion_moment(table: Table, source: OpenSource, columns: pa.Schema) -> pa.Scalar | None:
    """Read the source's clock as a value of the column that orders gold's history, if it is one."""
    name = table.gold.sequence_by if table.gold else None
    kind = columns.field(name).type if name in columns.names else None
    if kind is None or not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return None
    clock = source.dialect.clock(source.connection)
    if pa.types.is_timestamp(kind) and kind.tz:
        return pa.scalar(clock).cast(kind)
    wall = clock.astimezone(ZoneInfo(table.cursor_timezone)).replace(tzinfo=None)
    return pa.scalar(wall, pa.timestamp("us")).cast(kind, safe=False)


def publish(job: TableJob, sequence: datetime, temporary: str, file: str) -> None:
    """Make a read visible, unless a later one has begun.

    Raises:
        ReadOvertaken: One has; nothing is published.
    """
    check_not_overtaken(job.store, job.lake, job.table.lake_name, sequence)
    job.store.publish(temporary, file)


def table_size(source: OpenSource, table: Table) -> int:
    """Count a table's rows at the source."""
    query = sa.select(row_count()).select_from(from_table(table))
    rows: int = source.connection.execute(query).scalar_one()
    return rows


def _land_window(landing: Landing, bronze: ParquetFile, remember: Keep) -> Counts:
    read = deleted = versions = 0
    for rows, digests, facts in _read(landing):
        read += rows.num_rows
        versions = max(versions, pc.max(facts.versions).as_py() or 0)
        remember(rows, digests)
        deleted += _count(facts.operations, "delete")
        stamped = stamp(rows, facts, _stamp(landing))
        fresh = pc.invert(landing.seen.contains(digests)) if landing.seen else None
        bronze.write(stamped.filter(fresh) if fresh is not None else stamped)
        _progress(landing, read)
    return Counts(read, bronze.rows, deleted, versions)


def _land_whole(landing: Landing, bronze: ParquetFile, remember: Keep) -> Counts:
    read = deleted = 0

    def now() -> Iterator[pa.RecordBatch]:
        nonlocal read
        for rows, digests, facts in _read(landing):
            here = pc.equal(facts.operations, PRESENT)
            read += rows.num_rows - (pc.sum(here).as_py() or 0)
            if not landing.plan.compared:
                remember(rows.filter(pc.invert(here)), digests.filter(pc.invert(here)))
            _progress(landing, read)
            marked = rows.append_column(DIGEST, digests).append_column(OPERATION, facts.operations)
            marked = marked.append_column(SOURCE_SEQUENCE, facts.source_sequences)
            yield with_key(marked, landing.job.table.key)

    key, size = landing.job.table.key, table_size(landing.source, landing.job.table)
    for bucket in compare(now(), landing.known or (), key, bucket_count(size)):
        if bucket.twice.num_rows:
            twice = bucket.twice.slice(0, 1).to_pylist()[0]
            table = landing.job.table
            raise not_unique(table, landing.described, tuple(twice.values()), 2)
        _write_changed(landing, bucket, bronze, remember)
        deleted += _write_vanished(landing, bucket.vanished, bronze, remember)
    return Counts(read, bronze.rows, deleted)


def _write_changed(landing: Landing, bucket: Bucket, bronze: ParquetFile, remember: Keep) -> None:
    operations = pa.repeat(pa.scalar("upsert"), len(bucket.is_new))
    if landing.has_baseline:
        operations = pc.if_else(bucket.is_new, "insert", "update")
    begin = 0
    for rows in bucket.new:
        if landing.plan.compared:
            remember(rows, rows.column(DIGEST))
        here = slice(begin, begin + rows.num_rows)
        begin = here.stop
        chosen = pc.and_(pc.not_equal(rows.column(OPERATION), PRESENT), bucket.is_changed[here])
        marked = rows.append_column(_CHOSEN, operations[here]).filter(chosen)
        own = marked.select(landing.described.columns.names)
        facts = Facts(
            marked.column(_CHOSEN).cast(pa.string()),
            marked.column(DIGEST),
            marked.column(SOURCE_SEQUENCE),
        )
        bronze.write(stamp(_as(own, landing), facts, _stamp(landing)))


def _write_vanished(landing: Landing, keys: pa.Table, bronze: ParquetFile, remember: Keep) -> int:
    if not keys.num_rows:
        return 0
    if not landing.source.dialect.sees_one_moment(landing.source.connection):
        keys = _still_gone(landing, keys, bronze, remember)
    for batch in keys.combine_chunks().to_batches(_BATCH_ROWS):
        gone = deletes(batch, landing.described.columns, _stamp(landing))
        bronze.write(_dated(landing, gone, pa.repeat(pa.scalar(True), batch.num_rows)))
    count: int = keys.num_rows
    return count


def _still_gone(landing: Landing, keys: pa.Table, bronze: ParquetFile, remember: Keep) -> pa.Table:
    """Look vanished keys up again: a statement that is no snapshot may miss a row that moves."""
    table, names = landing.job.table, landing.described.columns.names
    found: list[pa.Array] = []
    for rows in read_by_keys(landing.source, landing.described, table, keys):
        digests = row_digests(rows, names)
        bronze.write(upserts(rows, digests, _stamp(landing)))
        remember(rows, digests)
        found.append(row_digests(rows, table.key))
    hashes = [row_digests(batch, table.key) for batch in keys.combine_chunks().to_batches()]
    there = pa.chunked_array(found, DIGEST_TYPE)
    gone = pc.invert(pc.is_in(pa.chunked_array(hashes, DIGEST_TYPE), value_set=there))
    return keys.filter(gone)


def _read(landing: Landing) -> Iterator[tuple[pa.RecordBatch, pa.Array, Facts]]:
    columns, plan = landing.described.columns, landing.plan
    if plan.statement is None:
        return
    table = landing.job.table.name
    changes = read_changes(landing.source, landing.described, plan.statement, table)
    for c, digests in _digested(changes, columns.names):
        gone = pc.equal(c.operations, "delete")
        kept = pc.if_else(gone, pa.scalar(None, DIGEST_TYPE), digests)
        yield (
            _dated(landing, c.rows, gone),
            digests,
            Facts(c.operations, kept, c.source_sequences, c.versions),
        )


def _digested(
    changes: Iterable[Changes], columns: Sequence[str]
) -> Iterator[tuple[Changes, pa.Array]]:
    return one_ahead(lambda batch: (batch, row_digests(batch.rows, columns)), changes)


def _dated(landing: Landing, rows: pa.RecordBatch, gone: pa.Array) -> pa.RecordBatch:
    return dated(landing.job.table, landing.deleted_at, rows, gone)


@contextlib.contextmanager
def _memory(landing: Landing) -> Iterator[Keep]:
    """Open what is kept for the next read: every key and digest, or those of the lookback."""
    job = landing.job
    if landing.digests is None:
        yield lambda _rows, _digests: None
        return
    with _kept(landing, job.store.local_path(landing.digests)) as keep:
        yield keep
    job.store.upload(landing.digests)


@contextlib.contextmanager
def _kept(landing: Landing, path: Path) -> Iterator[Keep]:
    job, plan = landing.job, landing.plan
    if not plan.compared:
        with digest_file(path, job.table.cursor or "", plan.tail) as keep:
            yield keep
        return
    key = [landing.described.columns.field(name) for name in job.table.key]
    schema = pa.schema([*key, pa.field(DIGEST, DIGEST_TYPE)])
    with ParquetFile(path, schema) as file:

        def keep_keys(rows: pa.RecordBatch, digests: pa.Array) -> None:
            columns = [rows.column(field.name) for field in key]
            file.write(pa.RecordBatch.from_arrays([*columns, digests], schema=schema))

        yield keep_keys


def _as(rows: pa.RecordBatch, landing: Landing) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(rows.columns, schema=landing.described.columns)


def _stamp(landing: Landing) -> ReadStamp:
    return ReadStamp(landing.sequence, landing.job.run_id)


def _count(operations: pa.Array, wanted: str) -> int:
    return int(pc.sum(pc.equal(operations, wanted)).as_py() or 0)


def _progress(landing: Landing, read: int) -> None:
    logger.info("table %s: %s rows read", landing.job.table.lake_name, f"{read:,}")
