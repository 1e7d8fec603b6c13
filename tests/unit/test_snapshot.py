"""Strategy `snapshot`, and what a full reload leaves of rows that are gone: bronze is the source.

The oracle is the source itself: after every whole run the newest versions in bronze equal it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from core_harness import FAST, SOAK, InterruptedStore, World, load_table, make_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from silver_harness import newest_rows, write_silver

from tidemark import whole_table
from tidemark.errors import LakeError, SourceError, StateError
from tidemark.extract import sqlite
from tidemark.windows import Interval

SNAPSHOT = "strategy: snapshot"
T0 = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, fields=SNAPSHOT)


def at(minute: int) -> str:
    return f"{(T0 + timedelta(minutes=minute)).replace(tzinfo=None)}"


def operations(world: World, sequence: str) -> dict[int, str]:
    moment = datetime.fromisoformat(sequence)
    return {r["user_id"]: r["_operation"] for r in world.bronze() if r["_sequence"] == moment}


def assert_whole(world: World) -> None:
    """Bronze's newest versions are the source's rows."""
    found = {(row["user_id"], row["user_name"]) for row in world.replay().values()}
    assert found == {row[:2] for row in world.rows()}


def test_each_kind_of_change_is_seen_once(world: World) -> None:
    world.put((1, "a", at(1)), (2, "b", at(2)), (3, "c", None), (4, "d", "2099-01-01 00:00:00"))
    first = world.run()
    assert (first["rows"], first["deleted"], first["note"]) == (4, 0, None)
    assert world.state.cdc == at(2), "a row dated in the future is no high water"
    world.put((2, "B", at(2)), (5, "e", at(-9999)))
    world.sql("DELETE FROM DimUser WHERE user_id IN (1, 4)")
    second = world.run()
    assert operations(world, second["sequence"]) == {
        2: "update",
        5: "insert",
        1: "delete",
        4: "delete",
    }
    assert {k: second[k] for k in ("rows", "read", "unchanged", "deleted")} == {
        "rows": 4,
        "read": 3,
        "unchanged": 1,
        "deleted": 2,
    }
    assert_whole(world)
    assert world.run()["rows"] == 0
    assert world.hidden == []


def test_a_delete_carries_its_key_and_nothing_else(world: World) -> None:
    world.put((1, "a", at(1)))
    world.run()
    world.sql("DELETE FROM DimUser")
    world.run()
    delete = world.bronze()[-1]
    assert delete["_operation"] == "delete"
    assert (delete["user_id"], delete["user_name"], delete["updated_at"]) == (1, None, None)
    assert delete["_digest"] is None


def test_a_delete_takes_the_sources_clock_where_history_is_in_business_time(
    tmp_path: Path,
) -> None:
    fields = f"{SNAPSHOT}, gold: {{scd: 2, sequence_by: updated_at}}"
    world = make_world(tmp_path, fields=f"{fields}, cursor_timezone: Asia/Tokyo")
    world.put((1, "a", at(1)))
    world.run()
    world.sql("DELETE FROM DimUser")
    world.run()
    delete = world.bronze()[-1]
    tokyo = datetime.now(ZoneInfo("Asia/Tokyo")).replace(tzinfo=None)
    assert abs(delete["updated_at"] - tokyo) < timedelta(minutes=5)
    assert (delete["_operation"], delete["user_name"]) == ("delete", None)


def test_the_watermark_never_goes_back_when_the_newest_row_is_deleted(world: World) -> None:
    world.put((1, "a", at(1)), (2, "b", at(9)))
    world.run()
    world.sql("DELETE FROM DimUser WHERE user_id = 2")
    world.run()
    assert world.state.cdc == at(9)
    assert world.run()["rows"] == 0


def test_a_table_without_a_cursor_is_read_whole_by_default(tmp_path: Path) -> None:
    ddl = "CREATE TABLE Genre (code TEXT PRIMARY KEY, label TEXT)"
    world = make_world(tmp_path, ddl, "key: code, cursor: null")
    world.put(("rock", "Rock"), ("jazz", "Jazz"))
    copied = world.run()
    assert (copied["strategy"], copied["rows"], world.state.cdc) == ("snapshot", 2, None)
    left_out = world.run(Interval(T0, T0 + timedelta(days=1)))
    assert (left_out["rows"], left_out["backfill"]) == (0, True)
    assert "left out, it has no cursor" in left_out["note"]
    world.sql("DELETE FROM Genre WHERE code = 'rock'")
    assert world.run()["deleted"] == 1


@pytest.mark.parametrize("cursor", ["null", "label"])
def test_a_backfill_reads_a_table_without_a_time_whole_when_asked(
    tmp_path: Path, cursor: str
) -> None:
    kind = "INTEGER" if cursor == "label" else "TEXT"
    ddl = f"CREATE TABLE Genre (code TEXT PRIMARY KEY, label {kind})"
    world = make_world(tmp_path, ddl, f"key: code, cursor: {cursor}, {SNAPSHOT}")
    world.put(("rock", 1), ("jazz", 2))
    world.run()
    before = world.state
    world.sql("DELETE FROM Genre WHERE code = 'rock'")
    world.put(("folk", 3))
    day = Interval(T0, T0 + timedelta(days=1), whole_tables=True)
    copied = world.run(day)
    assert (copied["rows"], copied["deleted"], copied["backfill"]) == (2, 0, True)
    assert "read whole, as whole_tables asks" in copied["note"]
    fresh = [row for row in world.bronze() if row["_sequence"].isoformat() == copied["sequence"]]
    assert {(row["code"], row["_operation"]) for row in fresh} == {
        ("jazz", "upsert"),
        ("folk", "upsert"),
    }
    assert (world.state.cdc, world.state.digests) == (before.cdc, before.digests)
    assert world.run()["deleted"] == 1, "the ordinary read finds what is gone"
    assert {row["code"] for row in world.replay().values()} == {"jazz", "folk"}
    assert world.run()["rows"] == 0


def test_a_whole_backfill_refuses_a_key_that_is_not_unique(tmp_path: Path) -> None:
    world = make_world(tmp_path, "CREATE TABLE Genre (code TEXT)", "key: code, cursor: null")
    world.put(("rock",), ("rock",))
    with pytest.raises(SourceError, match="key code=rock stands 2 times"):
        world.run(Interval(T0, None, whole_tables=True))


def test_what_a_backfill_brought_is_judged_anew(world: World) -> None:
    """The row is back at the snapshot's version: its old digest must not hide it."""
    world.put((1, "old", at(1)), (2, "x", at(2)))
    world.run()
    world.put((1, "between", at(1)))
    world.run(Interval(T0, T0 + timedelta(days=1)))
    world.put((1, "old", at(1)))
    copied = world.run()
    assert operations(world, copied["sequence"])[1] == "update"
    assert_whole(world)
    assert world.run()["rows"] == 0


def test_a_row_that_only_a_backfill_saw_is_deleted_too(world: World) -> None:
    world.put((1, "a", at(1)))
    world.run()
    world.put((2, "b", at(2)))
    world.run(Interval(T0, T0 + timedelta(days=1)))
    world.sql("DELETE FROM DimUser WHERE user_id = 2")
    copied = world.run()
    assert operations(world, copied["sequence"]) == {1: "update", 2: "delete"}
    assert_whole(world)


def test_a_key_that_is_not_unique_is_named(tmp_path: Path) -> None:
    ddl = "CREATE TABLE DimUser (user_id INTEGER, user_name TEXT, updated_at TIMESTAMP)"
    world = make_world(tmp_path, ddl, SNAPSHOT)
    world.sql("INSERT INTO DimUser VALUES (1, 'a', NULL), (7, 'b', NULL), (7, 'c', NULL)")
    with pytest.raises(SourceError, match=r"DimUser: key user_id=7 stands 2 times in dbo\.DimUser"):
        world.run()
    assert world.published == []
    assert world.hidden == []


def test_a_strategy_of_another_database_is_refused(tmp_path: Path) -> None:
    world = make_world(tmp_path, fields="strategy: change_tracking")
    with pytest.raises(SourceError, match="DimUser: strategy change_tracking is SQL Server's"):
        world.run()


@pytest.mark.parametrize("gone", ["state", "digests"])
def test_a_lost_state_is_a_full_reload_without_ghosts(world: World, gone: str) -> None:
    world.put((1, "a", at(1)), (2, "b", at(2)))
    world.run()
    world.sql("DELETE FROM DimUser WHERE user_id = 2")
    lost = world.lake.state_file("DimUser") if gone == "state" else world.state.digests or ""
    world.store.remove(lost)
    copied = world.run()
    assert operations(world, copied["sequence"]) == {1: "upsert", 2: "delete"}
    assert "read whole" in copied["note"]
    assert_whole(world)
    assert world.run()["rows"] == 0


def test_what_silver_holds_is_known_without_its_marker(world: World) -> None:
    world.put((1, "a", at(1)), (2, "b", at(2)))
    world.run()
    columns = [
        ("user_id", pa.int64()),
        ("user_name", pa.string()),
        ("updated_at", pa.timestamp("us")),
    ]
    write_silver(world, newest_rows(world), pa.schema(columns))
    world.store.remove(world.lake.marker("silver", "DimUser"))
    world.store.remove(f"bronze/DimUser/{world.published[0]}")
    world.store.remove(world.lake.state_file("DimUser"))
    world.sql("DELETE FROM DimUser WHERE user_id = 2")
    copied = world.run()
    assert operations(world, copied["sequence"]) == {1: "upsert", 2: "delete"}


def test_a_corrupt_marker_is_named(world: World) -> None:
    world.put((1, "a", at(1)))
    world.run()
    world.store.remove(world.lake.state_file("DimUser"))
    for content in (b"{", b"[]"):
        world.store.write(world.lake.marker("silver", "DimUser"), content)
        with pytest.raises(StateError, match=r"silver/DimUser.json: not a JSON object"):
            world.run()


def test_a_corrupt_digests_file_is_named_and_nothing_is_lost(world: World) -> None:
    world.put((1, "a", at(1)))
    world.run()
    path = world.store.local_path(world.state.digests or "")
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(LakeError, match=r"DimUser: .*digests_.* can't be read"):
        world.run()
    path.unlink()
    assert world.run()["rows"] == 1


def test_a_change_of_strategy_leaves_no_ghost_and_no_gap(tmp_path: Path) -> None:
    world = make_world(tmp_path, fields="strategy: watermark")
    world.put((1, "a", at(1)), (2, "b", at(2)))
    world.run()
    world.sql("DELETE FROM DimUser WHERE user_id = 1")
    world.put((3, "late", at(-9999)))
    world.table = load_table(world.folder, SNAPSHOT)
    copied = world.run()
    assert operations(world, copied["sequence"]) == {2: "upsert", 3: "upsert", 1: "delete"}
    assert "the strategy was watermark and is snapshot now" in copied["note"]
    world.sql("DELETE FROM DimUser WHERE user_id = 2")
    world.put((4, "future", "2099-01-01 00:00:00"))
    world.run()
    world.sql("DELETE FROM DimUser WHERE user_id = 3")
    world.table = load_table(world.folder, "strategy: watermark")
    copied = world.run()
    deleted = operations(world, copied["sequence"])
    assert deleted[3] == "delete"
    assert 4 not in deleted, "it is there, though a watermark does not read it yet"
    assert_whole(world)
    assert (world.state.strategy, world.state.cdc) == ("watermark", None)


TWO_CURSORS = (
    "CREATE TABLE DimUser "
    "(user_id INTEGER PRIMARY KEY, user_name TEXT, updated_at TIMESTAMP, other {})"
)


def test_a_cursor_of_another_kind_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    world = make_world(tmp_path, TWO_CURSORS.format("INTEGER"), SNAPSHOT)
    world.put((1, "a", at(1), 7))
    world.run()
    world.put((2, "b", at(2), 8))
    world.table = load_table(world.folder, f"{SNAPSHOT}, cursor: other")
    words = rf"DimUser: .*cdc\.json holds '{at(1)}'.*'updated_at'.*'other' now.*Delete the file"
    with pytest.raises(StateError, match=words):
        world.run()
    assert (len(world.published), world.hidden) == (1, [])
    world.store.remove(world.lake.state_file("DimUser"))
    assert (world.run()["rows"], world.state.cdc) == (2, "8")


def test_a_value_of_another_cursor_is_replaced_and_never_compared(tmp_path: Path) -> None:
    world = make_world(tmp_path, TWO_CURSORS.format("TIMESTAMP"), SNAPSHOT)
    world.put((1, "a", at(9), at(1)))
    world.run()
    world.put((2, "b", at(9), at(2)))
    world.table = load_table(world.folder, f"{SNAPSHOT}, cursor: other")
    assert world.run()["rows"] == 1
    assert (world.state.cursor, world.state.cdc) == ("other", at(2))
    world.table = load_table(world.folder, f"{SNAPSHOT}, cursor: null")
    world.put((3, "c", at(9), at(3)))
    world.run()
    assert (world.state.cursor, world.state.cdc) == ("other", at(2)), "a value keeps its name"


@pytest.mark.parametrize("name", ["DimUser_2025-10-07T19:49:55.1234567Z", "DimUser_{}.parquet"])
def test_a_lake_that_adf_filled_is_taken_over(world: World, name: str) -> None:
    rows = pa.table({"user_id": pa.array([1, 2], pa.int32()), "user_name": ["a", "ghost"]})
    file = name.format("2025-10-07T19:49:55.12Z")
    pq.write_table(rows, world.store.local_path(f"bronze/DimUser/{file}"))
    world.store.write(world.lake.state_file("DimUser"), b'{"cdc": "2026-01-01 00:01:00"}')
    world.put((1, "a", at(1)))
    copied = world.run()
    assert operations_of_ours(world) == {1: "upsert", 2: "delete"}
    assert "another tool (ADF)" in copied["note"]
    assert world.run()["rows"] == 0


def operations_of_ours(world: World) -> dict[int, str]:
    (ours,) = [name for name in world.published if "2025" not in name]
    path = world.store.local_path(f"bronze/DimUser/{ours}")
    rows = pq.read_table(path, partitioning=None).to_pylist()
    return {row["user_id"]: row["_operation"] for row in rows}


def test_a_column_that_got_another_name_is_read_again(world: World) -> None:
    world.put((1, "a", at(1)), (2, "b", at(2)))
    world.run()
    world.sql("ALTER TABLE DimUser RENAME COLUMN user_name TO user_names")
    assert world.run()["rows"] == 2
    assert world.run()["rows"] == 0


def test_a_backfill_between_copy_and_advance_leaves_the_baseline(world: World) -> None:
    world.put((1, "a", at(1)), (2, "b", at(2000)))
    copied = world.copy()
    world.run(Interval(T0, T0 + timedelta(minutes=2)))
    world.finish(copied)
    assert world.run()["rows"] == 1, "the backfill's row alone is judged anew"
    assert world.run()["rows"] == 0


def test_vanished_keys_are_looked_up_again_where_a_statement_is_no_snapshot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row may move, and be missed, while a statement runs that sees no single moment."""
    world.put((1, "a", at(1)), (2, "b", at(2)), (3, "c", at(3)))
    world.run()
    world.sql("DELETE FROM DimUser WHERE user_id = 3")
    plain = whole_table.spread
    monkeypatch.setattr(sqlite, "sees_one_moment", lambda _: False)

    def missing_one(batches: Any, folder: Path, buckets: int) -> Any:
        if folder.name == "now":
            batches = [batch.filter(pa.array([False, True])) for batch in batches]
        return plain(batches, folder, buckets)

    monkeypatch.setattr(whole_table, "spread", missing_one)
    copied = world.run()
    assert operations(world, copied["sequence"]) == {1: "upsert", 3: "delete"}
    monkeypatch.undo()
    assert world.run()["rows"] == 0, "what was looked up again is remembered"


@pytest.mark.parametrize("buckets", [1, 2, 64])
def test_the_number_of_buckets_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, buckets: int
) -> None:
    monkeypatch.setattr("tidemark.landing.bucket_count", lambda _: buckets)
    world.put(*((i, "a", at(i)) for i in range(500)))
    assert world.run()["rows"] == 500
    world.put(*((i, "b", at(i)) for i in range(0, 500, 50)))
    world.sql("DELETE FROM DimUser WHERE user_id % 100 = 7")
    monkeypatch.setattr("tidemark.landing.bucket_count", lambda _: buckets * 2)
    copied = world.run()
    assert (copied["rows"], copied["deleted"]) == (15, 5)
    assert_whole(world)


# --- random lives


@dataclass
class Life:
    """A source's life; the source is the oracle."""

    world: World
    quiet: bool = False

    def change(self, key: int, name: str, minute: int | None) -> None:
        self.quiet = False
        self.world.put((key, name, None if minute is None else at(minute)))

    def delete(self, key: int) -> None:
        self.quiet = False
        self.world.sql(f"DELETE FROM DimUser WHERE user_id = {key}")

    def run(self) -> None:
        copied = self.world.run()
        json.dumps(copied)
        if self.quiet:
            assert copied["rows"] == 0
        self.quiet = True
        assert_whole(self.world)
        assert self.world.hidden == []

    def killed_after_publishing(self) -> None:
        self.quiet &= not self.world.copy()["rows"]
        assert_whole(self.world)

    def killed_before_publishing(self) -> None:
        with contextlib.suppress(LakeError):
            self.world.copy(store=InterruptedStore(self.world.store.root))

    def backfill(self, start: int, length: int) -> None:
        begin = T0 + timedelta(minutes=start)
        self.quiet &= not self.world.run(Interval(begin, begin + timedelta(minutes=length)))["rows"]

    def lose_state(self) -> None:
        self.quiet = False
        self.world.store.remove(self.world.lake.state_file("DimUser"))

    def by_adf(self) -> None:
        self.quiet = False
        self.world.store.write(self.world.lake.state_file("DimUser"), b'{"cdc": "2026-01-01"}')


KEYS, NAMES = st.integers(1, 4), st.sampled_from(["a", "b"])
STEPS = st.one_of(
    st.tuples(st.just("change"), KEYS, NAMES, st.integers(-90, 90) | st.none()),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("run")),
    st.tuples(st.just("killed_after_publishing")),
    st.tuples(st.just("killed_before_publishing")),
    st.tuples(st.just("backfill"), st.integers(-90, 90), st.integers(1, 90)),
    st.tuples(st.just("lose_state")),
    st.tuples(st.just("by_adf")),
)


@settings(
    max_examples=2000 if SOAK else 100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(STEPS, min_size=4, max_size=16))
def test_after_every_run_bronze_is_the_source(steps: list[tuple[Any, ...]]) -> None:
    with TemporaryDirectory(dir=FAST) as folder:
        life = Life(make_world(Path(folder), fields=SNAPSHOT))
        for what, *rest in steps:
            action: Callable[..., None] = getattr(life, what)
            action(*rest)
        life.run()
        life.run()
