"""`bronze_layout`: where a read's file lies, and that both places are read whatever it says."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from core_harness import DIM_USER, InterruptedStore, World, make_world

from tidemark.errors import ConfigError, LakeError
from tidemark.metadata import load_source
from tidemark.pending import bronze_snapshot, mark_silver_done, silver_pending
from tidemark.published import bronze_files
from tidemark.rebuild import survey
from tidemark.reconcile import Options, reconcile_table
from tidemark.watermark import reserve

TEN, ELEVEN, NOON = (f"2026-01-01 {hour}:00:00" for hour in (10, 11, 12))
DATED = r"bronze/DimUser/date=(\d{4}-\d\d-\d\d)/DimUser_(\d{8})T\d{12}Z\.parquet"
FLAT = r"bronze/DimUser/DimUser_\d{8}T\d{12}Z\.parquet"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, fields="bronze_layout: dated")


def names_of(world: World) -> dict[int, str]:
    return {key: row["user_name"] for (key,), row in world.replay().items()}


# --- the metadata


def load(folder: Path, defaults: str, table: str) -> str:
    path = folder / "shop.yaml"
    path.write_text(
        f"source: {{connection: c}}\ndefaults: {{cursor: updated_at{defaults}}}\n"
        f"tables:\n  DimUser: {{key: user_id{table}}}\n"
    )
    return load_source(path).tables["DimUser"].bronze_layout


def test_flat_is_the_default_and_a_table_may_differ_from_the_others(tmp_path: Path) -> None:
    dated, flat = ", bronze_layout: dated", ", bronze_layout: flat"
    found = [load(tmp_path, *fields) for fields in (("", ""), (dated, ""), (dated, flat))]
    assert found == ["flat", "dated", "flat"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("date", "is 'date', which is not allowed; did you mean 'dated'? (allowed: flat, dated)"),
        ("true", "is true, which is not allowed (allowed: flat, dated)"),
    ],
)
def test_another_layout_is_refused_with_those_that_there_are(
    tmp_path: Path, value: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "", f", bronze_layout: {value}")
    assert f"table DimUser: field 'bronze_layout' {message}" in str(caught.value)
    with pytest.raises(ConfigError, match=re.escape(f"field 'defaults.bronze_layout' {message}")):
        load(tmp_path, f", bronze_layout: {value}", "")


# --- a read


def test_a_read_lies_in_the_folder_of_its_sequences_day(world: World) -> None:
    world.put((1, "a", TEN))
    copied = world.run()
    found = re.fullmatch(DATED, copied["file"])
    assert found
    assert copied["sequence"].startswith(found[1])
    assert found[2] == found[1].replace("-", "")
    assert world.published == [copied["file"].removeprefix("bronze/DimUser/")]
    assert names_of(world) == {1: "a"}


def test_switched_to_and_fro_nothing_is_read_again_and_nothing_lost(world: World) -> None:
    world.put((1, "a", TEN), (2, "b", TEN))
    forms, rows, sequences = [], [], []
    for layout, row in (
        ("flat", (2, "B", TEN)),
        ("dated", (3, "c", ELEVEN)),
        ("flat", (1, "A", NOON)),
        ("dated", (4, "late", ELEVEN)),
    ):
        world.switch(layout)
        world.put(row)
        copied = world.run()
        forms.append(copied["file"])
        rows.append(copied["rows"])
        sequences.append(copied["sequence"])
        assert world.run()["rows"] == 0
    assert [bool(re.fullmatch(DATED, form)) for form in forms] == [False, True, False, True]
    assert [bool(re.fullmatch(FLAT, form)) for form in forms] == [True, False, True, False]
    # The first read is of two rows; each later one finds its one change, and no other.
    assert rows == [2, 1, 1, 1]
    assert sequences == sorted(set(sequences))
    assert names_of(world) == {1: "A", 2: "B", 3: "c", 4: "late"}


def test_what_a_backfill_left_in_the_other_layout_makes_old_digests_void(world: World) -> None:
    world.put((1, "a", TEN))
    world.run()
    world.switch("flat")
    world.sql("UPDATE DimUser SET user_name = 'b'")
    world.copy()  # published, and killed before it advanced
    world.switch("dated")
    world.sql("UPDATE DimUser SET user_name = 'a'")
    assert world.run()["rows"] == 1
    assert names_of(world) == {1: "a"}


@pytest.mark.parametrize("lies", ["", "date=2099-01-01/"])
@pytest.mark.parametrize("layout", ["flat", "dated"])
def test_no_sequence_is_handed_out_twice_though_the_state_is_lost(
    world: World, layout: str, lies: str
) -> None:
    world.store.write(f"bronze/DimUser/{lies}DimUser_20990101T000000000007Z.parquet", b"")
    world.switch(layout)
    found = reserve(world.store, world.lake, "DimUser")
    assert found == datetime(2099, 1, 1, 0, 0, 0, 8, UTC)
    assert ("date=2099-01-01/" in world.job().bronze_file(found)) is (layout == "dated")


def test_what_a_killed_read_left_is_removed_whatever_the_layout_was(world: World) -> None:
    for layout, other in (("dated", "flat"), ("flat", "dated")):
        world.switch(layout)
        world.put((1, layout, TEN))
        with pytest.raises(LakeError):
            world.copy(store=InterruptedStore(world.store.root))
        assert len(world.hidden) == 2
        world.switch(other)
        assert world.run()["rows"] == 1
        assert world.hidden == []
    assert len(world.published) == 2


def test_a_snapshot_finds_deletes_over_both_layouts(tmp_path: Path) -> None:
    world = make_world(tmp_path, DIM_USER, "strategy: snapshot, bronze_layout: dated")
    world.put((1, "a", TEN), (2, "b", TEN))
    world.run()
    world.switch("flat")
    world.sql("DELETE FROM DimUser WHERE user_id = 1")
    assert (world.run()["deleted"], names_of(world)) == (1, {2: "b"})
    # Without its state the table is read whole, and every key that a file has is known.
    world.switch("dated")
    world.sql("DELETE FROM DimUser WHERE user_id = 2")
    world.store.remove(world.lake.state_file("DimUser"))
    assert (world.run()["deleted"], names_of(world)) == (2, {})


def test_a_repair_is_published_in_the_tables_layout(world: World) -> None:
    world.switch("flat")
    world.put((1, "a", TEN), (2, "b", ELEVEN))
    world.run()
    world.switch("dated")
    world.sql(
        "UPDATE DimUser SET user_name = 'in place' WHERE user_id = 2",
        "DELETE FROM DimUser WHERE user_id = 1",
    )
    found = reconcile_table(world.job(), Options(repair=True))
    assert found.repair
    assert re.fullmatch(DATED, found.repair.file)
    assert names_of(world) == {2: "in place"}
    assert reconcile_table(world.job(), Options()).repair is None


# --- who lists the files


PLACES: dict[str, bool] = {
    "DimUser_20260101T000000000001Z.parquet": True,
    "DimUser_2025-10-07T19:49:55.1234567Z": True,
    "date=2026-01-02/DimUser_20260102T000000000001Z.parquet": True,
    "date=2026-01-02/_DimUser_20260102T000000000002Z.parquet": False,
    "_DimUser_20260102T000000000003Z.parquet": False,
    "broken/DimUser_20260102T000000000004Z.parquet": False,
    "date=2026-01-02/broken/DimUser_20260102T000000000005Z.parquet": False,
    "date=2026-01-02/_SUCCESS": False,
}


def test_files_of_both_layouts_are_listed_and_no_others(world: World) -> None:
    for place in PLACES:
        world.store.write(f"bronze/DimUser/{place}", b"")
    found = bronze_files(world.store, world.lake, "DimUser")
    assert {file.removeprefix("bronze/DimUser/") for file, _ in found} == {
        place for place, is_published in PLACES.items() if is_published
    }
    assert {sequence for _, sequence in found} == {
        datetime(2026, 1, 1, microsecond=1, tzinfo=UTC),
        datetime(2025, 10, 7, 19, 49, 55, 123456, UTC),
        datetime(2026, 1, 2, microsecond=1, tzinfo=UTC),
    }


def test_a_file_is_pending_in_either_layout_and_no_more_when_it_was_moved(world: World) -> None:
    lake: tuple[Any, Any] = (world.store, world.lake)
    flat, dated = (n for n, is_published in PLACES.items() if is_published and "_2026" in n)
    for place in (flat, dated):
        world.store.write(f"bronze/DimUser/{place}", b"")
        assert silver_pending(*lake, ["DimUser"]) == ["DimUser"]
        mark_silver_done(*lake, "DimUser", bronze_snapshot(*lake, "DimUser"))
        assert silver_pending(*lake, ["DimUser"]) == []
    world.store.move(f"bronze/DimUser/{dated}", f"bronze/DimUser/{dated.partition('/')[2]}")
    assert silver_pending(*lake, ["DimUser"]) == []


def test_a_rebuild_takes_the_files_of_both_layouts_and_knows_them_by_name(world: World) -> None:
    flat, dated = (n for n, is_published in PLACES.items() if is_published and "_2026" in n)
    for place in (flat, dated):
        world.store.write(f"bronze/DimUser/{place}", b"")
    gone = "DimUser_20250101T000000000000Z.parquet"
    names = f'"{flat}", "{dated.partition("/")[2]}", "{gone}"'
    met = f'{{"columns": {{}}, "files": [{names}]}}'
    world.store.write(world.lake.stream_schema("DimUser"), met.encode())
    (found,) = survey(world.store, world.lake, [world.table])
    assert set(found.files) == {f"bronze/DimUser/{flat}", f"bronze/DimUser/{dated}"}
    assert found.lost == (gone,)
