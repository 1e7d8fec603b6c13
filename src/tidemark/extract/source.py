"""A source database behind SQLAlchemy: opened, described, and its errors explained."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import pyarrow as pa
import sqlalchemy as sa

from tidemark.errors import ConfigError, SourceError, SourceUnavailable, shown
from tidemark.extract.cancelling import Killed, cancelled_on_kill
from tidemark.extract.columns import Forms, Selection, nearest, no_column, select
from tidemark.extract.dialect import Dialect, dialect_of
from tidemark.extract.keys import quoted_schema
from tidemark.extract.waking import connected
from tidemark.metadata import Table
from tidemark.windows import Kind

_QUOTED = re.compile(r"(?<=with text ).*|(?<=DETAIL: ).*", re.DOTALL)
_REASON = 1_000  # a driver may quote the value that it met


@dataclass(frozen=True)
class SourceTable:
    """A table as the database describes it.

    Attributes:
        qualified: The name as an error shows it, ``dbo.DimUser``.
        columns: The columns in the source's order, as they will stand in bronze.
        unique: The sets of columns that the database itself keeps unique.
        declared: The declared type of each column.
        primary_key: The columns of the primary key; empty without one.
        cuts: What the lake cannot hold of a column's values, by column, in words.
        forms: In which form the database gives a column.
        selection: Which of the source's columns these are; None: all, as they are.
        mask_key: The key of columns masked by HMAC.
    """

    qualified: str
    columns: pa.Schema
    unique: tuple[frozenset[str], ...]
    declared: Mapping[str, str] = field(default_factory=dict)
    primary_key: tuple[str, ...] = ()
    cuts: Mapping[str, str] = field(default_factory=dict)
    forms: Forms = field(default_factory=Forms)
    selection: Selection | None = None
    mask_key: str | None = field(default=None, repr=False)

    @property
    def chosen(self) -> Selection:
        """Which of the source's columns are read, and how."""
        return self.selection or Selection(self.columns, {}, {})

    def sealed(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Mask what is to be masked on our side."""
        return self.chosen.seal(rows, self.mask_key)


@dataclass(frozen=True)
class OpenSource:
    """A source that answers.

    Attributes:
        connection: For one read.
        dialect: The kind of database.
        mask_key: The key of columns masked by HMAC; None: no column is.
        streaming: Ends what still streams, before the connection is closed.
    """

    connection: sa.Connection
    dialect: Dialect
    mask_key: str | None = field(default=None, repr=False)
    streaming: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


@contextlib.contextmanager
def open_source(url: str, table: Table, mask_key: str | None = None) -> Iterator[OpenSource]:
    """Connect to a table's source for one read; every error inside is explained.

    Args:
        url: A SQLAlchemy URL; it may hold a password and is never shown.
        table: The table that is read.
        mask_key: The key of its columns that are masked by HMAC; never shown.

    Raises:
        SourceError: The source refuses for good.
        SourceUnavailable: The source does not answer now.
    """
    parsed = sa.make_url(url)
    dialect = dialect_of(parsed, table)
    try:
        engine = dialect.create_engine(parsed, table.schema_)
        with connected(engine, dialect.is_waking) as connection:
            source = OpenSource(connection, dialect, mask_key)
            with (
                cancelled_on_kill(partial(dialect.cancel, connection)) as killed,
                _kill_explained(killed, table),
                _cursor_explained(source, table),
                source.streaming,
            ):
                yield source
    except sa.exc.DBAPIError as error:
        raise _explained(error, dialect, table, parsed.password) from error


@contextlib.contextmanager
def _kill_explained(killed: Killed, table: Table) -> Iterator[None]:
    """A statement that was cancelled because the task is to end did not fail for good."""
    try:
        yield
    except (sa.exc.DBAPIError, SourceError) as error:
        if not killed:
            raise
        message = (
            f"table {table.name}: the read was cancelled, because its task was told to end; "
            "nothing was published, and a retry is a new read"
        )
        raise SourceUnavailable(message) from error


@contextlib.contextmanager
def _cursor_explained(source: OpenSource, table: Table) -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        value = source.dialect.unreadable(source.connection)
        if value is None:
            raise
        message = (
            f"table {table.name}: cursor {table.cursor!r} holds {value}; correct the row at the "
            "source: it can't be told whether it was read"
        )
        raise SourceError(message) from error


def describe(source: OpenSource, table: Table) -> SourceTable:
    """Look a table up in the database's catalog.

    Raises:
        SourceError: There is no such table, or a column has a type that can't be kept.
        ConfigError: The metadata names a column that the table lacks.
    """
    declared = source.dialect.declared_types(source.connection, table)
    if not declared:
        raise _no_table(sa.inspect(source.connection), table)
    _check_columns(table, list(declared))
    _check_mask_key(source, table)
    selection = select(table, declared, source.dialect.arrow_type)
    for name in selection.columns.names:
        _check_usable(table, name)
    check_true(source, table, selection)
    keys = source.dialect.unique_keys(source.connection, table)
    return SourceTable(
        qualified=f"{table.schema_}.{table.name}",
        columns=selection.columns,
        unique=keys.sets,
        declared=declared,
        primary_key=keys.primary,
        cuts=_cuts(source.dialect, selection, declared),
        forms=Forms(source.dialect.read_as, source.dialect.text_of),
        selection=selection,
        mask_key=source.mask_key,
    )


def _cuts(dialect: Dialect, selection: Selection, declared: Mapping[str, str]) -> dict[str, str]:
    """Say what is lost of each column; nothing, where the whole of it stands beside as text."""
    whole = {*selection.texts, *selection.texts.values(), *selection.masks}
    cuts = {n: dialect.cut(declared[n]) for n in selection.columns.names if n not in whole}
    return {name: why for name, why in cuts.items() if why}


def _check_mask_key(source: OpenSource, table: Table) -> None:
    if table.columns.needs_key and not source.mask_key:
        message = (
            f"table {table.name}: columns.mask says hmac, and there is no key; give the Airflow "
            "connection that source.mask_connection names a password: it is the key"
        )
        raise ConfigError(message)


def check_true(source: OpenSource, table: Table, selection: Selection) -> None:
    """Refuse a column whose values the database falsifies for this login.

    Raises:
        SourceError: There is one among those that are read.
    """
    shown_as_they_are = {*selection.of_source()} - {
        name for name, mask in selection.masks.items() if mask == "redact"
    }
    hidden = source.dialect.falsified(source.connection, table)
    if false := [name for name in hidden if name in shown_as_they_are]:
        names = ", ".join(map(repr, false))
        message = (
            f"table {table.name}: the database masks {names} (dynamic data masking), and the login "
            "may not UNMASK: what it reads is not what the table holds; GRANT UNMASK TO the "
            "login, or leave the columns out (columns.exclude, or columns.mask: redact) in config/"
        )
        raise SourceError(message)


def _no_table(inspector: sa.Inspector, table: Table) -> SourceError:
    schema = quoted_schema(table)
    names = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
    message = (
        f"table {table.name}: the source has no {table.schema_}.{table.name}"
        f"{nearest(table.name, names)}; correct config/ or create the table; "
        "what was read of it before stays in the lake"
    )
    return SourceError(message)


def cursor_kind(table: Table, columns: pa.Schema) -> Kind | None:
    """Tell what kind of value a table's cursor is; None without one.

    Raises:
        ConfigError: The cursor is of a type that has no useful order.
    """
    if table.cursor is None:
        return None
    type_ = columns.field(table.cursor).type
    kind = kind_of(type_)
    if kind is None:
        message = (
            f"table {table.name}: cursor {table.cursor!r} is of type {type_}; a cursor is a "
            "timestamp, a date or an integer (for SQL Server's rowversion: `strategy: rowversion`, "
            "which needs no cursor)"
        )
        raise ConfigError(message)
    return kind


def kind_of(type_: pa.DataType) -> Kind | None:
    """Tell what kind of bound a type's values make; None: they have no useful order."""
    if pa.types.is_timestamp(type_):
        return "timestamp"
    if pa.types.is_date(type_):
        return "date"
    return "integer" if pa.types.is_integer(type_) else None


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
    wanted = [("key", column) for column in table.key]
    wanted += [("cursor", table.cursor)] if table.cursor else []
    for what, column in wanted:
        if column not in names:
            raise ConfigError(no_column(table, what, column, names))


def _check_usable(table: Table, name: str) -> None:
    reason = _unusable(name)
    if reason:
        message = (
            f"table {table.name}: the source's column {name!r} {reason}; rename it at the "
            "source, leave it out (columns.exclude in config/), or read a view that renames it"
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
    | {
        "_file",
        "_rank",
        "_repeated",
        "_raw",
        "_metadata",
        "_rescued_data",
        "_key",
        "_version",
        "_chosen",
    }
)
_DELTA_REFUSES = frozenset(" ,;{}()\n\t=")


def _explained(
    error: sa.exc.DBAPIError, dialect: Dialect, table: Table, password: object
) -> SourceError | SourceUnavailable:
    reason = str(error.orig).strip()
    if table.columns.mask:
        # A driver may quote the value that it met.
        reason = _QUOTED.sub("…", reason)
    if password:
        reason = reason.replace(str(password), "***")
    reason = shown(reason, _REASON)
    name = f"table {table.name}: reading {table.schema_}.{table.name} failed: {reason}"
    if dialect.is_transient(error):
        return SourceUnavailable(f"{name}; it is tried again as a new read")
    remedy = dialect.remedy(reason) or "mend the source or config/"
    return SourceError(f"{name}; {remedy} and run again: nothing is lost")
