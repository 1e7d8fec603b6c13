"""What differs from database to database: one module each, all of this shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from types import ModuleType
from typing import Any, Protocol, cast

import pyarrow as pa
import sqlalchemy as sa

from tidemark.errors import SourceError
from tidemark.extract import postgresql, sqlite, sqlserver
from tidemark.extract.keys import UniqueKeys
from tidemark.extract.ordinary import Records
from tidemark.metadata import Table
from tidemark.windows import Kind


class Dialect(Protocol):
    """A kind of database; what most of them answer alike stands in `tidemark.extract.ordinary`."""

    def create_engine(self, url: sa.URL, schema: str) -> sa.Engine:
        """Make an engine that can only read.

        Raises:
            SourceError: The URL leads nowhere.
        """

    def declared_types(self, connection: sa.Connection, table: Table) -> dict[str, str]:
        """Give the declared type of each column, generated ones included, in the table's order.

        Empty if there is no such table.
        """

    def unique_keys(self, connection: sa.Connection, table: Table) -> UniqueKeys:
        """Look up by which columns the database keeps the rows apart."""

    def arrow_type(self, declared: str) -> pa.DataType | None:
        """Give the Arrow type of a declared type; None if there is none."""

    def read_as(self, column: sa.ColumnElement[Any], declared: str) -> sa.ColumnElement[Any]:
        """Give a column in the form in which the driver gives it whole: itself, or a text."""

    def text_of(self, column: sa.ColumnElement[Any], declared: str) -> sa.ColumnElement[Any]:
        """Give a column as a text that holds all of it, be it of a type that the lake lacks."""

    def cut(self, declared: str) -> str | None:
        """Tell what the Arrow type of a declared type cannot hold; None: it holds everything."""

    def comparable(
        self, expression: sa.ColumnElement[object], kind: Kind
    ) -> sa.ColumnElement[object]:
        """Wrap a cursor so that it compares as what it is."""

    def bound(self, text: str, kind: Kind, declared: str) -> sa.ColumnElement[object]:
        """Bind a cursor value as text, cast to the cursor's own type."""

    def typed(self, text: str, declared: str) -> sa.ColumnElement[Any]:
        """Bind a value that `text_of` wrote, of a text or an exact number, as its own type."""

    def cursor_text(self, cursor: sa.ColumnElement[Any], kind: Kind) -> sa.ColumnElement[Any]:
        """Give a cursor so that ``str`` of what the driver gives has all its digits."""

    def arrow_rows(self, result: sa.CursorResult[Any], most: int) -> pa.RecordBatch | None:
        """Fetch some rows of a result as Arrow; None: the driver gives Python's values alone."""

    def exported(
        self,
        connection: sa.Connection,
        statement: sa.Executable,
        columns: pa.Schema,
        table: str,
        most: int,
    ) -> Iterator[pa.RecordBatch] | None:
        """Give a statement's rows, many, by what the database has for that; None: it has nothing.

        The first columns are in the types of `columns`, those behind them texts.
        """

    def clock(self, connection: sa.Connection) -> datetime:
        """Read the source's own clock, UTC."""

    def oldest_transaction(self, connection: sa.Connection) -> datetime | None:
        """Give the begin (UTC) of the oldest open transaction that may write.

        None: there is none, or nobody lets us see them.
        """

    def hidden_transactions(self, connection: sa.Connection) -> str | None:
        """Tell why open transactions may be there that we can't see, and the remedy."""

    def fix_moment(self, connection: sa.Connection) -> None:
        """Let all that is read from now on be of one moment, if the database can do that.

        What must be older than the rows (its clock, its open transactions) is read before.
        """

    def sees_one_moment(self, connection: sa.Connection) -> bool:
        """Tell whether a single statement reads the table as it was at one moment."""

    def records(self, connection: sa.Connection, table: Table) -> Records:
        """Tell what the database itself records of a table's changes, and shows us of it."""

    def falsified(self, connection: sa.Connection, table: Table) -> Sequence[str]:
        """Name the columns whose values the database hides from this login behind false ones."""

    def unreadable(self, connection: sa.Connection) -> str | None:
        """Tell which cursor value could not be read, if that is why a statement failed."""

    def cancel(self, connection: sa.Connection) -> None:
        """Cancel the statement that a connection waits for; called from another thread."""

    def is_waking(self, error: sa.exc.DBAPIError) -> bool:
        """Tell whether the database was asleep and wakes up now."""

    def remedy(self, reason: str) -> str | None:
        """Say what mends an error, to be followed by "and run again"; None: that is not known."""

    def is_transient(self, error: sa.exc.DBAPIError) -> bool:
        """Tell whether the same statement may succeed a little later."""


_MODULES: dict[str, ModuleType] = {
    "mssql": sqlserver,
    "postgresql": postgresql,
    "sqlite": sqlite,
}


def dialect_of(url: sa.URL, table: Table) -> Dialect:
    """Give the dialect of a source's URL.

    Raises:
        SourceError: There is none for this kind of database.
    """
    kind = url.get_backend_name()
    if kind not in _MODULES:
        message = (
            f"table {table.name}: a source of kind {kind!r} is not supported yet; supported: "
            f"{', '.join(sorted(_MODULES))}"
        )
        raise SourceError(message)
    return cast(Dialect, _MODULES[kind])
