"""Strategy ``watermark``: the rows whose cursor lies in a window.

It sees inserts, and updates that move the cursor forward; with the lookback also rows committed
late by less than that. It cannot see deletes, nor rows dated further back; it counts, and names,
the rows dated in the future and those without a cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from tidemark.errors import SourceError
from tidemark.extract import sqlite
from tidemark.extract.source import SourceTable
from tidemark.extract.types import record_batch
from tidemark.metadata import Table
from tidemark.windows import Kind, Window, clock_cap

BATCH_ROWS = 50_000
_NAMED_KEYS = 10


@dataclass(frozen=True)
class Unseen:
    """Rows that this read leaves out for their cursor's sake.

    Attributes:
        count: How many there are.
        keys: The first ten, by key, as text.
    """

    count: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Frontier:
    """What the source says before its rows are read.

    Attributes:
        newest: The greatest cursor that is no future, in the source's text form.
        future: The rows dated after the source's clock.
        null_cursor: The rows without a cursor.
        now: The source's clock as a cursor value; None where a cursor is no time, or may lie
            ahead of it (``future: take``).
    """

    newest: str | None
    future: Unseen
    null_cursor: Unseen
    now: str | None = None


def find_frontier(connection: sa.Connection, table: Table, kind: Kind) -> Frontier:
    """Fix where a read will end, at the source, before it begins.

    The newest cursor is looked for below the cap, rather than capped: one row dated 2099 then
    does not push the watermark to the clock, past rows that are still to be committed.
    """
    cap = now = None
    if table.future == "hold":
        clock = sqlite.clock(connection)
        cap = clock_cap(kind, clock, table.clock_lag, table.cursor_timezone)
        now = clock_cap(kind, clock, timedelta(0), table.cursor_timezone)
    cursor = sqlite.comparable(_cursor(table), kind)
    beyond = cursor > _bound(cap, kind) if cap is not None else sa.false()
    within = sa.not_(beyond) if cap is not None else sa.true()
    newest = connection.execute(
        sa.select(_cursor(table))
        .select_from(_from(table))
        .where(_cursor(table).is_not(None), within)
        .order_by(cursor.desc())
        .limit(1)
    ).scalar_one_or_none()
    return Frontier(
        newest=None if newest is None else str(newest),
        future=_unseen(connection, table, beyond) if cap is not None else Unseen(0, ()),
        null_cursor=_unseen(connection, table, _cursor(table).is_(None)),
        now=now,
    )


def check_key_is_unique(
    connection: sa.Connection, table: Table, source: SourceTable, where: sa.ColumnElement[bool]
) -> None:
    """Refuse a table whose key is not unique: silver holds one row per key and would lose one.

    The keys of the window are looked for in the whole table: the other row may have been read
    long ago.

    Raises:
        SourceError: Names the key's value and how often it stands there.
    """
    key: list[sa.ColumnClause[Any]] = [sa.column(name) for name in table.key]
    if any(columns <= set(table.key) for columns in source.unique):
        # A UNIQUE constraint, and SQLite's primary key, still lets NULL in any number of times.
        where = sa.and_(where, sa.or_(*(column.is_(None) for column in key)))
    window = sa.select(*key).distinct().select_from(_from(table)).where(where).subquery("window")
    every = sa.table(table.name, *map(sa.column, table.key), schema=table.schema_).alias("every")
    same = (every.c[name].is_not_distinct_from(window.c[name]) for name in table.key)
    twice = connection.execute(
        sa.select(*every.c, sa.func.count())
        .select_from(every.join(window, sa.and_(*same)))
        .group_by(*every.c)
        .having(sa.func.count() > 1)
        .limit(1)
    ).one_or_none()
    if twice is not None:
        message = (
            f"table {table.name}: key {_named(table, twice[:-1])} stands {twice[-1]} times in "
            f"{source.qualified}; name all the columns that make a row unique under key in config/"
        )
        raise SourceError(message)


def condition(table: Table, kind: Kind, window: Window) -> sa.ColumnElement[bool]:
    """Write a window as a condition, its bounds bound as text and cast to the cursor's type."""
    cursor = sqlite.comparable(_cursor(table), kind)
    parts: list[sa.ColumnElement[bool]] = []
    if window.low is not None:
        parts.append(cursor >= _bound(window.low, kind))
    if window.high is not None:
        high = _bound(window.high, kind)
        parts.append(cursor <= high if window.inclusive else cursor < high)
    return sa.and_(*parts) if parts else _cursor(table).is_not(None)


def read(
    connection: sa.Connection,
    table: Table,
    source: SourceTable,
    where: sa.ColumnElement[bool],
    batch_rows: int = BATCH_ROWS,
) -> Iterator[pa.RecordBatch]:
    """Read rows in batches; memory holds one batch at a time."""
    columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in source.columns.names]
    query = sa.select(*columns).select_from(_from(table)).where(where)
    result = connection.execution_options(stream_results=True).execute(query)
    for rows in result.partitions(batch_rows):
        yield record_batch([tuple(row) for row in rows], source.columns, table.name)


def _from(table: Table) -> sa.TableClause:
    return sa.table(table.name, schema=table.schema_)


def _cursor(table: Table) -> sa.ColumnClause[Any]:
    return sa.column(table.cursor)


def _bound(text: str, kind: Kind) -> sa.ColumnElement[object]:
    return sqlite.comparable(sa.literal(text, sa.String), kind)


def _unseen(connection: sa.Connection, table: Table, where: sa.ColumnElement[bool]) -> Unseen:
    rows = sa.select(sa.func.count()).select_from(_from(table)).where(where)
    count = connection.execute(rows).scalar_one()
    if not count:
        return Unseen(0, ())
    key: list[sa.ColumnClause[Any]] = [sa.column(name) for name in table.key]
    query = sa.select(*key).select_from(_from(table)).where(where).order_by(*key)
    found = connection.execute(query.limit(_NAMED_KEYS)).all()
    return Unseen(count, tuple(_named(table, row) for row in found))


def _named(table: Table, values: Any) -> str:
    return ", ".join(f"{n}={v}" for n, v in zip(table.key, values, strict=True))
