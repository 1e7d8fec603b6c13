"""Strategy ``change_tracking``: the keys that SQL Server has recorded as changed, and their rows.

It sees inserts, updates and deletes; of several changes of a row, the last. Everything is read in
one SNAPSHOT transaction: else a row could change, or the clean-up remove its record, in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tidemark.errors import SourceError
from tidemark.extract import sqlserver
from tidemark.extract.frontier import find_limits, reach
from tidemark.extract.keys import quoted_schema
from tidemark.extract.strategy import (
    OPERATION,
    SOURCE_SEQUENCE,
    Ask,
    ReadPlan,
    columns_of,
    from_table,
    stored_number,
    whole_table,
    word,
)
from tidemark.extract.tsql import object_id, object_name

VERSION, TRACKED = "version", "tracked"


@dataclass(frozen=True)
class Tracking:
    """What SQL Server says of a table's change tracking.

    Attributes:
        current: The version of the database; None: its change tracking is off.
        least: The least version from which the table's changes are whole; None: its tracking is
            off, or the login may not see it.
        tracked: Which recording this is: it is another one after the table was created, emptied
            or tracked anew, though the versions may look as if nothing had happened.
    """

    current: int | None
    least: int | None
    tracked: str = ""


def reload_reason(last: int | None, tracked: str | None, now: Tracking) -> str | None:
    """Say why the whole table must be read; None: the read can go on from `last`."""
    if now.current is None or now.least is None:
        return unrecorded(now)
    if last is None:
        return "no version of an earlier read is stored"
    if last > now.current:
        return f"the stored version {last} is above the server's, {now.current}: a restore"
    if last < now.least:
        return (
            f"the stored version {last} is below the least valid one, {now.least}: the changes in "
            "between were cleaned up, or the table was emptied (a longer CHANGE_RETENTION keeps "
            "them)"
        )
    if tracked is not None and tracked != now.tracked:
        return "the table was created, emptied or tracked anew since the last read"
    return None


def unrecorded(now: Tracking) -> str:
    """Say why there is no record to go on from, and the remedy."""
    if now.current is None:
        return "change tracking is off in the database (ALTER DATABASE … SET CHANGE_TRACKING = ON)"
    return (
        "there is no least valid version: change tracking is off for the table (ALTER TABLE … "
        "ENABLE CHANGE_TRACKING), or the login may not see it (GRANT VIEW CHANGE TRACKING ON …)"
    )


def next_position(now: Tracking) -> dict[str, str]:
    """Give from where the next read goes on; nothing while there is no whole record."""
    if now.current is None or now.least is None:
        return {}
    return {VERSION: str(now.current), TRACKED: now.tracked}


def plan(ask: Ask) -> ReadPlan:
    """Plan the read of what was recorded since the last read's version."""
    _check_snapshot(ask)
    last = stored_number(ask, VERSION)
    limits = find_limits(ask, ask.kind)
    ask.source.dialect.fix_moment(ask.source.connection)
    now = _tracking(ask)
    high = reach(ask, limits)
    position = next_position(now)
    reason = reload_reason(last, ask.position.get(TRACKED), now)
    if reason is not None or last is None:
        return whole_table(ask, position, reason, high)
    _check_key(ask)
    window = f"{last} < version <= {now.current}"
    return ReadPlan(_changes_since(ask, last), window, high, position=position)


def _changes_since(ask: Ask, last: int) -> sa.Select[Any]:
    key = ask.table.key
    changed = sa.Function(
        "CHANGETABLE",
        sa.literal_column(f"CHANGES {object_name(ask.table)}"),
        sa.literal(last, sa.BigInteger),
    ).table_valued(
        *map(sa.column, (*key, "SYS_CHANGE_OPERATION", "SYS_CHANGE_VERSION")), name="changed"
    )
    own: list[sa.ColumnClause[Any]] = [sa.column(n) for n in ask.described.chosen.of_source()]
    row = sa.table(ask.table.name, *own, schema=quoted_schema(ask.table)).alias("present")
    joined = changed.outerjoin(row, sa.and_(*(changed.c[k] == row.c[k] for k in key)))
    # Of a row that is gone there is its key alone.
    columns = columns_of(ask.described, lambda name: (changed if name in key else row).c[name])
    # Whether the row is there tells the row: under one snapshot nothing can be newer, and of a row
    # moved within a clustered index some servers record the delete last (KB 4135113).
    gone = row.c[key[0]].is_(None)
    is_new = _letter("I") == changed.c.SYS_CHANGE_OPERATION
    operation = sa.case((gone, word("delete")), (is_new, word("insert")), else_=word("update"))
    number = sa.cast(changed.c.SYS_CHANGE_VERSION, sa.String(20))
    return sa.select(
        *columns, operation.label(OPERATION), number.label(SOURCE_SEQUENCE)
    ).select_from(joined)


def _letter(letter: str) -> sa.ColumnElement[str]:
    return sa.literal_column(f"N'{letter}'", sa.Unicode())


def _tracking(ask: Ask) -> Tracking:
    """Ask for the version, then touch the table, which fixes the snapshot, then for the rest.

    In this order nothing depends on whether these functions see the snapshot or the present: the
    version is never above the rows, and the least valid version never below what is recorded.
    """
    execute = ask.source.connection.execute
    current = execute(sa.text("SELECT CHANGE_TRACKING_CURRENT_VERSION()")).scalar_one()
    execute(sa.select(sa.text("1")).select_from(from_table(ask.table)).limit(1)).all()
    name = object_id(ask.table)
    least, number, begun, created = execute(
        sa.select(
            sa.Function("CHANGE_TRACKING_MIN_VALID_VERSION", name, type_=sa.BigInteger()),
            name,
            _looked_up("sys.change_tracking_tables", "begin_version", "object_id", ask),
            _looked_up("sys.internal_tables", "create_date", "parent_object_id", ask),
        )
    ).one()
    return Tracking(current, least, f"{number}/{begun}/{created}")


def _looked_up(view: str, column: str, by: str, ask: Ask) -> sa.ScalarSelect[Any]:
    schema, _, name = view.partition(".")
    wanted: sa.ColumnElement[bool] = sa.column(by) == object_id(ask.table)
    if name == "internal_tables":  # the one in which the table's changes are recorded
        wanted = sa.and_(wanted, sa.column("internal_type_desc") == _letter("CHANGE_TRACKING"))
    value: sa.ColumnClause[Any] = sa.column(column)
    found = sa.select(value).select_from(sa.table(name, schema=schema))
    return found.where(wanted).scalar_subquery()


def _check_snapshot(ask: Ask) -> None:
    if not sqlserver.allows_snapshot(ask.source.connection):
        message = (
            f"table {ask.table.name}: strategy change_tracking reads under SNAPSHOT, which the "
            "database does not allow; ALTER DATABASE … SET ALLOW_SNAPSHOT_ISOLATION ON, or name "
            "another strategy in config/"
        )
        raise SourceError(message)


def _check_key(ask: Ask) -> None:
    primary = ask.described.primary_key
    if set(primary) != set(ask.table.key):
        message = (
            f"table {ask.table.name}: change tracking records the primary key of "
            f"{ask.described.qualified}, ({', '.join(primary)}), and key in config/ is "
            f"({', '.join(ask.table.key)}); a delete could not be told: name the primary key, or "
            "another strategy"
        )
        raise SourceError(message)
