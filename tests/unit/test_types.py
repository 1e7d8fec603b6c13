"""What drivers give, as Arrow: Python's own values as they are, and nothing rounded."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from tidemark.errors import SourceError
from tidemark.extract.types import BATCH_BYTES, parts, record_batch, size_of

NAIVE, ZONED = pa.timestamp("us"), pa.timestamp("us", tz="UTC")
WALL = datetime(2026, 1, 1, 10, 0, 0, 123456)  # noqa: DTZ001
INDIA = timezone(timedelta(hours=5, minutes=30))


def only(value: Any, kind: pa.DataType) -> Any:
    batch = record_batch([(value, None)], pa.schema([("v", kind)]), "DimUser")
    assert batch.schema.field("v").type == kind
    found, nothing = batch.column("v").to_pylist()
    assert nothing is None
    return found


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (WALL, NAIVE, WALL),
        (datetime(9999, 12, 31, 23, 59, 59, 999999), NAIVE, datetime.max),  # noqa: DTZ001, DTZ901
        (WALL.replace(tzinfo=UTC), ZONED, WALL.replace(tzinfo=UTC)),
        (WALL.replace(tzinfo=INDIA), ZONED, datetime(2026, 1, 1, 4, 30, 0, 123456, tzinfo=UTC)),
        ("2026-01-01 10:00:00.123456+00:00", ZONED, WALL.replace(tzinfo=UTC)),
        ("2026-01-01 10:00:00.123456", NAIVE, WALL),
        (date(1, 1, 1), pa.date32(), date(1, 1, 1)),
        (Decimal("0.10"), pa.decimal128(38, 2), Decimal("0.10")),
        (Decimal("1E+3"), pa.decimal128(38, 2), Decimal("1000.00")),
        (UUID(int=1), pa.string(), "00000000-0000-0000-0000-000000000001"),
        (b"\x00\x01\x02\x03\x04\x05\x06\x07", pa.binary(8), b"\x00\x01\x02\x03\x04\x05\x06\x07"),
        (True, pa.bool_(), True),
        (2**31 - 1, pa.int32(), 2**31 - 1),
    ],
)
def test_a_drivers_values_are_kept(value: Any, kind: pa.DataType, expected: Any) -> None:
    assert only(value, kind) == expected


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (WALL, ZONED),
        (WALL.replace(tzinfo=UTC), NAIVE),
        ("2026-01-01 10:00:00", ZONED),
        ("2026-01-01 10:00:00.1234567", NAIVE),
        (WALL, pa.date32()),
        (date(2026, 1, 1), NAIVE),
        (Decimal("0.123"), pa.decimal128(38, 2)),
        (Decimal("NaN"), pa.decimal128(38, 2)),
        (Decimal(1), pa.int32()),
        (2**31, pa.int32()),
        (b"\x00", pa.binary(8)),
        (b"text", pa.string()),
    ],
)
def test_what_would_be_rounded_shifted_or_cut_is_named(value: Any, kind: pa.DataType) -> None:
    with pytest.raises(SourceError, match="table DimUser: column 'v' holds "):
        only(value, kind)


def test_more_text_than_arrow_takes_in_one_column_comes_in_parts() -> None:
    """Some 2.5 GB; it is one value, so that this machine need not hold them."""
    values = [[1] * 2500, ["x" * 2**20] * 2500]
    columns = pa.schema([("id", pa.int64()), ("text", pa.string())])
    read = 0
    for part in parts(values, columns):
        batch = record_batch(part, columns, "DimUser")
        assert batch.nbytes <= BATCH_BYTES
        read += batch.num_rows
    assert read == 2500


def test_a_row_beyond_the_bound_is_a_part_of_its_own() -> None:
    values = [["a", "x" * 1000, "b", "c"]]
    columns = pa.schema([("v", pa.string())])
    most = size_of([["x", "x"]], columns)
    assert [list(part[0]) for part in parts(values, columns, most)] == [
        ["a"],
        ["x" * 1000],
        ["b", "c"],
    ]


def test_a_text_column_may_hold_numbers() -> None:
    columns = pa.schema([("v", pa.string())])
    assert size_of([["ab", 5, None]], columns) >= 3
    assert record_batch([["ab", 5, None]], columns, "T").column(0).to_pylist() == ["ab", "5", None]
