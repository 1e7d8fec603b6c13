"""What is particular to SQL Server and Azure SQL.

A login reads; it is the login that must not be able to write (``db_datareader``): SQL Server has
no read-only session.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pyarrow as pa
import sqlalchemy as sa

from tidemark.extract.declared import Declared
from tidemark.extract.keys import UniqueKeys
from tidemark.extract.ordinary import comparable, exported, unreadable
from tidemark.extract.sqlserver_errors import is_transient, is_waking, remedy
from tidemark.extract.sqlserver_rights import answer, falsified, records
from tidemark.extract.tsql import object_name
from tidemark.metadata import Table
from tidemark.windows import Kind

_DECIMAL_DIGITS = 38
_RUNNING = "tidemark: the cursor of the last statement"
_TIMEOUT, _LOGIN_SECONDS = "connect_timeout", 30
_DATETIME_STEP = timedelta(milliseconds=4)  # sys.dm_tran_* hold datetime: steps of 1/300 s
_PARTS = re.compile(r"(\w+)(?:\((\d+|max)(?:, ?(\d+))?\))?$")
_TYPES: dict[str, pa.DataType] = {
    "bit": pa.bool_(), "tinyint": pa.int16(), "smallint": pa.int16(), "int": pa.int32(),
    "bigint": pa.int64(), "real": pa.float32(), "float": pa.float64(),
    "money": pa.decimal128(19, 4), "smallmoney": pa.decimal128(10, 4),
    "date": pa.date32(), "smalldatetime": pa.timestamp("us"), "datetime": pa.timestamp("us"),
    "datetime2": pa.timestamp("us"), "datetimeoffset": pa.timestamp("us", tz="UTC"),
    "rowversion": pa.binary(8), "binary": pa.binary(), "varbinary": pa.binary(),
    "image": pa.binary(),
}  # fmt: skip
_CHARACTERS = frozenset({"char", "varchar", "text", "nchar", "nvarchar", "ntext"})
# A time of day is a text: Spark reads no time from Parquet that every release can write.
_TEXTS = _CHARACTERS | {"xml", "json", "uniqueidentifier", "time", "hierarchyid"}
_WRITES = sa.text(
    "SELECT MIN(active.transaction_begin_time) AS begun, "
    "DATEPART(tzoffset, SYSDATETIMEOFFSET()) AS ahead "
    "FROM sys.dm_tran_database_transactions AS written "
    "JOIN sys.dm_tran_active_transactions AS active "
    "ON active.transaction_id = written.transaction_id "
    "LEFT JOIN sys.dm_tran_session_transactions AS session "
    "ON session.transaction_id = written.transaction_id "
    "WHERE written.database_id = DB_ID() "
    "AND written.database_transaction_begin_time IS NOT NULL "
    "AND (session.session_id IS NULL OR session.session_id <> @@SPID)"
)
_EDITION = sa.text("SELECT CAST(SERVERPROPERTY('EngineEdition') AS int)")
_AZURE_SQL_DATABASE = 5
# There a permission of the database is what is one of the server elsewhere, and the server's is not
# to be asked for; SQL Server 2022 has a narrower one too.
_MAY_SEE = {
    True: sa.text("SELECT HAS_PERMS_BY_NAME(DB_NAME(), 'DATABASE', 'VIEW DATABASE STATE')"),
    False: sa.text(
        "SELECT CASE WHEN HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER STATE') = 1 "
        "OR HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER PERFORMANCE STATE') = 1 "
        "THEN 1 ELSE 0 END"
    ),
}
_UPDATEABILITY = sa.text("SELECT DATABASEPROPERTYEX(DB_NAME(), 'Updateability')")
_ISOLATION = sa.text(
    "SELECT is_read_committed_snapshot_on, snapshot_isolation_state "
    "FROM sys.databases WHERE database_id = DB_ID()"
)
_COLUMNS = (
    "SELECT c.name, COALESCE(TYPE_NAME(c.system_type_id), TYPE_NAME(c.user_type_id)), "
    "c.max_length, c.precision, c.scale FROM sys.columns AS c WHERE c.object_id = OBJECT_ID(:name) "
    "ORDER BY c.column_id"
)
# A UNIQUE constraint is an index too; of a filtered one the filter's rows alone are unique.
_UNIQUE = (
    "SELECT i.index_id, i.is_primary_key, c.name FROM sys.indexes AS i "
    "JOIN sys.index_columns AS k ON k.object_id = i.object_id AND k.index_id = i.index_id "
    "JOIN sys.columns AS c ON c.object_id = k.object_id AND c.column_id = k.column_id "
    "WHERE i.object_id = OBJECT_ID(:name) AND i.is_unique = 1 AND i.has_filter = 0 "
    "AND i.is_disabled = 0 AND k.is_included_column = 0 ORDER BY i.index_id, k.key_ordinal"
)

# What is asked of a dialect and stands in a module of its own.
__all__ = [
    "comparable",
    "exported",
    "falsified",
    "is_transient",
    "is_waking",
    "records",
    "remedy",
    "unreadable",
]


def create_engine(url: sa.URL, schema: str) -> sa.Engine:
    """Make an engine on Microsoft's own driver; a connection serves one read.

    What is said on the way is encrypted unless the URL says otherwise. `connect_timeout` of the
    URL, in seconds, is the driver's parameter: in its connection string it would be refused.
    """
    del schema
    seconds = int(str(url.query.get(_TIMEOUT) or _LOGIN_SECONDS))
    url = url.difference_update_query([_TIMEOUT])
    if not any(name.lower() == "encrypt" for name in url.query):
        url = url.update_query_dict({"Encrypt": "yes"})
    engine = sa.create_engine(
        url.set(drivername="mssql+mssqlpython"),
        poolclass=sa.pool.NullPool,
        hide_parameters=True,
        connect_args={"timeout": seconds},
    )
    sa.event.listen(engine, "before_cursor_execute", _remember)
    return engine


def _remember(connection: sa.Connection, cursor: Any, *_: object) -> None:
    connection.info[_RUNNING] = cursor


def cancel(connection: sa.Connection) -> None:
    """Cancel what the connection waits for: a query's timeout may fire only at its end.

    The driver has no public way but that of its Arrow reader's ``close``, which calls the same.
    """
    cursor = connection.info.get(_RUNNING)
    if cursor is not None and not cursor.closed:
        cursor.hstmt._cancel()  # noqa: SLF001


def declared(name: str, max_length: int, precision: int, scale: int) -> str:
    """Write a column's type as T-SQL declares it, from what ``sys.columns`` says."""
    if name == "timestamp":
        return "rowversion"  # T-SQL's own old word, for what is no time
    if name in {"decimal", "numeric"}:
        return f"{name}({precision},{scale})"
    if name in {"datetime2", "datetimeoffset", "time"}:
        return f"{name}({scale})"
    if name in {"char", "varchar", "nchar", "nvarchar", "binary", "varbinary"}:
        size = max_length // 2 if name.startswith("n") else max_length
        return f"{name}({'max' if max_length < 0 else size})"
    return name


def declared_types(connection: sa.Connection, table: Table) -> dict[str, str]:
    """Give the declared type of each column, an alias type's base and computed ones included."""
    rows = connection.execute(sa.text(_COLUMNS), {"name": object_name(table)})
    return {row[0]: declared(row[1] or "", row[2], row[3], row[4]) for row in rows}


def unique_keys(connection: sa.Connection, table: Table) -> UniqueKeys:
    """Look up the primary key, and the unique indexes without a filter."""
    rows = connection.execute(sa.text(_UNIQUE), {"name": object_name(table)}).all()
    indexes: dict[int, list[str]] = {}
    for number, _, column in rows:
        indexes.setdefault(number, []).append(column)
    primary = next((number for number, is_primary, _ in rows if is_primary), None)
    others = (tuple(columns) for number, columns in indexes.items() if number != primary)
    return UniqueKeys(tuple(indexes.get(primary or 0, ())), tuple(others))


def arrow_type(declared: str) -> pa.DataType | None:
    """Give the Arrow type of a declared type; None if it is none that we know."""
    match = _PARTS.match(declared)
    if not match:
        return None
    name, size, scale = match.groups()
    if name in {"decimal", "numeric"}:
        known = size is not None and 1 <= int(size) <= _DECIMAL_DIGITS
        return pa.decimal128(int(size), int(scale or 0)) if known else None
    return pa.string() if name in _TEXTS else _TYPES.get(name)


def read_as(column: sa.ColumnElement[Any], declared: str) -> sa.ColumnElement[Any]:
    """Give a column in the form in which the driver's Arrow holds it whole.

    A time of day is given as text (`_TEXTS`), and so is what SQL Server keeps in a form of its own.
    """
    name, _, _ = declared.partition("(")
    return text_of(column, declared) if name in {"time", "xml", "json", "hierarchyid"} else column


def text_of(column: sa.ColumnElement[Any], declared: str) -> sa.ColumnElement[Any]:
    """Give a column as text, with all of its digits and its offset.

    The styles are those of the documentation of CAST and CONVERT: 121 writes a moment as
    yyyy-mm-dd hh:mi:ss.nnnnnnn, 3 a float with 17 digits, 2 money with four, 1 bytes as 0x….
    """
    name, _, _ = declared.partition("(")
    if name in _CHARACTERS:
        return column
    if name in {"date", "time", "smalldatetime", "datetime", "datetime2", "datetimeoffset"}:
        return _styled(column, "34", 121)
    if name in {"float", "real"}:
        return _styled(column, "34", 3)
    if name in {"money", "smallmoney"}:
        return _styled(column, "34", 2)
    if name in {"binary", "varbinary", "rowversion", "image"}:
        return _styled(sa.cast(column, Declared("varbinary(max)")), "max", 1)
    return sa.cast(column, sa.Unicode(4_000) if name == "sql_variant" else sa.Unicode())


def cut(declared: str) -> str | None:
    """Tell what the lake's type does not hold: its timestamps have six digits, and are UTC."""
    losses = {
        "datetime2(7)": "the seventh digit is cut",
        "datetimeoffset(7)": "the seventh digit is cut, and the offset is turned to UTC",
    }
    offset = "the offset is turned to UTC" if declared.startswith("datetimeoffset") else None
    return losses.get(declared, offset)


def cursor_text(cursor: sa.ColumnElement[Any], kind: Kind) -> sa.ColumnElement[Any]:
    """Give a cursor with all the digits that it has: seven, for a datetime2."""
    return _styled(cursor, "34", 121) if kind in {"timestamp", "date"} else cursor


def bound(text: str, kind: Kind, declared: str) -> sa.ColumnElement[object]:
    """Bind a cursor value as text, cast to the column's own type.

    A datetime steps by 1/300 s: compared with a datetime2 it would be widened, and the row that a
    watermark was taken from would lie above it.
    """
    value: sa.ColumnElement[Any] = sa.literal(text, sa.Unicode)
    if kind == "integer":
        return sa.cast(value, sa.BigInteger)
    if declared in {"datetime", "smalldatetime"}:
        value = sa.cast(value, Declared("datetime2(7)"))  # their own parsers refuse seven digits
    return sa.cast(value, Declared(declared or "datetime2(7)"))


def typed(text: str, declared: str) -> sa.ColumnElement[Any]:
    """Bind a value as text, cast to its own type: else an index on it could not be used."""
    return sa.cast(sa.literal(text, sa.Unicode), Declared(declared))


def arrow_rows(result: sa.CursorResult[Any], most: int) -> pa.RecordBatch | None:
    """Fetch some rows as Arrow, as Microsoft's driver makes it itself.

    Raises:
        sqlalchemy.exc.DBAPIError: What the driver raised.
    """
    driver = result.dialect.loaded_dbapi
    try:
        return result.cursor.arrow_batch(most)
    except (driver.Error, RuntimeError) as error:
        lost = result.dialect.is_disconnect(cast(Any, error), None, None)
        raise sa.exc.DBAPIError(None, None, error, True, lost) from error


def clock(connection: sa.Connection) -> datetime:
    """Read the source's own clock, UTC."""
    now: datetime = connection.execute(sa.select(sa.func.SYSUTCDATETIME())).scalar_one()
    return now.replace(tzinfo=UTC)


def oldest_transaction(connection: sa.Connection) -> datetime | None:
    """Give the begin of the oldest open transaction that has written to this database."""
    found = answer(connection, _WRITES) if _may_see(connection) else None
    begun, ahead = found[0] if found else (None, 0)
    return None if begun is None else begin_utc(begun, ahead)


def begin_utc(begun: datetime, ahead: int) -> datetime:
    """Turn a transaction's begin, in the server's own time zone, to UTC; never too late."""
    return (begun - timedelta(minutes=ahead) - _DATETIME_STEP).replace(tzinfo=UTC)


def hidden_transactions(connection: sa.Connection) -> str | None:
    """Tell that open transactions can't be seen, if so."""
    if is_read_only(connection):
        return (
            "the database is read-only here, as on a secondary, which does not show who writes on "
            "the primary; connect to the primary"
        )
    # On the small tiers of Azure SQL Database the permission alone does not do.
    if _may_see(connection) and answer(connection, _WRITES) is not None:
        return None
    return (
        "the login may not see open transactions; GRANT VIEW SERVER STATE to it, on Azure SQL "
        "Database GRANT VIEW DATABASE STATE (on Basic, S0, S1 and in elastic pools add it to the "
        "role ##MS_ServerStateReader##)"
    )


def is_read_only(connection: sa.Connection) -> bool:
    """Tell whether nobody can write to the database here: it may be a readable secondary."""
    found = answer(connection, _UPDATEABILITY)
    return bool(found and found[0][0] == "READ_ONLY")


def fix_moment(connection: sa.Connection) -> None:
    """Read under SNAPSHOT from now on, where the database allows it."""
    if allows_snapshot(connection):
        connection.rollback()
        connection.execution_options(isolation_level="SNAPSHOT")


def sees_one_moment(connection: sa.Connection) -> bool:
    """Tell whether a statement reads one moment: by READ_COMMITTED_SNAPSHOT, or under SNAPSHOT."""
    committed, snapshot = _isolation(connection)
    return bool(committed) or snapshot == 1


def allows_snapshot(connection: sa.Connection) -> bool:
    """Tell whether ALLOW_SNAPSHOT_ISOLATION is ON."""
    return bool(_isolation(connection)[1] == 1)


def _may_see(connection: sa.Connection) -> bool:
    edition = answer(connection, _EDITION)
    in_azure = edition is not None and edition[0][0] == _AZURE_SQL_DATABASE
    found = answer(connection, _MAY_SEE[in_azure])
    return bool(found and found[0][0])


def _isolation(connection: sa.Connection) -> tuple[Any, Any]:
    found = answer(connection, _ISOLATION)
    return (found[0][0], found[0][1]) if found else (False, 0)


def _styled(column: sa.ColumnElement[Any], length: str, style: int) -> sa.ColumnElement[Any]:
    kind = sa.literal_column(f"varchar({length})", sa.String())
    number = sa.literal_column(str(style), sa.Integer())
    return sa.Function("CONVERT", kind, column, number, type_=sa.String())
