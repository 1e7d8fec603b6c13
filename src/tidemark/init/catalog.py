"""The database's catalog, read through SQLAlchemy: which tables there are, and what they allow."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.sql.elements import quoted_name

from tidemark.errors import ConfigError, SourceError, SourceUnavailable, shown
from tidemark.extract import sqlserver
from tidemark.extract.dialect import dialect_of
from tidemark.extract.source import OpenSource, SourceTable, cursor_kind, describe
from tidemark.extract.strategy import columns_of, from_table
from tidemark.init.facts import Column, TableFacts
from tidemark.metadata import Table
from tidemark.metadata.columns import Columns
from tidemark.suggestions import did_you_mean
from tidemark.windows import Kind

_REASON = 1_000
_SQLITE_SCHEMA = "dbo"  # SQLite has none: a name that it is given, the metadata's own default
_FILTERS = frozenset({"postgresql_where", "mssql_where", "sqlite_where"})


@contextlib.contextmanager
def open_catalog(url: str, connection: str, schema: str | None) -> Iterator[OpenSource]:
    """Connect to a database to look at its catalog; an error names the Airflow connection.

    Args:
        url: A SQLAlchemy URL; it may hold a password and is never shown.
        connection: The Airflow connection's id.
        schema: The schema that will be looked at; None: the login's own.

    Raises:
        SourceError: The database refuses.
        SourceUnavailable: It does not answer now.
    """
    parsed = sa.make_url(url)
    dialect = dialect_of(parsed, _probe(schema or _SQLITE_SCHEMA, connection, ("-",)))
    try:
        engine = dialect.create_engine(parsed, schema or _SQLITE_SCHEMA)
        with engine.connect() as opened, warnings.catch_warnings():
            # SQLAlchemy warns of types that it does not know; we ask the catalog ourselves.
            warnings.simplefilter("ignore", sa.exc.SAWarning)
            yield OpenSource(opened, dialect)
    except sa.exc.DBAPIError as error:
        reason = _reason(error, parsed.password)
        if dialect.is_transient(error):
            message = f"connection {connection}: the database does not answer: {reason}; try again"
            raise SourceUnavailable(message) from error
        message = (
            f"connection {connection}: the database refuses: {reason}; correct the Airflow "
            "connection, or the login's rights"
        )
        raise SourceError(message) from error


def own_schema(source: OpenSource) -> str:
    """Give the schema that is looked at when none is named: the login's own.

    Raises:
        ConfigError: It has none.
    """
    if source.connection.dialect.name == "sqlite":
        return _SQLITE_SCHEMA
    name = sa.inspect(source.connection).default_schema_name
    if not name:
        raise ConfigError("the login has no schema of its own; name one with --schema")
    return str(name)


def names_in(source: OpenSource, schema: str) -> dict[str, bool]:
    """List a schema's tables and views, sorted: the name, and whether it is a view.

    Raises:
        ConfigError: It holds neither; the message names the schemas that there are.
    """
    inspector, quoted = sa.inspect(source.connection), quoted_name(schema, quote=True)
    views = inspector.get_view_names(quoted)
    found = dict.fromkeys(views, True) | dict.fromkeys(inspector.get_table_names(quoted), False)
    if not found:
        is_sqlite = source.connection.dialect.name == "sqlite"
        there = [] if is_sqlite else [s for s in inspector.get_schema_names() if s != schema]
        schemas = f" (others: {', '.join(there)})" if there else ""
        raise ConfigError(
            f"schema {schema!r} holds no table that the login can see"
            f"{did_you_mean(schema, there)}{schemas}; name another with --schema, or grant SELECT"
        )
    return dict(sorted(found.items()))


def table_facts(source: OpenSource, schema: str, name: str, *, is_view: bool) -> TableFacts:
    """Look one table up.

    Raises:
        sqlalchemy.exc.DBAPIError: The database does not answer.
    """
    inspector, quoted = sa.inspect(source.connection), quoted_name(schema, quote=True)
    found = inspector.get_columns(name, schema=quoted)
    table = _probe(schema, name, tuple(c["name"] for c in found[:1]) or ("-",))
    declared = source.dialect.declared_types(source.connection, table)
    unheld = tuple(n for n, kind in declared.items() if source.dialect.arrow_type(kind) is None)
    table = table.model_copy(update={"columns": Columns(as_text=unheld)})
    try:
        described = describe(source, table)
    except (SourceError, ConfigError) as error:
        return TableFacts(schema, name, is_view=is_view, refused=_without_name(error, name))
    indexes = [] if is_view else _indexes(inspector, name, quoted)
    columns = tuple(_column(table, described, c, indexes) for c in found)
    offers, passed_over = _offers(source, table, found)
    return TableFacts(
        schema=schema,
        name=name,
        columns=columns,
        primary_key=described.primary_key,
        unique=tuple(names for names, unique in indexes if unique),
        offers=offers,
        passed_over=passed_over,
        cuts=described.cuts,
        unheld=unheld,
        is_view=is_view,
        refused=_unreadable(source, table, described),
    )


def _probe(schema: str, name: str, key: tuple[str, ...]) -> Table:
    return Table.model_construct(
        name=name, schema_=schema, lake_name="probe", key=key, cursor=None, strategy=None
    )


def _indexes(
    inspector: sa.Inspector, name: str, schema: quoted_name
) -> list[tuple[tuple[str, ...], bool]]:
    """Give each index's columns, and whether it keeps them unique; the primary key's too."""
    found: list[tuple[tuple[str, ...], bool]] = []
    # SQLite alone would leave out the indexes of constraints.
    constraints = {"include_auto_indexes": True} if inspector.dialect.name == "sqlite" else {}
    for index in inspector.get_indexes(name, schema=schema, **constraints):
        names = tuple(n for n in index["column_names"] if n is not None)
        whole = len(names) == len(index["column_names"]) and bool(names)
        filtered = _FILTERS & set(index.get("dialect_options", {}))
        found.append((names, bool(index["unique"]) and whole and not filtered))
    primary = inspector.get_pk_constraint(name, schema=schema)["constrained_columns"]
    return [*found, (tuple(primary), False)]


def _column(
    table: Table,
    described: SourceTable,
    found: Mapping[str, Any],
    indexes: Iterable[tuple[tuple[str, ...], bool]],
) -> Column:
    name = found["name"]
    return Column(
        name=name,
        declared=described.declared.get(name, ""),
        kind=_kind(table, name, described.columns),
        nullable=bool(found["nullable"]) and name not in described.primary_key,
        indexed=any(names[:1] == (name,) for names, _ in indexes),
    )


def _kind(table: Table, column: str, columns: pa.Schema) -> Kind | None:
    if column not in columns.names:
        return None
    try:
        return cursor_kind(table.model_copy(update={"cursor": column}), columns)
    except ConfigError:
        return None


def _offers(
    source: OpenSource, table: Table, found: Iterable[Mapping[str, Any]]
) -> tuple[tuple[Any, ...], dict[str, str]]:
    """List what the database records of a table's changes, and what of it is of no use."""
    offers = source.dialect.records(source.connection, table).offered
    no: dict[str, str] = {}
    computed = [c["name"] for c in found if c.get("computed")]
    if "cdc" in offers and computed:
        no["cdc"] = f"of computed columns ({', '.join(computed)}) it records NULL"
    if "change_tracking" in offers and not sqlserver.allows_snapshot(source.connection):
        no["change_tracking"] = "it needs ALTER DATABASE … SET ALLOW_SNAPSHOT_ISOLATION ON"
    return tuple(name for name in offers if name not in no), no


def _unreadable(source: OpenSource, table: Table, described: SourceTable) -> str | None:
    """Tell why the login can't read the table, if it can't: a catalog shows more than that."""
    nothing = sa.select(*columns_of(described)).select_from(from_table(table)).where(sa.false())
    try:
        source.connection.execute(nothing)
    except sa.exc.DBAPIError as error:
        if source.dialect.is_transient(error):
            raise
        source.connection.rollback()
        return f"it can't be read: {_reason(error, None)}; grant SELECT on it to the login"
    return None


def _reason(error: sa.exc.DBAPIError, password: object) -> str:
    reason = str(error.orig).strip()
    return shown(reason.replace(str(password), "***") if password else reason, _REASON)


def _without_name(error: Exception, name: str) -> str:
    return str(error).removeprefix(f"table {name}: ")
