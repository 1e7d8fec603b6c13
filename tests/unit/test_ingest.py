"""The four steps of a read, one case at a time.

Random sequences are in test_ingest_property, killed processes in test_ingest_processes.
"""

# ruff: noqa: DTZ001 - wall clocks, as sources hold them

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from core_harness import DIM_USER, World, load_table, make_world

from tidemark import landing
from tidemark.bronze import META_COLUMNS
from tidemark.errors import (
    ConfigError,
    LakeError,
    ReadOvertaken,
    SourceError,
    StateError,
    is_transient,
)
from tidemark.extract import sqlite
from tidemark.ingest import advance_watermark, copy_to_bronze, discard_empty, lookup_watermark
from tidemark.reconcile import Options, reconcile_table
from tidemark.storage import LocalStore
from tidemark.watermark import reserve
from tidemark.windows import Interval

TEN = "2026-01-01 10:00:00"
JANUARY = Interval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def minutes(count: int) -> str:
    return f"{datetime(2026, 1, 1, 10) + timedelta(minutes=count)}"


def keys(world: World, sequence: str) -> list[int]:
    moment = datetime.fromisoformat(sequence)
    return sorted(row["user_id"] for row in world.bronze() if row["_sequence"] == moment)


# --- the plain way


def test_a_first_run_copies_all_and_says_what_it_did(world: World) -> None:
    world.put((1, "Zoë", TEN), (2, None, minutes(-99999)))
    copied = world.run()
    assert json.loads(json.dumps(copied)) == copied
    file = copied["file"]
    assert re.fullmatch(r"bronze/DimUser/DimUser_\d{8}T\d{12}Z\.parquet", file)
    assert {k: copied[k] for k in ("table", "rows", "read", "unchanged", "low", "high")} == {
        "table": "DimUser",
        "rows": 2,
        "read": 2,
        "unchanged": 0,
        "low": None,
        "high": TEN,
    }
    assert copied["window"] == f"updated_at <= {TEN}"
    found = pq.read_table(world.store.local_path(file), partitioning=None)
    assert found.schema.names == ["user_id", "user_name", "updated_at", *META_COLUMNS]
    assert set(found["_run_id"].to_pylist()) == {"run-1"}
    assert set(found["_sequence"].to_pylist()) == {datetime.fromisoformat(copied["sequence"])}
    assert world.state.cdc == TEN
    assert world.hidden == []


def test_a_run_on_an_unchanged_source_publishes_nothing(world: World) -> None:
    world.put((1, "a", minutes(-61)), (2, "b", minutes(-60)), (3, "c", TEN), (4, "d", TEN))
    world.run()
    before = world.state
    for _ in range(3):
        copied = world.run()
        assert (copied["rows"], copied["read"], copied["unchanged"]) == (0, 3, 3)
        assert copied["file"] is None
    assert (world.state.cdc, world.state.digests) == (before.cdc, before.digests)
    assert len(world.published) == 1
    assert world.hidden == []


def test_an_empty_table_publishes_nothing_and_then_begins(world: World) -> None:
    copied = world.run()
    assert (copied["rows"], copied["high"], copied["window"]) == (0, None, "nothing to read")
    assert world.state.cdc is None
    world.put((1, "a", TEN))
    assert world.run()["rows"] == 1


def test_ties_late_rows_and_updates_come_and_older_ones_do_not(world: World) -> None:
    world.put((1, "a", TEN), (2, "b", minutes(-200)))
    world.run()
    world.put((3, "tie", TEN), (4, "late", minutes(-60)), (5, "too late", minutes(-61)))
    world.put((1, "a2", TEN), (2, "b2", minutes(1)))
    copied = world.run()
    assert keys(world, copied["sequence"]) == [1, 2, 3, 4]
    assert world.state.cdc == minutes(1)
    assert world.hidden == []


def test_a_row_changed_back_is_copied_each_time(world: World) -> None:
    for index, name in enumerate(["a", "b", "a", "b"]):
        world.put((1, name, TEN))
        copied = world.run()
        assert copied["rows"] == 1, index
        assert world.replay()[(1,)]["user_name"] == name


def test_a_row_changed_back_after_a_read_that_never_advanced_is_copied(world: World) -> None:
    world.put((1, "a", TEN))
    world.run()
    world.put((1, "b", TEN))
    world.copy()  # published, then killed
    world.put((1, "a", TEN))
    world.run()
    assert world.replay()[(1,)]["user_name"] == "a"


def test_a_row_changed_back_after_a_backfill_is_copied(world: World) -> None:
    world.put((1, "a", TEN))
    world.run()
    world.put((1, "b", TEN))
    world.run(JANUARY)
    world.put((1, "a", TEN))
    world.run()
    assert world.replay()[(1,)]["user_name"] == "a"
    assert world.run()["rows"] == 0


# --- what is not seen


def test_future_rows_are_held_and_named_until_their_time(tmp_path: Path) -> None:
    world = make_world(tmp_path, fields="null_cursor: exclude")
    soon = datetime.now(UTC) + timedelta(seconds=4)
    world.put((1, "a", TEN), (2, "soon", f"{soon.replace(tzinfo=None)}"))
    world.put(*((i, "far", "2099-01-01 00:00:00") for i in range(10, 25)))
    world.put((30, "none", None), (31, "none", None))
    copied = world.run()
    assert keys(world, copied["sequence"]) == [1]
    assert world.state.cdc == TEN
    seen = copied["not_seen"]
    assert seen["future"]["count"] == 16
    assert seen["future"]["keys"] == ["user_id=2", *(f"user_id={i}" for i in range(10, 19))]
    assert seen["null_cursor"] == {"count": 2, "keys": ["user_id=30", "user_id=31"]}
    time.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds() + 0.1))
    assert keys(world, world.run()["sequence"]) == [2]


def test_a_future_row_is_taken_where_the_cursor_is_no_change_time(tmp_path: Path) -> None:
    world = make_world(tmp_path, DIM_USER.replace("TIMESTAMP", "DATE"), "future: take")
    world.put((1, "a", "2099-12-31"))
    copied = world.run()
    assert (copied["rows"], copied["not_seen"], world.state.cdc) == (1, {}, "2099-12-31")


def test_the_clock_lag_holds_back(tmp_path: Path) -> None:
    world = make_world(tmp_path, fields="clock_lag: 1h")
    clock = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    world.put((1, "a", f"{clock - timedelta(minutes=61)}"), (2, "b", f"{clock}"))
    copied = world.run()
    assert copied["not_seen"]["future"]["keys"] == ["user_id=2"]
    assert "less clock_lag; 1 rows above it wait" in copied["note"]


def test_the_cap_is_in_the_cursors_zone(tmp_path: Path) -> None:
    # Kiritimati's wall clock is 14 hours ahead of UTC: its present is no future.
    clock = datetime.now(UTC).replace(tzinfo=None)
    rows = [(1, "a", f"{clock + timedelta(hours=13)}"), (2, "b", f"{clock + timedelta(hours=15)}")]
    world = make_world(tmp_path, fields="cursor_timezone: Pacific/Kiritimati")
    world.put(*rows)
    assert world.run()["not_seen"]["future"]["keys"] == ["user_id=2"]


def test_a_row_without_a_cursor_stops_every_read_that_shall_raise(tmp_path: Path) -> None:
    world = make_world(tmp_path, fields="null_cursor: raise")
    world.put((1, "a", TEN), (2, "none", None))
    for interval in (None, Interval(None, datetime.now(UTC))):
        with pytest.raises(SourceError, match=r"DimUser: 1 rows have no updated_at \(user_id=2\)"):
            world.run(interval)
    assert not world.published
    world.sql("DELETE FROM DimUser WHERE user_id = 2")
    assert world.run()["rows"] == 1


# --- other cursors


def test_an_integer_cursor(tmp_path: Path) -> None:
    world = make_world(tmp_path, DIM_USER.replace("TIMESTAMP", "INTEGER"), "lookback: 10")
    world.put((1, "a", 9), (2, "b", 100), (3, "old", -5))
    assert world.run()["high"] == "100"
    world.put((4, "late", 90), (5, "too late", 89), (6, "new", 1000))
    copied = world.run()
    assert keys(world, copied["sequence"]) == [4, 6]
    assert (copied["window"], world.state.cdc) == ("90 <= updated_at <= 1000", "1000")
    assert world.run()["rows"] == 0
    left_out = world.run(JANUARY)
    assert (left_out["rows"], left_out["backfill"]) == (0, True)
    assert "is no time" in left_out["note"]


def test_a_date_cursor_rereads_whole_days(tmp_path: Path) -> None:
    world = make_world(tmp_path, DIM_USER.replace("TIMESTAMP", "DATE"))
    world.put((1, "a", "2026-01-10"))
    world.run()
    world.put((2, "tie", "2026-01-10"), (3, "late", "2026-01-09"), (4, "older", "2026-01-08"))
    assert keys(world, world.run()["sequence"]) == [2, 3]
    assert world.run()["rows"] == 0


# --- cutover from ADF


@pytest.mark.parametrize("form", ["{}Z", "{}.0000000Z", "{}", "{}+00:00", "{}.0000000"])
def test_adfs_watermark_is_gone_on_from(tmp_path: Path, form: str) -> None:
    world = make_world(tmp_path, cdc=form.format("2026-01-01T10:00:00"))
    adf = "bronze/DimUser/DimUser_2026-01-01T10:00:01.1234567Z"
    world.store.write(adf, b"")
    world.put((1, "known to ADF", minutes(-61)), (2, "tie", TEN), (3, "late", minutes(-59)))
    job = world.job()
    looked_up = lookup_watermark(job)
    assert "ADF" in looked_up["note"]
    copied = copy_to_bronze(job, looked_up)
    advance_watermark(job, copied)
    assert copied["rows"] == 2
    world.store.remove(adf)  # an empty file, which this test can't read
    assert keys(world, copied["sequence"]) == [2, 3]
    assert lookup_watermark(job)["note"] is None
    assert world.run()["rows"] == 0
    world.put((4, "new", minutes(5)))
    assert keys(world, world.run()["sequence"]) == [4]


def test_adf_overwriting_the_state_costs_a_repeated_read_only(world: World) -> None:
    world.put((1, "a", TEN))
    world.run()
    world.put((2, "copied by ADF", minutes(5)))
    world.store.write("bronze/DimUser_cdc/cdc.json", b'{"cdc":"%s"}' % minutes(5).encode())
    copied = world.run()
    assert keys(world, copied["sequence"]) == [1, 2]
    assert world.run()["rows"] == 0
    assert world.hidden == []


@pytest.mark.parametrize("cdc", [b"{", b'{"cdc": "garbage"}', b'{"cdc": true}', b'{"cdc": {}}'])
def test_a_corrupt_state_is_named_and_left_alone(tmp_path: Path, cdc: bytes) -> None:
    world = make_world(tmp_path, cdc=cdc)
    world.put((1, "a", TEN))
    with pytest.raises(StateError, match=r"bronze/DimUser_cdc/cdc\.json.*restore"):
        world.run()
    assert world.published == []
    world.store.write("bronze/DimUser_cdc/cdc.json", b'{"cdc": null}')
    assert world.run()["rows"] == 1


# --- backfill


def test_a_backfill_reads_its_interval_and_moves_nothing(world: World) -> None:
    world.put((1, "a", "2025-12-31 23:59:59"), (2, "b", "2026-01-01 00:00:00"))
    world.put((3, "c", "2026-01-31 23:59:59.999999"), (4, "d", "2026-02-01 00:00:00"))
    world.run()
    before = world.state
    world.put((5, "back-dated", "2026-01-15 00:00:00"))
    copied = world.run(JANUARY)
    assert keys(world, copied["sequence"]) == [2, 3, 5]
    assert copied["window"] == "2026-01-01 00:00:00 <= updated_at < 2026-02-01 00:00:00"
    assert (copied["backfill"], copied["digests"]) == (True, None)
    assert (world.state.cdc, world.state.digests) == (before.cdc, before.digests)
    assert world.state.advanced == before.advanced
    # Its file hides nothing from the next run, and then all is quiet.
    assert world.run()["rows"] == 2
    assert world.run()["rows"] == 0


def test_a_backfill_before_the_first_run_leaves_no_watermark(world: World) -> None:
    world.put((1, "a", TEN))
    assert world.run(JANUARY)["rows"] == 1
    assert world.state.cdc is None
    assert world.run()["rows"] == 1


def test_a_backfill_is_in_the_cursors_zone(tmp_path: Path) -> None:
    world = make_world(tmp_path, fields="cursor_timezone: America/New_York")
    world.put((1, "a", "2025-12-31 18:59:59"), (2, "b", "2025-12-31 19:00:00"))
    world.put((3, "c", "2026-01-31 18:59:59"), (4, "d", "2026-01-31 19:00:00"))
    assert keys(world, world.run(JANUARY)["sequence"]) == [2, 3]


def test_an_interval_without_ends_reads_every_row_with_a_cursor(world: World) -> None:
    world.put((1, "a", TEN), (2, "future", "2099-01-01 00:00:00"), (3, "none", None))
    assert keys(world, world.run(Interval(None, None))["sequence"]) == [1, 2]


# --- killed, overtaken, repeated


def test_each_step_may_be_repeated(world: World) -> None:
    world.put((1, "a", TEN))
    job = world.job()
    first, second = world.copy(), world.copy()
    assert advance_watermark(job, second)["moved"]
    assert advance_watermark(job, second) == {"watermark": TEN, "moved": False}
    assert advance_watermark(job, first) == {"watermark": TEN, "moved": False}  # a zombie
    empty = world.copy()
    discard_empty(job, empty)
    discard_empty(job, empty)
    assert world.hidden == []
    assert world.run()["rows"] == 0


@dataclass(frozen=True)
class InterruptedStore(LocalStore):
    """A disk that stops at publishing, as a killed process does."""

    def publish(self, temporary: str, final: str) -> None:
        assert (self.root / temporary).exists()
        message = f"{final}: interrupted"
        raise LakeError(message)


def test_a_read_that_never_published_is_done_by_the_next(world: World) -> None:
    world.put((1, "a", TEN))
    with pytest.raises(LakeError):
        world.copy(store=InterruptedStore(world.store.root))
    assert world.published == []
    assert world.state.cdc is None
    assert len(world.hidden) == 2
    assert world.run()["rows"] == 1
    assert world.hidden == []


def test_an_overtaken_read_publishes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put((1, "a", TEN))
    late: list[dict[str, Any]] = []
    plain = landing.read_changes

    def overtaken(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(landing, "read_changes", plain)
        yield from plain(*arguments, **options)
        late.append(world.run())  # a whole other run, between this one's read and its publishing

    monkeypatch.setattr(landing, "read_changes", overtaken)
    with pytest.raises(ReadOvertaken, match="DimUser") as caught:
        world.copy()
    assert is_transient(caught.value)
    assert [copied["rows"] for copied in late] == [1]
    assert len(world.published) == 1
    assert world.run()["rows"] == 0
    assert world.hidden == []


def test_a_missing_digests_file_costs_a_repeated_read_only(world: World) -> None:
    world.put((1, "a", TEN))
    world.run()
    world.store.remove(world.state.digests or "")
    assert world.run()["rows"] == 1
    assert world.run()["rows"] == 0


def test_sequences_grow_with_every_attempt(world: World) -> None:
    world.put((1, "a", TEN))
    before = reserve(world.store, world.lake, "DimUser")
    taken = [world.run(interval)["sequence"] for interval in (None, None, JANUARY, None)]
    assert taken == sorted(set(taken))
    assert taken[0] > before.isoformat()


def test_a_watermark_ahead_of_the_sources_clock_is_an_error_and_no_silence(world: World) -> None:
    world.put((1, "a", TEN))
    world.store.write(world.lake.state_file("DimUser"), b'{"cdc": "2099-01-01 00:00:00"}')
    with pytest.raises(StateError, match=r"watermark 2099-01-01 00:00:00 .* ahead of .* clock"):
        world.run()
    assert world.published == []


def test_when_the_clocks_go_back_the_watermark_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Berlin, 25 October 2026: 03:00 becomes 02:00, at 01:00 UTC."""
    fields = "strategy: watermark, cursor_timezone: Europe/Berlin"
    world = make_world(tmp_path, fields=fields)

    def run_at(utc: str) -> dict[str, Any]:
        clock = datetime.fromisoformat(f"2026-10-25T{utc}+00:00")
        monkeypatch.setattr(sqlite, "clock", lambda _: clock)
        return world.run()

    world.put((1, "first pass", "2026-10-25 02:50:00"), (2, "a", "2026-10-25 02:05:00"))
    assert run_at("00:55:00")["high"] == "2026-10-25 02:50:00"
    world.put((3, "second pass", "2026-10-25 02:10:00"), (4, "far", "2026-10-26 00:00:00"))
    copied = run_at("01:15:00")
    assert keys(world, copied["sequence"]) == [3]
    assert (copied["high"], world.state.cdc) == (copied["low"], "2026-10-25 02:50:00")
    assert "Europe/Berlin went back and show 2026-10-25 02:15:00" in copied["note"]
    assert copied["not_seen"]["future"]["keys"] == ["user_id=4"], "1 was read before"
    assert (run_at("01:16:00")["rows"], world.hidden) == (0, [])
    world.put((5, "later", "2026-10-25 02:55:00"))
    copied = run_at("01:58:00")
    assert (copied["rows"], copied["note"]) == (1, None)
    assert world.state.cdc == "2026-10-25 02:55:00"


def test_only_the_hour_that_is_shown_twice_excuses_a_watermark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = "strategy: watermark, cursor_timezone: Europe/Berlin"
    world = make_world(tmp_path, fields=fields, cdc="2026-10-25 02:50:00")
    for clock in ("2026-10-25T00:15:00+00:00", "2026-10-24T01:15:00+00:00"):
        moment = datetime.fromisoformat(clock)
        monkeypatch.setattr(sqlite, "clock", lambda _, moment=moment: moment)
        with pytest.raises(StateError, match="ahead of the source's clock"):
            world.run()


def test_a_watermark_of_another_cursor_is_not_gone_on_from(tmp_path: Path) -> None:
    columns = "(user_id INTEGER PRIMARY KEY, created TIMESTAMP, updated_at TIMESTAMP)"
    world = make_world(tmp_path, f"CREATE TABLE DimUser {columns}", "cursor: created")
    world.put((1, minutes(0), minutes(0)))
    world.run()
    world.table = load_table(tmp_path, "cursor: updated_at")
    with pytest.raises(StateError, match=r"value of 'created'.*cursor is 'updated_at' now"):
        world.run()
    (Path(world.lake.root) / world.lake.state_file("DimUser")).unlink()
    assert world.run()["rows"] == 1


@pytest.mark.parametrize("strategy", ["watermark", "snapshot"])
def test_another_key_is_refused_before_anything_is_read(tmp_path: Path, strategy: str) -> None:
    world = make_world(tmp_path, DIM_USER, f"strategy: {strategy}")
    world.put((1, "a", TEN))
    world.run()
    before = world.store.read(world.lake.state_file("DimUser"))
    assert before is not None
    world.put((1, "b", minutes(1)))
    world.table = load_table(tmp_path, f"strategy: {strategy}, key: [user_name]")
    words = r"DimUser.*key \(user_id\).*is \(user_name\) now.*tidemark rebuild.*delete bronze/Dim"
    for interval in (None, JANUARY):
        with pytest.raises(StateError, match=words):
            world.run(interval)
    assert (len(world.published), world.hidden) == (1, [])
    with pytest.raises(StateError, match=words):
        reconcile_table(world.job(), Options())
    world.store.write(world.lake.state_file("DimUser"), before.data)
    world.table = load_table(tmp_path, f"strategy: {strategy}")
    assert world.run()["rows"] == 1


def test_what_a_read_was_made_by_is_stored_though_config_has_changed_meanwhile(
    tmp_path: Path,
) -> None:
    ddl = DIM_USER.replace(")", ", created TIMESTAMP)")
    world = make_world(tmp_path, ddl)
    world.put((1, "a", TEN, minutes(9)))
    copied = world.copy()
    world.table = load_table(tmp_path, "key: [user_name], cursor: created")
    world.finish(copied)
    assert (world.state.cursor, world.state.key) == ("updated_at", ("user_id",))
    with pytest.raises(StateError, match="key"):
        world.run()


def test_the_order_of_the_keys_columns_says_nothing(tmp_path: Path) -> None:
    world = make_world(tmp_path, DIM_USER, "key: [user_id, user_name]")
    world.put((1, "a", TEN))
    world.run()
    world.table = load_table(tmp_path, "key: [user_name, user_id]")
    assert world.run()["rows"] == 0


def test_a_new_column_is_named_until_a_file_has_it(world: World) -> None:
    world.put((1, "a", TEN), (2, "b", TEN))
    world.run()
    world.sql("ALTER TABLE DimUser ADD COLUMN plan TEXT DEFAULT 'Free'")
    note = world.run()["note"]
    assert "columns that are new: plan; a row gets them when it changes" in note
    assert "--table DimUser --repair" in note
    world.sql(
        "UPDATE DimUser SET plan = 'Family', updated_at = '2026-01-01 10:03:00' WHERE user_id = 2"
    )
    world.run()
    assert world.bronze()[-1]["plan"] == "Family"
    assert world.run()["note"] is None


def test_a_state_that_names_no_key_is_gone_on_from(world: World) -> None:
    world.put((1, "a", TEN))
    world.run()
    content = world.store.read(world.lake.state_file("DimUser"))
    assert content is not None
    value = json.loads(content.data)
    assert value["tidemark"].pop("key") == ["user_id"]
    world.store.write(world.lake.state_file("DimUser"), json.dumps(value).encode())
    world.put((2, "b", minutes(1)))
    assert world.run()["rows"] == 1
    assert world.state.key == ("user_id",)


@pytest.mark.parametrize(
    ("type_", "lookback", "wanted"),
    [("TIMESTAMP", "3600", "a duration"), ("INTEGER", "2d", "a whole number")],
)
def test_a_lookback_that_does_not_fit_the_cursor_is_refused(
    tmp_path: Path, type_: str, lookback: str, wanted: str
) -> None:
    create = DIM_USER.replace("updated_at TIMESTAMP", f"updated_at {type_}")
    world = make_world(tmp_path, create, f"lookback: {lookback}")
    world.put((1, "a", 7 if type_ == "INTEGER" else TEN))
    with pytest.raises(ConfigError, match=f"lookback .* does not go with cursor.*{wanted}"):
        world.run()
