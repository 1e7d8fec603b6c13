"""Read single rows again, by their keys."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from tidemark.extract.source import OpenSource, SourceTable
from tidemark.extract.strategy import columns_of, from_table
from tidemark.extract.types import parts, record_batch
from tidemark.metadata import Table
from tidemark.windows import Kind

_MOST_BYTES = 2**30  # a key's rows stay together below that, and Arrow takes twice as much
_KEYS_AT_ONCE = 200  # SQL Server takes 2,100 bound values in a statement


def read_by_keys(
    source: OpenSource, described: SourceTable, table: Table, keys: pa.Table
) -> Iterator[pa.RecordBatch]:
    """Read the rows that are there now, of the given keys.

    Args:
        source: The open source.
        described: The table.
        table: Its metadata.
        keys: The key's columns, of the source's types.
    """
    columns = columns_of(described)
    for batch in keys.to_batches(_KEYS_AT_ONCE):
        wanted = sa.or_(*(_is(source, described, row) for row in batch.to_pylist()))
        query = sa.select(*columns).select_from(from_table(table)).where(wanted)
        found = source.connection.execute(query).all()
        for rows in parts(found, _MOST_BYTES) if found else ():
            yield record_batch([tuple(row) for row in rows], described.columns, table.name)


def _is(source: OpenSource, described: SourceTable, key: dict[str, Any]) -> sa.ColumnElement[bool]:
    return sa.and_(*(_equals(source, described, name, value) for name, value in key.items()))


def _equals(
    source: OpenSource, described: SourceTable, name: str, value: Any
) -> sa.ColumnElement[bool]:
    declared = described.declared.get(name, "")
    column: sa.ColumnElement[Any] = sa.column(name)
    if value is None:
        return column.is_(None)
    kind = _time_kind(described.columns.field(name).type)
    if isinstance(value, Decimal) and not source.connection.dialect.supports_native_decimal:
        value = str(value)  # a float would lose digits; the column's affinity makes it a number
    wanted: sa.ColumnElement[Any] = sa.literal(value)
    if kind is None:
        # What is read as a text is looked for as one.
        column = described.read_as(column, declared)
    else:
        # A database without timestamps holds the same moment in many forms.
        column = source.dialect.comparable(column, kind)
        wanted = source.dialect.bound(str(value), kind, declared)
    return sa.and_(column == wanted)


def _time_kind(kind: pa.DataType) -> Kind | None:
    if pa.types.is_timestamp(kind):
        return "timestamp"
    return "date" if pa.types.is_date(kind) else None
