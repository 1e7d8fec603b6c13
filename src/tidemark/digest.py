"""``_digest``: 128 bits over a row's raw columns, computed here and never in the database.

Each value has one canonical form of 16 bytes per family of types, and beside it a mark that tells
the families and NULL apart: neither ("a", "bc") and ("ab", "c") nor NULL and "" nor 5 and "5" can
meet. A text's form is its own hash. Columns are taken in the order of their names, and with them:
the source's column order may change, and a column that got another name is another column. Golden
values in the tests hold the forms in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash as plh
import pyarrow as pa

DIGEST_TYPE = pa.binary(16)
_BUFFER_BYTES = 2**24
_WORD = np.dtype("<u8")
_BOOLEAN, _WHOLE, _REAL, _DAY, _MOMENT, _TIME, _TEXT, _BYTES = range(1, 9)
_UNITS = {"s": 0, "ms": 1, "us": 2, "ns": 3}
_SCALES = 128  # the mark of a decimal is this, and its scale
_FAMILIES: dict[int, Callable[[pa.DataType], bool]] = {
    _BOOLEAN: pa.types.is_boolean,
    _WHOLE: pa.types.is_integer,
    _REAL: pa.types.is_floating,
    _DAY: pa.types.is_date,
    _MOMENT: pa.types.is_timestamp,
    _TIME: pa.types.is_time,
    _TEXT: lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    _BYTES: lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind),
}
Words = npt.NDArray[np.uint64]


def row_digests(rows: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> pa.Array:
    """Digest each row.

    Args:
        rows: The rows as the source gave them.
        columns: The columns that count, in any order.

    Returns:
        One fixed-size binary of 16 bytes a row, never NULL.
    """
    names = tuple(sorted(columns))
    if rows.num_rows == 0 or not names:
        return pa.array([b"\0" * 16] * rows.num_rows, DIGEST_TYPE)
    step = max(1, _BUFFER_BYTES // (8 * _width(len(names))))
    parts = [_digests(rows.slice(at, step), names) for at in range(0, rows.num_rows, step)]
    return pa.FixedSizeBinaryArray.from_buffers(
        DIGEST_TYPE, rows.num_rows, [None, pa.py_buffer(b"".join(parts))]
    )


def _width(columns: int) -> int:
    """Give the words of a row's line: the names' hash, a mark for each column, and two words."""
    return 2 + -(-columns // 8) + 2 * columns


def _digests(rows: pa.RecordBatch | pa.Table, names: tuple[str, ...]) -> bytes:
    lines = np.zeros((rows.num_rows, _width(len(names))), _WORD)
    lines[:, :2] = _hash_of_names(names)
    marks = lines.view(np.uint8)[:, 16 : 16 + len(names)]
    first = lines.shape[1] - 2 * len(names)
    found = {name: _plain(rows.column(name)) for name in names}
    columns = {name: values for name, values in found.items() if values.null_count < len(values)}
    hashes = _hashes({n: v for n, v in columns.items() if not _is_fixed(v.type)})
    for i, name in enumerate(names):
        if name not in columns:
            continue
        values = columns[name]
        low, high = hashes.get(name) or _canonical(values)
        # What stands in a NULL's place does not count.
        there = 1 if not values.null_count else values.is_valid().to_numpy(zero_copy_only=False)
        marks[:, i] = _mark(values.type) * there
        lines[:, first + 2 * i] = low * there
        lines[:, first + 2 * i + 1] = high * there
    ends = np.arange(len(lines) + 1, dtype=np.int64) * lines.itemsize * lines.shape[1]
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(lines)]
    whole = pa.Array.from_buffers(pa.large_binary(), len(lines), buffers)
    low, high = _hashes({"line": whole})["line"]
    return np.column_stack([high, low]).astype(">u8").tobytes()


@lru_cache
def _hash_of_names(names: tuple[str, ...]) -> Words:
    text = "".join(f"{len(name.encode())}:{name}" for name in names)
    return np.concatenate(_hashes({"names": pa.array([text], pa.string())})["names"])


def _hashes(columns: Mapping[str, pa.Array]) -> dict[str, tuple[Words, Words]]:
    """Hash each value of some columns of texts or bytes: lower and upper words; zero for NULL.

    All columns at once, as each of polars' queries takes longer than the hashing of a batch.
    """
    # Not under their own names, which polars might take for patterns.
    places = {name: str(place) for place, name in enumerate(columns)}
    frame = pl.DataFrame([pl.Series(places[name], values) for name, values in columns.items()])
    hashed = frame.select(plh.col(p).nchash.xxh3_128().fill_null(0) for p in places.values())
    low = hashed.select((pl.col(p) % 2**64).cast(pl.UInt64) for p in places.values())
    high = hashed.select((pl.col(p) // 2**64).cast(pl.UInt64) for p in places.values())
    return {name: (low[p].to_numpy(), high[p].to_numpy()) for name, p in places.items()}


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(values.type):
        return values.dictionary_decode()
    if pa.types.is_fixed_size_binary(values.type):  # rowversion
        return values.cast(pa.binary())
    return values


def _is_fixed(kind: pa.DataType) -> bool:
    """Tell whether a type's values have a form of their own; others are hashed."""
    return _mark(kind) not in {_TEXT, _BYTES}


def _mark(kind: pa.DataType) -> int:
    for mark, is_such in _FAMILIES.items():
        if is_such(kind):
            return mark
    if pa.types.is_decimal(kind):
        return int(_SCALES + kind.scale)
    message = f"a value of type {kind} has no canonical form"
    raise TypeError(message)


def _canonical(values: pa.Array) -> tuple[Words, Words | int]:
    kind = values.type
    if pa.types.is_boolean(kind):
        return _words(values.cast(pa.int64())), 0
    if pa.types.is_integer(kind):
        return _whole(values)
    if pa.types.is_floating(kind):
        return _float_bits(values), 0
    return _decimal(values) if pa.types.is_decimal(kind) else _moment(values)


def _whole(values: pa.Array) -> tuple[Words, Words | int]:
    if values.type == pa.uint64():
        return values.fill_null(0).to_numpy(zero_copy_only=False).astype(_WORD), 0
    low = _words(values.cast(pa.int64()))
    return low, (low.view(np.int64) >> 63).view(_WORD)


def _float_bits(values: pa.Array) -> Words:
    # The bits, not the digits: how a library prints a float may change from release to release.
    numbers = values.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0
    return np.where(np.isnan(numbers), np.nan, numbers).view(_WORD)


def _moment(values: pa.Array) -> tuple[Words, int]:
    kind = values.type
    if pa.types.is_date(kind):
        return _words(values.cast(pa.date32()).view(pa.int32()).cast(pa.int64())), 0
    width = pa.int64() if kind.bit_width == pa.int64().bit_width else pa.int32()
    return _words(values.view(width).cast(pa.int64())), _UNITS[kind.unit]


def _decimal(values: pa.Array) -> tuple[Words, Words]:
    wide = values.cast(pa.decimal128(38, values.type.scale))
    pairs = np.frombuffer(wide.buffers()[1], _WORD).reshape(-1, 2)
    pairs = pairs[wide.offset : wide.offset + len(wide)]
    return pairs[:, 0], pairs[:, 1]


def _words(values: pa.Array) -> Words:
    numbers: npt.NDArray[np.int64] = values.fill_null(0).to_numpy(zero_copy_only=False)
    return numbers.view(_WORD)
