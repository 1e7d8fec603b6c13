"""What most databases answer: for a dialect that has nothing of its own to say to a question.

It imports these functions by name, as it does those that it keeps in modules of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from tidemark.metadata import Strategy, Table
from tidemark.windows import Kind


@dataclass(frozen=True)
class Records:
    """What a database itself records of a table's changes.

    Attributes:
        offered: The strategies that can be had by it, the best first.
        withheld: The missing grant of each strategy whose record is kept, and not shown to us.
    """

    offered: tuple[Strategy, ...] = ()
    withheld: Mapping[Strategy, str] = field(default_factory=dict)


def comparable(expression: sa.ColumnElement[object], kind: Kind) -> sa.ColumnElement[object]:
    """Give it as it is: the database's types compare as what they are."""
    del kind
    return expression


def cursor_text(cursor: sa.ColumnElement[Any], kind: Kind) -> sa.ColumnElement[Any]:
    """Give it as it is: ``str`` of what the driver gives has all digits."""
    del kind
    return cursor


def arrow_rows(result: sa.CursorResult[Any], most: int) -> pa.RecordBatch | None:
    """Give None: the driver knows Python's values alone."""
    nothing: pa.RecordBatch | None = None
    del result, most
    return nothing


def exported(
    connection: sa.Connection, statement: sa.Executable, columns: pa.Schema, table: str, most: int
) -> Iterator[pa.RecordBatch] | None:
    """Give None: the database has no export that is faster than its driver."""
    nothing: Iterator[pa.RecordBatch] | None = None
    del connection, statement, columns, table, most
    return nothing


def sees_one_moment(connection: sa.Connection) -> bool:
    """Say yes: a statement reads one moment, whatever is written meanwhile."""
    del connection
    return True


def records(connection: sa.Connection, table: Table) -> Records:
    """Say that no changes are recorded that Tidemark reads."""
    del connection, table
    return Records()


def falsified(connection: sa.Connection, table: Table) -> tuple[str, ...]:
    """Name no column: values are shown as they are, or refused."""
    del connection, table
    return ()


def unreadable(connection: sa.Connection) -> str | None:
    """Give None: columns hold what they are declared to hold."""
    nothing: str | None = None
    del connection
    return nothing


def is_waking(error: sa.exc.DBAPIError) -> bool:
    """Say no: the database does not sleep."""
    del error
    return False
