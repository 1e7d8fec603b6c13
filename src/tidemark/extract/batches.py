"""A statement's rows as Arrow batches of the lake's types, bounded in rows and in bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from tidemark.extract.dialect import Dialect
from tidemark.extract.types import BATCH_BYTES, conformed, parts, record_batch, size_of

BATCH_ROWS = 50_000
_FIRST_ROWS, _GROWTH = 100, 5


@dataclass(frozen=True)
class Fetched:
    """A batch of what a statement gave.

    Attributes:
        rows: The columns that were asked for.
        extra: Those behind them, by name.
    """

    rows: pa.RecordBatch
    extra: dict[str, pa.Array]


def fetch(
    result: sa.CursorResult[Any],
    dialect: Dialect,
    columns: pa.Schema,
    table: str,
    most: int = BATCH_ROWS,
) -> Iterator[Fetched]:
    """Fetch a result: as Arrow from a driver that gives it, else by way of Python's values.

    Args:
        result: The statement's; nothing was fetched of it.
        dialect: The kind of database.
        columns: The first columns, in the lake's types.
        table: For messages.
        most: Rows in a batch at most. The first batches are small, the next ones as large as the
            rows' own size allows: memory holds one of them.

    Raises:
        SourceError: A value does not fit its column's type.
    """
    names = list(result.keys())
    pace = _Pace(most)
    while True:
        batch = dialect.arrow_rows(result, pace.rows)
        if batch is None:
            yield from _from_values(result, names, columns, table, pace)
            return
        if not batch.num_rows:
            return
        pace.follow(batch.num_rows, batch.nbytes)
        yield _split(conformed(batch, columns, table), batch, len(columns), names)


@dataclass
class _Pace:
    """How many rows to fetch next, by what the last ones took."""

    most: int
    rows: int = _FIRST_ROWS

    def __post_init__(self) -> None:
        self.rows = min(self.rows, self.most)

    def follow(self, rows: int, size: int) -> None:
        fitting = rows * BATCH_BYTES // max(1, size)
        self.rows = max(1, min(self.most, fitting, self.rows * _GROWTH))


def _split(rows: pa.RecordBatch, batch: pa.RecordBatch, width: int, names: list[str]) -> Fetched:
    return Fetched(rows, {name: batch.column(i) for i, name in enumerate(names) if i >= width})


def _from_values(
    result: sa.CursorResult[Any], names: list[str], columns: pa.Schema, table: str, pace: _Pace
) -> Iterator[Fetched]:
    width = len(columns)
    for rows in _fetched(result, pace):
        own = record_batch([tuple(row[:width]) for row in rows], columns, table)
        extra = {n: pa.array([row[i] for row in rows]) for i, n in enumerate(names) if i >= width}
        yield Fetched(own, extra)


def _fetched(result: sa.CursorResult[Any], pace: _Pace) -> Iterator[Sequence[Any]]:
    while rows := result.fetchmany(pace.rows):
        size = size_of(rows)
        yield from parts(rows) if size > BATCH_BYTES else (rows,)
        pace.follow(len(rows), size)
