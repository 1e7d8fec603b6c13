"""``_digest``: 128 bits over a row's raw columns, computed here and never in the database.

Each value is written as text in one canonical form per type, prefixed by its length in bytes, and
NULL as a mark of its own, so that neither ("a", "bc") and ("ab", "c") nor NULL and "" can meet.
Columns are taken in the order of their names, and with them: the source's column order may change,
and a column that got another name is another column. Golden values in the tests hold the forms in
place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import polars_hash as plh
import pyarrow as pa
import pyarrow.compute as pc

DIGEST_TYPE = pa.binary(16)
# Not by `pa.array`: of a list it first loads pandas, if that is installed.
_LENGTHS = pl.Series([f"{length}:" for length in range(1024)]).to_arrow().cast(pa.string())
_STRING_BYTES = 2**31 - 1  # which an array of Arrow's plain type for texts holds at most


def row_digests(rows: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> pa.Array:
    """Digest each row.

    Args:
        rows: The rows as the source gave them.
        columns: The columns that count, in any order.

    Returns:
        One fixed-size binary of 16 bytes a row, never NULL.
    """
    if rows.num_rows == 0 or not columns:
        return pa.array([b"\0" * 16] * rows.num_rows, DIGEST_TYPE)
    names = "".join(f"{len(c.encode())}:{c}" for c in sorted(columns))
    line = pl.Series("line", _lines(names, [_canonical(rows.column(c)) for c in sorted(columns)]))
    digest = plh.col("line").nchash.xxh3_128()
    halves = line.to_frame().select(
        high=(digest // 2**64).cast(pl.UInt64), low=(digest % 2**64).cast(pl.UInt64)
    )
    raw = np.column_stack([halves["high"].to_numpy(), halves["low"].to_numpy()]).astype(">u8")
    return pa.FixedSizeBinaryArray.from_buffers(
        DIGEST_TYPE, rows.num_rows, [None, pa.py_buffer(raw.tobytes())]
    )


def _lines(names: str, texts: Sequence[pa.Array]) -> pa.Array:
    """Write each row as one line: the columns' names, and each text behind its length."""
    # A line for all rows at once is cheap, and one piece of it fewer is cheaper.
    pieces = [piece for text in texts for piece in (_length(text), text)]
    size = sum(text.nbytes for text in texts) + len(texts[0]) * (len(names) + 12 * len(texts))
    kind = pa.string() if size < _STRING_BYTES else pa.large_string()
    wide = (pc.cast(piece, kind) for piece in (pa.scalar(names), *pieces, pa.scalar("")))
    return pc.binary_join_element_wise(*wide, null_handling="skip")


def _length(text: pa.Array) -> pa.Array | pa.Scalar:
    """Give the length of each text in bytes and a colon; for NULL the mark that stands alone."""
    lengths = pc.binary_length(text)
    bounds = pc.min_max(lengths)
    least, most = bounds["min"].as_py(), bounds["max"].as_py()
    if most is None:
        return pa.scalar("-")
    if least == most and not text.null_count:
        return pa.scalar(f"{most}:")
    if most < len(_LENGTHS):
        words = _LENGTHS.take(lengths)
    else:
        words = pc.binary_join_element_wise(lengths.cast(pa.string()), "", ":")
    return words.fill_null("-") if text.null_count else words


def _canonical(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = values.type
    if pa.types.is_floating(kind):
        return _float_bits(values)
    if pa.types.is_temporal(kind):
        width = pa.int64() if kind.bit_width == pa.int64().bit_width else pa.int32()
        return values.view(width).cast(pa.string())
    if pa.types.is_fixed_size_binary(kind):  # rowversion
        return _canonical(values.cast(pa.binary()))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pl.Series(values).bin.encode("hex").to_arrow().cast(pa.string())
    return pc.cast(values, pa.string())


def _float_bits(values: pa.Array) -> pa.Array:
    # The bits, not the digits: how a library prints a float may change from release to release.
    numbers = values.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0
    numbers = np.where(np.isnan(numbers), np.nan, numbers)
    bits = pa.array(numbers.view(np.int64)).cast(pa.string())
    return pc.if_else(values.is_valid(), bits, pa.scalar(None, pa.string()))
