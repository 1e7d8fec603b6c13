"""What SQL Server offers for a table, and what this login may not have of it.

Each question is one plain statement. A server that speaks the protocol and lacks a catalog view, or
a login that may not ask, is told from a server that does not answer: only the first means "no".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from tidemark.extract.ordinary import Records
from tidemark.extract.tsql import object_name
from tidemark.metadata import Strategy, Table

# Error 208, 195, 207, 2812, 229, 262 and 297 in words; a driver passes on no numbers.
_LACKS = (
    "invalid object name",
    "is not a recognized",
    "invalid column name",
    "could not find",
    "permission was denied",
    "permission denied in",
    "does not have permission",
    "does not exist",
)
_RECORDED: dict[Strategy, sa.TextClause] = {
    "cdc": sa.text(
        "SELECT CASE WHEN HAS_PERMS_BY_NAME('cdc.change_tables', 'OBJECT', 'SELECT') = 1 "
        "THEN 1 ELSE 0 END AS may FROM sys.tables "
        "WHERE object_id = OBJECT_ID(:name) AND is_tracked_by_cdc = 1"
    ),
    "change_tracking": sa.text(
        "SELECT CASE WHEN HAS_PERMS_BY_NAME(:name, 'OBJECT', 'VIEW CHANGE TRACKING') = 1 "
        "THEN 1 ELSE 0 END AS may FROM sys.change_tracking_tables "
        "WHERE object_id = OBJECT_ID(:name)"
    ),
    # 189 is the type rowversion, alias types of it included.
    "rowversion": sa.text(
        "SELECT 1 AS may FROM sys.columns "
        "WHERE object_id = OBJECT_ID(:name) AND system_type_id = 189"
    ),
}
# The column's answer is the effective one; older servers know no UNMASK of a column, and give NULL.
_FALSIFIED = sa.text(
    "SELECT m.name FROM sys.masked_columns AS m "
    "WHERE m.object_id = OBJECT_ID(:name) AND m.is_masked = 1 "
    "AND COALESCE(HAS_PERMS_BY_NAME(:name, 'OBJECT', 'UNMASK', m.name, 'COLUMN'), "
    "HAS_PERMS_BY_NAME(DB_NAME(), 'DATABASE', 'UNMASK'), 0) = 0 "
    "ORDER BY m.column_id"
)


def records(connection: sa.Connection, table: Table) -> Records:
    """Tell what SQL Server records of the table's changes, and what of it this login may not read.

    Each question is asked once.
    """
    name = {"name": object_name(table)}
    answers = {s: answer(connection, question, name) for s, question in _RECORDED.items()}
    may = {strategy: bool(rows[0][0]) for strategy, rows in answers.items() if rows}
    grants: dict[Strategy, str] = {
        "cdc": "GRANT SELECT ON SCHEMA::cdc",
        "change_tracking": f"GRANT VIEW CHANGE TRACKING ON {object_name(table)}",
    }
    return Records(
        offered=tuple(s for s in may if may[s]),
        withheld={s: grants[s] for s in may if not may[s]},
    )


def falsified(connection: sa.Connection, table: Table) -> tuple[str, ...]:
    """Name the columns under dynamic data masking that this login is shown masked."""
    found = answer(connection, _FALSIFIED, {"name": object_name(table)})
    return tuple(row[0] for row in found or ())


def answer(
    connection: sa.Connection, question: sa.Executable, values: Mapping[str, Any] | None = None
) -> Sequence[Any] | None:
    """Ask; None if this server does not know, or does not tell this login.

    Raises:
        sqlalchemy.exc.DBAPIError: It does not answer at all.
    """
    try:
        return connection.execute(question, values or {}).all()
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated or not _lacks(str(error.orig)):
            raise
        connection.rollback()
        return None


def _lacks(reason: str) -> bool:
    return any(words in reason.lower() for words in _LACKS)
