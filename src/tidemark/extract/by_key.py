"""Read single rows again, by their keys."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from tidemark.digest import row_digests
from tidemark.extract.batches import fetch
from tidemark.extract.source import OpenSource, SourceTable
from tidemark.extract.strategy import columns_of, from_table
from tidemark.metadata import Table
from tidemark.windows import Kind

_MOST_BYTES = 2**30  # Arrow holds no more than twice that in one column
_SEVEN_DIGITS = frozenset({"datetime2(7)", "datetimeoffset(7)"})
_KEYS_AT_ONCE = 200  # SQL Server takes 2,100 bound values in a statement


def read_by_keys(
    source: OpenSource, described: SourceTable, table: Table, keys: pa.Table
) -> Iterator[pa.RecordBatch]:
    """Read the rows that are there now, of the given keys and no others.

    A database that takes 'abc' for 'ABC' gives the one for the other: it is left out.

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
        result = source.connection.execute(query)
        found = [b.rows for b in fetch(result, source.dialect, described.columns, table.name)]
        asked = row_digests(batch, table.key)
        for rows in map(described.sealed, _together(found)):
            yield rows.filter(pc.is_in(row_digests(rows, table.key), value_set=asked))


def _together(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Put batches into one, so that a key's rows stay together; unless they are huge."""
    if sum(batch.nbytes for batch in batches) > _MOST_BYTES or not batches:
        return batches
    return [pa.concat_batches(batches)]


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
        column = described.forms.whole(column, declared)
    else:
        # A database without timestamps holds the same moment in many forms.
        column = source.dialect.comparable(column, kind)
        wanted = source.dialect.bound(str(value), kind, declared)
        if isinstance(value, datetime) and declared in _SEVEN_DIGITS:
            return sa.and_(column >= wanted, *_below_next(source, column, value, declared))
    return sa.and_(column == wanted)


def _below_next(
    source: OpenSource, column: sa.ColumnElement[Any], value: datetime, declared: str
) -> list[sa.ColumnElement[bool]]:
    # The lake's value is cut: the source's lies up to a microsecond above it.
    if value.replace(tzinfo=None) == datetime.max:  # noqa: DTZ901  # the last there is
        return []
    after = str(value + timedelta(microseconds=1))
    return [column < source.dialect.bound(after, "timestamp", declared)]


def _time_kind(kind: pa.DataType) -> Kind | None:
    if pa.types.is_timestamp(kind):
        return "timestamp"
    return "date" if pa.types.is_date(kind) else None
