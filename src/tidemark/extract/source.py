"""A source database behind SQLAlchemy: opened, described, and its errors explained."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa
import sqlalchemy as sa

from tidemark.errors import ConfigError, SourceError, SourceUnavailable
from tidemark.extract import sqlite
from tidemark.metadata import Table
from tidemark.windows import Kind

_TRANSIENT = ("database is locked", "database table is locked", "disk i/o error", "busy")


@dataclass(frozen=True)
class SourceTable:
    """A table as the database describes it.

    Attributes:
        qualified: The name as an error shows it, ``dbo.DimUser``.
        columns: The columns in the source's order, as they will stand in bronze.
        unique: The sets of columns that the database itself keeps unique.
    """

    qualified: str
    columns: pa.Schema
    unique: tuple[frozenset[str], ...]


@contextlib.contextmanager
def open_source(url: str, table: Table) -> Iterator[sa.Connection]:
    """Connect to a table's source for one read; every error inside is explained.

    Args:
        url: A SQLAlchemy URL; it may hold a password and is never shown.
        table: The table that is read.

    Raises:
        SourceError: The source refuses for good.
        SourceUnavailable: The source does not answer now.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        message = (
            f"table {table.name}: a source of kind {parsed.get_backend_name()!r} is not supported "
            "yet; supported: sqlite"
        )
        raise SourceError(message)
    try:
        engine = sqlite.create_engine(parsed, table.schema_)
        with engine.connect() as connection, _cursor_explained(connection, table):
            yield connection
    except sa.exc.DBAPIError as error:
        raise _explained(error, table) from error


@contextlib.contextmanager
def _cursor_explained(connection: sa.Connection, table: Table) -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        value = sqlite.unreadable(connection)
        if value is None:
            raise
        message = (
            f"table {table.name}: cursor {table.cursor!r} holds {value}; correct the row at the "
            "source: it can't be told whether it was read"
        )
        raise SourceError(message) from error


def describe(connection: sa.Connection, table: Table) -> SourceTable:
    """Look a table up in the database's catalog.

    Raises:
        SourceError: There is no such table, or a column has a type that can't be kept.
        ConfigError: The metadata names a column that the table lacks.
    """
    inspector = sa.inspect(connection)
    try:
        found = inspector.get_columns(table.name, schema=table.schema_)
    except sa.exc.NoSuchTableError:
        schema = table.schema_
        names = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
        message = (
            f"table {table.name}: the source has no {table.schema_}.{table.name}"
            f"{_nearest(table.name, names)}; correct config/ or create the table; "
            "what was read of it before stays in the lake"
        )
        raise SourceError(message) from None
    fields = [pa.field(c["name"], _arrow_type(connection, table, c["name"])) for c in found]
    schema = pa.schema(fields)
    _check_columns(table, schema.names)
    primary = inspector.get_pk_constraint(table.name, schema=table.schema_)["constrained_columns"]
    others = inspector.get_unique_constraints(table.name, schema=table.schema_)
    unique = [primary, *(constraint["column_names"] for constraint in others)]
    return SourceTable(
        qualified=f"{table.schema_}.{table.name}",
        columns=schema,
        unique=tuple(frozenset(u) for u in unique if u),
    )


def _arrow_type(connection: sa.Connection, table: Table, column: str) -> pa.DataType:
    declared = _declared(connection, table)[column]
    kind = sqlite.arrow_type(declared)
    if kind is None:
        message = (
            f"table {table.name}: column {column!r} is declared {declared!r}, which says nothing "
            "of its type; declare one (INTEGER, TEXT, DATE, TIMESTAMP, DECIMAL(p,s), …)"
        )
        raise SourceError(message)
    return kind


def _declared(connection: sa.Connection, table: Table) -> dict[str, str]:
    quote = connection.dialect.identifier_preparer.quote_identifier
    # table_xinfo, unlike table_info, tells of generated columns too.
    pragma = f"PRAGMA {quote(table.schema_)}.table_xinfo({quote(table.name)})"
    rows = connection.exec_driver_sql(pragma)
    return {row[1]: row[2].removesuffix(" GENERATED ALWAYS") for row in rows}


def cursor_kind(table: Table, columns: pa.Schema) -> Kind:
    """Tell what kind of value a table's cursor is.

    Raises:
        ConfigError: The cursor is of a type that has no useful order.
    """
    kind = columns.field(table.cursor).type
    if pa.types.is_timestamp(kind):
        return "timestamp"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_integer(kind):
        return "integer"
    message = (
        f"table {table.name}: cursor {table.cursor!r} is of type {kind}; a cursor is a timestamp, "
        "a date or an integer"
    )
    raise ConfigError(message)


def fitting_lookback(table: Table, kind: Kind) -> timedelta | int:
    """Give a table's lookback; nothing for a cursor that the default, a duration, does not fit.

    Raises:
        ConfigError: The metadata gives one that does not go with the cursor.
    """
    fits = isinstance(table.lookback, int) == (kind == "integer")
    if fits:
        return table.lookback
    if "lookback" not in table.model_fields_set:
        return 0
    wanted = "a whole number" if kind == "integer" else "a duration, such as 1h"
    message = (
        f"table {table.name}: lookback {table.lookback} does not go with cursor {table.cursor!r}, "
        f"which is of kind {kind}; write {wanted} in config/"
    )
    raise ConfigError(message)


def _check_columns(table: Table, names: Sequence[str]) -> None:
    wanted = [("key", column) for column in table.key] + [("cursor", table.cursor)]
    for field, column in wanted:
        if column not in names:
            message = (
                f"table {table.name}: {field} {column!r} is not a column of "
                f"{table.schema_}.{table.name}{_nearest(column, names)} "
                f"(columns: {', '.join(names)}); correct {field} in config/"
            )
            raise ConfigError(message)
    for name in names:
        reason = _unusable(name)
        if reason:
            message = (
                f"table {table.name}: the source's column {name!r} {reason}; rename it at the "
                "source, or read a view that does"
            )
            raise SourceError(message)


def _unusable(name: str) -> str | None:
    # Spark takes names without regard to case.
    if name.lower() in _RESERVED or name.startswith("__"):
        return "has the name of one that Tidemark adds on the way"
    if _DELTA_REFUSES & set(name):
        return "has a character that Delta takes in no column's name (space ,;{}()= tab newline)"
    return None


# What bronze and silver add to the source's columns, some of it for a moment only.
_RESERVED = frozenset(
    {"_sequence", "_operation", "_source_sequence", "_digest", "_run_id"}
    | {"_file", "_rank", "_repeated", "_raw", "_metadata", "_rescued_data"}
)
_DELTA_REFUSES = frozenset(" ,;{}()\n\t=")


def _nearest(name: str, names: Sequence[str]) -> str:
    matches = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _explained(error: sa.exc.DBAPIError, table: Table) -> SourceError | SourceUnavailable:
    reason = str(error.orig).strip()
    name = f"table {table.name}: reading {table.schema_}.{table.name} failed: {reason}"
    if error.connection_invalidated or any(sign in reason.lower() for sign in _TRANSIENT):
        return SourceUnavailable(f"{name}; it is tried again as a new read")
    return SourceError(f"{name}; mend the source or config/ and run again: nothing is lost")
