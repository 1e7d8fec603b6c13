"""Arrow batches as SQL Server's driver gives them, in the lake's types; no server is asked.

The types on the left are those that Microsoft's driver 1.16 was seen to give (docs/sqlserver.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import mssql_python
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.mssql import mssqlpython

from tidemark.errors import SourceError
from tidemark.extract import batches, sqlserver
from tidemark.extract.batches import fetch


@dataclass
class Cursor:
    """Gives a table's rows as the driver does: at most as many as asked for."""

    table: pa.Table
    error: Exception | None = None
    asked: list[int] = field(default_factory=list)
    closed: list[bool] = field(default_factory=list)
    given: int = 0

    def arrow_batch(self, most: int) -> pa.RecordBatch:
        self.asked.append(most)
        part = self.table.slice(self.given, most)
        self.given += part.num_rows
        if self.error is not None and not part.num_rows:
            raise self.error
        return pa.RecordBatch.from_arrays(
            [column.combine_chunks() for column in part.columns], schema=self.table.schema
        )


def result(cursor: Cursor) -> Any:
    dialect = mssqlpython.dialect(dbapi=mssql_python)
    return SimpleNamespace(
        cursor=cursor,
        dialect=dialect,
        keys=lambda: cursor.table.column_names,
        close=lambda: cursor.closed.append(True),
    )


def fetched(table: pa.Table, columns: pa.Schema, **options: Any) -> Iterator[batches.Fetched]:
    return fetch(result(Cursor(table)), sqlserver, columns, "T", **options)  # type: ignore[arg-type]


FIRST, LAST = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)  # noqa: DTZ001
MOMENT = datetime(2026, 3, 1, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=5)))


@pytest.mark.parametrize(
    ("declared", "given", "value"),
    [
        ("int", pa.int32(), -(2**31)),
        ("bigint", pa.int64(), 2**63 - 1),
        ("smallint", pa.int16(), -(2**15)),
        ("tinyint", pa.uint8(), 255),
        ("bit", pa.bool_(), True),
        (
            "decimal(38,10)",
            pa.decimal128(38, 10),
            Decimal("1234567890123456789012345678.0123456789"),
        ),
        ("money", pa.decimal128(19, 4), Decimal("-922337203685477.5808")),
        ("smallmoney", pa.decimal128(10, 4), Decimal("214748.3647")),
        ("float", pa.float64(), 0.1),
        ("real", pa.float32(), 0.5),
        ("nvarchar(max)", pa.large_string(), "Grüße, 世界 🎵"),
        ("char(5)", pa.large_string(), "ab   "),
        ("xml", pa.large_string(), "<a/>"),
        ("date", pa.date32(), date(1, 1, 1)),
        ("time(7)", pa.large_string(), "23:59:59.9999999"),
        ("datetime", pa.timestamp("us"), datetime(1753, 1, 1)),  # noqa: DTZ001
        ("smalldatetime", pa.timestamp("us"), datetime(2079, 6, 6, 23, 59)),  # noqa: DTZ001
        ("datetime2(7)", pa.timestamp("us"), FIRST),
        ("datetime2(7)", pa.timestamp("us"), LAST),
        ("datetimeoffset(7)", pa.timestamp("us", tz="UTC"), MOMENT.astimezone(UTC)),
        ("datetimeoffset(7)", pa.timestamp("us", tz="+00:00"), MOMENT.astimezone(UTC)),
        ("uniqueidentifier", pa.large_string(), "6F9619FF-8B86-D011-B42D-00C04FC964FF"),
        ("varbinary(max)", pa.large_binary(), b"\x00\xff"),
        ("rowversion", pa.large_binary(), b"\0\0\0\0\0\0\x07\xd1"),
    ],
)
def test_the_drivers_types_become_the_lakes_and_no_value_changes(
    declared: str, given: pa.DataType, value: object
) -> None:
    wanted = sqlserver.arrow_type(declared)
    table = pa.table({"v": pa.array([value, None], given)})
    (batch,) = fetched(table, pa.schema([("v", wanted)]))
    assert batch.rows.schema.field("v").type == wanted
    assert batch.rows.column("v").to_pylist() == [value, None]


def test_a_value_that_does_not_fit_is_named() -> None:
    table = pa.table({"v": pa.array([1, 70_000], pa.int32())})
    with pytest.raises(SourceError, match=r"table T: column 'v' holds 70000, which is no int16"):
        list(fetched(table, pa.schema([("v", pa.int16())])))


@pytest.mark.parametrize(("given", "wanted"), [("UTC", None), (None, "UTC")])
def test_a_wall_clock_is_not_taken_for_utc(given: str | None, wanted: str | None) -> None:
    table = pa.table({"v": pa.array([0], pa.timestamp("us", tz=given))})
    with pytest.raises(SourceError, match="column 'v' holds"):
        list(fetched(table, pa.schema([("v", pa.timestamp("us", tz=wanted))])))


def test_a_column_of_null_alone_has_the_lakes_type() -> None:
    # What `SELECT NULL` is to a driver means nothing.
    table = pa.table({"v": pa.array([None, None], pa.int32())})
    (batch,) = fetched(table, pa.schema([("v", pa.binary(8))]))
    assert batch.rows.column("v").to_pylist() == [None, None]
    assert batch.rows.schema.field("v").type == pa.binary(8)


def test_what_a_strategy_asks_for_stands_apart() -> None:
    table = pa.table({"v": [1], "_operation": ["delete"], "_version": [2]})
    (batch,) = fetched(table, pa.schema([("v", pa.int64())]))
    assert batch.rows.column_names == ["v"]
    assert {name: a.to_pylist() for name, a in batch.extra.items()} == {
        "_operation": ["delete"],
        "_version": [2],
    }


def test_batches_begin_small_and_follow_the_size_of_the_rows() -> None:
    narrow = Cursor(pa.table({"v": pa.array(range(200_000), pa.int64())}))
    rows = list(fetch(result(narrow), sqlserver, pa.schema([("v", pa.int64())]), "T"))  # type: ignore[arg-type]
    assert sum(batch.rows.num_rows for batch in rows) == 200_000
    assert narrow.asked[:4] == [100, 500, 2_500, 12_500]
    assert max(narrow.asked) == batches.BATCH_ROWS

    wide = Cursor(pa.table({"v": ["x" * 2**20] * 300}))
    columns = pa.schema([("v", pa.string())])
    sizes = [b.rows.nbytes for b in fetch(result(wide), sqlserver, columns, "T")]  # type: ignore[arg-type]
    assert wide.asked[0] == 100
    assert set(wide.asked[1:]) == {31}, "32 MB, by what the first rows took"
    assert len(sizes) > 5


@pytest.mark.parametrize(
    "error",
    [
        mssql_python.OperationalError("Communication link failure", "the server went away"),
        RuntimeError("Unsupported SQL type sql_variant"),
    ],
)
def test_an_error_in_the_middle_of_the_rows_is_a_database_error(error: Exception) -> None:
    cursor = Cursor(pa.table({"v": [1]}), error)
    with pytest.raises(sa.exc.DBAPIError) as raised:
        list(fetch(result(cursor), sqlserver, pa.schema([("v", pa.int64())]), "T"))  # type: ignore[arg-type]
    assert raised.value.orig is error
    assert cursor.closed == [True]
    assert sqlserver.is_transient(raised.value) == ("link" in str(error).lower())


def test_the_statement_is_closed_at_its_end_and_when_nobody_wants_more() -> None:
    columns = pa.schema([("v", pa.int64())])
    ended, left = (Cursor(pa.table({"v": range(1000)})) for _ in range(2))
    list(fetch(result(ended), sqlserver, columns, "T"))  # type: ignore[arg-type]
    rows = fetch(result(left), sqlserver, columns, "T")  # type: ignore[arg-type]
    next(rows)
    assert left.closed == []
    rows.close()  # type: ignore[attr-defined]
    assert ended.closed == left.closed == [True]
