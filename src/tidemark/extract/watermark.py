"""Strategy ``watermark``: the rows whose cursor lies in a window.

It sees inserts, and updates that move the cursor forward; with the lookback also rows committed
late by less than that, and the rows without a cursor, which it reads each time.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tidemark.errors import SourceError, StateError
from tidemark.extract.frontier import (
    Frontier,
    bound,
    comparable_cursor,
    count_unseen,
    cursor_column,
    cursor_zone,
    find_frontier,
)
from tidemark.extract.keys import quoted_schema
from tidemark.extract.source import SourceTable, fitting_lookback
from tidemark.extract.strategy import (
    OPERATION,
    PRESENT,
    Ask,
    ReadPlan,
    Unseen,
    columns_of,
    from_table,
    named,
    word,
)
from tidemark.metadata import Table
from tidemark.watermark import place
from tidemark.windows import Interval, Kind, Window, earlier, interval_window, ordinal, plan_window


def plan(ask: Ask) -> ReadPlan:
    """Plan the read from the stored watermark, less the lookback, to the newest cursor there is."""
    table, kind = ask.table, _kind(ask)
    if ask.low is not None:
        place(table.lake_name, kind, ask.low)
    frontier = find_frontier(ask, kind)
    waits = _waits_for_the_clock(table, kind, ask.low, frontier)
    lookback = fitting_lookback(table, kind)
    window = plan_window(kind, ask.low, frontier.newest, lookback)
    without = _without_cursor(ask)
    where = condition(ask, kind, window, with_null=table.null_cursor == "include")
    whole = ask.low is None and ask.known and not ask.goes_on
    if window is None and not without.count:
        where = None
    if where is not None:
        check_key_is_unique(ask, where)
    unseen = {"future": frontier.future}
    if table.null_cursor == "exclude":
        unseen["null_cursor"] = without
    return ReadPlan(
        statement=_statement(ask, where, whole=whole),
        window=_words(ask, window, without),
        high=window.high if window else None,
        tail=earlier(kind, window.high, lookback) if window and window.high else None,
        whole=whole,
        remembers=True,
        not_seen={reason: found for reason, found in unseen.items() if found.count},
        note=_note(table, frontier, waits),
    )


def plan_interval(ask: Ask, interval: Interval) -> ReadPlan:
    """Plan the read of a span of time, for a backfill or a refresh, whatever the strategy."""
    table, kind = ask.table, ask.kind
    window = interval_window(kind, interval, cursor_zone(ask)) if kind else None
    if window is None or kind is None:
        return _without_time(ask, whole=interval.whole_tables)
    if table.null_cursor == "raise":
        _without_cursor(ask)
    where = condition(ask, kind, window)
    if where is not None:
        check_key_is_unique(ask, where)
    words = window.describe(table.cursor or "")
    return ReadPlan(_statement(ask, where, whole=False), words, window.high, backfill=True)


def _without_time(ask: Ask, *, whole: bool) -> ReadPlan:
    """Plan for a table that a span of time can't select from: all of its rows, or none.

    All as they are now, and nothing compared with what was known: a backfill stands beside the
    ordinary reads, and it is for these to find what was deleted.
    """
    table = ask.table
    why = f"its cursor {table.cursor!r} is no time and a" if table.cursor else "it has no"
    what = "date range can't select by it" if table.cursor else "cursor to select by"
    if not whole:
        note = f"table {table.name}: left out, {why} {what}; `whole_tables` reads it whole"
        return ReadPlan(None, "nothing to read", backfill=True, note=note)
    check_key_is_unique(ask, sa.true())
    note = f"table {table.name}: read whole, as whole_tables asks: {why} {what}"
    statement = _statement(ask, sa.true(), whole=False)
    return ReadPlan(statement, "the whole table", backfill=True, note=note)


def check_key_is_unique(ask: Ask, where: sa.ColumnElement[bool]) -> None:
    """Refuse a table whose key is not unique: silver holds one row per key and would lose one.

    The keys of the window are looked for in the whole table: the other row may have been read
    long ago.

    Raises:
        SourceError: Names the key's value and how often it stands there.
    """
    if ask.key_is_checked:
        return
    table = ask.table
    key: list[sa.ColumnClause[Any]] = [sa.column(name) for name in table.key]
    if any(columns <= set(table.key) for columns in ask.described.unique):
        # A UNIQUE constraint, and SQLite's primary key, still lets NULL in any number of times.
        where = sa.and_(where, sa.or_(*(column.is_(None) for column in key)))
    window = sa.select(*key).distinct().select_from(from_table(table)).where(where).subquery("w")
    every = sa.table(table.name, *map(sa.column, table.key), schema=quoted_schema(table)).alias(
        "every"
    )
    same = (every.c[name].is_not_distinct_from(window.c[name]) for name in table.key)
    twice = ask.source.connection.execute(
        sa.select(*every.c, sa.func.count())
        .select_from(every.join(window, sa.and_(*same)))
        .group_by(*every.c)
        .having(sa.func.count() > 1)
        .limit(1)
    ).one_or_none()
    if twice is not None:
        raise not_unique(table, ask.described, twice[:-1], twice[-1])


def not_unique(table: Table, described: SourceTable, key: Any, count: int) -> SourceError:
    """Say that a key stands in a table more than once."""
    message = (
        f"table {table.name}: key {named(table, key)} stands {count} times in "
        f"{described.qualified}; name all the columns that make a row unique under key in config/"
    )
    return SourceError(message)


def _kind(ask: Ask) -> Kind:
    if ask.kind is None:
        message = f"table {ask.table.name}: strategy watermark needs a cursor; name one in config/"
        raise SourceError(message)
    return ask.kind


def _without_cursor(ask: Ask) -> Unseen:
    table = ask.table
    found = count_unseen(ask.source, table, cursor_column(table).is_(None))
    if found.count and table.null_cursor == "raise":
        message = (
            f"table {table.name}: {found.count} rows have no {table.cursor} "
            f"({', '.join(found.keys)}); give them one at the source, or say `null_cursor: include`"
        )
        raise SourceError(message)
    return found


def condition(
    ask: Ask, kind: Kind, window: Window | None, *, with_null: bool = False
) -> sa.ColumnElement[bool] | None:
    """Write a window as a condition, its bounds bound as text and cast to the cursor's type.

    Args:
        ask: The table.
        kind: The cursor's.
        window: None: no row with a cursor.
        with_null: Take the rows without a cursor too.
    """
    column, cursor = cursor_column(ask.table), comparable_cursor(ask, kind)
    parts: list[sa.ColumnElement[bool]] = []
    if window and window.low is not None:
        parts.append(cursor >= bound(ask, window.low, kind))
    if window and window.high is not None:
        high = bound(ask, window.high, kind)
        parts.append(cursor <= high if window.inclusive else cursor < high)
    inside = None
    if window:
        inside = sa.and_(*parts) if parts else column.is_not(None)
    if not with_null:
        return inside
    return column.is_(None) if inside is None else sa.or_(inside, column.is_(None))


def _statement(
    ask: Ask, where: sa.ColumnElement[bool] | None, *, whole: bool
) -> sa.Executable | None:
    columns = columns_of(ask.described)
    if whole:
        # The rows outside of the window are there all the same: they were not deleted.
        read = sa.false() if where is None else where
        operation = sa.case((read, word("upsert")), else_=word(PRESENT)).label(OPERATION)
        return sa.select(*columns, operation).select_from(from_table(ask.table))
    if where is None:
        return None
    return sa.select(*columns).select_from(from_table(ask.table)).where(where)


def _words(ask: Ask, window: Window | None, without: Unseen) -> str:
    cursor = ask.table.cursor or ""
    words = [window.describe(cursor)] if window else []
    if without.count and ask.table.null_cursor == "include":
        words.append(f"{cursor} IS NULL")
    return " or ".join(words) or "nothing to read"


def _note(table: Table, frontier: Frontier, waits: str | None) -> str | None:
    notes = [waits] if waits else []
    if frontier.future.count and table.clock_lag:
        notes.append(
            f"read up to {frontier.cap} only: the source's clock, {frontier.now}, less clock_lag; "
            f"{frontier.future.count} rows above it wait"
        )
    if frontier.held_since is not None:
        notes.append(
            f"read up to {frontier.newest} only: a transaction has been open since "
            f"{frontier.held_since.isoformat(sep=' ', timespec='seconds')}, and what it writes may "
            "be dated from then on"
        )
    if frontier.hidden:
        notes.append(
            f"{frontier.hidden}: what one of them writes with a cursor more than the lookback "
            "below the newest is passed over"
        )
    return f"table {table.name}: {'; '.join(notes)}" if notes else None


def _waits_for_the_clock(
    table: Table, kind: Kind, low: str | None, frontier: Frontier
) -> str | None:
    """Say that the watermark stays until the clock has come up to it again; None: it need not.

    Raises:
        StateError: It is ahead of what the clock has ever shown.
    """
    now, reached = frontier.now, frontier.reached
    if low is None or now is None or reached is None or ordinal(kind, low) <= ordinal(kind, now):
        return None
    if ordinal(kind, low) <= ordinal(kind, reached):
        return (
            f"the clocks of {table.cursor_timezone} went back and show {now}: the watermark stays "
            f"at {low} until they have passed it, and only the lookback below it is read"
        )
    name = table.lake_name
    message = (
        f"table {name}: the watermark {low} in bronze/{name}_cdc/cdc.json is ahead of the "
        f"source's clock, {now}: rows that change until then would be passed over. Set its "
        '"cdc" to a value from which to read on, or delete the file: then the whole table is '
        "read again. Say `future: take` in config/ if the cursor is no time of change"
    )
    raise StateError(message)
