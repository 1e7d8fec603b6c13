"""How far the source's rows reach by their cursor, fixed before any of them is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tidemark.extract.source import OpenSource
from tidemark.extract.strategy import Ask, Unseen, from_table, named
from tidemark.metadata import Table
from tidemark.windows import Kind, clock_cap

_NAMED_KEYS = 10


@dataclass(frozen=True)
class Frontier:
    """What the source says before its rows are read.

    Attributes:
        newest: The greatest cursor that is no future, in the source's text form.
        future: The rows dated after the source's clock.
        now: The source's clock as a cursor value; None where a cursor is no time, or may lie
            ahead of it (``future: take``).
        held_since: The begin of the open transaction below which `newest` is kept, UTC.
    """

    newest: str | None
    future: Unseen
    now: str | None = None
    held_since: datetime | None = None


def find_frontier(ask: Ask, kind: Kind) -> Frontier:
    """Fix where a read will end, at the source, before it begins.

    The newest cursor is looked for below the cap, rather than capped: one row dated 2099 then
    does not push the watermark to the clock, past rows that are still to be committed.
    """
    table, source = ask.table, ask.source
    cursor = comparable_cursor(ask, kind)
    if table.future == "take" or kind not in {"timestamp", "date"}:
        return Frontier(_newest(ask, cursor, sa.true()), Unseen(0, ()))
    clock = source.dialect.clock(source.connection)
    held = source.dialect.oldest_transaction(source.connection)
    cap = clock_cap(kind, clock, table.clock_lag, table.cursor_timezone) or ""
    # What an open transaction has written may carry the moment of its begin.
    open_cap = held and clock_cap(
        kind, held - timedelta(microseconds=1), timedelta(0), table.cursor_timezone
    )
    within = cursor <= bound(ask, cap, kind)
    if open_cap:
        within = sa.and_(within, cursor <= bound(ask, open_cap, kind))
    newest = _newest(ask, cursor, within)
    reach = _newest(ask, cursor, cursor <= bound(ask, cap, kind)) if open_cap else newest
    return Frontier(
        newest=newest,
        future=count_unseen(source, table, cursor > bound(ask, cap, kind)),
        now=clock_cap(kind, clock, timedelta(0), table.cursor_timezone),
        held_since=held if reach != newest else None,
    )


def cursor_column(table: Table) -> sa.ColumnClause[Any]:
    """Give the cursor, of a table that has one."""
    return sa.column(table.cursor or "")


def comparable_cursor(ask: Ask, kind: Kind) -> sa.ColumnElement[object]:
    """Give the cursor so that it compares as what it is."""
    return ask.source.dialect.comparable(cursor_column(ask.table), kind)


def bound(ask: Ask, text: str, kind: Kind) -> sa.ColumnElement[object]:
    """Give a cursor value as a bound, of the cursor's own type."""
    declared = ask.described.declared.get(ask.table.cursor or "", "")
    return ask.source.dialect.bound(text, kind, declared)


def count_unseen(source: OpenSource, table: Table, where: sa.ColumnElement[bool]) -> Unseen:
    """Count the rows of a condition, and name the first of them."""
    rows = sa.select(sa.func.count()).select_from(from_table(table)).where(where)
    count = source.connection.execute(rows).scalar_one()
    if not count:
        return Unseen(0, ())
    key: list[sa.ColumnClause[Any]] = [sa.column(name) for name in table.key]
    query = sa.select(*key).select_from(from_table(table)).where(where).order_by(*key)
    found = source.connection.execute(query.limit(_NAMED_KEYS)).all()
    return Unseen(count, tuple(named(table, row) for row in found))


def _newest(
    ask: Ask, cursor: sa.ColumnElement[object], within: sa.ColumnElement[bool]
) -> str | None:
    column = cursor_column(ask.table)
    newest = ask.source.connection.execute(
        sa.select(column)
        .select_from(from_table(ask.table))
        .where(column.is_not(None), within)
        .order_by(cursor.desc())
        .limit(1)
    ).scalar_one_or_none()
    return None if newest is None else str(newest)
