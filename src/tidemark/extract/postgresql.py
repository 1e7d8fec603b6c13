"""What is particular to PostgreSQL: read-only, in UTC, and from a fixed moment on in one snapshot.

The session is READ COMMITTED until the moment of the rows is fixed, and REPEATABLE READ from then
on. In between lies what must be older than the rows: the clock, and who is still writing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from tidemark.extract import postgresql_copy
from tidemark.extract.declared import Declared
from tidemark.extract.keys import UniqueKeys, inspected
from tidemark.extract.ordinary import (
    arrow_rows,
    comparable,
    cursor_text,
    falsified,
    is_waking,
    records,
    sees_one_moment,
    unreadable,
)
from tidemark.metadata import Table
from tidemark.windows import Kind

# What is asked of a dialect and stands in a module of its own.
__all__ = [
    "arrow_rows",
    "comparable",
    "cursor_text",
    "falsified",
    "is_waking",
    "records",
    "sees_one_moment",
    "unreadable",
]
_DECIMAL_DIGITS = 38
_CANCEL_SECONDS = 2.0
# A part of the message → what to do.
_REMEDIES = {
    "password authentication failed": "give the Airflow connection the login's present password "
    "(an expired one is refused alike)",
    "permission denied": "GRANT USAGE ON the schema and SELECT ON the table TO the login",
    "no pg_hba.conf entry": "let the server's pg_hba.conf take this machine and login",
}
# A network that drops without a word is noticed after a minute; by the system's own settings after
# two hours.
_KEPT_ALIVE = {
    "connect_timeout": 30,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
_NUMERIC = re.compile(r"numeric\((\d+),(\d+)\)$")
_TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(), "smallint": pa.int16(), "integer": pa.int32(), "bigint": pa.int64(),
    "oid": pa.int64(), "real": pa.float32(), "double precision": pa.float64(),
    "date": pa.date32(), "bytea": pa.binary(), "uuid": pa.string(), "text": pa.string(),
    "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", tz="UTC"),
}  # fmt: skip
# Connection failures carry no SQLSTATE when the server could not be asked at all.
_STATES = ("08", "40001", "40P01", "53", "57P0", "55P03")
_SIGNS = (
    "connection refused", "timeout expired", "timed out", "starting up", "shutting down",
    "closed the connection unexpectedly", "could not translate host name", "network is unreachable",
    "temporary failure in name resolution", "too many clients", "no route to host",
)  # fmt: skip
# The catalog's own names, with the type below a domain.
_COLUMNS = sa.text(
    "SELECT a.attname, CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) "
    "ELSE format_type(a.atttypid, a.atttypmod) END "
    "FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid "
    "JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace "
    "WHERE n.nspname = :schema AND c.relname = :name AND a.attnum > 0 AND NOT a.attisdropped "
    "AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY a.attnum"
)
_OLDEST = sa.text(
    "SELECT min(xact_start) FROM pg_stat_activity WHERE datname = current_database() "
    "AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
)
# Others' transactions show as NULL to a login that may not see them, but not the lock that each
# one that has written holds on its own number.
_HIDDEN = sa.text(
    "SELECT EXISTS (SELECT 1 FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid "
    "WHERE a.datname = current_database() AND a.query = '<insufficient privilege>' "
    "AND l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted)"
)
_PREPARED = sa.text("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()")


def create_engine(url: sa.URL, schema: str) -> sa.Engine:
    """Make an engine on psycopg 3, whose sessions can only read."""
    del schema
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        poolclass=sa.pool.NullPool,
        hide_parameters=True,
        execution_options={"postgresql_readonly": True},
        connect_args={k: v for k, v in _KEPT_ALIVE.items() if k not in url.query},
    )
    sa.event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    # Timestamps with a time zone are given, and bounds without one taken, in UTC.
    connection.execute("SET TIME ZONE 'UTC'")
    connection.execute("SET DateStyle = 'ISO, YMD'")
    connection.execute("SET extra_float_digits = 3")
    connection.execute("SET bytea_output = 'hex'")
    connection.execute("SET application_name = 'tidemark'")
    connection.commit()


def declared_types(connection: sa.Connection, table: Table) -> dict[str, str]:
    """Give the declared type of each column, a domain's base and generated columns included."""
    rows = connection.execute(_COLUMNS, {"schema": table.schema_, "name": table.name})
    return {name: _short(declared) for name, declared in rows}


def _short(declared: str) -> str:
    match = re.match(r"timestamp(?:\(\d\))? (with|without) time zone$", declared)
    if not match:
        return declared
    return "timestamptz" if match.group(1) == "with" else "timestamp"


def arrow_type(declared: str) -> pa.DataType | None:
    """Give the Arrow type of a declared type: text for what has none, in PostgreSQL's own form."""
    exact = _NUMERIC.match(declared)
    if exact:
        precision, scale = int(exact.group(1)), int(exact.group(2))
        if precision <= _DECIMAL_DIGITS and scale <= precision:
            return pa.decimal128(precision, scale)
    return _TYPES.get(declared, pa.string())


def read_as(column: sa.ColumnElement[Any], declared: str) -> sa.ColumnElement[Any]:
    """Give a column whole: what the lake holds as text, PostgreSQL writes as text."""
    return text_of(column, declared) if arrow_type(declared) == pa.string() else column


def text_of(column: sa.ColumnElement[Any], declared: str) -> sa.ColumnElement[Any]:
    """Give a column as text, as PostgreSQL itself writes it."""
    # A cast would take a char's trailing blanks.
    is_text = declared == "text" or declared.startswith(("character", "bpchar"))
    return column if is_text else sa.cast(column, sa.Text())


def cut(declared: str) -> str | None:
    """PostgreSQL's timestamps have six digits, as the lake's; nothing is cut."""
    nothing: str | None = None
    del declared
    return nothing


def unique_keys(connection: sa.Connection, table: Table) -> UniqueKeys:
    """Look up the primary key and the constraints that are UNIQUE."""
    return inspected(connection, table)


def bound(text: str, kind: Kind, declared: str) -> sa.ColumnElement[object]:
    """Bind a cursor value as text, cast to the cursor's own type."""
    value = sa.literal(text, sa.Text())
    if kind == "integer":
        return sa.cast(value, sa.BigInteger())
    if kind == "date":
        return sa.cast(value, sa.Date())
    return sa.cast(value, sa.TIMESTAMP(timezone=declared == "timestamptz"))


def typed(text: str, declared: str) -> sa.ColumnElement[Any]:
    """Bind a value as text, cast to its own type."""
    return sa.cast(sa.literal(text, sa.Text()), Declared(declared))


def exported(
    connection: sa.Connection, statement: sa.Executable, columns: pa.Schema, table: str, most: int
) -> Iterator[pa.RecordBatch] | None:
    """Give a statement's rows by COPY."""
    if not isinstance(statement, sa.Select):
        return None
    return postgresql_copy.exported(connection, statement, columns, table, most)


def clock(connection: sa.Connection) -> datetime:
    """Read the source's own clock, UTC; ``now()`` would be the transaction's begin."""
    now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)


def oldest_transaction(connection: sa.Connection) -> datetime | None:
    """Give the begin of the oldest open transaction that has written and that we may see."""
    begun: datetime | None = connection.execute(_OLDEST).scalar_one()
    return None if begun is None else begun.astimezone(UTC)


def hidden_transactions(connection: sa.Connection) -> str | None:
    """Tell whether someone may be writing whose begin can't be seen."""
    if connection.execute(sa.func.pg_is_in_recovery()).scalar_one():
        return (
            "the server is a standby, which does not show who writes on the primary; connect to "
            "the primary"
        )
    if connection.execute(_HIDDEN).scalar_one():
        return (
            "there are open transactions that the login may not see; GRANT pg_read_all_stats to it"
        )
    prepared = connection.execute(_PREPARED).scalar_one()
    if prepared:
        return (
            f"{prepared} prepared transactions do not show when they began; COMMIT PREPARED or "
            "ROLLBACK PREPARED them"
        )
    return None


def fix_moment(connection: sa.Connection) -> None:
    """Begin a transaction, read-only, that sees one moment: that of its next statement."""
    connection.rollback()
    connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def cancel(connection: sa.Connection) -> None:
    """Ask the server to cancel what the connection waits for."""
    driver: Any = connection.connection.driver_connection
    driver.cancel_safe(timeout=_CANCEL_SECONDS)


def remedy(reason: str) -> str | None:
    """Say what mends an error; None: that is not known."""
    return next((words for part, words in _REMEDIES.items() if part in reason), None)


def is_transient(error: sa.exc.DBAPIError) -> bool:
    """Tell whether the same statement may succeed a little later."""
    state = getattr(error.orig, "sqlstate", None)
    if state:
        return error.connection_invalidated or str(state).startswith(_STATES)
    reason = str(error.orig).lower()
    return error.connection_invalidated or any(sign in reason for sign in _SIGNS)
