"""What the lake knows of a table's rows, before they are read anew: keys, and perhaps digests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from tidemark.buckets import DIGEST
from tidemark.errors import LakeError
from tidemark.lake_tables import read_batches
from tidemark.layout import Lake, sequence_of
from tidemark.pending import read_marker
from tidemark.published import bronze_files
from tidemark.storage import Store
from tidemark.whole_table import known_keys

_BATCH_ROWS = 50_000


@dataclass(frozen=True)
class LakeTable:
    """A table in the lake, as far as its keys go.

    Attributes:
        store: The lake's storage.
        lake: The lake's layout.
        name: The table's name in the lake.
        key: The key's columns, of the types that the source gives them.
    """

    store: Store
    lake: Lake
    name: str
    key: pa.Schema


def is_known(table: LakeTable) -> bool:
    """Tell whether the lake holds anything of a table; old bronze may have been cleared away."""
    log = f"{table.lake.silver(table.name)}/_delta_log"
    return bool(bronze_files(table.store, table.lake, table.name) or table.store.names(log))


def newest_columns(table: LakeTable) -> frozenset[str]:
    """Name the columns of the newest bronze file, in small letters.

    There are none if there is no file, or if it can't be read: to say so is silver's.
    """
    files = bronze_files(table.store, table.lake, table.name)
    if not files:
        return frozenset()
    file, _ = max(files, key=lambda one: one[1])
    try:
        with pq.ParquetFile(table.store.readable(file)) as parquet:
            return frozenset(name.lower() for name in parquet.schema_arrow.names)
    except (OSError, pa.ArrowException):
        return frozenset()


def from_snapshot(table: LakeTable, file: str, taken: datetime | None) -> Iterator[pa.RecordBatch]:
    """Give what the last snapshot left: keys and digests, and the keys of what came after it.

    What was published since (a backfill, a repair, a read that was killed before it could say so)
    may hold another version of a row than the snapshot: its digest no longer counts.

    Raises:
        LakeError: The file can't be read.
    """
    for batch in _batches(table, file, [*table.key.names, DIGEST]):
        yield known_keys(batch, table.key.names, batch.column(DIGEST))
    files = bronze_files(table.store, table.lake, table.name)
    since = [file for file, sequence in files if taken is None or sequence > taken]
    yield from keys_in(table, since)


def from_lake(table: LakeTable) -> Iterator[pa.RecordBatch]:
    """Give the keys of all rows that the lake knows: silver's, and those that wait for it.

    Raises:
        LakeError: A file can't be read.
    """
    waiting = waiting_for_silver(table)
    log = table.store.names(f"{table.lake.silver(table.name)}/_delta_log")
    # Whether its marker is there or not: what silver holds, a delete must reach.
    if any(name.partition(".")[0].isdigit() for name in log):
        yield from _from_silver(table)
    yield from keys_in(table, waiting)


def waiting_for_silver(table: LakeTable) -> list[str]:
    """Name the bronze files that silver has not recorded as merged.

    Raises:
        StateError: Silver's marker holds something else.
    """
    files = bronze_files(table.store, table.lake, table.name)
    marker = read_marker(table.store, table.lake.marker("silver", table.name))
    done = sequence_of(str(marker.get("newest") or ""))
    if done is None:
        return [file for file, _ in files]
    later = [file for file, sequence in files if sequence > done]
    # A file that was published late, under an older sequence, shows in the count alone.
    complete = marker.get("count") == len(files) - len(later)
    return later if complete else [file for file, _ in files]


def _from_silver(table: LakeTable) -> Iterator[pa.RecordBatch]:
    from deltalake import DeltaTable  # noqa: PLC0415  # only a full reload needs it

    with silver_explained(table) as (url, options):
        silver = DeltaTable(url, storage_options=options)
        for batch in read_batches(silver, table.key.names, _BATCH_ROWS):
            yield known_keys(_typed(batch, table.key), table.key.names, None)


@contextlib.contextmanager
def silver_explained(table: LakeTable) -> Iterator[tuple[str, dict[str, str]]]:
    """Give silver's URL and storage options; what goes wrong with it inside is explained.

    Raises:
        LakeError: Silver can't be read.
    """
    from deltalake.exceptions import DeltaError  # noqa: PLC0415

    path = table.lake.silver(table.name)
    try:
        yield table.store.delta(path)
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise unreadable(table.name, table.lake.url(path), error) from error


def keys_in(table: LakeTable, files: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Give the keys in some bronze files.

    Raises:
        LakeError: A file can't be read.
    """
    for file in files:
        for batch in _batches(table, file, table.key.names):
            yield known_keys(batch, table.key.names, None)


def _batches(table: LakeTable, file: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for batch in bronze_batches(table.store, table.name, file, columns):
        try:
            yield _typed(batch, table.key)
        except (pa.ArrowException, KeyError) as error:
            raise unreadable(table.name, file, error) from error


def bronze_batches(
    store: Store, table: str, file: str, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Read some columns of a Parquet file of the lake.

    Raises:
        LakeError: The file can't be read.
    """
    try:
        with pq.ParquetFile(store.readable(file)) as parquet:
            yield from parquet.iter_batches(_BATCH_ROWS, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise unreadable(table, file, error) from error


def _typed(batch: pa.RecordBatch, key: pa.Schema) -> pa.RecordBatch:
    """Give the key's columns the source's types, in which a hash of them is comparable."""
    for field in key:
        place = batch.schema.get_field_index(field.name)
        if place < 0:
            raise KeyError(f"it has no column {field.name!r}")
        batch = batch.set_column(place, field, batch.column(place).cast(field.type))
    return batch


def unreadable(table: str, file: str, error: Exception) -> LakeError:
    """Say that a file of the lake can't be read."""
    message = (
        f"table {table}: {file} can't be read ({error}); restore the file, or "
        "move it out of its folder, and run again"
    )
    return LakeError(message)
