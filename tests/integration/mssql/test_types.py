"""Each line of the type contract (docs/sqlserver.md), on the whole way from a server to Parquet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from mssql_world import MssqlWorld

from tidemark.errors import SourceError
from tidemark.plan import plan_table

Make = Callable[..., MssqlWorld]
WHOLE = {"strategy": "snapshot"}


def at(*parts: int) -> datetime:
    return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001  # a wall clock


TYPES: list[tuple[str, str, pa.DataType, Any]] = [
    ("bit", "1", pa.bool_(), True),
    ("tinyint", "255", pa.int16(), 255),
    ("smallint", "-32768", pa.int16(), -32768),
    ("int", "-2147483648", pa.int32(), -(2**31)),
    ("bigint", "9223372036854775807", pa.int64(), 2**63 - 1),
    ("decimal(38,10)", "1234567890123456789012345678.0123456789", pa.decimal128(38, 10),
     Decimal("1234567890123456789012345678.0123456789")),
    ("numeric(5,0)", "-99999", pa.decimal128(5, 0), Decimal(-99999)),
    ("money", "-922337203685477.5808", pa.decimal128(19, 4), Decimal("-922337203685477.5808")),
    ("smallmoney", "214748.3647", pa.decimal128(10, 4), Decimal("214748.3647")),
    ("float", "CAST('0.1' AS float)", pa.float64(), 0.1),
    ("real", "CAST('0.5' AS real)", pa.float32(), 0.5),
    ("char(5)", "'ab'", pa.string(), "ab   "),
    ("nchar(3)", "N'é'", pa.string(), "é  "),
    ("varchar(20)", "'plain'", pa.string(), "plain"),
    ("nvarchar(20)", "N'世界 🎵'", pa.string(), "世界 🎵"),
    ("varchar(max)", "REPLICATE(CAST('x' AS varchar(max)), 20000)", pa.string(), "x" * 20_000),
    ("nvarchar(max)", "REPLICATE(CAST(N'é' AS nvarchar(max)), 20000)", pa.string(), "é" * 20_000),
    ("xml", "'<a>1</a>'", pa.string(), "<a>1</a>"),
    ("date", "'0001-01-01'", pa.date32(), date(1, 1, 1)),
    ("date", "'9999-12-31'", pa.date32(), date(9999, 12, 31)),
    ("time(7)", "'23:59:59.9999999'", pa.string(), "23:59:59.9999999"),
    ("time(0)", "'01:02:03'", pa.string(), "01:02:03"),
    ("smalldatetime", "'2079-06-06 23:59'", pa.timestamp("us"), at(2079, 6, 6, 23, 59)),
    ("datetime", "'1753-01-01 00:00:00.003'", pa.timestamp("us"), at(1753, 1, 1, 0, 0, 0, 3000)),
    ("datetime2(7)", "'0001-01-01 00:00:00.0000009'", pa.timestamp("us"), at(1, 1, 1)),
    ("datetime2(7)", "'9999-12-31 23:59:59.9999999'", pa.timestamp("us"),
     at(9999, 12, 31, 23, 59, 59, 999999)),
    ("datetime2(3)", "'2026-03-29 02:30:00.123'", pa.timestamp("us"),
     at(2026, 3, 29, 2, 30, 0, 123000)),
    ("datetimeoffset(7)", "'2026-03-01 01:02:03.1234567 +05:00'", pa.timestamp("us", tz="UTC"),
     datetime(2026, 2, 28, 20, 2, 3, 123456, tzinfo=UTC)),
    ("uniqueidentifier", "'6f9619ff-8b86-d011-b42d-00c04fc964ff'", pa.string(),
     "6F9619FF-8B86-D011-B42D-00C04FC964FF"),
    ("binary(4)", "0x00FF", pa.binary(), b"\x00\xff\x00\x00"),
    ("varbinary(10)", "0x00FF", pa.binary(), b"\x00\xff"),
    ("varbinary(max)", "CAST(REPLICATE(CAST('x' AS varchar(max)), 20000) AS varbinary(max))",
     pa.binary(), b"x" * 20_000),
    ("hierarchyid", "'/1/2/'", pa.string(), "/1/2/"),
]  # fmt: skip
TEXTS = [
    ("datetimeoffset(7)", "'2026-03-01 01:02:03.1234567 +05:00'",
     "2026-03-01 01:02:03.1234567 +05:00"),
    ("datetime2(7)", "'2026-03-01 01:02:03.1234567'", "2026-03-01 01:02:03.1234567"),
    ("money", "1.2345", "1.2345"),
    ("varbinary(4)", "0x00FF", "0x00FF"),
    ("sql_variant", "CAST(5 AS int)", "5"),
    ("geography", "geography::Point(1, 2, 4326)", "POINT (2 1)"),
]  # fmt: skip


def known(make: Make, ddl: str, fields: dict[str, str]) -> MssqlWorld:
    try:
        return make(ddl, fields)
    except sa.exc.DBAPIError as error:
        pytest.skip(f"this server has no such type: {error.orig}")


@pytest.mark.parametrize(("declared", "literal", "kind", "value"), TYPES)
def test_a_value_arrives_as_it_is(
    make: Make, declared: str, literal: str, kind: pa.DataType, value: Any
) -> None:
    world = known(make, f"v {declared} NULL", WHOLE)
    world.sql(f"INSERT INTO {{t}} (id, v) VALUES (1, {literal}), (2, NULL)")
    assert world.step()["rows"] == 2
    found = world.bronze_table()
    assert found.schema.field("v").type == kind
    assert dict(zip(found["id"].to_pylist(), found["v"].to_pylist(), strict=True)) == {
        1: value,
        2: None,
    }
    assert world.step()["rows"] == 0, "the same value has the same digest each time"


def test_a_rowversion_is_eight_bytes(make: Make) -> None:
    world = known(make, "v rowversion", WHOLE)
    world.sql("INSERT INTO {t} (id) VALUES (1)")
    world.step()
    assert world.bronze_table().schema.field("v").type == pa.binary(8)
    assert [len(v) for v in world.bronze_table()["v"].to_pylist()] == [8]


@pytest.mark.parametrize(("declared", "literal", "text"), TEXTS)
def test_a_text_beside_holds_all_of_it(make: Make, declared: str, literal: str, text: str) -> None:
    world = known(make, f"v {declared} NULL", WHOLE | {"columns": "{as_text: [v]}"})
    world.sql(f"INSERT INTO {{t}} (id, v) VALUES (1, {literal}), (2, NULL)")
    world.step()
    assert world.held("v_text") == {1: (text,), 2: (None,)}


@pytest.mark.parametrize("declared", ["sql_variant", "geography"])
def test_a_type_that_the_lake_lacks_is_refused_by_name(make: Make, declared: str) -> None:
    world = known(make, f"v {declared} NULL", WHOLE)
    with pytest.raises(SourceError, match=rf"column 'v' is declared '{declared}'.*as_text"):
        world.step()
    assert not list((world.folder / "lake").rglob("*.parquet"))


def test_plan_names_what_is_lost(make: Make) -> None:
    world = make("a datetime2(7) NULL, b datetimeoffset(0) NULL, c int NULL", WHOLE)
    plan = plan_table(world.job())
    assert dict(plan.loses) == {
        "a": "the seventh digit is cut",
        "b": "the offset is turned to UTC",
    }


def test_columns_are_left_out_redacted_and_masked(make: Make) -> None:
    columns = "{exclude: [note], mask: {email: redact, price: redact}}"
    world = make("note text NULL, email nvarchar(50) NULL, price money NULL, n int NULL",
                 WHOLE | {"columns": columns})  # fmt: skip
    world.sql("INSERT INTO {t} VALUES (1, 'secret', N'ada@example.com', 5, 7)")
    world.step()
    assert world.held("email", "price", "n") == {1: ("***", None, 7)}
    assert "note" not in world.bronze_table().column_names
    sealed = known(make, "email nvarchar(50) NULL", WHOLE)
    assert sealed.table.columns.mask == {}


def test_odd_names_are_quoted(make: Make) -> None:
    world = make("[odd]]name] int NULL, [per%cent:x] int NULL, [select] int NULL", WHOLE)
    world.sql("INSERT INTO {t} VALUES (1, 2, 3, 4)")
    world.step()
    assert world.held("odd]name", "per%cent:x", "select") == {1: (2, 3, 4)}


def test_memory_holds_one_batch(make: Make) -> None:
    world = make("v varchar(200) NULL", WHOLE)
    world.sql(
        "INSERT INTO {t} SELECT n, REPLICATE('x', 200) FROM (SELECT TOP 100000 ROW_NUMBER() OVER "
        "(ORDER BY (SELECT NULL)) AS n FROM sys.all_columns AS a CROSS JOIN sys.all_columns AS b) "
        "AS numbers"
    )
    assert world.step()["rows"] == 100_000
    assert world.bronze_table().num_rows == 100_000
