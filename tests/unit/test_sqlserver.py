"""SQL Server's dialect: types, bounds, errors and what a table offers. No server is asked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
import sqlglot
from fake_sqlserver import SETTINGS, FakeConnection, order_line, rendered

from tidemark.extract import sqlserver
from tidemark.extract.choice import choose
from tidemark.extract.dialect import dialect_of
from tidemark.extract.source import OpenSource
from tidemark.extract.sqlserver_errors import is_transient_text
from tidemark.extract.tsql import hex_text, number_of


def connection(**answers: list[tuple[Any, ...]]) -> Any:
    return FakeConnection({**answers, **{k: v for k, v in SETTINGS.items() if k not in answers}})


@pytest.mark.parametrize(
    ("facts", "declared", "kind"),
    [
        (("bigint", 8, 19, 0), "bigint", pa.int64()),
        (("tinyint", 1, 3, 0), "tinyint", pa.int16()),
        (("bit", 1, 1, 0), "bit", pa.bool_()),
        (("decimal", 9, 18, 4), "decimal(18,4)", pa.decimal128(18, 4)),
        (("numeric", 17, 38, 0), "numeric(38,0)", pa.decimal128(38, 0)),
        (("money", 8, 19, 4), "money", pa.decimal128(19, 4)),
        (("float", 8, 53, 0), "float", pa.float64()),
        (("real", 4, 24, 0), "real", pa.float32()),
        (("date", 3, 10, 0), "date", pa.date32()),
        (("datetime", 8, 23, 3), "datetime", pa.timestamp("us")),
        (("datetime2", 8, 27, 7), "datetime2(7)", pa.timestamp("us")),
        (("datetimeoffset", 10, 34, 7), "datetimeoffset(7)", pa.timestamp("us", tz="UTC")),
        (("time", 5, 16, 7), "time(7)", pa.string()),
        (("nvarchar", 100, 0, 0), "nvarchar(50)", pa.string()),
        (("nvarchar", -1, 0, 0), "nvarchar(max)", pa.string()),
        (("varchar", 50, 0, 0), "varchar(50)", pa.string()),
        (("uniqueidentifier", 16, 0, 0), "uniqueidentifier", pa.string()),
        (("varbinary", -1, 0, 0), "varbinary(max)", pa.binary()),
        (("timestamp", 8, 0, 0), "rowversion", pa.binary(8)),
        (("xml", -1, 0, 0), "xml", pa.string()),
        (("sql_variant", 8016, 0, 0), "sql_variant", None),
        (("geography", -1, 0, 0), "geography", None),
    ],
)
def test_types_are_kept(facts: Any, declared: str, kind: pa.DataType | None) -> None:
    assert sqlserver.declared(*facts) == declared
    assert sqlserver.arrow_type(declared) == kind


@pytest.mark.parametrize(
    ("declared", "cut"),
    [
        ("datetime2(7)", "the seventh digit is cut"),
        ("datetime2(6)", None),
        ("datetime", None),
        ("datetimeoffset(7)", "the seventh digit is cut, and the offset is turned to UTC"),
        ("datetimeoffset(0)", "the offset is turned to UTC"),
        ("time(7)", None),
        ("decimal(38,10)", None),
    ],
)
def test_what_the_lake_can_not_hold_is_said(declared: str, cut: str | None) -> None:
    assert sqlserver.cut(declared) == cut


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("nvarchar(5)", "at"),
        ("date", "CONVERT(varchar(34), at, 121)"),
        ("time(7)", "CONVERT(varchar(34), at, 121)"),
        ("datetime", "CONVERT(varchar(34), at, 121)"),
        ("datetime2(7)", "CONVERT(varchar(34), at, 121)"),
        ("datetimeoffset(7)", "CONVERT(varchar(34), at, 121)"),
        ("float", "CONVERT(varchar(34), at, 3)"),
        ("money", "CONVERT(varchar(34), at, 2)"),
        ("varbinary(max)", "CONVERT(varchar(max), CAST(at AS varbinary(max)), 1)"),
        ("rowversion", "CONVERT(varchar(max), CAST(at AS varbinary(max)), 1)"),
        ("sql_variant", "CAST(at AS NVARCHAR(4000))"),
        ("geography", "CAST(at AS NVARCHAR(max))"),
        ("uniqueidentifier", "CAST(at AS NVARCHAR(max))"),
        ("int", "CAST(at AS NVARCHAR(max))"),
    ],
)
def test_a_text_holds_all_of_a_value(declared: str, expected: str) -> None:
    text = rendered(sa.select(sqlserver.text_of(sa.column("at"), declared).label("text")))
    assert text == f"SELECT {expected} AS text\n"
    sqlglot.parse_one(text, dialect="tsql")


@pytest.mark.parametrize(
    ("kind", "declared", "expected"),
    [
        ("timestamp", "datetime2(7)", "CAST(:param_1 AS datetime2(7))"),
        ("timestamp", "datetime", "CAST(CAST(:param_1 AS datetime2(7)) AS datetime)"),
        ("timestamp", "smalldatetime", "CAST(CAST(:param_1 AS datetime2(7)) AS smalldatetime)"),
        ("date", "date", "CAST(:param_1 AS date)"),
        ("integer", "int", "CAST(:param_1 AS BIGINT)"),
    ],
)
def test_a_bound_is_a_text_cast_to_the_columns_type(
    kind: Any, declared: str, expected: str
) -> None:
    assert expected in rendered(sa.select(sqlserver.bound("2026-01-01", kind, declared)))


@pytest.mark.parametrize(
    ("reason", "passes"),
    [
        ("Transaction (Process ID 5) was deadlocked on lock resources with another process", True),
        ("Driver Error: Serialization failure; DDBC Error: ", True),
        ("Database 'x' on server 'y' is not currently available.  Please retry later", True),
        ("The service is currently busy. Retry the request after 10 seconds", True),
        ("(40197, b'...')", True),
        ("Error 49918: no", True),
        ("Resource ID : 1. The request limit for the database is 60 and has been reached.", True),
        ("Driver Error: Client unable to establish connection; DDBC Error: timeout", True),
        (
            "Driver Error: Client unable to establish connection; DDBC Error: Login failed for me",
            False,
        ),
        ("Invalid object name 'dbo.DimUser'", False),
        ("Conversion failed when converting date and/or time from character string", False),
        ("The SELECT permission was denied on the object 'DimUser' (229)", False),
    ],
)
def test_errors_that_pass_are_told_by_their_text(reason: str, passes: bool) -> None:
    assert is_transient_text(reason) == passes


def test_positions_are_hex() -> None:
    assert hex_text(255, 8) == "0x00000000000000FF"
    assert number_of(bytes.fromhex("00000000000000FF")) == 255
    assert int(hex_text(2**80 - 1, 10), 0) == 2**80 - 1


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ((1, 1, 1), "cdc"),
        ((0, 1, 1), "change_tracking"),
        ((0, 0, 1), "rowversion"),
        ((0, 0, 0), "watermark"),
    ],
)
def test_the_best_that_the_table_offers_is_chosen(
    tmp_path: Path, found: tuple[int, ...], chosen: str
) -> None:
    table = order_line(tmp_path)
    source = OpenSource(connection(is_tracked_by_cdc=[found]), sqlserver)  # type: ignore[arg-type]
    assert choose(source, table).name == chosen
    without = table.model_copy(update={"cursor": None})
    assert choose(source, without).name == ("snapshot" if chosen == "watermark" else chosen)


@pytest.mark.parametrize(
    ("committed", "snapshot", "expected"),
    [(True, 0, True), (False, 1, True), (False, 0, False), (False, 3, False)],
)
def test_one_moment_is_seen_with_row_versions_alone(
    committed: bool, snapshot: int, expected: bool
) -> None:
    settings = connection(is_read_committed_snapshot_on=[(committed, snapshot)])
    assert sqlserver.sees_one_moment(settings) is expected
    sqlserver.fix_moment(settings)
    assert ("SNAPSHOT\n" in settings.asked[-1]) == (snapshot == 1)


def test_a_transactions_begin_is_utc_and_never_too_late() -> None:
    begun = datetime(2026, 1, 1, 13, 0)  # noqa: DTZ001  # the server's own time
    assert sqlserver.begin_utc(begun, 60) == datetime(2026, 1, 1, 11, 59, 59, 996000, tzinfo=UTC)


@pytest.mark.parametrize("url", ["mssql://me:secret@host/db", "mssql+mssqlpython://host/db"])
def test_microsofts_own_driver_serves_each_url(tmp_path: Path, url: str) -> None:
    parsed = sa.make_url(url)
    dialect = dialect_of(parsed, order_line(tmp_path))
    engine = dialect.create_engine(parsed, "dbo")
    assert engine.dialect.driver == "mssqlpython"
    assert "SNAPSHOT" in engine.dialect.get_isolation_level_values(None)  # type: ignore[arg-type]


def test_a_table_remembers_its_own_columns(tmp_path: Path) -> None:
    rows = [("id", "int", 4, 10, 0), ("at", "datetime2", 8, 27, 7), ("odd", None, 0, 0, 0)]
    table = order_line(tmp_path)
    found = sqlserver.declared_types(connection(**{"FROM sys.columns AS c": rows}), table)
    assert found == {"id": "int", "at": "datetime2(7)", "odd": ""}
