"""`tidemark plan`: what the next run would read, per strategy; and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from core_harness import World, load_table, make_world

from tidemark.cli import main
from tidemark.extract import sqlite
from tidemark.plan import TablePlan, plan_table, render

AT = "2026-01-01 10:00:00"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "source.db")}
    monkeypatch.setenv("AIRFLOW_CONN_SPOTIFY_SQL", json.dumps(connection))
    monkeypatch.setenv("TIDEMARK_HOME", str(tmp_path))
    monkeypatch.setenv("TIDEMARK_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("TIDEMARK_LAKE", raising=False)
    world = make_world(tmp_path, fields="strategy: watermark")
    world.put((1, "a", AT), (2, "b", "2026-01-01 11:30:00"), (3, "c", "2099-01-01 00:00:00"))
    return world


def plan(world: World, fields: str) -> TablePlan:
    world.table = load_table(world.folder, fields)
    return plan_table(world.job())


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("strategy", ["watermark", "snapshot"])
def test_nothing_is_written(world: World, strategy: str, *, loaded: bool) -> None:
    world.table = load_table(world.folder, f"strategy: {strategy}")
    if loaded:
        world.run()
    before = everything(world.folder)
    assert main(["plan", "spotify"]) == 0
    assert everything(world.folder) == before
    assert (world.folder / "lake").exists() == loaded


def test_a_watermark_shows_its_window_and_the_bound_values(world: World) -> None:
    first = plan(world, "strategy: watermark")
    assert (first.rows, first.table_rows, first.low, first.high) == (
        2, 3, None, "2026-01-01 11:30:00",
    )  # fmt: skip
    assert first.not_seen == {"future": 1}
    world.run()
    world.put((4, "d", "2026-01-01 12:00:00"))
    found = plan(world, "strategy: watermark")
    assert found.rows == 2
    assert "tidemark_timestamp(updated_at) >= tidemark_timestamp(:" in (found.sql or "")
    assert list(found.bound.values()) == ["2026-01-01 10:30:00", "2026-01-01 12:00:00"]
    assert "deletes" in found.cannot_see
    shown = render(found)
    assert "DimUser: watermark: config/ names it" in shown
    assert "= '2026-01-01 10:30:00'" in shown
    assert "rows        2 now, of 4 in the table" in shown
    assert "watermark   2026-01-01 11:30:00 → 2026-01-01 12:00:00" in shown
    assert all(len(line) <= 100 for line in shown.splitlines())


def test_a_snapshot_reads_the_whole_table(world: World) -> None:
    found = plan(world, "strategy: snapshot")
    assert (found.window, found.rows, found.table_rows) == ("the whole table", 3, 3)
    assert found.cannot_see == ("versions of a row that came and went between two reads",)


def test_a_change_of_strategy_says_that_all_is_read_anew(world: World) -> None:
    world.run()
    found = plan(world, "strategy: snapshot")
    assert found.anew == "the strategy was watermark and is snapshot now"
    assert "nothing that was stored counts" in render(found)


def test_without_a_strategy_the_reason_is_told(world: World) -> None:
    found = plan(world, "lookback: 0m")
    assert (found.strategy, found.why) == (
        "watermark",
        "there is a cursor, updated_at, and no change log",
    )


@pytest.mark.parametrize("strategy", ["rowversion", "change_tracking", "cdc"])
def test_an_error_of_one_table_hides_no_other(
    world: World, capsys: pytest.CaptureFixture[str], strategy: str
) -> None:
    config = world.folder / "config" / "spotify.yaml"
    config.write_text(f"{config.read_text()}  Song: {{key: id, strategy: {strategy}}}\n")
    world.sql("CREATE TABLE Song (id INTEGER PRIMARY KEY)")
    assert main(["plan", "spotify"]) == 1
    shown = capsys.readouterr().out
    assert "DimUser: watermark" in shown
    assert "Song: FAILED\n  table Song: strategy" in shown
    assert main(["plan", "spotify", "--table", "DimUser", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [table["table"] for table in value["tables"]] == ["DimUser"]


def test_a_column_that_loses_something_is_named(world: World) -> None:
    world.sql("ALTER TABLE DimUser ADD COLUMN price NUMERIC")
    found = plan(world, "strategy: snapshot")
    assert list(found.loses) == ["price"]
    assert "NUMERIC has no precision" in render(found)


@pytest.mark.parametrize(
    ("declared", "loses"),
    [("NUMERIC", True), ("decimal", True), ("DECIMAL(9,2)", False), ("TEXT", False)],
)
def test_what_sqlite_types_lose(declared: str, *, loses: bool) -> None:
    assert (sqlite.cut(declared) is not None) == loses
