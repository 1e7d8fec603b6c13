"""Strategy ``rowversion``: the rows whose rowversion is not below the last read's bound.

It sees every insert and update, whatever its timestamps, and no delete. SQL Server gives out a
rowversion when a row is written, not when it is committed: the bound is therefore the least one
that is still in an open transaction (MIN_ACTIVE_ROWVERSION).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from tidemark.errors import SourceError
from tidemark.extract import sqlserver
from tidemark.extract.frontier import fix_and_reach
from tidemark.extract.strategy import (
    SOURCE_SEQUENCE,
    Ask,
    ReadPlan,
    columns_of,
    from_table,
    stored_number,
    whole_table,
)
from tidemark.extract.tsql import ROWVERSION_BYTES, as_hex, binary, hex_text, number_of

POSITION = "rowversion"
_COUNTER = sa.text("SELECT MIN_ACTIVE_ROWVERSION() AS active, @@DBTS AS last")


@dataclass(frozen=True)
class Counter:
    """The database's counter of rowversions.

    Attributes:
        active: The least one in an open transaction; without one, the next to be given out.
        last: The one that was given out last.
    """

    active: int
    last: int

    @property
    def is_held(self) -> bool:
        """Whether an open transaction holds the bound below what was given out."""
        return self.active <= self.last


def reload_reason(low: int | None, counter: Counter) -> str | None:
    """Say why the whole table must be read; None: the read can go on from `low`."""
    if low is None:
        return "no rowversion of an earlier read is stored"
    if low > counter.active:
        return (
            f"the stored rowversion {hex_text(low, ROWVERSION_BYTES)} is above the server's, "
            f"{hex_text(counter.active, ROWVERSION_BYTES)}: the database was restored"
        )
    return None


def plan(ask: Ask) -> ReadPlan:
    """Plan the read of what has got a rowversion since the last read, below the bound."""
    column: sa.ColumnClause[bytes] = sa.column(rowversion_column(ask))
    _check_writable(ask)
    low = stored_number(ask, POSITION)
    # In a batch of its own, and before the moment of the rows is fixed: a transaction that is
    # over by then has its rows among those that are read.
    counter, now = _counter(ask), ask.source.dialect.clock(ask.source.connection)
    begun = (
        ask.source.dialect.oldest_transaction(ask.source.connection) if counter.is_held else None
    )
    position = {POSITION: hex_text(counter.active, ROWVERSION_BYTES)}
    below = column < binary(counter.active, ROWVERSION_BYTES)
    high = fix_and_reach(ask, below)
    number = as_hex(column, ROWVERSION_BYTES).label(SOURCE_SEQUENCE)
    reason = reload_reason(low, counter)
    if reason is not None or low is None:
        return whole_table(ask, position, reason, high, number)
    bounds = (hex_text(low, ROWVERSION_BYTES), position[POSITION])
    note = held_note(ask.table.name, counter, begun, now)
    if low == counter.active:
        return ReadPlan(None, "nothing to read", high, position=position, note=note)
    return ReadPlan(
        statement=sa.select(*columns_of(ask.described), number)
        .select_from(from_table(ask.table))
        .where(column >= binary(low, ROWVERSION_BYTES), below),
        window=f"{bounds[0]} <= {column.name} < {bounds[1]}",
        high=high,
        position=position,
        note=note,
    )


def held_note(table: str, counter: Counter, begun: datetime | None, now: datetime) -> str | None:
    """Warn of an open transaction that holds the bound, with its age where that can be seen."""
    if not counter.is_held:
        return None
    age = "of unknown age (the login may not see it)"
    if begun is not None:
        seconds = max(0, round((now - begun).total_seconds()))
        age = f"open for {seconds} s, since {begun.isoformat(sep=' ', timespec='seconds')}"
    active, last = (hex_text(n, ROWVERSION_BYTES) for n in (counter.active, counter.last))
    return (
        f"table {table}: a transaction {age}, holds the bound at rowversion {active} of {last}"
        ": what was committed above it is read when it has ended"
    )


def rowversion_column(ask: Ask) -> str:
    """Give the table's column of type rowversion; a table has one at most.

    Raises:
        SourceError: There is none.
    """
    for name, declared in ask.described.declared.items():
        if declared == "rowversion":
            return name
    message = (
        f"table {ask.table.name}: strategy rowversion needs a column of that type, and "
        f"{ask.described.qualified} has none; ALTER TABLE … ADD row_version rowversion, or name "
        "another strategy in config/"
    )
    raise SourceError(message)


def _check_writable(ask: Ask) -> None:
    # A secondary replays rows; nothing says that it knows the primary's open transactions.
    if sqlserver.is_read_only(ask.source.connection):
        message = (
            f"table {ask.table.name}: strategy rowversion needs the server's open transactions; "
            "the database is read-only here, as on a secondary, which knows none of the primary's: "
            "connect to the primary (without ApplicationIntent=ReadOnly), or name another strategy "
            "in config/"
        )
        raise SourceError(message)


def _counter(ask: Ask) -> Counter:
    active, last = ask.source.connection.execute(_COUNTER).one()
    return Counter(number_of(active) or 0, number_of(last) or 0)
