"""A table cut into ranges of its key that hold about as many rows each."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from tidemark.extract.row_count import row_count
from tidemark.extract.source import kind_of
from tidemark.extract.strategy import Ask, ReadPlan, from_table
from tidemark.load_progress import KeyRange
from tidemark.windows import Kind


def why_whole(ask: Ask, plan: ReadPlan) -> str | None:
    """Say why a table's initial load can't be split; None: it can."""
    if plan.compared:
        return "strategy snapshot reads the whole table in one statement"
    if not isinstance(plan.statement, sa.Select):
        return "there is nothing to read"
    first = ask.described.columns.field(ask.table.key[0])
    if kind_of(first.type) is None and not _is_written(first.type):
        return f"the key begins with {first.name!r}, of type {first.type}"
    return None


def find_bounds(ask: Ask, count: int) -> tuple[str, ...]:
    """Find where to cut a table so that the parts hold about as many rows each.

    The key's index is read once, in its order. A first column of the key that has few values gives
    fewer parts.

    Args:
        ask: The table.
        count: How many parts are wanted.

    Returns:
        Where a part ends and the next begins: at most ``count - 1`` values, ascending, as text.
    """
    column = _column(ask)
    there = sa.select(row_count()).select_from(from_table(ask.table))
    rows = ask.source.connection.execute(there.where(column.is_not(None))).scalar_one()
    places = sorted({1 + rows * part // count for part in range(count)})
    place = sa.func.row_number().over(order_by=_comparable(ask))
    numbered = (
        sa.select(_text(ask).label("bound"), place.label("place"))
        .select_from(from_table(ask.table))
        .where(column.is_not(None))
        .subquery("numbered")
    )
    found = ask.source.connection.execute(
        sa.select(numbered.c.bound).where(numbered.c.place.in_(places)).order_by(numbered.c.place)
    )
    distinct = dict.fromkeys(str(bound) for bound in found.scalars())
    return tuple(distinct)[1:]  # nothing lies below the least


def within(ask: Ask, part: KeyRange) -> sa.ColumnElement[bool]:
    """Select the rows of one range."""
    column, conditions = _comparable(ask), []
    if part.low is not None:
        conditions.append(column >= _bound(ask, part.low))
    if part.high is not None:
        below = column < _bound(ask, part.high)
        conditions.append(below if conditions else sa.or_(below, _column(ask).is_(None)))
    return sa.and_(sa.true(), *conditions)


def _column(ask: Ask) -> sa.ColumnClause[Any]:
    return sa.column(ask.table.key[0])


def _is_written(kind: pa.DataType) -> bool:
    """Tell whether the database writes, and reads, a key's values exactly as text."""
    return bool(pa.types.is_string(kind) or pa.types.is_decimal(kind))


def _key_kind(ask: Ask) -> Kind | None:
    return kind_of(ask.described.columns.field(ask.table.key[0]).type)


def _comparable(ask: Ask) -> sa.ColumnElement[Any]:
    kind = _key_kind(ask)
    return ask.source.dialect.comparable(_column(ask), kind) if kind else _column(ask)


def _text(ask: Ask) -> sa.ColumnElement[Any]:
    kind, declared = _key_kind(ask), ask.described.declared[ask.table.key[0]]
    dialect = ask.source.dialect
    return (
        dialect.cursor_text(_column(ask), kind) if kind else dialect.text_of(_column(ask), declared)
    )


def _bound(ask: Ask, text: str) -> sa.ColumnElement[Any]:
    kind, declared = _key_kind(ask), ask.described.declared[ask.table.key[0]]
    dialect = ask.source.dialect
    return dialect.bound(text, kind, declared) if kind else dialect.typed(text, declared)
