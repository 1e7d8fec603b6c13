"""What every strategy is: a plan of one read, made at the source before any row is read.

A strategy is a module with a function ``plan``, which decides what to read and fixes where the
read ends; what it cannot see stands in `tidemark.metadata.strategies`. The reading itself is the
same for all: a statement whose columns are the table's own, and behind them what the strategy
knows of each row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import sqlalchemy as sa

from tidemark.extract.source import OpenSource, SourceTable
from tidemark.extract.types import record_batch
from tidemark.metadata import Table
from tidemark.windows import Kind

BATCH_ROWS = 50_000
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
    """

    source: OpenSource
    described: SourceTable
    table: Table
    kind: Kind | None
    low: str | None = None
    position: Mapping[str, str] = field(default_factory=dict)
    known: bool = False


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
    connection: sa.Connection,
    statement: sa.Executable,
    columns: pa.Schema,
    table: str,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[Changes]:
    """Run a plan's statement in batches; memory holds one of them.

    Raises:
        SourceError: A value does not fit its column's type.
    """
    result = connection.execution_options(stream_results=True).execute(statement)
    names = list(result.keys())
    width = len(columns)
    for rows in result.partitions(batch_rows):
        own = record_batch([tuple(row[:width]) for row in rows], columns, table)
        extra = {name: [row[i] for row in rows] for i, name in enumerate(names) if i >= width}
        yield _changes(own, extra)


def _changes(rows: pa.RecordBatch, extra: Mapping[str, list[Any]]) -> Changes:
    size = rows.num_rows
    return Changes(
        rows=rows,
        operations=pa.array(extra.get(OPERATION) or ["upsert"] * size, pa.string()),
        source_sequences=pa.array(extra.get(SOURCE_SEQUENCE) or [None] * size, pa.string()),
        versions=pa.array(extra.get(VERSION) or [0] * size, pa.int64()),
    )


def columns_of(described: SourceTable) -> list[sa.ColumnClause[Any]]:
    """Give the table's columns, quoted by whoever renders them."""
    return [sa.column(name) for name in described.columns.names]


def from_table(table: Table) -> sa.TableClause:
    """Give the table itself, with its schema."""
    return sa.table(table.name, schema=table.schema_)


def named(table: Table, values: Any) -> str:
    """Write a key's value as a message shows it."""
    return ", ".join(f"{n}={v}" for n, v in zip(table.key, values, strict=True))
