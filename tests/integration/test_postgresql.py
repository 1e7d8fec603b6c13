"""PostgreSQL as a source: a real server, real transactions, and two writers at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
import sqlalchemy as sa
from postgres import server
from postgres_world import PostgresWorld, make_postgres_world, put

from tidemark import landing
from tidemark.errors import SourceError, SourceUnavailable
from tidemark.extract import postgresql
from tidemark.extract.source import OpenSource, describe, open_source
from tidemark.extract.strategy import columns_of, from_table, read_changes
from tidemark.windows import Interval

T0 = datetime(2026, 1, 1, tzinfo=UTC)
STRATEGIES = ["strategy: watermark, lookback: 0s", "strategy: watermark", "strategy: snapshot"]


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture
def world(tmp_path: Path, url: str) -> PostgresWorld:
    return make_postgres_world(tmp_path, url)


def at(minute: int) -> datetime:
    return T0 + timedelta(minutes=minute)


def names(world: PostgresWorld) -> dict[int, str]:
    return {row["user_id"]: row["user_name"] for row in world.replay().values()}


def source_names(world: PostgresWorld) -> dict[int, str]:
    return {row[0]: row[1] for row in world.rows()}


# --- types


TYPES: list[tuple[str, str, pa.DataType, Any]] = [
    ("boolean", "true", pa.bool_(), True),
    ("smallint", "-32768", pa.int16(), -(2**15)),
    ("integer", "2147483647", pa.int32(), 2**31 - 1),
    ("bigint", "-9223372036854775808", pa.int64(), -(2**63)),
    ("real", "0.1", pa.float32(), pytest.approx(0.1)),
    ("double precision", "1e300", pa.float64(), 1e300),
    ("double precision", "'-infinity'", pa.float64(), float("-inf")),
    ("numeric(38,10)", "1234567890123456789012345678.0123456789", pa.decimal128(38, 10),
     Decimal("1234567890123456789012345678.0123456789")),
    ("numeric(5)", "12345", pa.decimal128(5, 0), Decimal(12345)),
    ("numeric", "100000000000000000000000000000000000000000.10", pa.string(),
     "100000000000000000000000000000000000000000.10"),
    ("numeric", "'NaN'", pa.string(), "NaN"),
    ("numeric(40,2)", "1.5", pa.string(), "1.50"),
    ("numeric(3,5)", "0.00123", pa.string(), "0.00123"),
    ("text", "E'Zoë\\n'''", pa.string(), "Zoë\n'"),
    ("varchar(9)", "''", pa.string(), ""),
    ("char(3)", "'a'", pa.string(), "a  "),
    ("date", "'0001-01-01'", pa.date32(), date(1, 1, 1)),
    ("timestamp", "'2026-01-01 10:00:00.123456'", pa.timestamp("us"),
     datetime(2026, 1, 1, 10, 0, 0, 123456)),  # noqa: DTZ001
    ("timestamp(0)", "'9999-12-31 23:59:59'", pa.timestamp("us"),
     datetime(9999, 12, 31, 23, 59, 59)),  # noqa: DTZ001
    ("timestamptz", "'2026-01-01 10:00:00.123456+05:30'", pa.timestamp("us", tz="UTC"),
     datetime(2026, 1, 1, 4, 30, 0, 123456, tzinfo=UTC)),
    ("timestamptz(3)", "'0001-01-02 00:00:00+00'", pa.timestamp("us", tz="UTC"),
     datetime(1, 1, 2, tzinfo=UTC)),
    ("time", "'10:00:00.123456'", pa.string(), "10:00:00.123456"),
    ("timetz", "'10:00+02'", pa.string(), "10:00:00+02"),
    ("interval", "'1 month 2 days'", pa.string(), "1 mon 2 days"),
    ("bytea", "'\\x00ff'", pa.binary(), b"\x00\xff"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", pa.string(),
     str(UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"))),
    ("json", """'{"a":  1.10}'""", pa.string(), '{"a":  1.10}'),
    ("jsonb", """'{"b": 1, "a": null}'""", pa.string(), '{"a": null, "b": 1}'),
    ("inet", "'10.0.0.1/8'", pa.string(), "10.0.0.1/8"),
    ("integer[]", "'{1,NULL}'", pa.string(), "{1,NULL}"),
    ("mood", "'so so'", pa.string(), "so so"),
    ("price", "1.25", pa.decimal128(9, 2), Decimal("1.25")),
    ("oid", "4294967295", pa.int64(), 2**32 - 1),
]  # fmt: skip


def test_every_type_comes_back_as_it_was(tmp_path: Path, url: str) -> None:
    world = make_postgres_world(tmp_path, url)
    columns = ", ".join(f"c{i} {declared}" for i, (declared, *_) in enumerate(TYPES))
    values = ", ".join(literal for _, literal, *_ in TYPES)
    world.sql(
        "CREATE TYPE dbo.mood AS ENUM ('so so')",
        "CREATE DOMAIN dbo.price AS numeric(9,2)",
        'DROP TABLE dbo."DimUser"',
        "SET search_path = dbo; "
        f'CREATE TABLE "DimUser" (user_id int PRIMARY KEY, {columns}, updated_at timestamptz)',
        f"INSERT INTO dbo.\"DimUser\" VALUES (1, {values}, '2026-01-01')",
        'INSERT INTO dbo."DimUser" VALUES (2)',
    )
    assert world.run()["rows"] == 2
    full, empty = sorted(world.bronze(), key=lambda row: row["user_id"])
    with open_source(url, world.table) as source:
        described = describe(source, world.table)
    for i, (declared, _, kind, expected) in enumerate(TYPES):
        assert described.columns.field(f"c{i}").type == kind, declared
        assert full[f"c{i}"] == expected, declared
        assert empty[f"c{i}"] is None, declared


@pytest.mark.parametrize(
    ("declared", "literal", "message"),
    [
        ("numeric(5,2)", "'NaN'", "column 'v' holds 'NaN', which is no decimal128"),
        ("timestamptz", "'infinity'", "column 'v' holds 'infinity', which is no timestamp"),
        ("date", "'0044-03-15 BC'", "column 'v' holds '0044-03-15 BC', which is no date32"),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    tmp_path: Path, url: str, declared: str, literal: str, message: str
) -> None:
    world = make_postgres_world(tmp_path, url)
    world.sql(
        f'ALTER TABLE dbo."DimUser" ADD COLUMN v {declared}',
        f"INSERT INTO dbo.\"DimUser\" VALUES (1, 'a', '2026-01-01', {literal})",
    )
    with pytest.raises(SourceError, match=f"table DimUser: .*{message}"):
        world.run()
    assert world.published == []


def test_odd_names_are_quoted(tmp_path: Path, url: str) -> None:
    world = make_postgres_world(tmp_path, url)
    world.sql('ALTER TABLE dbo."DimUser" ADD COLUMN "a""b%%s:c" text DEFAULT 5')
    world.put((1, "a", at(0)))
    world.run()
    assert world.bronze()[0]['a"b%%s:c'] == "5"


# --- each strategy that fits


@pytest.mark.parametrize("fields", STRATEGIES)
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
def test_each_change_is_seen_once(tmp_path: Path, url: str, fields: str, kind: str) -> None:
    world = make_postgres_world(tmp_path, url, fields, kind=kind)
    world.put((1, "a", at(1)), (2, "b", at(2)), (3, "tie", at(2)), (4, "null", None))
    first = world.run()
    assert first["rows"] == 4
    offset = "+00:00" if kind == "timestamptz" else ""
    assert world.state.cdc == f"2026-01-01 00:02:00{offset}"
    world.put((2, "B", at(3)), (5, "tie too", at(2)), (6, "2099", at(40_000_000)))
    second = world.run()
    late = {6} if "watermark" in fields else set()
    assert set(names(world)) == {1, 2, 3, 4, 5, 6} - late
    assert names(world)[2] == "B"
    assert second["rows"] == 3 - len(late)
    assert ("future" in second["not_seen"]) == bool(late)
    assert world.run()["rows"] == 0
    assert world.hidden == []


def test_deletes_reach_bronze_by_snapshot(tmp_path: Path, url: str) -> None:
    world = make_postgres_world(tmp_path, url, "strategy: snapshot, cursor: null")
    world.put(*((i, "a", None) for i in range(5)))
    world.run()
    world.sql('DELETE FROM dbo."DimUser" WHERE user_id IN (1, 3)')
    copied = world.run()
    assert (copied["rows"], copied["deleted"]) == (2, 2)
    assert names(world) == source_names(world)


def test_a_strategy_of_sql_server_is_refused(tmp_path: Path, url: str) -> None:
    world = make_postgres_world(tmp_path, url, "strategy: cdc")
    with pytest.raises(SourceError, match=r"DimUser: strategy cdc is SQL Server's, .* postgresql"):
        world.run()


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
def test_a_cursor_with_a_time_zone_needs_none_of_the_metadata(
    tmp_path: Path, url: str, kind: str
) -> None:
    world = make_postgres_world(tmp_path, url, "cursor_timezone: Asia/Tokyo", kind=kind)
    now = datetime.now(UTC)
    ahead = now + timedelta(hours=4)
    world.put((1, "now", now), (2, "in four hours", ahead))
    copied = world.run()
    # Of a wall clock in Tokyo, nine hours ahead of UTC, four hours from now in UTC are past.
    seen = {1} if kind == "timestamptz" else {1, 2}
    assert set(names(world)) == seen
    assert copied["not_seen"].get("future", {"count": 0})["count"] == 2 - len(seen)


def test_a_span_of_time_is_read_again(world: PostgresWorld) -> None:
    world.put((1, "a", at(1)), (2, "b", at(60)))
    world.run()
    copied = world.run(Interval(at(0), at(60)))
    assert (copied["rows"], copied["backfill"]) == (1, True)


# --- two writers


@pytest.mark.parametrize("fields", STRATEGIES)
def test_a_row_committed_late_is_brought_by_the_next_read(
    tmp_path: Path, url: str, fields: str
) -> None:
    """The rule `cursor > last maximum`, beside it, loses the row for good."""
    world = make_postgres_world(tmp_path, url, fields)
    world.put((0, "before", at(0)))
    world.run()
    with world.client() as slow, world.client() as quick:
        insert = 'INSERT INTO dbo."DimUser" SELECT %s, %s, now()'
        slow.execute(insert, (1, "slow"))
        quick.execute(insert, (2, "quick"))
        quick.commit()
        first = world.run()
        adf = max(row[2] for row in world.rows())
        slow.commit()
    if "watermark" in fields:
        assert names(world) == {0: "before"}, "nothing above the open transaction's begin"
        assert "a transaction has been open since" in first["note"]
        assert world.state.cdc == str(at(0))
    second = world.run()
    assert names(world) == source_names(world) == {0: "before", 1: "slow", 2: "quick"}
    assert second["note"] is None
    with world.client() as client:
        newer = 'SELECT user_id FROM dbo."DimUser" WHERE updated_at > %s'
        assert client.execute(newer, (adf,)).fetchall() == [], "ADF's rule never reads row 1"


@pytest.mark.parametrize("fields", STRATEGIES)
@pytest.mark.parametrize("step", ["clock", "oldest_transaction", "fix_moment", "check", "land"])
def test_nothing_is_lost_wherever_the_late_commit_falls(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, fields: str, step: str
) -> None:
    world = make_postgres_world(tmp_path, url, fields)
    world.put((0, "before", at(0)))
    world.run()
    with world.client() as slow:
        slow.execute('INSERT INTO dbo."DimUser" SELECT 1, %s, now()', ("slow",))
        world.sql("INSERT INTO dbo.\"DimUser\" SELECT 2, 'quick', now()")
        owner, name = {
            "check": ("tidemark.extract.watermark", "check_key_is_unique"),
            "land": ("tidemark.ingest", "land"),
        }.get(step, ("tidemark.extract.postgresql", step))
        plain = getattr(__import__(owner, fromlist=[name]), name)

        def commits_first(*arguments: Any) -> Any:
            slow.commit()
            return plain(*arguments)

        monkeypatch.setattr(f"{owner}.{name}", commits_first)
        world.run()
        monkeypatch.undo()
        slow.commit()
    world.run()
    assert names(world) == source_names(world)


def test_a_whole_read_is_of_one_moment(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_postgres_world(tmp_path, url, "strategy: snapshot")
    world.put(*((i, "a", at(i)) for i in range(10)))
    world.run()
    size = landing.table_size

    def changed_meanwhile(*about: Any) -> int:
        world.sql('DELETE FROM dbo."DimUser" WHERE user_id < 5')
        world.put((99, "late", at(99)))
        return size(*about)

    monkeypatch.setattr(landing, "table_size", changed_meanwhile)
    assert world.run()["rows"] == 0, "what was committed since is not seen in part"
    monkeypatch.undo()
    copied = world.run()
    assert (copied["rows"], copied["deleted"]) == (6, 5)
    assert names(world) == source_names(world)


def test_a_login_that_may_not_see_the_writer_is_told(tmp_path: Path, url: str) -> None:
    world = make_postgres_world(tmp_path, url)
    world.sql(
        "DROP ROLE IF EXISTS reader",
        "CREATE ROLE reader LOGIN",
        "GRANT USAGE ON SCHEMA dbo TO reader",
        'GRANT SELECT ON dbo."DimUser" TO reader',
    )
    world.put((0, "before", at(0)))
    reader = url.replace("postgres:not-asked@", "reader:not-asked@")
    with world.client() as slow:
        put(slow, 1, "slow", at(1))
        note = world.copy(url=reader)["note"]
        assert "may not see; GRANT pg_read_all_stats" in note
        world.sql("GRANT pg_read_all_stats TO reader")
        world.put((2, "quick", datetime.now(UTC)))
        assert "a transaction has been open since" in world.copy(url=reader)["note"]
    world.sql('DROP TABLE dbo."DimUser"', "DROP SCHEMA dbo", "DROP ROLE reader")


def test_a_standby_does_not_show_who_writes() -> None:
    with server(standby=True) as url:
        engine = postgresql.create_engine(sa.make_url(url), "public")
        with engine.connect() as connection:
            assert "connect to the primary" in (postgresql.hidden_transactions(connection) or "")
        engine.dispose()


def test_a_prepared_transaction_is_told(world: PostgresWorld) -> None:
    with world.client() as slow:
        put(slow, 1, "slow", at(1))
        slow.execute("PREPARE TRANSACTION 'slow'")
        slow.commit()
    assert "1 prepared transactions do not show when they began" in world.run()["note"]
    world.sql("ROLLBACK PREPARED 'slow'")
    assert world.run()["note"] is None


# --- errors, and what may be done


def test_the_database_is_only_read(world: PostgresWorld) -> None:
    with (
        pytest.raises(SourceError, match="read-only transaction"),
        open_source(world.url, world.table) as source,
    ):
        source.connection.exec_driver_sql('DELETE FROM dbo."DimUser"')
    with (
        pytest.raises(SourceError, match="read-only transaction"),
        open_source(world.url, world.table) as source,
    ):
        delete_at_a_fixed_moment(source)


def delete_at_a_fixed_moment(source: OpenSource) -> None:
    source.dialect.fix_moment(source.connection)
    source.connection.exec_driver_sql('DELETE FROM dbo."DimUser"')


def test_rows_are_streamed(world: PostgresWorld) -> None:
    world.sql("INSERT INTO dbo.\"DimUser\" SELECT i, 'a', now() FROM generate_series(1, 2500) i")
    with open_source(world.url, world.table) as source:
        found = describe(source, world.table)
        query = sa.select(*columns_of(found)).select_from(from_table(world.table))
        changes = read_changes(source, found, query, "DimUser", 1000)
        sizes = [part.rows.num_rows for part in changes]
    assert sizes == [1000, 1000, 500]


def test_a_server_that_does_not_answer_is_tried_again(world: PostgresWorld) -> None:
    with pytest.raises(SourceUnavailable, match=r"DimUser.*refused") as caught:
        world.copy(url="postgresql://me:secret@127.0.0.1:9/db")
    assert "secret" not in str(caught.value)


def test_a_database_that_is_not_there_is_final(world: PostgresWorld) -> None:
    with pytest.raises(SourceError, match='database "nope" does not exist') as caught:
        world.copy(url=world.url.replace("/postgres", "/nope").replace("nope:", "postgres:"))
    assert "not-asked" not in str(caught.value)


def test_a_dropped_table_is_named(world: PostgresWorld) -> None:
    world.sql('ALTER TABLE dbo."DimUser" RENAME TO "DimUsers"')
    with pytest.raises(SourceError, match=r"no dbo\.DimUser; did you mean 'DimUsers'\?"):
        world.run()


def test_a_session_that_is_ended_is_tried_again(
    world: PostgresWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put((1, "a", at(1)))
    plain = postgresql.fix_moment

    def killed(connection: Any) -> None:
        plain(connection)
        world.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'tidemark' AND pid <> pg_backend_pid()"
        )

    monkeypatch.setattr(postgresql, "fix_moment", killed)
    with pytest.raises(SourceUnavailable, match="DimUser"):
        world.run()
    monkeypatch.undo()
    assert world.run()["rows"] == 1
