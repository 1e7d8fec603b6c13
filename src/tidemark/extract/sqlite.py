"""What is particular to SQLite: opened read-only, under the schema's name, with real timestamps.

SQLite has no timestamp type: it stores text, and compares text. ``tidemark_timestamp`` is the CAST
that it lacks; with it '2026-01-01T10:00:00' and '2026-01-01 10:00:00.000' are equal. Unlike
SQLite's own ``date()`` and CAST, it refuses what it can't read, instead of hiding the row.
"""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import sqlalchemy as sa

from tidemark.errors import SourceError, shown
from tidemark.extract.keys import UniqueKeys, inspected
from tidemark.extract.ordinary import (
    arrow_rows,
    cursor_text,
    exported,
    falsified,
    is_waking,
    records,
    sees_one_moment,
)
from tidemark.metadata import Table
from tidemark.windows import Kind, ordinal

# What is asked of a dialect and stands in a module of its own.
__all__ = [
    "arrow_rows",
    "cursor_text",
    "exported",
    "falsified",
    "is_waking",
    "records",
    "sees_one_moment",
]
_LOCK_SECONDS = 10.0
_TRANSIENT = ("database is locked", "database table is locked", "disk i/o error", "busy")
_CURSOR_KINDS: tuple[Kind, ...] = ("timestamp", "date", "integer")
_ordinal = functools.lru_cache(ordinal)  # a load gives many rows the same cursor
_DECIMAL_DIGITS = 38  # Arrow's decimal128, and Spark's limit
_DECIMAL = re.compile(r"(?:DECIMAL|NUMERIC)\s*\((\d+)(?:\s*,\s*(\d+))?\)")
_TYPES: tuple[tuple[str, pa.DataType], ...] = (
    (r"TIMESTAMP|DATETIME", pa.timestamp("us")),
    (r"DATE$", pa.date32()),
    (r"BOOL", pa.bool_()),
    (r"INT", pa.int64()),
    (r"CHAR|TEXT|CLOB|UUID|JSON", pa.string()),
    (r"BLOB|BINARY", pa.binary()),
    (r"REAL|FLOA|DOUB", pa.float64()),
    (r"NUMERIC|DECIMAL", pa.string()),
)


def create_engine(url: sa.URL, schema: str) -> sa.Engine:
    """Open a database file read-only and attach it under the schema's name.

    Args:
        url: ``sqlite:////absolute/path``.
        schema: The name that stands before the table's in the metadata, such as ``dbo``.

    Raises:
        SourceError: There is no such file. (SQLite would create an empty database.)
    """
    path = Path(url.database or "")
    if not path.is_file():
        message = (
            f"source {path}: there is no such SQLite file; correct the Airflow connection's host, "
            "or write the sample with `tidemark sample`"
        )
        raise SourceError(message)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            ":memory:",
            uri=True,
            timeout=_LOCK_SECONDS,
            check_same_thread=False,
            factory=_Connection,
        )
        name = schema.replace('"', '""')
        connection.execute(f'ATTACH ? AS "{name}"', (f"file:{quote(str(path))}?mode=ro",))
        for kind in _CURSOR_KINDS:
            place = connection.placed(kind)
            connection.create_function(f"tidemark_{kind}", 1, place, deterministic=True)
        return connection

    return sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.NullPool)


def arrow_type(declared: str) -> pa.DataType | None:
    """Give the Arrow type of a column by its declared type; None if it is none that we know."""
    upper = declared.upper().strip()
    exact = _DECIMAL.match(upper)
    if exact:
        precision = int(exact.group(1))
        known = 1 <= precision <= _DECIMAL_DIGITS
        return pa.decimal128(precision, int(exact.group(2) or 0)) if known else None
    return next((kind for pattern, kind in _TYPES if re.search(pattern, upper)), None)


def read_as(column: sa.ColumnElement[Any], declared: str) -> sa.ColumnElement[Any]:
    """SQLite gives every value as it stands."""
    del declared
    return column


def text_of(column: sa.ColumnElement[Any], declared: str) -> sa.ColumnElement[Any]:
    """Give a column as text, as SQLite itself writes it."""
    del declared
    return sa.cast(column, sa.Text())


def cut(declared: str) -> str | None:
    """Tell what the lake does not hold of a declared type; None: it holds everything."""
    if arrow_type(declared) == pa.string() and re.search(r"NUMERIC|DECIMAL", declared.upper()):
        return (
            f"{declared} has no precision, so that its numbers become text in the lake; declare "
            "one, such as DECIMAL(18,2), or read a view that casts it"
        )
    # More digits of a timestamp than a microsecond has are refused when they are read, not cut.
    return None


def declared_types(connection: sa.Connection, table: Table) -> dict[str, str]:
    """Give the declared type of each column, generated ones included."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    # table_xinfo, unlike table_info, tells of generated columns too.
    pragma = f"PRAGMA {quote(table.schema_)}.table_xinfo({quote(table.name)})"
    rows = connection.exec_driver_sql(pragma)
    return {row[1]: row[2].removesuffix(" GENERATED ALWAYS") for row in rows}


def unique_keys(connection: sa.Connection, table: Table) -> UniqueKeys:
    """Look up the primary key and the constraints that are UNIQUE."""
    return inspected(connection, table)


def comparable(expression: sa.ColumnElement[object], kind: Kind) -> sa.ColumnElement[object]:
    """Wrap a cursor or a bound so that it compares as what it is."""
    if kind not in _CURSOR_KINDS:
        return expression
    return sa.Function(f"tidemark_{kind}", expression, type_=sa.BigInteger())


def bound(text: str, kind: Kind, declared: str) -> sa.ColumnElement[object]:
    """Bind a cursor value as text; SQLite's columns have no type of their own to cast it to."""
    del declared
    return comparable(sa.literal(text, sa.String), kind)


def typed(text: str, declared: str) -> sa.ColumnElement[Any]:
    """Bind a value as text: compared with a column it takes the column's affinity."""
    del declared
    return sa.literal(text, sa.String)


def clock(connection: sa.Connection) -> datetime:
    """Read the source's own clock, UTC."""
    text = connection.execute(sa.select(sa.func.strftime("%Y-%m-%dT%H:%M:%f", "now"))).scalar_one()
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def oldest_transaction(connection: sa.Connection) -> datetime | None:
    """SQLite shows nobody's transactions; there is one writer at a time."""
    nobody: datetime | None = None
    del connection
    return nobody


def hidden_transactions(connection: sa.Connection) -> str | None:
    """There is one writer at a time: what a later one writes is dated later."""
    nothing: str | None = None
    del connection
    return nothing


def fix_moment(connection: sa.Connection) -> None:
    """Each statement reads a moment of its own."""
    del connection


def cancel(connection: sa.Connection) -> None:
    """Cancel what the connection is at."""
    driver: Any = connection.connection.driver_connection
    driver.interrupt()


def remedy(reason: str) -> str | None:
    """SQLite's own words name what is amiss."""
    nothing: str | None = None
    del reason
    return nothing


def is_transient(error: sa.exc.DBAPIError) -> bool:
    """Tell whether the same statement may succeed a little later."""
    reason = str(error.orig).lower()
    return error.connection_invalidated or any(sign in reason for sign in _TRANSIENT)


def unreadable(connection: sa.Connection) -> str | None:
    """Tell which cursor value could not be read, if that is why a statement failed."""
    return getattr(connection.connection.driver_connection, "unreadable", None)


class _Connection(sqlite3.Connection):
    """Remembers what SQLite's "user-defined function raised exception" does not say."""

    unreadable: str | None = None

    def placed(self, kind: Kind) -> Callable[[object], int | None]:
        """Give the function that places a cursor value on its line."""

        def place(value: object) -> int | None:
            if value is None:
                return None
            try:
                return _ordinal(kind, str(value))
            except ValueError:
                self.unreadable = f"{shown(repr(value))}, which is no {kind}"
                raise

        return place
