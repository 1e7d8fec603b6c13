"""Arrow batches → one bronze Parquet file, whole or absent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemark.digest import DIGEST_TYPE
from tidemark.errors import LakeError

META_FIELDS = (
    pa.field("_sequence", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("_operation", pa.string(), nullable=False),
    pa.field("_source_sequence", pa.string()),
    pa.field("_digest", DIGEST_TYPE),
    pa.field("_run_id", pa.string()),
)
_GROUP_ROWS, _GROUP_BYTES = 50_000, 16 * 2**20
_SAMPLE_ROWS = 10_000
META_COLUMNS = tuple(f.name for f in META_FIELDS)


@dataclass(frozen=True)
class ReadStamp:
    """What every row of one read carries.

    Attributes:
        sequence: The read's reserved sequence, UTC.
        run_id: The Dag run that read it.
    """

    sequence: datetime
    run_id: str


@dataclass(frozen=True)
class Facts:
    """What is known of each row of a batch.

    Attributes:
        operations: insert, update, upsert or delete.
        digests: From `digest.row_digests`; NULL for a delete.
        source_sequences: The source's own number of the change; NULL where it has none.
        versions: 0, 1, … of the versions of one key within the read; each later one is newer by a
            microsecond. None: there is one of each.
    """

    operations: pa.Array
    digests: pa.Array
    source_sequences: pa.Array | None = None
    versions: pa.Array | None = None


def bronze_schema(source: pa.Schema) -> pa.Schema:
    """Give the schema of a bronze file: the source's columns first, then Tidemark's."""
    return pa.schema([*source, *META_FIELDS])


def stamp(rows: pa.RecordBatch, facts: Facts, read: ReadStamp) -> pa.RecordBatch:
    """Put Tidemark's columns behind a batch's own."""
    size = rows.num_rows
    sequences = pa.repeat(pa.scalar(read.sequence, META_FIELDS[0].type), size)
    if facts.versions is not None:
        sequences = pc.add(sequences, facts.versions.cast(pa.duration("us")))
    numbers = facts.source_sequences
    meta = [
        sequences,
        facts.operations,
        pa.nulls(size, pa.string()) if numbers is None else numbers,
        facts.digests,
        pa.repeat(pa.scalar(read.run_id), size),
    ]
    return pa.RecordBatch.from_arrays([*rows.columns, *meta], schema=bronze_schema(rows.schema))


@dataclass
class ParquetFile:
    """A Parquet file (snappy) in the making, batch by batch, under a temporary name.

    Use as a context manager: an error inside removes the file.

    Raises:
        LakeError: The disk refuses (it is full, say).
    """

    path: Path
    schema: pa.Schema
    facts: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0
    _waiting: list[pa.RecordBatch] = field(default_factory=list, init=False, repr=False)
    _writer: pq.ParquetWriter | None = field(default=None, init=False, repr=False)
    _writing: Future[None] | None = field(default=None, init=False, repr=False)

    def __enter__(self) -> Self:
        """Create the file."""
        with self._explained():
            self.path.touch()
        self._pool = ThreadPoolExecutor(1)
        return self

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch; small ones are gathered into one row group.

        A group is written in a thread while the next one is gathered: memory holds both.
        """
        if not batch.num_rows:
            return
        self.rows += batch.num_rows
        self._waiting.append(batch)
        rows = sum(each.num_rows for each in self._waiting)
        if rows >= _GROUP_ROWS or sum(each.nbytes for each in self._waiting) >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._end_writing()
        if waiting:
            group = pa.Table.from_batches(waiting)
            self._writing = self._pool.submit(self._write_group, group)

    def _end_writing(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write_group(self, group: pa.Table) -> None:
        with self._explained():
            if self._writer is None:
                self._writer = self._opened(group)
            self._writer.write_table(group)

    def _opened(self, group: pa.Table) -> pq.ParquetWriter:
        schema = self.schema.with_metadata({f"tidemark.{k}": v for k, v in self.facts.items()})
        # No two digests are alike: their bounds tell nothing.
        bounded = [field.name for field in schema if field.type != DIGEST_TYPE]
        return pq.ParquetWriter(
            self.path,
            schema,
            compression="snappy",
            use_dictionary=_repetitive(group),
            write_statistics=bounded,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file, or remove it after an error."""
        with self._pool:
            if kind is not None:
                self._drop()
                return
            try:
                self._flush()
                self._end_writing()
                with self._explained():
                    (self._writer or self._opened(self.schema.empty_table())).close()
            except BaseException:
                self._drop()
                raise

    def _drop(self) -> None:
        # Another error is on its way, and is the one to be told.
        with contextlib.suppress(Exception):
            self._end_writing()
        with contextlib.suppress(Exception):
            if self._writer is not None:
                self._writer.close()
        self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.path.unlink(missing_ok=True)
            message = (
                f"{self.path}: {error.strerror or error}; free space or mend the lake's disk, then "
                "run again: nothing was published and the watermark has not moved"
            )
            raise LakeError(message) from error


def _repetitive(group: pa.Table) -> list[str]:
    """Name the columns whose values repeat: for the others a dictionary costs time and room."""
    some = group.slice(0, _SAMPLE_ROWS)
    most = some.num_rows // 2
    names = [f.name for f in group.schema if not pa.types.is_nested(f.type)]
    return [n for n in names if pc.count_distinct(some.column(n)).as_py() <= most]
