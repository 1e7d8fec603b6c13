"""Strategy ``cdc``: every change that SQL Server's capture has recorded, in the order of its log.

It sees inserts, updates and deletes, and every version. All changes are read rather than the net
ones: these swallow the delete of a row that was inserted in the same span.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.elements import quoted_name

from tidemark.errors import SourceError
from tidemark.extract.frontier import fix_and_reach
from tidemark.extract.strategy import (
    OPERATION,
    SOURCE_SEQUENCE,
    VERSION,
    Ask,
    ReadPlan,
    columns_of,
    stored_number,
    whole_table,
    word,
)
from tidemark.extract.tsql import LSN_BYTES, as_hex, binary, hex_text, number_of, object_id

POSITION = "lsn"
_START, _ORDER, _OPERATION = "__$start_lsn", "__$seqval", "__$operation"


@dataclass(frozen=True)
class Instance:
    """A capture instance of the table.

    Attributes:
        name: Its own.
        least: The least LSN from which its changes are whole; 0: the login may not see it.
        columns: The columns that it records; computed ones, of which it records NULL, are not.
    """

    name: str
    least: int
    columns: frozenset[str]


@dataclass(frozen=True)
class Log:
    """How far the capture has come.

    Attributes:
        instance: The one to read.
        newest: The newest LSN that was captured in the database; None: none at all.
    """

    instance: Instance
    newest: int | None

    @property
    def reach(self) -> int:
        """The LSN up to which all changes are known: a new instance has none before its first."""
        return max(self.newest or 0, self.instance.least - 1)


def choose_instance(
    instances: Sequence[Instance], wanted: Iterable[str], last: int | None
) -> Instance | None:
    """Choose the newest instance that records all columns, and reaches back to the last read.

    Args:
        instances: The newest first; SQL Server allows two.
        wanted: The table's columns.
        last: The LSN of the last read.

    Returns:
        The instance; the newest with all columns if none reaches back; None: none has them all.
    """
    whole = [instance for instance in instances if set(wanted) <= instance.columns]
    reaching = [i for i in whole if last is not None and 0 < i.least <= last + 1]
    return next(iter([*reaching, *whole]), None)


def reload_reason(last: int | None, log: Log) -> str | None:
    """Say why the whole table must be read; None: the read can go on behind `last`."""
    if not log.instance.least:
        return (
            f"the capture instance {log.instance.name} shows no least LSN: the login lacks SELECT "
            "on all captured columns, or the instance's gating role"
        )
    if log.newest is None:
        return "nothing was captured yet: is the capture job (SQL Server Agent) running?"
    if last is None:
        return "no LSN of an earlier read is stored"
    if last > log.reach:
        return (
            f"the stored LSN {hex_text(last, LSN_BYTES)} is above the server's, "
            f"{hex_text(log.reach, LSN_BYTES)}: a restore"
        )
    if last + 1 < log.instance.least:
        return (
            f"the stored LSN {hex_text(last, LSN_BYTES)} is below the least, "
            f"{hex_text(log.instance.least, LSN_BYTES)}, of the capture instance "
            f"{log.instance.name}: the changes in between were cleaned up (a longer retention "
            "keeps them), or belong to another instance"
        )
    return None


def next_position(log: Log) -> dict[str, str]:
    """Give from where the next read goes on; nothing while nothing is captured."""
    if log.newest is None or not log.instance.least:
        return {}
    return {POSITION: hex_text(log.reach, LSN_BYTES)}


def plan(ask: Ask) -> ReadPlan:
    """Plan the read of all changes behind the last read's LSN, up to the newest captured."""
    last = stored_number(ask, POSITION)
    log = _log(ask, last)
    position, reason = next_position(log), reload_reason(last, log)
    if reason is not None or last is None:
        return whole_table(ask, position, reason, fix_and_reach(ask))
    ask.source.dialect.fix_moment(ask.source.connection)
    # The capture lags behind the table: a cursor value found there may be of a row that is not
    # captured yet, so that `high` stays as it was.
    if last == log.reach:
        return ReadPlan(None, "nothing to read", position=position)
    window = f"{hex_text(last, LSN_BYTES)} < LSN <= {position[POSITION]}"
    return ReadPlan(_changes(ask, log, last), window, position=position)


def _changes(ask: Ask, log: Log, last: int) -> sa.Select[Any]:
    names = ask.described.chosen.of_source()
    changes = sa.Function(
        quoted_name(f"fn_cdc_get_all_changes_{log.instance.name}", quote=True),
        binary(last + 1, LSN_BYTES),
        binary(log.reach, LSN_BYTES),
        sa.literal_column("N'all'"),
        packagenames=("cdc",),
    ).table_valued(*map(sa.column, (*names, _START, _ORDER, _OPERATION)), name="changes")
    what = changes.c[_OPERATION]
    order = [changes.c[_START], changes.c[_ORDER], what]

    def column(name: str) -> sa.ColumnElement[Any]:
        # A delete carries its key and nothing else, as with every strategy.
        own = changes.c[name]
        return own if name in ask.table.key else sa.case((what != _number(1), own))

    key = [changes.c[name] for name in ask.table.key]
    number = sa.func.row_number().over(partition_by=key, order_by=order) - _number(1)
    return sa.select(
        *columns_of(ask.described, column),
        _operation(what).label(OPERATION),
        as_hex(changes.c[_START], LSN_BYTES).label(SOURCE_SEQUENCE),
        number.label(VERSION),
    ).order_by(*order)


def _operation(what: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    return sa.case(
        (what == _number(1), word("delete")),
        (what == _number(2), word("insert")),
        else_=word("update"),
    )


def _number(number: int) -> sa.ColumnElement[int]:
    return sa.literal_column(str(number), sa.Integer())


def _log(ask: Ask, last: int | None) -> Log:
    execute = ask.source.connection.execute
    # The newest is read first: what is cleaned up after that raises the least, and is noticed.
    newest = number_of(execute(sa.text("SELECT sys.fn_cdc_get_max_lsn()")).scalar_one())
    instances: list[Instance] = []
    is_on = execute(sa.text("SELECT OBJECT_ID(N'cdc.change_tables')")).scalar_one() is not None
    for name, least, number in execute(_instances(ask)).all() if is_on else ():
        captured = execute(_CAPTURED, {"number": number}).scalars().all()
        instances.append(Instance(name, number_of(least) or 0, frozenset(captured)))
    chosen = choose_instance(instances, ask.described.chosen.of_source(), last)
    if chosen is None:
        raise _no_instance(ask, instances)
    return Log(chosen, newest)


_CAPTURED = sa.text(
    "SELECT column_name FROM cdc.captured_columns WHERE object_id = :number AND is_computed = 0"
)


def _instances(ask: Ask) -> sa.Select[str, bytes, int]:
    name: sa.ColumnClause[str] = sa.column("capture_instance")
    least = sa.Function("fn_cdc_get_min_lsn", name, packagenames=("sys",), type_=sa.LargeBinary())
    number: sa.ColumnClause[int] = sa.column("object_id")
    return (
        sa.select(name, least, number)
        .select_from(sa.table("change_tables", schema="cdc"))
        .where(sa.column("source_object_id") == object_id(ask.table))
        .order_by(sa.column("create_date").desc())
    )


def _no_instance(ask: Ask, instances: Sequence[Instance]) -> SourceError:
    table, names = ask.table, ask.described.chosen.of_source()
    if not instances:
        fact = f"{ask.described.qualified} has no capture instance that the login may see"
        remedy = "EXEC sys.sp_cdc_enable_table …, and GRANT SELECT ON SCHEMA::cdc to the login"
    else:
        newest = instances[0]
        missing = ", ".join(name for name in names if name not in newest.columns)
        fact = f"the capture instance {newest.name} does not record {missing}"
        remedy = (
            "create a second instance with sys.sp_cdc_enable_table (of a computed column CDC "
            "records NULL: name another strategy)"
        )
    return SourceError(f"table {table.name}: {fact}; {remedy}, or name another strategy in config/")
