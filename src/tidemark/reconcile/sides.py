"""What a comparison begins with, and what it reads of the source: once whole, then key by key."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from tidemark.buckets import DIGEST, bucket_count, load, with_key, within
from tidemark.digest import DIGEST_TYPE, row_digests
from tidemark.errors import LakeError
from tidemark.extract.by_key import read_by_keys
from tidemark.extract.frontier import clock_now
from tidemark.extract.source import OpenSource, SourceTable, cursor_kind, describe, open_source
from tidemark.extract.strategy import columns_of, from_table, read_changes
from tidemark.extract.watermark import not_unique
from tidemark.known_rows import LakeTable, keys_in
from tidemark.landing import TableJob, table_size
from tidemark.published import bronze_files
from tidemark.reconcile.judge import ORDER
from tidemark.reconcile.lake import LakeSide, look, places, size
from tidemark.reconcile.model import Options
from tidemark.watermark import check_same_key, load_state, place
from tidemark.windows import TICKS_PER_SECOND, Kind, ordinal

_KEYS_AT_ONCE = 10_000
_TICKS_PER_MICROSECOND = TICKS_PER_SECOND // 1_000_000


@dataclass(frozen=True)
class Comparison:
    """A table's comparison under way.

    Attributes:
        job: The table.
        described: The table as the database describes it.
        lake: The lake's side, as it was at the beginning.
        bound: The watermark of the last read, as it was at the beginning.
        place: The bound on the line of `lake.places`.
        buckets: Over how many buckets the keys are spread.
        folder: On this machine's disk.
    """

    job: TableJob
    described: SourceTable
    lake: LakeSide
    bound: str | None
    place: int | None
    buckets: int
    folder: Path


def begin(job: TableJob, folder: Path, options: Options) -> Comparison:
    """Look at both sides, before any row is read.

    Raises:
        TidemarkError: The source or the lake refuses.
    """
    table, name = job.table, job.table.lake_name
    # What is merged, and how far the last read came, before any row is read.
    state = load_state(job.store, job.lake, name)
    check_same_key(job.lake, name, state, table.key)
    bound = state.cdc if state.cursor in {None, table.cursor} and table.cursor else None
    with open_source(job.url, table, job.mask_key) as source:
        described = describe(source, table)
        key = pa.schema([described.columns.field(column) for column in table.key])
        lake_table = LakeTable(job.store, job.lake, name, key)
        lake = look(lake_table, described.columns, _order(job, described), deep=options.deep)
        there = table_size(source, table)
        # A read that took no row, of an empty table or by its rules, has left its reservation.
        if lake.is_empty and state.reserved is None:
            message = (
                f"table {name}: the lake {job.lake.root} holds nothing of it; run the Dag first: "
                "there is nothing to compare with yet"
            )
            raise LakeError(message)
        rows = max(there, size(lake))
    line = None
    # Only what is read by the cursor is brought by the next read for its cursor's sake.
    by_cursor = state.strategy in {None, "watermark"}
    if by_cursor and bound is not None and (kind := cursor_kind(table, described.columns)):
        line = _on_the_line(name, kind, bound)
    return Comparison(job, described, lake, bound, line, bucket_count(rows), folder)


def source_rows(comparison: Comparison, source: OpenSource) -> Iterator[pa.RecordBatch]:
    """Read the whole table; give each row's key and digest."""
    table = comparison.job.table
    whole = sa.select(*columns_of(comparison.described)).select_from(from_table(table))
    for changes in read_changes(source, comparison.described, whole, table.name):
        yield _marked(comparison, changes.rows)


def read_again(
    comparison: Comparison, source: OpenSource, chosen: Collection[int]
) -> Iterator[pa.RecordBatch]:
    """Read the rows of the suspect keys again, with the place of their cursor.

    Raises:
        SourceError: A key stands at the source more than once.
    """
    described, table = comparison.described, comparison.job.table
    for number in sorted(chosen):
        asked = load(comparison.folder / "suspects" / str(number))
        keys = asked.select(list(table.key)) if asked is not None else pa.table({})
        for part in keys.combine_chunks().to_batches(_KEYS_AT_ONCE):
            for rows in read_by_keys(source, described, table, pa.Table.from_batches([part])):
                _check_unique(comparison, rows)
                order = lake_order(comparison.lake, rows)
                yield _marked(comparison, rows).append_column(pa.field(ORDER, pa.int64()), order)


def clock_place(comparison: Comparison, source: OpenSource) -> int | None:
    """Place the source's clock on the line of the bound; None: it limits no read of the table."""
    table, described = comparison.job.table, comparison.described
    kind = cursor_kind(table, described.columns) if comparison.place is not None else None
    now = clock_now(source, described, table, kind) if kind else None
    return _on_the_line(table.lake_name, kind, now) if kind and now else None


def waiting_keys(comparison: Comparison, chosen: Collection[int]) -> Iterator[pa.RecordBatch]:
    """Give the keys of the bronze files that silver had not merged when the comparison began."""
    table = comparison.lake.table
    merged = {file for file, _ in comparison.lake.merged}
    files = bronze_files(table.store, table.lake, table.name)
    waiting = [file for file, _ in files if file not in merged]
    return within(keys_in(table, waiting), chosen, comparison.buckets)


def keep(path: Path, rows: pa.Table) -> None:
    """Keep rows of a bucket on this machine's disk, for `buckets.load`."""
    with pa.ipc.new_file(str(path), rows.schema) as file:
        file.write_table(rows)


def lake_order(lake: LakeSide, rows: pa.RecordBatch) -> pa.Array:
    """Place rows by the column that tells which version is newer."""
    if lake.order is None:
        return pa.nulls(rows.num_rows, pa.int64())
    return places(rows.column(lake.order))


def _marked(comparison: Comparison, rows: pa.RecordBatch) -> pa.RecordBatch:
    digests = row_digests(rows, comparison.described.columns.names)
    keys = rows.select(list(comparison.job.table.key))
    return with_key(keys, keys.schema.names).append_column(pa.field(DIGEST, DIGEST_TYPE), digests)


def _check_unique(comparison: Comparison, rows: pa.RecordBatch) -> None:
    table = comparison.job.table
    if pc.count_distinct(row_digests(rows, table.key)).as_py() < rows.num_rows:
        counted = pa.table({n: rows.column(n) for n in table.key}).group_by(list(table.key))
        twice = counted.aggregate([([], "count_all")])
        first = twice.filter(pc.greater(twice["count_all"], 1)).to_pylist()[0]
        count = first.pop("count_all")
        raise not_unique(table, comparison.described, tuple(first.values()), count)


def _on_the_line(table: str, kind: Kind, bound: str) -> int:
    """Place a stored watermark on the line of `lake.places`."""
    number = place(table, kind, bound)
    if kind == "timestamp":
        return (number - ordinal(kind, "1970-01-01")) // _TICKS_PER_MICROSECOND
    return number - ordinal(kind, "1970-01-01") if kind == "date" else number


def _order(job: TableJob, described: SourceTable) -> str | None:
    """Name the column that tells which of two versions is newer: the cursor, or a rowversion."""
    if job.table.cursor:
        return job.table.cursor
    own = ("rowversion", "timestamp")
    binary = (pa.types.is_binary, pa.types.is_fixed_size_binary)
    return next(
        (
            f.name
            for f in described.columns
            if described.declared.get(f.name, "").lower() in own and any(b(f.type) for b in binary)
        ),
        None,
    )
