"""Source against lake: each fault is reported once and in its class, and nothing else is."""

# ruff: noqa: DTZ001 - wall clocks, as sources hold them

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from core_harness import FAST, SOAK, World, load_table, make_world
from silver_harness import newest_rows, write_silver

from tidemark import buckets
from tidemark.errors import LakeError, ReadOvertaken, SourceError
from tidemark.extract import choice
from tidemark.extract.by_key import read_by_keys
from tidemark.extract.strategy import Ask, ReadPlan, columns_of, from_table
from tidemark.reconcile import (
    Options,
    TableResult,
    compare,
    exit_code,
    reconcile_table,
    sides,
    text,
)
from tidemark.reconcile import lake as lake_side
from tidemark.watermark import load_state, reserve

SCHEMA = pa.schema(
    [("user_id", pa.int64()), ("user_name", pa.string()), ("updated_at", pa.timestamp("us"))]
)
T0 = datetime(2026, 1, 1)
FAR = "2099-01-01 00:00:00"
CLASSES = ("missing", "stale", "different", "extra")


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = make_world(tmp_path, fields="strategy: watermark")
    world.put(*((i, f"name {i}", at(i)) for i in range(10)))
    world.run()
    merge(world)
    return world


def at(minute: int) -> str:
    return str(T0 + timedelta(minutes=minute))


def merge(world: World, **faults: Any) -> None:
    write_silver(world, faults.get("rows") or newest_rows(world), SCHEMA)


def run(world: World, **options: bool) -> TableResult:
    return reconcile_table(world.job(run_id="reconcile__1"), Options(**options))


def found(result: TableResult) -> dict[str, list[int]]:
    return {c: [k["user_id"] for k in result.keys[c]] for c in CLASSES if result.keys[c]}


def left_out(result: TableResult) -> dict[str, int]:
    return {reason: count for reason, count in result.left_out.items() if count}


def assert_equal(world: World) -> None:
    result = run(world)
    assert (found(result), result.differing, exit_code([result])) == ({}, 0, 0)


# --- the classes


def test_an_equal_lake_is_equal(world: World) -> None:
    result = run(world)
    assert (found(result), left_out(result), result.pending) == ({}, {}, False)
    assert (result.source_rows, result.lake_rows, result.against) == (10, 10, "silver")
    assert (result.buckets_differing, result.bound) == (0, at(9))


def test_each_class_is_told_from_the_others(world: World) -> None:
    world.sql(
        "DELETE FROM DimUser WHERE user_id = 1",
        f"INSERT INTO DimUser VALUES (77, 'late', '{at(-900)}')",
        "UPDATE DimUser SET user_name = 'in place' WHERE user_id = 3",
        f"UPDATE DimUser SET user_name = 'newer', updated_at = '{at(8)}' WHERE user_id = 4",
        f"UPDATE DimUser SET user_name = 'back-dated', updated_at = '{at(-8)}' WHERE user_id = 5",
    )
    result = run(world)
    assert found(result) == {"missing": [77], "stale": [4], "different": [3, 5], "extra": [1]}
    assert result.counts == {"missing": 1, "stale": 1, "different": 2, "extra": 1}
    assert exit_code([result]) == 2


@pytest.mark.parametrize("seed", range(200 if SOAK else 25))
def test_exactly_the_faults_of_silver_are_reported(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(buckets, "_BUCKET_ROWS", chance.choice([5, 40, 10_000]))
    with TemporaryDirectory(dir=FAST) as folder:
        world = make_world(Path(folder), fields="strategy: watermark")
        size = chance.randrange(1, 300)
        world.put(*((i, f"name {i}", at(i)) for i in range(size)))
        world.run()
        rows = newest_rows(world)
        faulty = chance.sample(range(size), chance.randrange(min(size, 12)))
        expected: dict[str, list[int]] = {name: [] for name in CLASSES}
        for key in sorted(faulty):
            kind = chance.choice(CLASSES)
            expected[kind].append(key if kind != "extra" else 1000 + key)
            row = next(row for row in rows if row["user_id"] == key)
            if kind == "missing":
                rows.remove(row)
            elif kind == "extra":
                rows.append(row | {"user_id": 1000 + key})
            else:
                row["_digest"] = chance.choice([chance.randbytes(16), b"", None])
                row["updated_at"] -= timedelta(minutes=kind == "stale")
        merge(world, rows=rows)
        result = run(world)
        assert found(result) == {name: keys for name, keys in expected.items() if keys}
        assert (result.source_rows, result.lake_rows) == (size, len(rows))
        assert result.settled == 0
        assert left_out(result) == {}


def test_a_key_that_stands_in_silver_twice_is_a_difference(world: World) -> None:
    rows = newest_rows(world)
    merge(world, rows=[*rows, rows[3]])
    assert found(run(world)) == {"different": [3]}


def test_only_the_buckets_that_differ_are_compared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_BUCKET_ROWS", 1)
    rows = newest_rows(world)
    merge(world, rows=rows[1:])
    result = run(world)
    assert (result.buckets, result.buckets_differing) == (16, 1)


def test_keys_of_several_columns_without_a_cursor_and_with_null(tmp_path: Path) -> None:
    ddl = "CREATE TABLE Line (order_id INTEGER, line_no TEXT, price DECIMAL(9,2))"
    world = make_world(tmp_path, ddl, "key: [order_id, line_no], cursor: null, strategy: snapshot")
    world.put((1, "a", 1), (1, None, 2), (2, "a", 3))
    world.run()
    schema = pa.schema(
        [("order_id", pa.int64()), ("line_no", pa.string()), ("price", pa.decimal128(9, 2))]
    )
    rows = newest_rows(world)
    write_silver(world, [row for row in rows if row["line_no"]], schema)
    result = run(world)
    assert result.keys["missing"] == ({"order_id": 1, "line_no": None},)
    assert result.bound is None
    assert run(world, repair=True).repair is not None
    write_silver(world, newest_rows(world), schema)
    assert run(world).differing == 0


def test_a_table_that_has_always_been_empty_is_equal(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.run()
    for options in ({}, {"deep": True}, {"repair": True}):
        result = run(world, **options)
        assert (result.source_rows, result.lake_rows, exit_code([result])) == (0, 0, 0)
        assert "nothing of it in the lake" in (result.note or "")
    world.put((1, "a", at(1)))
    assert run(world).keys["missing"] == ({"user_id": 1},)


@pytest.mark.parametrize(
    ("fields", "cursor"),
    [("", "2099-01-01 00:00:00"), ("null_cursor: exclude", None)],
    ids=["in the future", "without a cursor"],
)
def test_rows_that_no_read_took_are_named_where_there_are_no_others(
    tmp_path: Path, fields: str, cursor: str | None
) -> None:
    world = make_world(tmp_path, fields=fields)
    world.put((1, "a", cursor))
    assert world.run()["rows"] == 0
    assert run(world, repair=True).keys["missing"] == ({"user_id": 1},)
    merge(world)
    assert run(world).differing == 0


def test_after_a_column_has_come_a_snapshot_leaves_all_to_its_next_read(tmp_path: Path) -> None:
    world = make_world(tmp_path, fields="strategy: snapshot")
    world.put((1, "a", at(1)), (2, "b", at(1)), (3, "c", at(1)))
    world.run()
    merge(world)
    world.sql(
        "ALTER TABLE DimUser ADD COLUMN plan TEXT DEFAULT 'Free'",
        "UPDATE DimUser SET user_name = 'A' WHERE user_id = 1",
        "DELETE FROM DimUser WHERE user_id = 2",
    )
    world.put((4, "d", at(1)))
    assert run(world).differing == 0
    world.run()
    merge(world)
    world.sql("UPDATE DimUser SET plan = 'Family' WHERE user_id = 3")
    assert run(world).differing == 0, "the next read brings it"


def test_a_table_that_became_empty_is_equal(world: World) -> None:
    world.sql("DELETE FROM DimUser")
    assert len(found(run(world, repair=True))["extra"]) == 10
    merge(world)
    result = run(world)
    assert (result.source_rows, result.lake_rows, exit_code([result])) == (0, 0, 0)


# --- what cannot be judged yet


def test_what_changed_after_the_last_read_is_not_lost(world: World) -> None:
    soon = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=30)  # a writer's clock
    world.put((50, "new", at(60)), (3, "newer", at(61)), (51, "soon", str(soon)))
    result = run(world)
    assert (found(result), left_out(result)) == ({}, {"newer": 3})
    assert exit_code([result]) == 0


def test_what_is_dated_in_the_future_no_next_read_brings(world: World) -> None:
    world.put((51, "future", FAR), (3, "dated ahead", FAR))
    world.run()
    merge(world)
    result = run(world, repair=True)
    assert (found(result), left_out(result)) == ({"missing": [51], "stale": [3]}, {})
    merge(world)
    assert_equal(world)
    assert world.run()["not_seen"]["future"]["keys"] == ["user_id=3", "user_id=51"]
    assert world.state.cdc == at(9), "a repair never moves the watermark"


def test_where_the_cursor_may_lie_ahead_the_next_read_brings_it(tmp_path: Path) -> None:
    world = make_world(tmp_path, fields="strategy: watermark, future: take")
    world.put((1, "a", at(1)))
    world.run()
    merge(world)
    world.put((2, "b", FAR))
    result = run(world)
    assert (found(result), left_out(result)) == ({}, {"newer": 1})


def test_what_waits_in_bronze_is_not_judged(world: World) -> None:
    world.put((50, "new", at(60)), (3, "newer", at(61)))
    world.run()
    world.sql("DELETE FROM DimUser WHERE user_id = 1")
    result = run(world)
    assert (found(result), left_out(result)) == ({"extra": [1]}, {"waiting": 2})
    assert result.pending


def test_of_a_snapshot_only_what_the_last_read_saw_is_judged(tmp_path: Path) -> None:
    world = make_world(tmp_path, fields="strategy: snapshot")
    world.put(*((i, f"name {i}", at(i)) for i in range(10)))
    world.run()
    rows = newest_rows(world)
    rows[7]["_digest"] = b"x" * 16
    merge(world, rows=[row for row in rows if row["user_id"] != 8])
    world.sql(
        "DELETE FROM DimUser WHERE user_id = 1",
        "UPDATE DimUser SET user_name = 'z' WHERE user_id = 2",
    )
    world.put((60, "new", at(-60)))
    result = run(world)
    assert (found(result), left_out(result)) == (
        {"missing": [8], "different": [7]},
        {"unread": 3},
    )


def test_of_a_change_log_what_it_has_recorded_since_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that records changes, imitated: it has recorded each row named ``changed …``."""

    def plan(ask: Ask) -> ReadPlan:
        rows = sa.select(*columns_of(ask.described)).select_from(from_table(ask.table))
        if not ask.position:
            return ReadPlan(rows, "the whole table", position={"version": "1"}, whole=True)
        recorded = rows.where(sa.column("user_name").like("changed%"))
        return ReadPlan(recorded, "since version 1", position={"version": "2"})

    log = SimpleNamespace(plan=plan)
    monkeypatch.setitem(choice._MODULES, "change_tracking", log)  # type: ignore[arg-type]
    monkeypatch.setattr(choice, "_SQL_SERVERS", frozenset())
    world = make_world(tmp_path, fields="strategy: change_tracking, cursor: null")
    world.put(*((i, f"name {i}", at(i)) for i in range(10)))
    world.run()
    merge(world, rows=[row for row in newest_rows(world) if row["user_id"] != 8])
    world.put((2, "changed", at(2)), (50, "changed too", at(50)), (5, "behind its back", at(5)))
    result = run(world)
    assert (found(result), left_out(result)) == (
        {"missing": [8], "different": [5]},
        {"unread": 2},
    )


@pytest.mark.parametrize("seed", range(20 if SOAK else 2))
def test_a_busy_source_gives_no_false_report(world: World, seed: int) -> None:
    """Another thread writes all the time, as an application does: each change moves the cursor."""
    chance, stop, minute = random.Random(seed), threading.Event(), 100

    def write() -> None:
        nonlocal minute
        while not stop.is_set():
            minute += 1
            world.put((chance.randrange(20), f"at {minute}", at(minute)))
            stop.wait(0.002)  # SQLite's readers wait for its writers

    writer = threading.Thread(target=write)
    writer.start()
    try:
        results = [run(world, deep=chance.random() < 0.5) for _ in range(3)]
    finally:
        stop.set()
        writer.join()
    assert [found(result) for result in results] == [{}] * 3
    assert results[-1].left_out["newer"] > 0


def test_a_source_that_is_written_to_meanwhile_gives_no_false_report(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows come, move and go, and a whole run is read and merged, between the two readings."""
    plain = sides.read_by_keys
    merge(world, rows=[row for row in newest_rows(world) if row["user_id"] != 0])
    times = []

    def busy(*arguments: Any) -> Any:
        if not times:
            world.put((3, "again", at(70)), (90, "new", at(71)))
            world.sql("DELETE FROM DimUser WHERE user_id = 88")
            world.run()
            merge(world, rows=[row for row in newest_rows(world) if row["user_id"] != 0])
        times.append(1)
        return plain(*arguments)

    world.put((88, "short-lived", at(5)), (2, "in place", at(2)))
    monkeypatch.setattr(sides, "read_by_keys", busy)
    result = run(world)
    assert (found(result), result.settled) == ({"missing": [0]}, 2), "2 was read again and merged"


def test_a_row_that_a_moving_read_missed_is_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = sides.read_changes

    def torn(*arguments: Any) -> Any:
        for changes in plain(*arguments):
            yield type(changes)(changes.rows.slice(3), *(changes.operations,) * 3)

    monkeypatch.setattr(sides, "read_changes", torn)
    result = run(world)
    assert (found(result), result.settled) == ({}, 3)


def test_a_row_that_a_first_reading_of_silver_missed_is_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = lake_side._silver_rows

    def torn(*arguments: Any) -> Any:
        monkeypatch.setattr(lake_side, "_silver_rows", plain)
        return (batch.slice(4) for batch in plain(*arguments))

    monkeypatch.setattr(lake_side, "_silver_rows", torn)
    result = run(world)
    assert (found(result), result.settled) == ({}, 4)


def test_the_page_names_fewer_keys_than_are_kept() -> None:
    page = " ".join((Path(__file__).parents[2] / "docs" / "reconcile.md").read_text().split())
    assert f"names the first {text._KEPT_KEYS:,} keys of each class" in page
    assert f"JSON beside it the first {compare.KEPT_KEYS:,}" in page


# --- digests that can't be trusted


def test_a_column_that_came_later_is_no_difference_where_it_is_null(world: World) -> None:
    world.sql("ALTER TABLE DimUser ADD COLUMN country TEXT")
    world.sql("UPDATE DimUser SET country = 'NO' WHERE user_id = 4")
    result = run(world)
    assert found(result) == {"different": [4]}
    assert "digested anew" in (result.note or "")


@pytest.mark.parametrize("deep", [False, True])
def test_a_row_that_changed_after_a_column_came_is_no_difference(world: World, deep: bool) -> None:
    world.sql(
        "ALTER TABLE DimUser ADD COLUMN note TEXT",
        f"UPDATE DimUser SET note = 'x', updated_at = '{at(60)}' WHERE user_id = 3",
    )
    world.run()
    write_silver(world, newest_rows(world), SCHEMA.append(pa.field("note", pa.string())))
    assert (found(run(world, deep=deep)), left_out(run(world, deep=deep))) == ({}, {})
    world.sql("UPDATE DimUser SET note = 'y' WHERE user_id = 3")
    assert found(run(world, deep=deep)) == {"different": [3]}


def test_deep_finds_what_carried_digests_hide(world: World) -> None:
    assert run(world, deep=True).differing == 0
    (name,) = world.published
    path = world.store.local_path(f"bronze/DimUser/{name}")
    table = pq.read_table(path, partitioning=None)
    names = ["rotten" if i == 6 else f"name {i}" for i in range(10)]
    pq.write_table(table.set_column(1, "user_name", pa.array(names)), path)
    assert run(world).differing == 0
    assert found(run(world, deep=True)) == {"different": [6]}


# --- a lake that ADF wrote


def adf_file(world: World, stamp: str, rows: list[tuple[Any, ...]]) -> None:
    """Write a file as ADF does: its name has colons and no extension, its types are its own."""
    users, names, moments = zip(*rows, strict=True)
    table = pa.table(
        {
            "user_id": pa.array(users, pa.int32()),
            "user_name": pa.array(names, pa.large_string()),
            "updated_at": pa.array(
                [None if m is None else T0 + timedelta(minutes=m) for m in moments],
                pa.timestamp("ns"),
            ),
        }
    )
    pq.write_table(table, world.store.local_path(f"bronze/DimUser/DimUser_{stamp}"))


@pytest.fixture
def adf(tmp_path: Path) -> World:
    """Give a lake after two loads by ADF's rule, `cursor > last maximum`."""
    world = make_world(tmp_path, fields="strategy: watermark")
    world.put(
        (1, "a", at(1)), (2, "B", at(20)), (3, "in place", at(3)), (4, "tie", at(10)),
        (5, "late", at(5)), (6, "after", at(30)), (7, "same", at(7)),
    )  # fmt: skip
    adf_file(
        world, "2025-10-07T19:49:55.1234567Z",
        [(1, "a", 1), (2, "b", 2), (3, "c", 3), (7, "same", 7), (9, "gone", 10)],
    )  # fmt: skip
    adf_file(world, "2025-10-08T19:49:55.7654321Z", [(2, "older", 19), (2, "B", 20)])
    world.store.write(world.lake.state_file("DimUser"), b'{"cdc": "2026-01-01 00:20:00"}')
    return world


def test_what_adf_has_lost_is_told_before_a_cut_over(adf: World) -> None:
    before = adf.store.read(adf.lake.state_file("DimUser"))
    result = run(adf)
    assert found(result) == {"missing": [4, 5], "different": [3], "extra": [9]}
    assert left_out(result) == {"newer": 1}
    assert (result.against, result.lake_rows, result.bound) == ("bronze", 5, "2026-01-01 00:20:00")
    assert adf.store.read(adf.lake.state_file("DimUser")) == before


def test_a_lake_taken_over_from_adf_is_judged_by_its_files(adf: World) -> None:
    rows = [
        {
            "user_id": i,
            "user_name": "?",
            "updated_at": T0,
            "_sequence": datetime(2025, 10, 8, tzinfo=UTC),
        }
        for i in (1, 2, 3, 7, 9)
    ]
    merge(adf, rows=rows)
    result = run(adf)
    assert result.against == "silver"
    assert {k: sorted(v) for k, v in found(result).items()} == {
        "missing": [4, 5],
        "stale": [3],
        "extra": [9],
    }


def test_a_key_column_that_adf_did_not_write_is_named(adf: World) -> None:
    adf.table = load_table(adf.folder, "key: [user_id, updated_at]")
    table = pa.table({"user_id": [1]})
    pq.write_table(table, adf.store.local_path("bronze/DimUser/DimUser_2025-10-09T00:00:00Z"))
    with pytest.raises(LakeError, match=r"DimUser_2025-10-09.* has no column updated_at"):
        run(adf)


# --- repair


def test_a_repair_is_an_ordinary_read_after_which_bronze_is_the_source(world: World) -> None:
    world.sql(
        "DELETE FROM DimUser WHERE user_id = 1",
        f"INSERT INTO DimUser VALUES (77, 'late', '{at(-900)}')",
        "UPDATE DimUser SET user_name = 'in place' WHERE user_id = 3",
    )
    before = world.state
    planned = run(world, repair=True, dry_run=True)
    assert planned.repair is not None
    assert (planned.repair.rows, planned.repair.deleted, planned.repair.file) == (3, 1, None)
    assert (exit_code([planned]), len(world.published)) == (2, 1)
    result = run(world, repair=True)
    assert result.repair is not None
    assert (result.repair.rows, result.repair.deleted) == (3, 1)
    assert (result.pending, exit_code([result])) == (True, 0)
    assert result.repair.file == f"bronze/DimUser/{world.published[-1]}"
    assert (world.state.cdc, world.state.advanced) == (before.cdc, before.advanced)
    assert {row["_run_id"] for row in world.bronze()[-3:]} == {"reconcile__1"}
    assert {row["user_id"]: row["user_name"] for row in newest_rows(world)} == {
        row[0]: row[1] for row in world.rows()
    }
    again = run(world, repair=True)
    assert (again.repair, left_out(again)) == (None, {"waiting": 3})
    merge(world)
    assert_equal(world)
    world.run()
    merge(world)
    assert_equal(world)


def test_a_decimal_key_beyond_a_floats_digits_is_found_again(tmp_path: Path) -> None:
    ddl = "CREATE TABLE T (id DECIMAL(18,0) PRIMARY KEY, v TEXT, updated_at TIMESTAMP)"
    world = make_world(tmp_path, ddl, "key: id, strategy: watermark")
    world.put((123456789012345677, "a", at(0)), (5, "b", at(9000)))
    world.run()
    world.sql("UPDATE T SET v = 'in place' WHERE id > 5")
    result = run(world, repair=True)
    assert [len(result.keys[c]) for c in CLASSES] == [0, 0, 1, 0]
    assert {row["v"] for row in world.replay().values()} == {"in place", "b"}


def test_keys_that_the_source_takes_for_one_are_told_apart(tmp_path: Path) -> None:
    key = "user_id TEXT COLLATE NOCASE PRIMARY KEY"
    ddl = f"CREATE TABLE DimUser ({key}, user_name TEXT, updated_at TIMESTAMP)"
    world = make_world(tmp_path, ddl, "strategy: watermark")
    schema = pa.schema([("user_id", pa.string()), *list(SCHEMA)[1:]])
    names = [f"key {chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(300)]
    world.put(*((name, "a", at(1)) for name in names))
    world.run()
    write_silver(world, newest_rows(world), schema)
    world.sql("UPDATE DimUser SET user_id = upper(user_id)")
    result = run(world, repair=True)
    assert found(result) == {"missing": sorted(map(str.upper, names)), "extra": sorted(names)}
    assert result.repair is not None
    assert (result.repair.rows, result.repair.deleted) == (600, 300)
    write_silver(world, newest_rows(world), schema)
    assert_equal(world)


def test_a_delete_that_repairs_has_its_place_in_business_time(tmp_path: Path) -> None:
    fields = "strategy: watermark, gold: {scd: 2, sequence_by: updated_at}"
    world = make_world(tmp_path, fields=fields)
    world.put((1, "a", at(1)), (2, "b", at(2)))
    world.run()
    merge(world)
    world.sql("DELETE FROM DimUser WHERE user_id = 1")
    run(world, repair=True)
    delete = world.bronze()[-1]
    assert (delete["_operation"], delete["_digest"]) == ("delete", None)
    now = datetime.now(UTC).replace(tzinfo=None)
    assert abs(delete["updated_at"] - now) < timedelta(minutes=5)


def test_the_next_snapshot_judges_repaired_keys_anew(tmp_path: Path) -> None:
    """The source goes back to what the snapshot knows: its old digest must not hide the row."""
    world = make_world(tmp_path, fields="strategy: snapshot")
    world.put((1, "old", at(1)), (2, "x", at(2)))
    world.run()
    rows = newest_rows(world)
    rows[0]["_digest"] = b"x" * 16
    merge(world, rows=rows)
    assert found(run(world)) == {"different": [1]}
    world.put((1, "between", at(1)))
    repaired = run(world, repair=True)
    assert repaired.repair is not None
    assert newest_rows(world)[0]["user_name"] == "between"
    world.put((1, "old", at(1)))
    copied = world.run()
    assert copied["rows"] == 1
    assert {r["user_id"]: r["user_name"] for r in newest_rows(world)} == {1: "old", 2: "x"}
    merge(world)
    assert_equal(world)


def test_a_repair_that_is_overtaken_publishes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sql("DELETE FROM DimUser WHERE user_id = 1")
    job = world.job()

    def overtaking(*arguments: Any) -> Any:
        reserve(job.store, job.lake, "DimUser")
        return read_by_keys(*arguments)

    monkeypatch.setattr("tidemark.reconcile.repair.read_by_keys", overtaking)
    with pytest.raises(ReadOvertaken):
        run(world, repair=True)
    assert len(world.published) == 1
    assert load_state(job.store, job.lake, "DimUser").cdc == at(9)


# --- errors


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_that_was_never_read_is_named(tmp_path: Path, rows: int) -> None:
    world = make_world(tmp_path)
    world.put(*((i, "a", at(1)) for i in range(rows)))
    with pytest.raises(LakeError, match=r"DimUser: the lake .* holds nothing of it; run the Dag"):
        run(world)


def test_a_key_that_is_not_unique_is_named(tmp_path: Path) -> None:
    ddl = "CREATE TABLE DimUser (user_id INTEGER, user_name TEXT, updated_at TIMESTAMP)"
    world = make_world(tmp_path, ddl)
    world.put((1, "a", at(1)))
    world.run()
    merge(world)
    world.put((7, "b", at(1)), (7, "c", at(1)))
    with pytest.raises(SourceError, match=r"key user_id=7 stands 2 times in dbo\.DimUser"):
        run(world)
