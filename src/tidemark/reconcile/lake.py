"""The lake's side: silver's keys and digests, or the newest bronze row of each key, in buckets."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemark.bronze import META_COLUMNS
from tidemark.buckets import DIGEST, load, spread, summed, with_key, within
from tidemark.digest import DIGEST_TYPE, row_digests
from tidemark.errors import LakeError
from tidemark.known_rows import (
    LakeTable,
    silver_explained,
    unreadable,
    waiting_for_silver,
)
from tidemark.lake_tables import read_batches
from tidemark.published import bronze_files
from tidemark.reconcile.judge import DELETED, ORDER, SEQUENCE, newest, resolved, side

BATCH_ROWS = 50_000
_INTEGERS = {pa.int8().id, pa.int16().id, pa.int32().id, pa.int64().id}
_ALWAYS = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class LakeSide:
    """A table in the lake, as it is when a comparison begins.

    Attributes:
        table: Where it is.
        columns: The source's columns.
        order: The column whose value tells which of two versions is newer.
        against: ``silver`` or ``bronze``.
        merged: The bronze files that count, with their sequences.
        trusted_from: The digests that rows of an earlier sequence carry say nothing: their files
            carry none (ADF's), or had other columns. None: all may be trusted.
        deep: Whether every key's newest bronze row is digested anew.
    """

    table: LakeTable
    columns: pa.Schema
    order: str | None
    against: str
    merged: tuple[tuple[str, datetime], ...]
    trusted_from: datetime | None
    deep: bool

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever published."""
        return self.against == "bronze" and not self.merged

    @property
    def to_digest(self) -> list[tuple[str, datetime]]:
        """The bronze files whose rows are digested anew."""
        if self.deep or self.against == "bronze":
            return list(self.merged)
        limit = self.trusted_from
        return [(f, sequence) for f, sequence in self.merged if limit and sequence < limit]


@dataclass(frozen=True)
class LakeBuckets:
    """A lake's side on this machine's disk: the files of each bucket."""

    silver: dict[int, Path] | None
    bronze: dict[int, Path]
    deep: bool

    def rows(self, number: int) -> tuple[pa.Table | None, pl.DataFrame]:
        """Give a bucket: its rows, and the frame of what is known of each."""
        bronze = load(self.bronze.get(number))
        latest = newest(side(bronze, SEQUENCE, DELETED)) if bronze is not None else None
        if self.silver is None:
            return bronze, side(None) if latest is None else latest.filter(~pl.col(DELETED))
        silver = load(self.silver.get(number))
        frame = side(silver)
        return silver, frame if latest is None else resolved(frame, latest, deep=self.deep)


def look(table: LakeTable, columns: pa.Schema, order: str | None, *, deep: bool) -> LakeSide:
    """Look at what the lake holds of a table.

    Raises:
        LakeError: A file can't be read.
    """
    files = bronze_files(table.store, table.lake, table.name)
    silver = open_silver(table)
    waiting = set(waiting_for_silver(table)) if silver is not None else set()
    merged = tuple(sorted((f for f in files if f[0] not in waiting), key=lambda f: (f[1], f[0])))
    trusted = _trusted_from(table, columns, merged) if silver is not None else None
    against = "bronze" if silver is None else "silver"
    return LakeSide(table, columns, order, against, merged, trusted, deep)


def spread_lake(lake: LakeSide, folder: Path, buckets: int, sums: np.ndarray) -> LakeBuckets:
    """Spread the lake's side over buckets."""
    folder.mkdir()
    silver = None
    if lake.against == "silver":
        silver = spread(summed(_silver_rows(lake), sums, buckets), folder / "silver", buckets)
    bronze = spread(_bronze_rows(lake), folder / "bronze", buckets)
    return LakeBuckets(silver, bronze, lake.deep)


def spread_again(
    lake: LakeSide, first: LakeBuckets, folder: Path, buckets: int, chosen: Collection[int]
) -> LakeBuckets:
    """Read some buckets of silver again; bronze's files never change."""
    if first.silver is None:
        return first
    rows = within(_silver_rows(lake), chosen, buckets)
    return replace(first, silver=spread(rows, folder, buckets))


def size(lake: LakeSide) -> int:
    """Count, from the files' footers, the bronze rows that will be spread."""
    rows = 0
    for file, _ in lake.to_digest:
        with _opened(lake.table, file) as parquet:
            rows += parquet.metadata.num_rows
    return rows


def open_silver(table: LakeTable) -> Any:
    """Open silver's current state; None where there is none that carries digests (ADF's)."""
    from deltalake import DeltaTable  # noqa: PLC0415  # nothing else needs it

    with silver_explained(table) as (url, options):
        if not DeltaTable.is_deltatable(url, options):
            return None
        silver = DeltaTable(url, storage_options=options)
        return silver if DIGEST in {field.name for field in silver.schema().fields} else None


def places(values: pa.Array) -> pa.Array:
    """Place values of a cursor on a line; NULL for what has no place on one."""
    kind = values.type
    if pa.types.is_timestamp(kind):
        return values.cast(pa.timestamp("us", tz=kind.tz), safe=False).cast(pa.int64())
    if pa.types.is_date(kind):
        return values.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
    if pa.types.is_integer(kind):
        return values.cast(pa.int64())
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        numbers = (v if v is None else int.from_bytes(v, "big") for v in values.to_pylist())
        return pa.array([n if n is None or n < 2**63 else None for n in numbers], pa.int64())
    return pa.nulls(len(values), pa.int64())


def _trusted_from(
    table: LakeTable, columns: pa.Schema, files: tuple[tuple[str, datetime], ...]
) -> datetime | None:
    """Find the sequence from which on every file has the source's columns, and digests of them."""
    trusted = None
    for position, (file, _) in enumerate(files):
        with _opened(table, file) as parquet:
            names = set(parquet.schema_arrow.names)
        if DIGEST not in names or names - set(META_COLUMNS) != set(columns.names):
            later = files[position + 1 :]
            trusted = later[0][1] if later else _ALWAYS
    return trusted


def _silver_rows(lake: LakeSide) -> Iterator[pa.RecordBatch]:
    table, silver = lake.table, open_silver(lake.table)
    if silver is None:
        raise LakeError(
            f"table {table.name}: its silver was there when the comparison began, and is gone; if "
            "a rebuild is swapping its tables in, run again when it has ended"
        )
    with silver_explained(table):
        known = {field.name for field in silver.schema().fields}
        names = [*table.key.names, DIGEST, SEQUENCE, *filter(None, [lake.order])]
        there = [name for name in dict.fromkeys(names) if name in known]
        for batch in read_batches(silver, there, BATCH_ROWS):
            yield from _spilled(lake, batch, _carried(lake, batch))


def _carried(lake: LakeSide, batch: pa.RecordBatch) -> pa.Array:
    """Give the digests that may be trusted; NULL for the others."""
    digests = batch.column(DIGEST).cast(pa.binary())
    good = pc.equal(pc.binary_length(digests), DIGEST_TYPE.byte_width)
    if lake.trusted_from is not None and SEQUENCE in batch.schema.names:
        limit = pa.scalar(lake.trusted_from, pa.timestamp("us", tz="UTC"))
        sequence = batch.column(SEQUENCE).cast(limit.type, safe=False)
        good = pc.and_(good, pc.greater_equal(sequence, limit))
    return pc.if_else(good, digests, pa.scalar(None, pa.binary())).cast(DIGEST_TYPE)


def _bronze_rows(lake: LakeSide) -> Iterator[pa.RecordBatch]:
    for file, sequence in lake.to_digest:
        with _opened(lake.table, file) as parquet:
            names = set(parquet.schema_arrow.names)
            wanted = [n for n in (*lake.columns.names, "_operation", SEQUENCE) if n in names]
            try:
                for batch in parquet.iter_batches(BATCH_ROWS, columns=wanted):
                    yield from _digested(lake, batch, file, sequence)
            except (OSError, pa.ArrowException) as error:
                raise unreadable(lake.table.name, file, error) from error


def _digested(
    lake: LakeSide, batch: pa.RecordBatch, file: str, sequence: datetime
) -> Iterator[pa.RecordBatch]:
    if missing := set(lake.table.key.names) - set(batch.schema.names):
        raise LakeError(
            f"table {lake.table.name}: {file} has no column {', '.join(sorted(missing))}, which "
            "the key in config/ names; correct the key, or move the file out of its folder"
        )
    size = batch.num_rows
    rows = pa.RecordBatch.from_arrays(
        [_as_source(batch, field) for field in lake.columns], names=lake.columns.names
    )
    read = pa.timestamp("us", tz="UTC")
    moments = pa.repeat(pa.scalar(sequence, read), size)
    if SEQUENCE in batch.schema.names:
        moments = pc.coalesce(batch.column(SEQUENCE).cast(read), moments)
    deleted = pa.repeat(pa.scalar(value=False), size)
    if "_operation" in batch.schema.names:
        deleted = pc.equal(pc.coalesce(batch.column("_operation"), "upsert"), "delete")
    for spilled in _spilled(lake, rows, row_digests(rows, lake.columns.names)):
        yield spilled.append_column(SEQUENCE, moments.cast(pa.int64())).append_column(
            DELETED, deleted
        )


def _as_source(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    """Give a column the source's type; a value that can't have it is no value of the source's."""
    if field.name not in batch.schema.names:
        return pa.nulls(batch.num_rows, field.type)
    values = batch.column(field.name)
    if pa.types.is_timestamp(field.type) and pa.types.is_timestamp(values.type):
        # ADF may have written more digits than a microsecond has; the source's are cut as well.
        return values.cast(pa.timestamp(field.type.unit, tz=values.type.tz), safe=False).cast(
            field.type
        )
    try:
        return values.cast(field.type)
    except pa.ArrowException:
        return values


def _spilled(lake: LakeSide, batch: pa.RecordBatch, digests: pa.Array) -> Iterator[pa.RecordBatch]:
    """Make what is kept of rows on disk: their keys, with hash, digest and order."""
    if not batch.num_rows:
        return
    keys = pa.RecordBatch.from_arrays(
        [batch.column(f.name).cast(f.type) for f in lake.table.key], schema=lake.table.key
    )
    order = pa.nulls(batch.num_rows, pa.int64())
    if lake.order in batch.schema.names:
        values, kind = batch.column(lake.order), lake.columns.field(lake.order).type
        if values.type.id == kind.id or {values.type.id, kind.id} <= _INTEGERS:
            order = places(values)
    yield (
        with_key(keys, keys.schema.names)
        .append_column(pa.field(DIGEST, DIGEST_TYPE), digests)
        .append_column(pa.field(ORDER, pa.int64()), order)
    )


def _opened(table: LakeTable, file: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(table.store.readable(file))
    except (OSError, pa.ArrowException) as error:
        raise unreadable(table.name, file, error) from error
