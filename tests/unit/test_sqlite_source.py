"""SQLite as a source: types kept, odd values named, nothing hidden, errors explained."""

# ruff: noqa: DTZ001 - wall clocks, as sources hold them

from __future__ import annotations

import functools
import sqlite3
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from core_harness import DIM_USER, World, make_world

from tidemark.errors import ConfigError, SourceError, SourceUnavailable, is_transient
from tidemark.extract import batches, sqlite, types
from tidemark.extract.source import SourceTable, describe, open_source
from tidemark.extract.strategy import Ask, columns_of, from_table, read_changes
from tidemark.extract.watermark import condition
from tidemark.windows import Window

ODD = 'CREATE TABLE "Dim User" (user_id INTEGER PRIMARY KEY, "a""b""%s:c" TEXT, updated_at DATE)'


def column(folder: Path, declared: str, *values: object) -> World:
    """Make a table with one column under test; values are stored as bound."""
    world = make_world(
        folder,
        f"CREATE TABLE DimUser (user_id INTEGER PRIMARY KEY, v {declared}, updated_at TIMESTAMP)",
    )
    world.put(*((i, value, "2026-01-01 10:00:00") for i, value in enumerate(values)))
    return world


def fetch(world: World, window: Window | None = None) -> pa.Table:
    with open_source(world.job().url, world.table) as source:
        found = describe(source, world.table)
        ask = Ask(source, found, world.table, "timestamp")
        where = sa.true() if window is None else condition(ask, "timestamp", window)
        query = sa.select(*columns_of(found)).select_from(from_table(world.table)).where(where)
        changes = read_changes(source, found, query, "DimUser", batch_rows=2)
        parts = [part.rows for part in changes]
    return pa.Table.from_batches(parts, found.columns)


def described(world: World) -> SourceTable:
    with open_source(world.job().url, world.table) as source:
        return describe(source, world.table)


# --- types


@pytest.mark.parametrize(
    ("declared", "kind", "stored", "expected"),
    [
        ("INTEGER", pa.int64(), 2**63 - 1, 2**63 - 1),
        ("bigint", pa.int64(), -(2**63), -(2**63)),
        ("TINYINT", pa.int64(), 0, 0),
        ("TEXT", pa.string(), "Zoë\x00'", "Zoë\x00'"),
        ("NVARCHAR(50)", pa.string(), "", ""),
        ("VARCHAR(9)", pa.string(), 5, "5"),
        ("JSON", pa.string(), "1.50", "1.5"),
        ("DECIMAL(10, 2)", pa.decimal128(10, 2), "1.50", Decimal("1.50")),
        ("numeric(5)", pa.decimal128(5, 0), 12345, Decimal(12345)),
        ("DECIMAL(38,10)", pa.decimal128(38, 10), 0.1, Decimal("0.1000000000")),
        ("NUMERIC", pa.string(), 1.25, "1.25"),
        ("REAL", pa.float64(), 3, 3.0),
        ("DOUBLE PRECISION", pa.float64(), 1e300, 1e300),
        ("FLOAT", pa.float64(), float("-inf"), float("-inf")),
        ("BOOLEAN", pa.bool_(), 1, True),
        ("BOOL", pa.bool_(), 0, False),
        ("DATE", pa.date32(), "2024-02-29", date(2024, 2, 29)),
        ("DATE", pa.date32(), "0001-01-01", date(1, 1, 1)),
        (
            "DATETIME",
            pa.timestamp("us"),
            "2026-01-01T10:00:00.123456",
            datetime(2026, 1, 1, 10, 0, 0, 123456),
        ),
        (
            "DATETIME2(7)",
            pa.timestamp("us"),
            "9999-12-31 23:59:59",
            datetime(9999, 12, 31, 23, 59, 59),
        ),
        ("TIMESTAMP", pa.timestamp("us"), "2026-01-01", datetime(2026, 1, 1)),
        ("BLOB", pa.binary(), b"\x00\xff", b"\x00\xff"),
        ("VARBINARY(16)", pa.binary(), b"", b""),
    ],
)
def test_declared_types_are_kept(
    tmp_path: Path, declared: str, kind: pa.DataType, stored: object, expected: object
) -> None:
    found = fetch(column(tmp_path, declared, stored, None, stored))["v"]
    assert found.type == kind
    assert found.to_pylist() == [expected, None, expected]


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("INTEGER", "many"),
        ("INTEGER", 5.5),
        ("INTEGER", b"5"),
        ("DECIMAL(4,2)", 1.005),
        ("DECIMAL(4,2)", 123.4),
        ("DECIMAL(4,2)", "abc"),
        ("DECIMAL(4,2)", float("inf")),
        ("REAL", "abc"),
        ("BOOLEAN", 2),
        ("BOOLEAN", "true"),
        ("DATE", "2026/01/01"),
        ("DATE", "2026-02-30"),
        ("DATE", 20260101),
        ("DATE", "2026-01-01 10:00:00"),
        ("TIMESTAMP", ""),
        ("TIMESTAMP", "yesterday"),
        ("TIMESTAMP", 1_700_000_000),
        ("TIMESTAMP", "2026-01-01 10:00:00.1234567"),
        ("TIMESTAMP", "2026-01-01 10:00:00+02:00"),
        ("TEXT", b"\xff\x00"),
        ("TEXT", b"text"),
    ],
)
def test_a_value_that_does_not_fit_is_named(tmp_path: Path, declared: str, value: object) -> None:
    fitting: dict[str, Any] = {"DATE": "2026-01-01", "TIMESTAMP": "2026-01-01 00:00:00"}
    world = column(tmp_path, declared, None, fitting.get(declared, 1), value)
    with pytest.raises(SourceError) as caught:
        fetch(world)
    message = str(caught.value)
    assert message.startswith("table DimUser: column 'v' holds ")
    assert str(value) in message or repr(value) in message
    assert "correct the row" in message
    assert not is_transient(caught.value)


@pytest.mark.parametrize("declared", ["", "UNIQUEIDENTIFIER", "DECIMAL(40,2)", "DECIMAL(0)"])
def test_a_type_that_says_nothing_is_named(tmp_path: Path, declared: str) -> None:
    with pytest.raises(SourceError, match=rf"DimUser.*'v'.*{declared[:5]}"):
        described(column(tmp_path, declared))


def test_generated_columns_are_columns(tmp_path: Path) -> None:
    world = column(tmp_path, "INT GENERATED ALWAYS AS (user_id + 1)")
    world.sql("INSERT INTO DimUser (user_id, updated_at) VALUES (1, '2026-01-01')")
    assert fetch(world)["v"].to_pylist() == [2]


def test_odd_names_are_quoted(tmp_path: Path) -> None:
    world = make_world(tmp_path, ODD, "lake_name: DimUser")
    world.put((1, "x", "2026-01-01"))
    assert fetch(world).to_pylist()[0]['a"b"%s:c'] == "x"


def test_a_view_is_a_table(tmp_path: Path) -> None:
    world = column(tmp_path, "DECIMAL(4,1)", 1.5)
    world.sql("ALTER TABLE DimUser RENAME TO base", "CREATE VIEW DimUser AS SELECT * FROM base")
    assert fetch(world)["v"].to_pylist() == [Decimal("1.5")]
    assert described(world).unique == ()


def test_the_database_is_only_read(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with (
        pytest.raises(SourceError, match="readonly"),
        open_source(world.job().url, world.table) as source,
    ):
        source.connection.exec_driver_sql("DELETE FROM dbo.DimUser")


def test_an_odd_path_opens(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c?d%20é"
    folder.mkdir()
    world = make_world(folder)
    world.put((1, "a", "2026-01-01 10:00:00"))
    with open_source(
        sa.URL.create("sqlite", database=str(world.database)).render_as_string(), world.table
    ) as source:
        assert describe(source, world.table).columns.names[0] == "user_id"


# --- cursors compare as what they are


def test_timestamps_compare_as_instants_whatever_their_form(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    texts = ["2026-01-01T10:00:00", "2026-01-01 10:00:00.000", "2026-01-01 10:00", "2026-01-02"]
    world.put(*((i, "a", text) for i, text in enumerate(texts)))
    exact = Window("2026-01-01 10:00:00.0000000", "2026-01-01T10:00:00Z")
    assert fetch(world, exact)["user_id"].to_pylist() == [0, 1, 2]
    after = Window("2026-01-01 10:00:00.0000001", None)
    assert fetch(world, after)["user_id"].to_pylist() == [3]
    before = Window(None, "2026-01-01 10:00:00", inclusive=False)
    assert fetch(world, before)["user_id"].to_pylist() == []


@pytest.mark.parametrize(
    ("declared", "good", "bad"),
    [
        ("TIMESTAMP", "2026-01-01 10:00:00", "yesterday"),
        ("TIMESTAMP", "2026-01-01 10:00:00", 1_700_000_000),
        ("TIMESTAMP", "2026-01-01 10:00:00", ""),
        ("DATE", "2026-01-01", "2026/01/02"),
        ("DATE", "2026-01-01", 20260102),
        ("DATE", "2026-01-01", ""),
        ("DATE", "2026-01-01", "12:00"),
        ("INTEGER", 5, "x"),
        ("INTEGER", 5, 5.5),
    ],
)
def test_a_cursor_that_can_not_be_read_is_named_never_hidden(
    tmp_path: Path, declared: str, good: object, bad: object
) -> None:
    world = make_world(tmp_path, DIM_USER.replace("TIMESTAMP", declared))
    world.put((1, "a", good), (2, "b", bad))
    with pytest.raises(SourceError) as caught:
        world.run()
    assert f"table DimUser: cursor 'updated_at' holds {bad!r}" in str(caught.value)
    assert world.published == []


def test_the_sources_clock_is_utc(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with open_source(world.job().url, world.table) as source:
        clock = sqlite.clock(source.connection)
    assert clock.utcoffset() is not None
    assert abs((datetime.now(UTC) - clock).total_seconds()) < 60


# --- errors


@pytest.mark.parametrize("narrow", [0, 2000])
def test_no_batch_of_wide_rows_is_much_larger_than_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, narrow: int
) -> None:
    most = 2**20
    monkeypatch.setattr(batches, "BATCH_BYTES", most)
    monkeypatch.setattr(batches, "parts", functools.partial(types.parts, most=most))
    world = make_world(tmp_path)
    world.put(*((i, "x", None) for i in range(narrow)))
    world.put(*((narrow + i, "x" * 10_000, None) for i in range(1000)))
    with open_source(world.job().url, world.table) as source:
        found = describe(source, world.table)
        query = sa.select(*columns_of(found)).select_from(from_table(world.table))
        parts = [c.rows for c in read_changes(source, found, query, "T")]
    assert sum(part.num_rows for part in parts) == narrow + 1000
    assert max(part.nbytes for part in parts) <= most
    assert len(parts) < 40, "nor are there many small ones"


def test_a_message_shows_the_beginning_of_a_long_value(tmp_path: Path) -> None:
    long = "x" * 1_000_000
    ddl = "CREATE TABLE DimUser (user_id TEXT, v INTEGER, updated_at TIMESTAMP)"
    world = make_world(tmp_path, ddl, "strategy: snapshot, cursor: null")
    faults = (
        [(1, long, None)],  # a value
        [(long, 1, None), (long, 2, None)],  # a key
    )
    for rows in faults:
        world.sql("DELETE FROM DimUser")
        world.put(*rows)
        with pytest.raises(SourceError, match=r"x… \(1,000,0\d\d characters\)") as caught:
            world.run()
        assert len(str(caught.value)) < 1000
    (tmp_path / "cursor").mkdir()
    world = make_world(tmp_path / "cursor")
    world.put((1, "a", long))
    with pytest.raises(SourceError, match=r"cursor 'updated_at' holds 'xx.*x… \(") as caught:
        world.run()
    assert len(str(caught.value)) < 1000


def test_a_missing_file_is_named_and_not_created(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.database.unlink()
    with pytest.raises(SourceError, match=rf"{world.database}: there is no such SQLite file"):
        world.run()
    assert not world.database.exists()


def test_a_dropped_table_is_named(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.sql("DROP TABLE DimUser")
    with pytest.raises(SourceError, match=r"has no dbo\.DimUser; correct config/"):
        world.run()


def test_a_renamed_table_gives_the_nearest_name(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.sql("ALTER TABLE DimUser RENAME TO DimUsers")
    with pytest.raises(SourceError, match=r"no dbo\.DimUser; did you mean 'DimUsers'\?"):
        world.run()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("key: user_di", r"key 'user_di' is not a column.*did you mean 'user_id'\?"),
        ("cursor: updatd_at", r"cursor 'updatd_at' .*did you mean 'updated_at'\?"),
        ("cursor: user_name", r"cursor 'user_name' is of type string"),
    ],
)
def test_a_misspelt_column_is_an_error_of_the_metadata(
    tmp_path: Path, fields: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"table DimUser: {message}"):
        make_world(tmp_path, fields=fields).run()


def test_a_locked_database_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_LOCK_SECONDS", 0.05)
    world = make_world(tmp_path)
    world.put((1, "a", "2026-01-01 10:00:00"))
    holder = sqlite3.connect(world.database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(SourceUnavailable, match=r"DimUser.*locked") as caught:
        world.run()
    assert is_transient(caught.value)
    holder.rollback()
    holder.close()
    assert world.run()["rows"] == 1


def test_a_file_that_is_no_database_is_final(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.database.write_bytes(b"user_id,user_name\n" * 1000)
    with pytest.raises(SourceError, match=r"DimUser.*file is not a database"):
        world.run()


@pytest.mark.parametrize("name", ["_sequence", "_Digest", "_run_id", "_rank", "__START_AT"])
def test_a_source_column_with_a_name_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    world = make_world(tmp_path)
    world.sql(f"ALTER TABLE DimUser ADD COLUMN {name} TEXT")
    with pytest.raises(SourceError, match=f"DimUser.*'{name}'.*rename it"):
        world.run()


def test_a_column_that_delta_refuses_is_named_before_it_is_copied(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.sql('ALTER TABLE DimUser ADD COLUMN "full name" TEXT')
    with pytest.raises(SourceError, match=r"'full name' has a character .*rename it"):
        world.run()


def test_a_key_that_another_read_has_brought_is_refused(tmp_path: Path) -> None:
    world = make_world(tmp_path, DIM_USER.replace("INTEGER PRIMARY KEY", "INTEGER"))
    world.put((1, "a", "2026-01-01 10:00:00"), (2, "x", "2026-01-03 10:00:00"))
    assert world.run()["rows"] == 2
    world.put((1, "b", "2026-01-05 10:00:00"))
    with pytest.raises(SourceError, match="key user_id=1 stands 2 times"):
        world.run()


def test_a_source_of_another_kind_is_refused_without_its_password(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    job = world.job(url="mysql+pymysql://me:secret@server/db")
    assert "secret" not in repr(job)
    with pytest.raises(SourceError, match="'mysql' is not supported") as caught:
        world.copy(url=job.url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("key_type", "keys", "fine"),
    [
        ("INTEGER", [1, 1], False),
        ("INTEGER PRIMARY KEY", [1, 2], True),
        ("TEXT UNIQUE", [None, None], False),
        ("TEXT PRIMARY KEY", [None, None], False),
        ("TEXT UNIQUE", [None, "a"], True),
    ],
)
def test_a_key_that_is_not_unique_is_refused(
    tmp_path: Path, key_type: str, keys: list[Any], fine: bool
) -> None:
    world = make_world(tmp_path, DIM_USER.replace("INTEGER PRIMARY KEY", key_type))
    world.put(*((key, "a", "2026-01-01 10:00:00") for key in keys))
    if fine:
        assert world.run()["rows"] == 2
        return
    with pytest.raises(SourceError, match=rf"key user_id={keys[0]} stands 2 times in dbo\.DimUser"):
        world.run()
    assert world.published == []


def test_a_unique_part_of_a_key_makes_it_unique(tmp_path: Path) -> None:
    world = make_world(tmp_path, fields="key: [user_id, user_name]")
    world.put((1, "a", "2026-01-01 10:00:00"), (2, None, "2026-01-01 10:00:00"))
    assert world.run()["rows"] == 2
