"""A statement's rows as Arrow batches of the lake's types, bounded in rows and in bytes."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from tidemark.extract.dialect import Dialect
from tidemark.extract.types import BATCH_BYTES, conformed, parts, record_batch, size_of

BATCH_ROWS = 20_000
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
    try:
        while (batch := dialect.arrow_rows(result, pace.rows)) is not None:
            if not batch.num_rows:
                return
            pace.follow(batch.num_rows, batch.nbytes)
            yield _split(conformed(batch, columns, table), batch, len(columns), names)
        yield from _from_values(result, names, columns, table, pace)
    finally:
        # A connection of SQL Server's is busy until the statement before is closed.
        result.close()


def stream(
    connection: sa.Connection,
    dialect: Dialect,
    statement: sa.Executable,
    columns: pa.Schema,
    table: str,
    *,
    most: int = BATCH_ROWS,
) -> Generator[Fetched, None, None]:
    """Run a statement of many rows: by the database's own export if it has one, else as `fetch`.

    Args:
        connection: The source's; nothing else is asked of it until the last row.
        dialect: The kind of database.
        statement: It.
        columns: The first columns, in the lake's types.
        table: For messages.
        most: Rows in a batch at most.

    Raises:
        SourceError: A value does not fit its column's type.
    """
    batches = dialect.exported(connection, statement, columns, table, most)
    if batches is None:
        # Asked to stream, SQLAlchemy takes the first row before anyone asks for it: it would be
        # missing in a driver's Arrow. Drivers without server-side cursors stream by themselves.
        streams = connection.dialect.supports_server_side_cursors
        result = connection.execution_options(stream_results=streams).execute(statement)
        yield from fetch(result, dialect, columns, table, most)
        return
    width = len(columns)
    for batch in batches:
        own = pa.RecordBatch.from_arrays(batch.columns[:width], schema=columns)
        yield _split(own, batch, width, batch.schema.names)


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
    while rows := result.fetchmany(pace.rows):
        values = list(zip(*rows, strict=True))
        size = size_of(values[:width], columns)
        pace.follow(len(rows), size)
        begin = 0
        for part in parts(values[:width], columns) if size > BATCH_BYTES else (values[:width],):
            own = record_batch(part, columns, table)
            end = begin + own.num_rows
            extra = {names[i]: pa.array(values[i][begin:end]) for i in range(width, len(names))}
            begin = end
            yield Fetched(own, extra)
