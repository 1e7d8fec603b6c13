"""The sample source in a SQL Server, for the compose stack: database, login, tables, rows.

Everything is asked before it is done, so that a run that was cut short goes on where it was. What
of it is no T-SQL's own (tables and rows) is SQLAlchemy's, and runs on any database.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mssql

from tidemark.sample.changes import advance
from tidemark.sample.data import create
from tidemark.sample.schema import SCHEMA, SampleTable, Value, transaction

DATABASE, SCHEMA_NAME, LOGIN = "Spotify", "dbo", "tidemark"
CHANGE_TRACKED, WITH_ROWVERSION = "DimUser", "FactStream"

Rows = dict[int, tuple[Any, ...]]

_TEXT_LENGTH = 200
_DATETIME2 = mssql.DATETIME2(6)  # type: ignore[no-untyped-call]
_ROWVERSION = mssql.ROWVERSION()  # type: ignore[no-untyped-call]
_TYPES: Mapping[str, Callable[[], sa.types.TypeEngine[Any]]] = {
    "INTEGER": sa.Integer,
    "TEXT": lambda: sa.Unicode(_TEXT_LENGTH),
    "DATE": sa.DATE,
    "TIMESTAMP": lambda: sa.DateTime().with_variant(_DATETIME2, "mssql"),
}
_PARSERS: Mapping[str, Callable[[str], date]] = {
    "DATE": date.fromisoformat,
    "TIMESTAMP": datetime.fromisoformat,
}


# --- The server: run in the database `master`, each statement by itself


HAS_DATABASE = sa.text("SELECT COUNT(*) FROM sys.databases WHERE name = :name")
ALLOWS_SNAPSHOT = sa.text(
    "SELECT COUNT(*) FROM sys.databases WHERE name = :name AND snapshot_isolation_state = 1"
)
TRACKS_CHANGES = sa.text(
    "SELECT COUNT(*) FROM sys.change_tracking_databases WHERE database_id = DB_ID(:name)"
)
HAS_LOGIN = sa.text("SELECT COUNT(*) FROM sys.server_principals WHERE name = :name")
# T-SQL binds no password in CREATE LOGIN: the server quotes it itself.
CREATE_LOGIN = sa.text(
    "DECLARE @statement nvarchar(max); "
    f"SET @statement = N'CREATE LOGIN [{LOGIN}] WITH PASSWORD = ' "
    "+ QUOTENAME(CAST(:password AS nvarchar(128)), ''''); "
    "EXEC sys.sp_executesql @statement"
)


def server_steps() -> list[tuple[sa.TextClause, str, sa.TextClause]]:
    """Give of each step: how many there are already, of which name, and what makes it."""
    return [
        (HAS_DATABASE, DATABASE, sa.text(f"CREATE DATABASE [{DATABASE}]")),
        (
            ALLOWS_SNAPSHOT,
            DATABASE,
            sa.text(f"ALTER DATABASE [{DATABASE}] SET ALLOW_SNAPSHOT_ISOLATION ON"),
        ),
        (
            TRACKS_CHANGES,
            DATABASE,
            sa.text(
                f"ALTER DATABASE [{DATABASE}] SET CHANGE_TRACKING = ON "
                "(CHANGE_RETENTION = 14 DAYS, AUTO_CLEANUP = ON)"
            ),
        ),
        (HAS_LOGIN, LOGIN, CREATE_LOGIN),
    ]


def prepare_server(master: sa.Engine, password: str) -> None:
    """Make the database and Tidemark's login, where they are not there yet.

    Args:
        master: An administrator's way into the database ``master``.
        password: The login's, if it is made now.
    """
    with master.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for count, name, make in server_steps():
            if not connection.execute(count, {"name": name}).scalar_one():
                bound = {"password": password} if make is CREATE_LOGIN else {}
                connection.execute(make, bound)
        # SQL Server alone asks for it: without, the login may not see open transactions.
        connection.execute(sa.text(f"GRANT VIEW SERVER STATE TO [{LOGIN}]"))


# --- The database


IS_TRACKED = sa.text(
    "SELECT COUNT(*) FROM sys.change_tracking_tables WHERE object_id = OBJECT_ID(:name)"
)
HAS_USER = sa.text("SELECT COUNT(*) FROM sys.database_principals WHERE name = :name")


def database_steps() -> list[tuple[sa.TextClause, str, sa.TextClause]]:
    """As `server_steps`, in the sample's own database, once its tables are there."""
    tracked = f"[{SCHEMA_NAME}].[{CHANGE_TRACKED}]"
    return [
        (IS_TRACKED, tracked, sa.text(f"ALTER TABLE {tracked} ENABLE CHANGE_TRACKING")),
        (HAS_USER, LOGIN, sa.text(f"CREATE USER [{LOGIN}] FOR LOGIN [{LOGIN}]")),
    ]


def grants() -> list[sa.TextClause]:
    """Give what the login may do: read the tables, and the one table's record of changes."""
    return [
        sa.text(
            f"GRANT SELECT{', VIEW CHANGE TRACKING' if name == CHANGE_TRACKED else ''} "
            f"ON [{SCHEMA_NAME}].[{name}] TO [{LOGIN}]"
        )
        for name in SCHEMA
    ]


def prepare_database(database: sa.Engine) -> None:
    """Make the tables, their rows if all are empty, and let Tidemark's login read them.

    Args:
        database: An administrator's way into the sample's database.
    """
    tables = sample_tables(SCHEMA_NAME)
    tables.create_all(database)
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for count, name, make in database_steps():
            if not connection.execute(count, {"name": name}).scalar_one():
                connection.execute(make)
        for grant in grants():
            connection.execute(grant)
    with database.begin() as connection:
        if not any(_current(connection, table) for table in tables.sorted_tables):
            move(connection, tables, 1)


# --- The rows


def sample_tables(schema: str | None = None) -> sa.MetaData:
    """Declare the sample's tables with the types of a SQL Server."""
    metadata = sa.MetaData()
    for name, table in SCHEMA.items():
        columns: list[sa.Column[Any]] = [
            sa.Column(
                sa.sql.quoted_name(column, quote=True),
                _TYPES[kind](),
                primary_key=column == table.key,
                autoincrement=False,
            )
            for column, kind in table.columns.items()
        ]
        if name == WITH_ROWVERSION:
            version = sa.LargeBinary().with_variant(_ROWVERSION, "mssql")
            columns.append(sa.Column(sa.sql.quoted_name("row_version", quote=True), version))
        sa.Table(
            sa.sql.quoted_name(name, quote=True),
            metadata,
            *columns,
            schema=schema and sa.sql.quoted_name(schema, quote=True),
            implicit_returning=False,
        )
    return metadata


def move(connection: sa.Connection, tables: sa.MetaData, step: int) -> dict[str, int]:
    """Bring the tables to the sample's rows after a step, changing what differs alone.

    Args:
        connection: In a transaction, which is the caller's to commit.
        tables: From `sample_tables`.
        step: 1 is the initial state, 2 and on are the changes of ``tidemark sample --step``.

    Returns:
        How many rows were changed, by table.
    """
    wanted = sample_rows(step)
    return {
        table.name: _apply(connection, table, _current(connection, table), wanted[table.name])
        for table in tables.tables.values()
    }


def sample_rows(step: int) -> dict[str, Rows]:
    """Give the sample's rows after a step, by table and key, as a driver takes them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.db"
        create(path)
        for number in range(2, step + 1):
            advance(path, number)
        with transaction(path) as connection, closing(connection.cursor()) as cursor:
            return {
                name: {row[0]: row for row in _typed(table, cursor.execute(_query(table)))}
                for name, table in SCHEMA.items()
            }


def _query(table: SampleTable) -> str:
    return f"SELECT {', '.join(table.columns)} FROM {table.name} ORDER BY {table.key}"


def _typed(table: SampleTable, rows: Iterator[tuple[Value, ...]]) -> Iterator[tuple[Any, ...]]:
    parsers = [_PARSERS.get(kind) for kind in table.columns.values()]
    for row in rows:
        yield tuple(
            parse(str(value)) if parse and value is not None else value
            for parse, value in zip(parsers, row, strict=True)
        )


def _columns(table: sa.Table) -> list[sa.Column[Any]]:
    return [table.columns[name] for name in SCHEMA[table.name].columns]


def _current(connection: sa.Connection, table: sa.Table) -> Rows:
    return {row[0]: tuple(row) for row in connection.execute(sa.select(*_columns(table)))}


def _apply(connection: sa.Connection, table: sa.Table, there: Rows, wanted: Rows) -> int:
    columns = _columns(table)
    key = columns[0]
    gone = [k for k in there if k not in wanted]
    changed = {k: row for k, row in wanted.items() if there.get(k) != row}
    for k in gone:
        connection.execute(sa.delete(table).where(key == k))
    # A row at a time: the driver takes a column's type from one of many rows, be it without the
    # letters that another row has.
    for k, row in changed.items():
        values = {column.name: value for column, value in zip(columns, row, strict=True)}
        if k in there:
            connection.execute(sa.update(table).where(key == k).values(values))
        else:
            connection.execute(sa.insert(table).values(values))
    return len(gone) + len(changed)
