"""What every strategy is: a plan of one read, made at the source before any row is read.

A strategy is a module with a function ``plan``, which decides what to read and fixes where the
read ends; what it cannot see stands in `tidemark.metadata.strategies`. The reading itself is the
same for all: a statement whose columns are the table's own, and behind them what the strategy
knows of each row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import sqlalchemy as sa

from tidemark.errors import StateError, shown
from tidemark.extract.batches import BATCH_ROWS, stream
from tidemark.extract.keys import quoted_schema
from tidemark.extract.source import OpenSource, SourceTable
from tidemark.metadata import Table
from tidemark.windows import Kind

OPERATION, SOURCE_SEQUENCE, VERSION = "_operation", "_source_sequence", "_version"
PRESENT = "present"


@dataclass(frozen=True)
class Unseen:
    """Rows that this read leaves out.

    Attributes:
        count: How many there are.
        keys: The first ten, by key, as text.
    """

    count: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Ask:
    """What a strategy is asked: to plan one read of one table.

    Attributes:
        source: The open source.
        described: The table as the database describes it.
        table: The metadata.
        kind: The cursor's kind; None without a cursor.
        low: The stored watermark; None before the first read, and for a full reload.
        position: What this strategy stored at its last read; empty for a full reload.
        known: Whether the lake holds rows of the table already.
        goes_on: Whether an earlier read of this strategy left a state to go on from, be it without
            a watermark: no row had a cursor.
        key_is_checked: The table's key was found to be unique a moment ago.
    """

    source: OpenSource
    described: SourceTable
    table: Table
    kind: Kind | None
    low: str | None = None
    position: Mapping[str, str] = field(default_factory=dict)
    known: bool = False
    goes_on: bool = False
    key_is_checked: bool = False


@dataclass(frozen=True)
class ReadPlan:
    """One read.

    Attributes:
        statement: Gives the rows: the table's columns, then any of `_operation` (``upsert``
            without it; ``present`` for a row that is there and not read), `_source_sequence` and
            `_version` (0, 1, … of the versions of one key within this read). None: nothing to
            read.
        window: What is read, in words.
        high: The cursor value up to which all rows are in bronze afterwards.
        tail: With strategy `watermark`: the cursor value from which the next read reads again.
        position: What the strategy wants to be told at its next read.
        whole: Every row of the table is read: a known key that is not among them was deleted.
        compared: Rows that are as the last read left them are left out, by their digest.
        remembers: The digests of the part that the next read reads again are kept for it.
        backfill: The read stands beside the ordinary ones: the state stays as it is.
        not_seen: What this read leaves out, by reason.
        note: What is worth telling.
    """

    statement: sa.Executable | None
    window: str
    high: str | None = None
    tail: str | None = None
    position: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
    compared: bool = False
    remembers: bool = False
    backfill: bool = False
    not_seen: Mapping[str, Unseen] = field(default_factory=dict)
    note: str | None = None


class Strategy(Protocol):
    """A way to find what has changed."""

    def plan(self, ask: Ask) -> ReadPlan:
        """Plan the next read.

        Raises:
            ConfigError: The metadata does not go with the table.
            SourceError: The table does not go with the strategy.
            StateError: The state does not go with the source.
        """


@dataclass(frozen=True)
class Changes:
    """A batch of what a statement gave; all parts are of one length.

    Attributes:
        rows: The table's own columns.
        operations: insert, update, upsert, delete, or ``present``.
        source_sequences: The source's own number of each change, as text; or NULL.
        versions: 0, 1, … of the versions of one key within a read.
    """

    rows: pa.RecordBatch
    operations: pa.Array
    source_sequences: pa.Array
    versions: pa.Array


def read_changes(
    source: OpenSource,
    described: SourceTable,
    statement: sa.Executable,
    table: str,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[Changes]:
    """Run a plan's statement in batches, bounded in rows and in bytes; memory holds one of them.

    Raises:
        SourceError: A value does not fit its column's type.
    """
    batches = stream(
        source.connection, source.dialect, statement, described.columns, table, most=batch_rows
    )
    source.streaming.callback(batches.close)
    return (_changes(described.sealed(batch.rows), batch.extra) for batch in batches)


def _changes(rows: pa.RecordBatch, extra: Mapping[str, pa.Array]) -> Changes:
    def column(name: str, otherwise: Any, kind: pa.DataType) -> pa.Array:
        if name in extra:
            return extra[name].cast(kind)
        return pa.repeat(pa.scalar(otherwise, kind), rows.num_rows)

    return Changes(
        rows=rows,
        operations=column(OPERATION, "upsert", pa.string()),
        source_sequences=column(SOURCE_SEQUENCE, None, pa.string()),
        versions=column(VERSION, 0, pa.int64()),
    )


def columns_of(
    described: SourceTable, of: Callable[[str], sa.ColumnElement[Any]] = sa.column
) -> list[sa.ColumnElement[Any]]:
    """Give the table's columns, quoted by whoever renders them.

    Args:
        described: The table.
        of: Gives the column of a name, where it is not simply the table's.
    """
    columns = {name: _expression(described, name, of) for name in described.columns.names}
    plain = sa.ColumnClause
    return [c if isinstance(c, plain) else c.label(name) for name, c in columns.items()]


def _expression(
    described: SourceTable, name: str, of: Callable[[str], sa.ColumnElement[Any]]
) -> sa.ColumnElement[Any]:
    own = described.chosen.texts.get(name, name)
    declared = described.declared.get(own, "")
    return described.chosen.expression(name, of(own), declared, described.forms)


def from_table(table: Table) -> sa.TableClause:
    """Give the table itself, with its schema."""
    return sa.table(table.name, schema=quoted_schema(table))


def whole_table(
    ask: Ask, position: Mapping[str, str], reason: str | None, high: str | None, *extra: Any
) -> ReadPlan:
    """Plan the read of the whole table, for a strategy that can't go on from where it was.

    Args:
        ask: The table.
        position: From where the next read goes on; empty: it can't either.
        reason: Why, in words.
        high: The cursor value up to which all rows are in bronze afterwards.
        extra: Columns behind the table's own.
    """
    # The first read of all is no event, unless the next one can't go on from it.
    told = ask.known or ask.position or not position
    return ReadPlan(
        statement=sa.select(*columns_of(ask.described), *extra).select_from(from_table(ask.table)),
        window="the whole table",
        high=high,
        position=position,
        whole=True,
        note=reason and f"table {ask.table.name}: {reason}" if told else None,
    )


def word(text: str) -> sa.ColumnElement[str]:
    """Write a word of ours into a statement, rather than bind a value of no known type."""
    return sa.literal_column(f"'{text}'", sa.String())


def stored_number(ask: Ask, name: str) -> int | None:
    """Give a number, decimal or hex (``0x…``), from what the last read stored; None: nothing.

    Raises:
        StateError: It is no number.
    """
    text = ask.position.get(name)
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        lake_name = ask.table.lake_name
        message = (
            f"table {ask.table.name}: bronze/{lake_name}_cdc/cdc.json holds the {name} "
            f"{shown(repr(text))}, which is no number; restore the file, or delete it: then the "
            "whole table is read again"
        )
        raise StateError(message) from None


def named(table: Table, values: Any) -> str:
    """Write a key's value as a message shows it."""
    return ", ".join(f"{n}={shown(str(v))}" for n, v in zip(table.key, values, strict=True))
