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
    (pa.int64(), 42, "c99b6421db5c8acbdc43e9d610beee79"),
    (pa.int64(), -1, "1f7918e777438bf3eae77351996fc33f"),
    (pa.decimal128(10, 2), Decimal("1.50"), "910e44650945abfce0c21d09e41851ef"),
    (pa.float64(), 0.1, "0b36d6c1a66169732ef9de0d7ad5c3fa"),
    (pa.float64(), 1e300, "9794075e15c8dd16ba5492ec3889ffc6"),
    (pa.float64(), math.nan, "bf110d0567b965212fc4724112080dab"),
    (pa.float64(), 0.0, "1aa438eed462c15d3901c9e66769ed29"),
    (pa.float64(), -0.0, "1aa438eed462c15d3901c9e66769ed29"),
    (pa.bool_(), True, "06bbf73f54ac0aeca893f4a36f3a9c3b"),
    (pa.date32(), date(2026, 1, 1), "b4efe5bab1c43bde7b5e29989455efad"),
    (pa.timestamp("us"), datetime(1, 1, 1), "ec8590d38a076adfc36a765f42731e3b"),
    (pa.timestamp("us"), LAST, "dbe89899be298008e273cb01220c0b52"),
    (pa.timestamp("us"), datetime(2026, 1, 1, 10), "9e127b4aa5570d2718933ed1141aab84"),
    (
        pa.timestamp("us", "UTC"),
        datetime(2026, 1, 1, 10, tzinfo=UTC),
        "9e127b4aa5570d2718933ed1141aab84",
    ),
    (pa.time64("us"), time(1, 2, 3, 4), "7bc47037b9e964f63a80e892d9d951a4"),
    (pa.time32("ms"), time(1, 2, 3), "7eb105a7b03966400213d6e5654466ec"),
    (pa.string(), "Zoë 東京 🎵", "ee3d0110ce0e551ef640bc105aab9f46"),
    (pa.string(), "", "9ba6fc7b051046d56e51ce5bebbd9869"),
    (pa.string(), None, "04ab03adf6c0d7ed6ac77b50b2273fe2"),
    (pa.binary(), b"\x00\xff", "6c71cbc9afc26b8b4daeabdeff013d32"),
    (pa.binary(2), b"\x00\xff", "6c71cbc9afc26b8b4daeabdeff013d32"),
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
        ((pa.decimal128(9, 2), Decimal("-1.50")), (pa.decimal128(38, 2), Decimal("-1.50"))),
        ((pa.uint64(), 7), (pa.int16(), 7)),
        ((pa.date32(), date(2026, 1, 1)), (pa.date64(), date(2026, 1, 1))),
    ],
)
def test_how_a_value_is_stored_does_not_count(
    left: tuple[pa.DataType, object], right: tuple[pa.DataType, object]
) -> None:
    assert one(*left) == one(*right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((pa.int64(), 5), (pa.string(), "5")),
        ((pa.int64(), 1), (pa.bool_(), True)),
        ((pa.int64(), 0), (pa.float64(), 0.0)),
        ((pa.string(), "a"), (pa.binary(), b"a")),
        ((pa.decimal128(9, 2), Decimal("1.50")), (pa.decimal128(9, 0), Decimal(150))),
        ((pa.date32(), date(1970, 1, 6)), (pa.int32(), 5)),
        ((pa.timestamp("us"), datetime(1970, 1, 1)), (pa.date32(), date(1970, 1, 1))),
        ((pa.int64(), -1), (pa.uint64(), 2**64 - 1)),
    ],
)
def test_values_of_other_families_differ(
    left: tuple[pa.DataType, object], right: tuple[pa.DataType, object]
) -> None:
    assert one(*left) != one(*right)


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


@settings(max_examples=60)
@given(st.lists(ROWS, min_size=2, max_size=12))
def test_equal_rows_and_only_those_have_equal_digests(rows: list[dict[str, Any]]) -> None:
    values = digests(pa.Table.from_pylist(rows, SCHEMA))
    for i, row in enumerate(rows):
        for j, other in enumerate(rows):
            assert (row == other) == (values[i] == values[j])


@settings(max_examples=30)
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
    monkeypatch.setattr(digest, "_BUFFER_BYTES", 0)
    assert digests(rows) == alone, "also where the rows are taken in parts"


def test_a_columns_name_is_no_pattern() -> None:
    names = ["*", "^a.*$", "a", "0", "1"]
    rows = pa.table({name: ["x", name] for name in names})
    assert len(set(digests(rows))) == 2
    assert row_digests(rows, list(reversed(names))).to_pylist() == digests(rows)
