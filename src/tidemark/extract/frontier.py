"""How far the source's rows reach by their cursor, fixed before any of them is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tidemark.extract.row_count import row_count
from tidemark.extract.source import OpenSource, SourceTable
from tidemark.extract.strategy import Ask, Unseen, from_table, named
from tidemark.metadata import Table
from tidemark.windows import Kind, clock_cap, clock_reached, ordinal

_NAMED_KEYS = 10
_CLOCKS_DIFFER = timedelta(minutes=1)


@dataclass(frozen=True)
class Frontier:
    """What the source says before its rows are read.

    Attributes:
        newest: The greatest cursor that is no future, in the source's text form.
        future: The rows dated after the source's clock.
        now: The source's clock as a cursor value; None where a cursor is no time, or may lie
            ahead of it (``future: take``).
        reached: The greatest that this clock has shown: it goes back an hour in autumn.
        cap: `now` less `clock_lag`: what is above it waits.
        held_since: The begin of the open transaction below which `newest` is kept, UTC.
        hidden: Why there may be open transactions that can't be seen; None: there are none.
    """

    newest: str | None
    future: Unseen
    now: str | None = None
    reached: str | None = None
    cap: str | None = None
    held_since: datetime | None = None
    hidden: str | None = None


@dataclass(frozen=True)
class Limits:
    """What must be older than the rows: the source's clock, and who is still writing, UTC.

    Attributes:
        clock: The source's clock.
        held: The begin of the oldest open transaction; None: there is none, or none to be seen.
        hidden: Why there may be open transactions that can't be seen; None: there are none.
    """

    clock: datetime
    held: datetime | None
    hidden: str | None = None


def find_limits(ask: Ask, kind: Kind | None) -> Limits | None:
    """Read the clock and the open transactions; None for a cursor that they do not limit.

    Read before the moment of the rows is fixed: a transaction that is seen to be over has then
    committed before that moment, and its rows are among those that are read.
    """
    if ask.table.future == "take" or kind not in {"timestamp", "date"}:
        return None
    connection, dialect = ask.source.connection, ask.source.dialect
    clock = dialect.clock(connection)
    held = dialect.oldest_transaction(connection)
    return Limits(clock, held, dialect.hidden_transactions(connection))


def fix_and_reach(ask: Ask, within: sa.ColumnElement[bool] | None = None) -> str | None:
    """Fix the moment of a read; give the newest cursor of its rows, if the table has a cursor."""
    limits = find_limits(ask, ask.kind)
    ask.source.dialect.fix_moment(ask.source.connection)
    return reach(ask, limits, within)


def reach(
    ask: Ask, limits: Limits | None, within: sa.ColumnElement[bool] | None = None
) -> str | None:
    """Give the newest cursor below the limits, of the rows of a condition; None without one."""
    if ask.kind is None:
        return None
    conditions = [] if within is None else [within]
    settled = _settled(ask, ask.kind, limits) if limits else None
    return _newest(ask, ask.kind, *conditions, *([] if settled is None else [settled]))


def find_frontier(ask: Ask, kind: Kind) -> Frontier:
    """Fix the moment of a read and where it will end, at the source, before it begins.

    The newest cursor is looked for below the cap, rather than capped: one row dated 2099 then
    does not push the watermark to the clock, past rows that are still to be committed.
    """
    limits = find_limits(ask, kind)
    ask.source.dialect.fix_moment(ask.source.connection)
    if limits is None:
        return Frontier(_newest(ask, kind), Unseen(0, ()))
    newest, past = _newest(ask, kind, _settled(ask, kind, limits)), _past(ask, kind, limits)
    held_back = limits.held is not None and newest != _newest(ask, kind, past)
    return Frontier(
        newest=newest,
        future=count_unseen(ask.source, ask.table, _beyond(ask, kind, limits)),
        now=clock_cap(kind, limits.clock, timedelta(0), cursor_zone(ask)),
        reached=clock_reached(kind, limits.clock, cursor_zone(ask)),
        cap=_cap(ask, kind, limits),
        held_since=limits.held if held_back else None,
        hidden=limits.hidden,
    )


def _cap(ask: Ask, kind: Kind, limits: Limits) -> str:
    return clock_cap(kind, limits.clock, ask.table.clock_lag, cursor_zone(ask)) or ""


def _past(ask: Ask, kind: Kind, limits: Limits) -> sa.ColumnElement[bool]:
    return comparable_cursor(ask, kind) <= bound(ask, _cap(ask, kind, limits), kind)


def _beyond(ask: Ask, kind: Kind, limits: Limits) -> sa.ColumnElement[bool]:
    """Select what is dated after the clock, and was not read before the clock was put back."""
    cap = _cap(ask, kind, limits)
    if ask.low is None or ordinal(kind, ask.low) <= ordinal(kind, cap):
        return sa.not_(_past(ask, kind, limits))
    return comparable_cursor(ask, kind) > bound(ask, ask.low, kind)


def _settled(ask: Ask, kind: Kind, limits: Limits) -> sa.ColumnElement[bool]:
    past = _past(ask, kind, limits)
    if limits.held is None:
        return past
    # What an open transaction has written may carry the moment of its begin.
    before = limits.held - timedelta(microseconds=1)
    cap = clock_cap(kind, before, timedelta(0), cursor_zone(ask))
    return sa.and_(past, comparable_cursor(ask, kind) <= bound(ask, cap or "", kind))


def clock_now(source: OpenSource, described: SourceTable, table: Table, kind: Kind) -> str | None:
    """Give the greatest cursor that a read may soon come to; None where a cursor may be any.

    A writer's clock may be a little ahead of the source's: a minute still counts as now.
    """
    if table.future == "take" or kind not in {"timestamp", "date"}:
        return None
    clock = source.dialect.clock(source.connection) + _CLOCKS_DIFFER
    return clock_reached(kind, clock, _zone(described, table))


def cursor_zone(ask: Ask) -> str:
    """Give the time zone of the cursor's values: a type that has one itself is read as UTC."""
    return _zone(ask.described, ask.table)


def _zone(described: SourceTable, table: Table) -> str:
    kind = described.columns.field(table.cursor or "").type
    return "UTC" if getattr(kind, "tz", None) else table.cursor_timezone


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
    rows = sa.select(row_count()).select_from(from_table(table)).where(where)
    count = source.connection.execute(rows).scalar_one()
    if not count:
        return Unseen(0, ())
    key: list[sa.ColumnClause[Any]] = [sa.column(name) for name in table.key]
    query = sa.select(*key).select_from(from_table(table)).where(where).order_by(*key)
    found = source.connection.execute(query.limit(_NAMED_KEYS)).all()
    return Unseen(count, tuple(named(table, row) for row in found))


def _newest(ask: Ask, kind: Kind, *within: sa.ColumnElement[bool]) -> str | None:
    column, cursor = cursor_column(ask.table), comparable_cursor(ask, kind)
    newest = ask.source.connection.execute(
        sa.select(ask.source.dialect.cursor_text(column, kind))
        .select_from(from_table(ask.table))
        .where(column.is_not(None), *within)
        .order_by(cursor.desc())
        .limit(1)
    ).scalar_one_or_none()
    return None if newest is None else str(newest)
