"""Rows of the database's driver → Arrow columns with the source's types kept.

Nothing is guessed and nothing is rounded: a value that does not fit its column's type is an error
that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any

import pyarrow as pa

from tidemark.errors import SourceError, shown

BATCH_BYTES = 32 * 2**20
HIDDEN = b"tidemark.hidden"  # marks a field whose values no message may show


Values = Sequence[Sequence[Any]]


def size_of(values: Values, columns: pa.Schema) -> int:
    """Measure what columns of values take in memory, near enough: it is their texts that count."""
    return sum(_size(v, field.type) for v, field in zip(values, columns, strict=True))


def _size(values: Sequence[Any], kind: pa.DataType) -> int:
    fixed = 8 * len(values)
    if not (pa.types.is_string(kind) or pa.types.is_binary(kind)):
        return fixed
    try:
        return fixed + sum(map(len, filter(None, values)))
    except TypeError:  # SQLite's text columns may hold numbers
        return fixed + sum(len(str(value)) for value in values)


def parts(values: Values, columns: pa.Schema, most: int = BATCH_BYTES) -> Iterator[Values]:
    """Halve columns of values until each part is within the bound, or is one row.

    Arrow holds no more than 2 GB of text in one column of a batch.
    """
    rows = len(values[0])
    if rows <= 1 or size_of(values, columns) <= most:
        yield values
        return
    middle = rows // 2
    yield from parts([column[:middle] for column in values], columns, most)
    yield from parts([column[middle:] for column in values], columns, most)


def record_batch(values: Values, columns: pa.Schema, table: str) -> pa.RecordBatch:
    """Turn columns of values (in the order of `columns`) into a batch.

    Raises:
        SourceError: A value does not fit; names table, column, value and type.
    """
    arrays = [_array(column, field, table) for column, field in zip(values, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=columns)


def conformed(batch: pa.RecordBatch, columns: pa.Schema, table: str) -> pa.RecordBatch:
    """Give the first columns of a driver's Arrow batch in the lake's types; nothing is rounded.

    Raises:
        SourceError: A value does not fit; names table, column, value and type.
    """
    given = [batch.column(i) for i in range(len(columns))]
    arrays = [_cast(array, field, table) for array, field in zip(given, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=columns)


def _cast(array: pa.Array, field: pa.Field, table: str) -> pa.Array:
    if array.null_count == len(array):
        return pa.nulls(len(array), field.type)  # a driver's type for NULL alone means nothing
    try:
        return _same_zone(array, field.type).cast(field.type)
    except (pa.ArrowException, ValueError):
        singles = (array.slice(i, 1) for i in range(len(array)))
        bad = next((one for one in singles if not _casts(one, field.type)), array)
        raise misfit(bad[0].as_py(), field, table) from None


def _same_zone(array: pa.Array, kind: pa.DataType) -> pa.Array:
    # Arrow alone would take a wall clock for UTC, or UTC for a wall clock.
    times = pa.types.is_timestamp(array.type) and pa.types.is_timestamp(kind)
    if times and (array.type.tz is None) != (kind.tz is None):
        message = f"{array.type} is no {kind}"
        raise ValueError(message)
    return array


def _casts(array: pa.Array, kind: pa.DataType) -> bool:
    try:
        _same_zone(array, kind).cast(kind)
    except (pa.ArrowException, ValueError):
        return False
    return True


def misfit(value: object, field: pa.Field, table: str) -> SourceError:
    """Say that a value does not fit its column; a value of a masked one is not shown."""
    secret = HIDDEN in (field.metadata or {})
    holds = "a value (not shown: it is masked)" if secret else shown(repr(value))
    return SourceError(
        f"table {table}: column {field.name!r} holds {holds}, which is no "
        f"{field.type}; correct the row at the source, or its column's declared type"
    )


def _array(values: Sequence[Any], field: pa.Field, table: str) -> pa.Array:
    convert = _converter(field.type)
    try:
        return pa.array(values, field.type) if _is_plain(values, field.type) else convert(values)
    except (pa.ArrowException, ValueError, TypeError, ArithmeticError):
        bad = next((v for v in values if not _fits(convert, v)), values[0])
        raise misfit(bad, field, table) from None


def _is_plain(values: Sequence[Any], kind: pa.DataType) -> bool:
    """Tell whether all values are of the one type that Arrow takes for `kind` without guessing.

    It asks no value in Python: of a million rows that would take longer than to fetch them.
    """
    own = next((own for is_kind, own in _PLAIN if is_kind(kind)), None)
    if own is None or not set(map(type, values)) <= {own, type(None)}:
        return False
    if own is not datetime:
        return True
    zones = set(map(attrgetter("tzinfo"), filter(None, values)))
    return all((zone is None) == (kind.tz is None) for zone in zones)


_PLAIN: tuple[tuple[Callable[[pa.DataType], bool], type], ...] = (
    (pa.types.is_integer, int),
    (pa.types.is_string, str),
    (pa.types.is_floating, float),
    (pa.types.is_boolean, bool),
    (pa.types.is_decimal, Decimal),
    (pa.types.is_timestamp, datetime),
    (pa.types.is_date, date),
)


def _fits(convert: Callable[[Sequence[Any]], pa.Array], value: object) -> bool:
    try:
        convert([value])
    except (pa.ArrowException, ValueError, TypeError, ArithmeticError):
        return False
    return True


def _converter(kind: pa.DataType) -> Callable[[Sequence[Any]], pa.Array]:
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return lambda values: _times(values, kind)
    if pa.types.is_decimal(kind):
        return lambda values: pa.array([_decimal(v) for v in values], kind)
    if pa.types.is_boolean(kind):
        return lambda values: pa.array([_boolean(v) for v in values], kind)
    if pa.types.is_string(kind):
        return lambda values: pa.array([_text(v) for v in values], kind)
    if pa.types.is_integer(kind):
        return lambda values: pa.array([_integer(v) for v in values], kind)
    return lambda values: pa.array(values, kind)


def _times(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Take texts, as SQLite holds them, or Python's own moments, as other drivers give them."""
    own = datetime if pa.types.is_timestamp(kind) else date
    present = [value for value in values if value is not None]
    if all(type(value) is own for value in present):
        return pa.array([_moment(value, kind) for value in values], kind)
    return pa.array(values, pa.string()).cast(kind)


def _moment(value: Any, kind: pa.DataType) -> Any:
    # Arrow alone would drop an offset, or take a wall clock for UTC.
    if isinstance(value, datetime) and (value.tzinfo is None) != (kind.tz is None):
        message = f"{value!r} has {'no' if value.tzinfo is None else 'a'} time zone"
        raise ValueError(message)
    return value


def _integer(value: object) -> int | None:
    # Arrow alone would cut 5.5 to 5.
    if value is None or isinstance(value, int):
        return value
    message = f"{value!r} is no integer"
    raise ValueError(message)


def _decimal(value: object) -> Decimal | None:
    if value is None or isinstance(value, Decimal):
        return value
    return Decimal(str(value))


def _boolean(value: object) -> bool | None:
    if value not in (None, 0, 1):
        message = f"{value!r} is no boolean"
        raise ValueError(message)
    return None if value is None else bool(value)


def _text(value: object) -> str | None:
    # SQLite's text columns may hold numbers, which its own CAST would print the same way; of a
    # UUID the text is its usual form.
    if isinstance(value, bytes):
        message = f"{value!r} is no text"
        raise TypeError(message)
    return value if value is None or isinstance(value, str) else str(value)
