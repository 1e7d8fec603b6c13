"""``_digest``: golden values, and equal rows if and only if equal digests."""

# ruff: noqa: DTZ001 - wall clocks, as sources hold them

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark import digest
from tidemark.digest import row_digests

LAST = datetime(9999, 12, 31, 23, 59, 59, 999999)
GOLDEN = [
    (pa.int64(), 42, "738a837c9701338b1be66c3645f9d139"),
    (pa.int64(), -1, "c96cd1362b1572d20b9178b03a440c2c"),
    (pa.decimal128(10, 2), Decimal("1.50"), "e74e0b1e02eb7a0b2098815c3db7777e"),
    (pa.float64(), 0.1, "8a939c30f50ea2febc1a2d705564436e"),
    (pa.float64(), 1e300, "6ed0e57caa134752d9c350d423c91a4c"),
    (pa.float64(), math.nan, "f8cab6fbe04c8573dd7cc084a850393a"),
    (pa.float64(), 0.0, "299cda905b20e6fd459b4fc722ad64d5"),
    (pa.float64(), -0.0, "299cda905b20e6fd459b4fc722ad64d5"),
    (pa.bool_(), True, "9c0614d98162bafbb33d99f393f6c002"),
    (pa.date32(), date(2026, 1, 1), "c7d95c283ee6921389cc676d90c30f9d"),
    (pa.timestamp("us"), datetime(1, 1, 1), "731d32a598af3c6c5bf9e8e5fef6b0ab"),
    (pa.timestamp("us"), LAST, "1b6e4f0bb8034df1fc9c58ea85ae35c7"),
    (pa.timestamp("us"), datetime(2026, 1, 1, 10), "d13ad9dad43f4fcdfb01b7f765b97f41"),
    (
        pa.timestamp("us", "UTC"),
        datetime(2026, 1, 1, 10, tzinfo=UTC),
        "d13ad9dad43f4fcdfb01b7f765b97f41",
    ),
    (pa.time64("us"), time(1, 2, 3, 4), "bfee3c55fbd07a1695aef88fba34d05f"),
    (pa.time32("ms"), time(1, 2, 3), "d9cc41a82947083be9d5ed95de6ac7a7"),
    (pa.string(), "Zoë 東京 🎵", "68816c55ab97aad38c609be43c1dcc98"),
    (pa.string(), "", "5ca92c29c8d5cf4d7d8ef193c0be19af"),
    (pa.string(), None, "293e6304b6e6a924fb9cb93afd99b855"),
    (pa.binary(), b"\x00\xff", "1fa58ee44202ddc19d8a6741b94b81c1"),
    (pa.binary(2), b"\x00\xff", "1fa58ee44202ddc19d8a6741b94b81c1"),
]
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), st.none() | st.text("ab1:-é", max_size=3)),
    "more": (pa.string(), st.none() | st.text("ab1:-é", max_size=3)),
    "whole": (pa.int64(), st.none() | st.integers(-2, 12)),
    "real": (pa.float64(), st.none() | st.sampled_from([0.0, 0.1, 1.0, 1e300, math.inf])),
    "money": (pa.decimal128(9, 2), st.none() | st.decimals("-2", "2", places=2)),
    "flag": (pa.bool_(), st.none() | st.booleans()),
    "day": (pa.date32(), st.none() | st.dates(date(1969, 12, 30), date(1970, 1, 3))),
    "at": (pa.timestamp("us"), st.none() | st.sampled_from([datetime(1, 1, 1), LAST])),
    "raw": (pa.binary(), st.none() | st.binary(max_size=2)),
}
SCHEMA = pa.schema([(name, kind) for name, (kind, _) in COLUMNS.items()])
ROWS = st.fixed_dictionaries({name: values for name, (_, values) in COLUMNS.items()})


def digests(rows: pa.Table | pa.RecordBatch) -> list[bytes]:
    values: list[bytes] = row_digests(rows, rows.schema.names).to_pylist()
    return values


def one(kind: pa.DataType, value: object) -> str:
    return digests(pa.table({"c": pa.array([value], kind)}))[0].hex()


@pytest.mark.parametrize(("kind", "value", "expected"), GOLDEN, ids=lambda v: str(v)[:20])
def test_golden_digests(kind: pa.DataType, value: object, expected: str) -> None:
    assert one(kind, value) == expected


def test_a_null_is_the_same_in_every_type() -> None:
    kinds = [kind for kind, _, _ in GOLDEN] + [pa.null(), pa.large_string(), pa.float32()]
    assert {one(kind, None) for kind in kinds} == {one(pa.string(), None)}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((pa.int32(), 7), (pa.int64(), 7)),
        ((pa.float32(), 0.5), (pa.float64(), 0.5)),
        ((pa.string(), "é"), (pa.large_string(), "é")),
        ((pa.binary(), b"\xff"), (pa.large_binary(), b"\xff")),
        ((pa.float64(), math.nan), (pa.float64(), -math.nan)),
        ((pa.string(), "x"), (pa.dictionary(pa.int8(), pa.string()), "x")),
    ],
)
def test_how_a_value_is_stored_does_not_count(
    left: tuple[pa.DataType, object], right: tuple[pa.DataType, object]
) -> None:
    assert one(*left) == one(*right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("a", "bc"), ("ab", "c")),
        (("a", None), ("a", "")),
        ((None, "a"), ("a", None)),
        (("-", ""), (None, "")),
        (("1:a", "b"), ("a", "1:b")),
        (("0:", None), (None, "0:")),
        (("é", ""), ("e\u0301", "")),
        (("a ", ""), ("a", "")),
    ],
)
def test_near_rows_differ(left: tuple[str | None, ...], right: tuple[str | None, ...]) -> None:
    rows = [dict(zip("ab", row, strict=True)) for row in (left, right)]
    first, second = digests(
        pa.Table.from_pylist(rows, pa.schema({"a": pa.string(), "b": pa.string()}))
    )
    assert first != second


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, min_size=2, max_size=12))
def test_equal_rows_and_only_those_have_equal_digests(rows: list[dict[str, Any]]) -> None:
    values = digests(pa.Table.from_pylist(rows, SCHEMA))
    for i, row in enumerate(rows):
        for j, other in enumerate(rows):
            assert (row == other) == (values[i] == values[j])


@settings(max_examples=30, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=8), st.permutations(list(COLUMNS)), st.data())
def test_the_order_of_columns_and_the_cut_into_chunks_do_not_count(
    rows: list[dict[str, Any]], order: list[str], data: st.DataObject
) -> None:
    whole = pa.Table.from_pylist(rows, SCHEMA)
    expected = digests(whole)
    assert digests(whole.select(order)) == expected
    assert row_digests(whole, order).to_pylist() == expected
    cut = data.draw(st.integers(0, len(rows)))
    # Slices keep their parent's buffers and an offset into them.
    assert digests(whole.slice(cut)) == expected[cut:]
    assert digests(whole.slice(0, cut)) == expected[:cut]
    chunked = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    assert digests(chunked) == expected
    batch = whole.combine_chunks().to_batches()[0]
    assert digests(batch.slice(cut)) == expected[cut:]


def test_only_the_named_columns_count() -> None:
    rows = pa.table({"a": [1, 1], "b": ["x", "y"]})
    first, second = row_digests(rows, ["a"]).to_pylist()
    assert first == second
    assert digests(rows)[0] != digests(rows)[1]


def test_all_bits_are_used() -> None:
    values = digests(pa.table({"c": pa.array(range(4000))}))
    assert len(set(values)) == 4000
    for bit in range(128):
        ones = sum(int.from_bytes(value, "big") >> bit & 1 for value in values)
        assert 1800 < ones < 2200


def test_no_rows() -> None:
    empty = pa.table({"c": pa.array([], pa.string())})
    assert row_digests(empty, ["c"]).type == pa.binary(16)
    assert digests(empty) == []


def test_a_digest_does_not_depend_on_the_rows_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [None, "", "a", "é" * 511, "x" * 1023, "x" * 1024, "x" * 100_000, ":", "1:a"]
    rows = pa.table({"a": texts, "b": list(reversed(texts)), "c": [None] * len(texts)})
    alone = [digests(rows.slice(i, 1))[0] for i in range(len(texts))]
    assert digests(rows) == alone
    assert digests(rows.slice(0, 4)) == alone[:4]
    assert len(set(alone)) == len(texts)
    monkeypatch.setattr(digest, "_STRING_BYTES", 0)
    assert digests(rows) == alone, "also where the lines take more than 2 GB"
