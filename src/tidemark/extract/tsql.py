"""T-SQL that SQLAlchemy has no words for: quoted names as values, binary positions as hex."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mssql

from tidemark.metadata import Table

ROWVERSION_BYTES, LSN_BYTES = 8, 10
_PREPARER = mssql.dialect().identifier_preparer  # type: ignore[no-untyped-call]


def object_name(table: Table) -> str:
    """Write a table's name as T-SQL takes it, such as ``[sales].[Order]]Line]``."""
    return ".".join(_PREPARER.quote_identifier(name) for name in (table.schema_, table.name))


def object_id(table: Table) -> sa.ColumnElement[int]:
    """Give the table's object_id, by its name as a bound value."""
    name = sa.literal(object_name(table), sa.Unicode)
    return sa.Function("OBJECT_ID", name, type_=sa.Integer())


def binary(number: int, width: int) -> sa.ColumnElement[bytes]:
    """Bind a position (a rowversion, an LSN) as the binary that it is."""
    data = sa.literal(number.to_bytes(width, "big"), sa.VARBINARY(width))
    return sa.cast(data, sa.BINARY(width))


def as_hex(column: sa.ColumnElement[Any], width: int) -> sa.ColumnElement[str]:
    """Give a binary column as text, ``0x…``."""
    kind = sa.literal_column(f"varchar({2 + 2 * width})", sa.String())
    style = sa.literal_column("1", sa.Integer())
    return sa.Function("CONVERT", kind, column, style, type_=sa.String())


def hex_text(number: int, width: int) -> str:
    """Write a position as it is stored, ``0x…``."""
    return f"0x{number.to_bytes(width, 'big').hex().upper()}"


def number_of(data: bytes | None) -> int | None:
    """Give the number that a driver's binary is, big-endian; None for NULL."""
    return None if data is None else int.from_bytes(data, "big")
