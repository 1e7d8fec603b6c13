"""A driver that takes T-SQL and lets SQLite run it, for the tests of SQL Server's strategies.

Every statement is parsed as T-SQL and turned into SQLite's SQL; what SQLite lacks (a function, a
view of the catalog) is a function or a table that the server puts there. A statement that uses
anything else fails. As SQL Server does, READ COMMITTED reads each statement at a moment of its own
(READ_COMMITTED_SNAPSHOT is ON), and SNAPSHOT reads all at the moment of the first row that is read.
"""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any, Protocol

import mssql_python
import pyarrow as pa
import sqlalchemy as sa
import sqlglot
from mssql_python.parameter_helper import detect_and_convert_parameters
from sqlalchemy.dialects.mssql.mssqlpython import MSDialect_mssqlpython
from sqlglot import exp

_ISOLATION = "SET TRANSACTION ISOLATION LEVEL "
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}")
_ALL_CHANGES = (
    r"cdc\.\[?fn_cdc_get_all_changes_(\w+)\]?\(CAST\(\? AS BINARY\(10\)\), "
    r"CAST\(\? AS BINARY\(10\)\), N'all'\)"
)
# What sqlglot can't parse or takes for something else.
_REPLACED = {
    r"@@(DBTS|SPID)": r"\1()",
    r"DATEPART\(tzoffset, SYSDATETIMEOFFSET\(\)\)": "MINUTES_AHEAD()",
    r"CONVERT\(varchar\((\w+)\), ": r"CONVERTED('\1', ",
    r"CHANGETABLE\(CHANGES \[dbo\]\.\[(\w+)\], \?\)": r"[standin].[changes of \1]",
    _ALL_CHANGES: r"[standin].[all changes of \1]",
}
# Of a key, one row: that it is new, though it was changed again, or that it is gone.
_CHANGED_KEYS = (
    "(SELECT user_id, CASE WHEN operation <> 'D' AND SUM(operation = 'I') > 0 THEN 'I' "
    "ELSE operation END AS SYS_CHANGE_OPERATION, version AS SYS_CHANGE_VERSION, MAX(place) "
    'FROM "standin.changes" WHERE version > ? GROUP BY user_id)'
)
_CAPTURED_CHANGES = (
    # Judged once, however many changes there are; given in no order that is of any use.
    r"""(WITH bounds AS MATERIALIZED (SELECT FROM_LSN('\1', ?) AS low, TO_LSN(?) AS high) """
    r"""SELECT changes.* FROM bounds CROSS JOIN "cdc.\1_CT" AS changes """
    "WHERE __$start_lsn BETWEEN low AND high AND __$operation <> 3 ORDER BY changes.rowid DESC)"
)
# The table-valued functions, with their parameters at the place where they stood.
_FUNCTIONS = {
    r'"standin\.changes of (\w+)"': _CHANGED_KEYS,
    r'"standin\.all changes of (\w+)"': _CAPTURED_CHANGES,
}


@functools.cache
def sqlite_sql(statement: str) -> str:
    """Turn a statement of T-SQL into SQLite's SQL."""
    for pattern, words in _REPLACED.items():
        statement = re.sub(pattern, words, statement)
    tree = sqlglot.parse_one(statement, read="tsql").transform(_as_sqlite)
    text = tree.sql(dialect="sqlite")
    for pattern, words in _FUNCTIONS.items():
        text = re.sub(pattern, words, text)
    return text


def _as_sqlite(node: exp.Expression) -> exp.Expression:
    if isinstance(node, exp.Table) and node.db:
        name = exp.to_identifier(f"{node.db}.{node.name}", quoted=True)
        return exp.Table(this=name, alias=node.args.get("alias"))
    if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Func):
        return node.expression
    if isinstance(node, exp.National):
        return exp.Literal.string(node.name)
    if isinstance(node, exp.Cast):
        kind = node.to.sql(dialect="tsql").upper()
        if kind.startswith("DATETIME2"):
            return exp.Anonymous(this="DATETIME2", expressions=[node.this])
        if kind.startswith(("BINARY", "VARBINARY")):
            return node.this
    return node


class Server(Protocol):
    """What stands behind the driver."""

    def open(self) -> sqlite3.Connection:
        """Open SQLite's file, with the functions of T-SQL."""

    def before_statement(self) -> None:
        """Be told that a reader is about to send a statement."""

    @property
    def refusal(self) -> str:
        """Why the last of its functions that raised did so, in the words of SQL Server."""

    def arrow_type(self, column: str) -> pa.DataType | None:
        """Give the type in which the driver gives a table's column."""


class Cursor:
    """One statement's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursor = connection.sqlite.cursor()
        self.rowcount = -1

    @property
    def description(self) -> Any:
        return self._cursor.description

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> None:
        if statement.startswith(_ISOLATION):
            self._connection.level = statement.removeprefix(_ISOLATION)
            return
        self._connection.server.before_statement()
        if self._connection.level == "SNAPSHOT" and not self._connection.sqlite.in_transaction:
            self._connection.sqlite.execute("BEGIN")
        # The driver's own: SQLAlchemy gives names, and doubles each per cent sign.
        statement, values = detect_and_convert_parameters(statement, dict(parameters or {}))
        try:
            self._cursor.execute(sqlite_sql(statement), tuple(values))
        except sqlite3.OperationalError as error:
            if "user-defined function raised" not in str(error):
                raise
            raise sqlite3.OperationalError(self._connection.server.refusal) from error

    def fetchone(self) -> Any:
        return next(iter(self.fetchmany(1)), None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return [tuple(map(_given, row)) for row in self._cursor.fetchall()]

    def fetchmany(self, most: int = 1) -> list[tuple[Any, ...]]:
        return [tuple(map(_given, row)) for row in self._cursor.fetchmany(most)]

    def arrow_batch(self, most: int) -> pa.RecordBatch:
        rows = self.fetchmany(most)
        names = [name for name, *_ in self.description]
        columns = list(zip(*rows, strict=True)) or [()] * len(names)
        kinds = map(self._connection.server.arrow_type, names)
        arrays = [pa.array(c, kind) for c, kind in zip(columns, kinds, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, names)

    def close(self) -> None:
        self._cursor.close()


def _given(value: Any) -> Any:
    # The lake's timestamps have six digits, as Python's: the seventh is cut.
    is_moment = isinstance(value, str) and _MOMENT.fullmatch(value)
    return datetime.fromisoformat(value[:26]) if is_moment else value


class Connection:
    """One reader's."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.sqlite = server.open()
        self.level = "READ COMMITTED"
        self.autocommit = False

    def cursor(self) -> Cursor:
        return Cursor(self)

    def commit(self) -> None:
        self.sqlite.commit()

    def rollback(self) -> None:
        self.sqlite.rollback()

    def close(self) -> None:
        self.sqlite.close()


class Dialect(MSDialect_mssqlpython):
    """SQLAlchemy's, which asks nothing of the server by itself."""

    supports_statement_cache = True

    def initialize(self, connection: Any) -> None:
        del connection
        self.server_version_info = (16, 0, 1000, 6)
        self.default_schema_name = "dbo"
        self.default_isolation_level = "READ COMMITTED"
        self._setup_version_attributes()

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        del e, connection, cursor
        return False


def engine_maker(server: Server) -> Callable[[sa.URL, str], sa.Engine]:
    """Give what stands in for ``sqlserver.create_engine``."""
    names = ("Error", "OperationalError", "ProgrammingError", "InterfaceError", "DatabaseError",
             "DataError", "IntegrityError", "InternalError", "NotSupportedError")  # fmt: skip
    errors = {name: getattr(sqlite3, name) for name in names}
    module = SimpleNamespace(
        paramstyle=mssql_python.paramstyle,
        Binary=bytes,
        pooling=lambda **_: None,
        __version__="1.16",
        **errors,
    )
    sa.dialects.registry.register("mssql.standin", __name__, "Dialect")

    def create_engine(url: sa.URL, schema: str) -> sa.Engine:
        del url, schema
        return sa.create_engine(
            "mssql+standin://",
            module=module,
            creator=lambda: Connection(server),
            poolclass=sa.pool.NullPool,
        )

    return create_engine
