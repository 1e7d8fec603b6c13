"""An initial load in ranges: every row once, whatever happens in between, and never from anew."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from core_harness import DIM_USER, FAST, InterruptedStore, World, load_table, make_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemark import initial_load
from tidemark.errors import ConfigError, LakeError, ReadOvertaken, SourceError, StateError
from tidemark.load_progress import InitialLoad, as_json, from_json
from tidemark.metadata import load_source
from tidemark.plan import plan_table, render
from tidemark.windows import Interval

SPLIT = "strategy: watermark, initial_ranges: 4"
OLD, NEW = "2026-01-01 10:00:00", "2026-01-02 10:00:00"


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = make_world(tmp_path, fields=SPLIT)
    found.put(*((n, f"n{n}", OLD) for n in range(1, 21)))
    return found


def _load(world: World) -> dict[int, str]:
    missing = initial_load.missing_ranges(world.job())
    for number in missing:
        initial_load.copy_range(world.job(), number)
    initial_load.finish(world.job())
    return missing


def _source(world: World) -> dict[Any, tuple[Any, ...]]:
    return {row[: len(world.table.key)]: row for row in world.rows()}


def _lake(world: World) -> dict[Any, tuple[Any, ...]]:
    return {key: tuple(map(_plain, row.values())) for key, row in world.replay().items()}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, datetime) else value


def test_each_range_is_a_file_and_the_next_read_goes_on_behind_the_load(world: World) -> None:
    missing = _load(world)
    assert list(missing.values()) == [
        "1 of 4: user_id < 6", "2 of 4: 6 <= user_id < 11",
        "3 of 4: 11 <= user_id < 16", "4 of 4: 16 <= user_id",
    ]  # fmt: skip
    assert len(world.published) == 4
    assert len(world.bronze()) == 20, "no row is there twice"
    assert _lake(world) == _source(world)
    assert (world.state.cdc, world.state.load, world.hidden) == (OLD, None, [])
    world.put((20, "changed", NEW), (21, "new", NEW))
    copied = world.run()
    assert (copied["read"], copied["rows"]) == (21, 2), "the lookback's rows are known by digest"
    assert initial_load.missing_ranges(world.job()) == {}, "an initial load comes once"


def test_the_ranges_of_a_load_lie_in_the_layout_in_which_it_began(world: World) -> None:
    world.switch("dated")
    missing = initial_load.missing_ranges(world.job())
    for number in missing:
        # Another attempt at a range may be under way: both must want one and the same name.
        world.switch("flat" if number % 2 else "dated")
        initial_load.copy_range(world.job(), number)
    assert initial_load.missing_ranges(world.job()) == {}
    initial_load.finish(world.job())
    assert len(world.published) == 4
    assert all(path.startswith("date=") for path in world.published)
    assert _lake(world) == _source(world)
    world.put((21, "new", NEW))
    assert (world.run()["rows"], _lake(world)) == (1, _source(world))


KEYS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "integer": ("INTEGER", st.integers(-(2**63), 2**63 - 1)),
    "text": (
        "VARCHAR(20)",
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3),
    ),
    "decimal": ("DECIMAL(9,2)", st.integers(-999, 999).map(lambda n: n / 4)),
    "date": ("DATE", st.dates().map(str)),
    "timestamp": ("TIMESTAMP", st.datetimes().map(str)),
}


@settings(max_examples=15, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data(), count=st.integers(2, 6))
@pytest.mark.parametrize("kind", KEYS)
def test_the_ranges_hold_every_row_and_none_twice(
    kind: str, data: st.DataObject, count: int
) -> None:
    declared, values = KEYS[kind]
    some = st.sampled_from(data.draw(st.lists(values, min_size=1, max_size=8)))
    # Of a key of two columns, the first may be NULL and repeat itself.
    keys = data.draw(st.lists(st.tuples(st.none() | some, st.integers(1, 9)), max_size=20))
    with TemporaryDirectory(dir=FAST) as folder:
        ddl = f"CREATE TABLE T (k {declared}, n INTEGER, at TIMESTAMP)"
        fields = f"key: [k, n], cursor: at, strategy: watermark, initial_ranges: {count}"
        world = make_world(Path(folder), ddl, fields)
        with world.connect() as connection:
            rows = [(k, n, OLD) for k, n in dict.fromkeys(keys)]
            connection.executemany("INSERT INTO T VALUES (?, ?, ?)", rows)
        _load(world)
        if not world.state.strategy:
            world.run()  # too few values to split
        read = [(row["k"], row["n"]) for row in world.bronze()]
        assert len(read) == len(set(read)) == len(world.rows())
        assert world.run()["rows"] == 0, "nothing was left for the next read"


STEPS = st.sampled_from(["change", "insert", "range", "range", "again", "backfill", "interrupted"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.differing_executors])
@given(steps=st.lists(STEPS, max_size=14), keys=st.randoms(use_true_random=False))
def test_whatever_happens_between_the_ranges_the_lake_equals_the_source(
    steps: list[str], keys: Any
) -> None:
    with TemporaryDirectory(dir=FAST) as folder:
        world = make_world(Path(folder), fields=SPLIT)
        world.put(*((n, "old", OLD) for n in range(0, 40, 2)))
        missing = list(initial_load.missing_ranges(world.job()))
        for minute, step in enumerate(steps):
            later = f"2026-01-02 10:{minute:02}:00"
            if step == "change":
                world.put((keys.randrange(20) * 2, f"changed {minute}", later))
            elif step == "insert":
                world.put((keys.randrange(41), f"new {minute}", later))
            elif step == "backfill":
                world.run(Interval(datetime(2026, 1, 1, tzinfo=UTC), None))
            elif step == "interrupted" and missing:
                stopped = InterruptedStore(world.store.root)
                with pytest.raises(LakeError):
                    initial_load.copy_range(world.job(store=stopped), missing[0])
            elif step == "range" and missing:
                initial_load.copy_range(world.job(), missing.pop(keys.randrange(len(missing))))
            elif step == "again":
                initial_load.copy_range(world.job(), keys.randrange(4))
                missing = list(initial_load.missing_ranges(world.job()))
        _load(world)
        world.run()
        assert _lake(world) == _source(world)
        assert world.hidden == [], "nothing is left lying about"


def test_a_failed_load_goes_on_with_the_missing_ranges_alone(world: World) -> None:
    missing = initial_load.missing_ranges(world.job())
    initial_load.copy_range(world.job(), 0)
    initial_load.copy_range(world.job(), 2)
    with pytest.raises(
        StateError, match=r"DimUser: .* 4 ranges these are missing: 2, 4; run again"
    ):
        initial_load.finish(world.job())
    assert world.state.cdc is None, "the watermark waits for every range"
    before = _inodes(world)
    again = initial_load.missing_ranges(world.job())
    assert list(again) == [1, 3]
    assert all(again[n] == missing[n] for n in again), "the ranges stay as they were planned"
    assert initial_load.copy_range(world.job(), 0)["rows"] == 0, "a range is not read again"
    assert list(_load(world)) == [1, 3]
    assert before.items() <= _inodes(world).items()
    assert _lake(world) == _source(world)


def _inodes(world: World) -> dict[str, int]:
    folder = world.store.root / world.lake.bronze_folder(world.name)
    return {name: (folder / name).stat().st_ino for name in world.published}


def test_what_the_lake_cannot_hold_is_told_once(tmp_path: Path) -> None:
    ddl = DIM_USER.replace("user_name TEXT", "user_name NUMERIC")
    world = make_world(tmp_path, ddl, SPLIT)
    world.put(*((n, n / 2, OLD) for n in range(1, 21)))
    missing = initial_load.missing_ranges(world.job())
    notes = [initial_load.copy_range(world.job(), number)["note"] for number in missing]
    assert "user_name (NUMERIC): NUMERIC has no precision" in notes[0]
    assert notes[1:] == [None] * 3


def test_a_range_that_lost_its_rows_is_done_too(world: World) -> None:
    missing = initial_load.missing_ranges(world.job())
    world.sql("DELETE FROM DimUser WHERE user_id BETWEEN 6 AND 10")
    for number in missing:
        initial_load.copy_range(world.job(), number)
    assert initial_load.missing_ranges(world.job()) == {}
    assert len(world.published) == 3, "an empty file is none"
    assert initial_load.finish(world.job())["ranges"] == 4


def test_of_two_attempts_at_a_range_one_publishes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    initial_load.missing_ranges(world.job())
    first = initial_load.copy_range(world.job(), 1)
    content = world.store.read(first["file"])
    # A worker that was given up goes on: it does not know of the other's file.
    monkeypatch.setattr(initial_load, "still_missing", lambda _job, _load: [1])
    with pytest.raises(ReadOvertaken, match="already published"):
        initial_load.copy_range(world.job(), 1)
    assert world.store.read(first["file"]) == content
    assert world.hidden == []


def test_a_range_of_a_load_that_is_over_publishes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    initial_load.missing_ranges(world.job())
    monkeypatch.setattr(initial_load, "land", _then(world.run, initial_load.land))
    with pytest.raises(ReadOvertaken, match=r"the initial load of .* is over"):
        initial_load.copy_range(world.job(), 1)
    assert len(world.published) == 1
    assert _lake(world) == _source(world)


def _then(between: Any, work: Any) -> Any:
    def call(*arguments: Any) -> Any:
        result = work(*arguments)
        between()
        return result

    return call


def test_a_load_whose_metadata_changed_is_given_up_without_ghosts(world: World) -> None:
    initial_load.missing_ranges(world.job())
    initial_load.copy_range(world.job(), 0)
    world.sql("DELETE FROM DimUser WHERE user_id = 2")
    world.table = load_table(world.folder, "strategy: snapshot")
    assert initial_load.missing_ranges(world.job()) == {}
    assert world.state.load is None
    copied = world.run()
    assert copied["anew"]
    assert _lake(world) == _source(world), "what was deleted meanwhile is gone"


def test_a_range_leaves_out_what_the_metadata_withholds_whatever_came_before(
    tmp_path: Path,
) -> None:
    world = make_world(tmp_path, fields=f"{SPLIT}, null_cursor: exclude")
    world.put(*((n, f"n{n}", OLD) for n in range(1, 21)))
    for number in (2, 12, 19):
        world.put((number, "withheld", None if number == 12 else "2099-01-01 00:00:00"))
    for number in (3, 0, 2, 1):
        initial_load.missing_ranges(world.job())
        initial_load.copy_range(world.job(), number)
    initial_load.finish(world.job())
    assert {row["_operation"] for row in world.bronze()} == {"upsert"}
    assert {row["user_id"] for row in world.bronze()} == {*range(1, 21)} - {2, 12, 19}
    assert "user_id=2" in str(world.run()["not_seen"]["future"]["keys"])


def test_a_key_in_another_order_is_another_and_stops_the_load(tmp_path: Path) -> None:
    """Its ranges would be cut by another column, and be found empty."""
    ddl = "CREATE TABLE T (a INTEGER, b INTEGER, at TIMESTAMP, PRIMARY KEY (a, b))"
    fields = "cursor: at, strategy: watermark, initial_ranges: 4"
    world = make_world(tmp_path, ddl, f"key: [a, b], {fields}")
    world.put(*((n, n + 1000, OLD) for n in range(40)))
    missing = initial_load.missing_ranges(world.job())
    initial_load.copy_range(world.job(), 0)
    world.table = load_table(tmp_path, f"key: [b, a], {fields}", "T")
    for number in list(missing)[1:]:
        with pytest.raises(StateError, match=r"planned with key \(a, b\).* clear missing_ranges"):
            initial_load.copy_range(world.job(), number)
    with pytest.raises(StateError, match="config/ says otherwise now"):
        initial_load.finish(world.job())
    assert initial_load.missing_ranges(world.job()) == {}
    world.run()
    assert len(world.replay()) == 40


def test_a_plan_that_comes_late_begins_no_load(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile() -> None:
        monkeypatch.undo()
        _load(world)
        world.put((20, "changed", NEW))
        world.run()

    monkeypatch.setattr(initial_load, "cut", _then(meanwhile, initial_load.cut))
    with pytest.raises(ReadOvertaken, match="another read has ended"):
        initial_load.missing_ranges(world.job())
    assert (world.state.cdc, world.state.load) == (NEW, None)


def test_a_table_that_the_lake_knows_is_not_loaded_in_ranges(world: World) -> None:
    world.run()
    assert initial_load.missing_ranges(world.job()) == {}
    assert initial_load.finish(world.job()) == {"watermark": OLD, "ranges": 0}


def test_adfs_watermark_is_gone_on_from_without_a_load(tmp_path: Path) -> None:
    world = make_world(tmp_path, fields=SPLIT, cdc=OLD)
    world.put(*((n, "a", OLD) for n in range(1, 21)))
    assert initial_load.missing_ranges(world.job()) == {}
    assert world.state.cdc == OLD


@pytest.mark.parametrize(
    ("ddl", "fields", "reason"),
    [
        ("CREATE TABLE T (k BLOB, at TIMESTAMP)", "strategy: watermark", "k', of type binary"),
        ("CREATE TABLE T (k INTEGER, at TIMESTAMP)", "strategy: watermark", "has too few values"),
    ],
)
def test_what_cannot_be_split_is_one_read_and_plan_says_why(
    tmp_path: Path, ddl: str, fields: str, reason: str
) -> None:
    world = make_world(tmp_path, ddl, f"key: k, cursor: at, initial_ranges: 3, {fields}")
    world.sql("INSERT INTO T VALUES (1, '2026-01-01 10:00:00')")
    assert f"the initial load is one read: {'' if 'few' in reason else 'the key begins'}" in render(
        plan_table(world.job())
    )
    assert reason in render(plan_table(world.job()))
    assert initial_load.missing_ranges(world.job()) == {}
    assert world.state.load is None


def test_plan_shows_the_ranges_and_then_those_that_are_missing(world: World) -> None:
    shown = render(plan_table(world.job()))
    assert "ranges      4, read side by side, cut at user_id = 6, 11, 16" in shown
    assert world.state.load is None, "a plan writes nothing"
    initial_load.missing_ranges(world.job())
    for number in (0, 1, 3):
        initial_load.copy_range(world.job(), number)
    shown = render(plan_table(world.job()))
    assert "ranges      of 4, 1 are missing: 11 <= user_id < 16" in shown
    _load(world)
    assert "ranges" not in render(plan_table(world.job()))


def test_a_key_that_is_not_unique_is_refused_before_any_range(tmp_path: Path) -> None:
    ddl = DIM_USER.replace("INTEGER PRIMARY KEY", "INTEGER")
    world = make_world(tmp_path, ddl, SPLIT)
    world.sql(*(f"INSERT INTO DimUser VALUES ({n // 2}, 'a', '{OLD}')" for n in range(20)))
    with pytest.raises(SourceError, match="user_id=0"):
        initial_load.missing_ranges(world.job())
    assert world.published == []


def test_a_load_survives_being_stored() -> None:
    load = InitialLoad(
        sequence=datetime(2026, 1, 1, tzinfo=UTC), bounds=("a", "ü\n"),
        strategy="rowversion", position={"rowversion": "0x01"}, high=None, tail=None,
        cursor=None, kind=None, key=("id", "n"), layout="dated", empty=(1,),
    )  # fmt: skip
    assert from_json(json.loads(json.dumps(as_json(load)))) == load


def test_a_load_that_cannot_be_read_is_named(world: World) -> None:
    initial_load.missing_ranges(world.job())
    path = world.folder / "lake" / world.lake.state_file(world.name)
    state = json.loads(path.read_text())
    del state["tidemark"]["load"]["bounds"]
    path.write_text(json.dumps(state))
    with pytest.raises(StateError, match=r"cdc\.json: no watermark can be read .*bounds"):
        initial_load.missing_ranges(world.job())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("initial_ranges: 1", "no number from 2 to 100"),
        ("initial_ranges: 101", "no number from 2 to 100"),
        ("initial_ranges: '4'", "initial_ranges"),
        ("strategy: snapshot, initial_ranges: 4", "reads the whole table in one; leave it out"),
    ],
)
def test_the_metadata_takes_a_number_of_ranges(tmp_path: Path, fields: str, message: str) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(f"source: {{connection: a}}\ntables:\n  T: {{key: id, cursor: at, {fields}}}\n")
    with pytest.raises(ConfigError, match=message):
        load_source(path)


def test_sqlites_strict_reader_is_used_for_each_range(tmp_path: Path) -> None:
    """A value that does not fit its column fails its range, and the others are kept."""
    world = make_world(tmp_path, fields=SPLIT)
    world.put(*((n, "a", OLD) for n in range(1, 21)))
    with sqlite3.connect(world.database) as connection:
        connection.execute("UPDATE DimUser SET user_name = x'ff' WHERE user_id = 7")
    missing = initial_load.missing_ranges(world.job())
    failed = []
    for number in missing:
        try:
            initial_load.copy_range(world.job(), number)
        except SourceError:
            failed.append(number)
    assert failed == [1]
    world.put((7, "mended", OLD))
    _load(world)
    assert _lake(world) == _source(world)


def test_the_job_may_be_given_another_number_of_ranges_meanwhile(world: World) -> None:
    initial_load.missing_ranges(world.job())
    other = replace(
        world.job(), table=load_table(world.folder, "strategy: watermark, initial_ranges: 9")
    )
    assert len(initial_load.missing_ranges(other)) == 4
