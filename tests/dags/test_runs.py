"""Real runs over a real source, up to where Spark would start."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from airflow.models.dagrun import DagRun

from tidemark.airflow.factory import build_dags
from tidemark.layers_lock import as_a_rebuild
from tidemark.pending import silver_pending
from tidemark.report import load
from tidemark.settings import load_settings
from tidemark.storage import open_store

pytestmark = pytest.mark.usefixtures("airflow_database", "source")
Write = Callable[..., Path]


def _run(conf: dict[str, Any] | None = None) -> tuple[DagRun, dict[str, str]]:
    run = build_dags()["spotify"].test(run_conf=conf)
    return run, {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


def _reasons(run: DagRun) -> dict[str, str]:
    lake = load_settings().lake
    report = load(open_store(lake.root), lake, "spotify", run.run_id)
    return {failure.task_id: failure.exception for failure in report.failures}


def _files(home: Path, table: str) -> list[Path]:
    return list((home / "lake" / "bronze" / table).glob(f"{table}_*.parquet"))


def _watermark(home: Path, table: str) -> str | None:
    state = json.loads((home / "lake" / "bronze" / f"{table}_cdc" / "cdc.json").read_text())
    value: str | None = state.get("cdc")
    return value


def test_an_empty_source_is_a_green_run_that_starts_no_spark(write: Write, source: Path) -> None:
    write("DimUser", "DimArtist")
    with sqlite3.connect(source) as connection:
        connection.execute("DELETE FROM DimUser")
        connection.execute("DELETE FROM DimArtist")
    run, states = _run()
    assert run.state == "success"
    assert states["DimUser.has_rows"] == "success"
    assert states["DimUser.advance_watermark"] == "skipped"
    assert states["DimUser.discard_empty"] == "success"
    spark = ("pending_for_silver", "silver", "pending_for_gold", "gold")
    assert {states[task] for task in spark} == {"skipped"}
    assert states["report"] == "success"


def test_a_missing_table_holds_up_no_other_and_the_run_ends_red(
    write: Write, source: Path, home: Path
) -> None:
    write("DimUser", "DimArtist", "DimTrack")
    with sqlite3.connect(source) as connection:
        connection.execute("DROP TABLE DimArtist")
    run, states = _run()
    assert run.state == "failed"
    assert states["DimArtist.copy_to_bronze"] == "failed"
    assert states["DimArtist.has_rows"] == "upstream_failed"
    for table in ("DimUser", "DimTrack"):
        assert states[f"{table}.advance_watermark"] == "success"
        assert states[f"{table}.discard_empty"] == "skipped"
        assert len(_files(home, table)) == 1
        assert _watermark(home, table) is not None
    assert not _files(home, "DimArtist")
    # There is no Spark connection either: said before Spark is started, not by Spark.
    assert states["pending_for_silver"] == "failed"
    assert states["silver"] == "upstream_failed"
    reasons = _reasons(run)
    assert "DimArtist" in reasons["DimArtist.copy_to_bronze"]
    assert "airflow connections add tidemark_spark" in reasons["pending_for_silver"]
    assert "DimArtist.copy_to_bronze" in reasons["report"]
    assert "left out because of that" in reasons["report"]


def test_an_initial_load_whose_range_fails_goes_on_with_it_alone(
    write: Write, source: Path, home: Path
) -> None:
    ranged = {"key": "user_id", "cursor": "updated_at", "strategy": "watermark"}
    write(tables={"DimUser": ranged | {"initial_ranges": 3}, "DimArtist": {"key": "artist_id"}})
    with sqlite3.connect(source) as connection:
        connection.execute("UPDATE DimUser SET user_name = x'ff' WHERE user_id = 1")
    run, states = _run()
    assert _ranges(run) == {0: "failed", 1: "success", 2: "success"}
    assert states["DimUser.finish_initial_load"] == "upstream_failed"
    assert states["DimUser.copy_to_bronze"] == "upstream_failed"
    assert states["DimArtist.advance_watermark"] == "success"
    assert _watermark(home, "DimUser") is None
    first = _files(home, "DimUser")
    assert len(first) == 2
    assert "user_name" in _reasons(run)["DimUser.copy_range_0"]

    _, states = _run({"tables": ["DimUser"], "from_date": "2025-12-31T12:00:00+00:00"})
    assert states["DimUser.advance_watermark"] == "success", "a backfill beside it is not held up"
    first = _files(home, "DimUser")
    assert (len(first), _watermark(home, "DimUser")) == (3, None)

    with sqlite3.connect(source) as connection:
        connection.execute("UPDATE DimUser SET user_name = 'mended' WHERE user_id = 1")
        (users,) = connection.execute("SELECT count(*) FROM DimUser").fetchone()
    run, states = _run()
    assert _ranges(run) == {0: "success"}, "the one that was missing"
    assert states["DimUser.finish_initial_load"] == "success"
    assert _watermark(home, "DimUser") is not None
    files = _files(home, "DimUser")
    assert set(first) < set(files), "what was there was not read again"
    read = {i for f in files for i in pq.read_table(f, partitioning=None)["user_id"].to_pylist()}
    assert read == set(range(1, users + 1))

    _, states = _run()
    assert states["DimUser.copy_range"] == "skipped", "the load is over"
    assert states["DimUser.copy_to_bronze"] == "success"


def _ranges(run: DagRun) -> dict[int, str]:
    tasks = run.get_task_instances()
    return {t.map_index: str(t.state) for t in tasks if t.task_id.endswith("copy_range")}


def test_a_run_for_another_table_or_a_span_of_time_loads_no_ranges(
    write: Write, home: Path
) -> None:
    ranged = {"key": "user_id", "cursor": "updated_at", "initial_ranges": 3}
    write(tables={"DimUser": ranged, "DimArtist": {"key": "artist_id"}})
    _, states = _run({"tables": ["DimArtist"]})
    for step in ("missing_ranges", "finish_initial_load", "lookup_watermark", "copy_to_bronze"):
        assert states[f"DimUser.{step}"] == "skipped"
    _, states = _run({"tables": ["DimUser"], "from_date": "2020-01-01T00:00:00+00:00"})
    assert states["DimUser.missing_ranges"] == "success"
    assert states["DimUser.copy_range"] == "skipped"
    assert states["DimUser.copy_to_bronze"] == "success"
    assert len(_files(home, "DimUser")) == 1
    assert _watermark(home, "DimUser") is None


def test_beside_a_rebuild_a_run_reads_and_leaves_the_rest_to_the_next(
    write: Write, home: Path
) -> None:
    write("DimUser")
    lake = load_settings().lake
    store = open_store(lake.root)
    with as_a_rebuild(lake, "spotify"):
        run, states = _run()
    assert states["DimUser.advance_watermark"] == "success"
    assert len(_files(home, "DimUser")) == 1
    assert states["pending_for_silver"] == "failed"
    assert "is rebuilding its silver and gold" in _reasons(run)["pending_for_silver"]
    assert silver_pending(store, lake, ["DimUser"]) == ["DimUser"]

    # What says that something is pending, or not, is half old, half new.
    store.write(lake.swap_file("spotify"), b"{}")
    run, states = _run()
    assert states["pending_for_gold"] == "failed"
    assert "complete it with `tidemark rebuild spotify`" in _reasons(run)["pending_for_gold"]


def test_a_run_for_one_table_skips_the_others(write: Write, home: Path) -> None:
    write("DimUser", "DimArtist")
    _, states = _run({"tables": ["DimArtist"]})
    assert {states[f"DimUser.{step}"] for step in ("lookup_watermark", "copy_to_bronze")} == {
        "skipped"
    }
    assert states["DimUser.advance_watermark"] == states["DimUser.discard_empty"] == "skipped"
    assert states["DimArtist.advance_watermark"] == "success"
    assert not _files(home, "DimUser")


def test_a_table_that_does_not_exist_fails_the_first_task(write: Write, home: Path) -> None:
    write("DimUser")
    run, states = _run({"tables": ["DimUsr"]})
    assert run.state == "failed"
    assert states["DimUser.lookup_watermark"] == "failed"
    assert "did you mean 'DimUser'" in _reasons(run)["DimUser.lookup_watermark"]
    assert not _files(home, "DimUser")


def test_a_span_is_read_again_and_the_watermark_stays(
    write: Write, source: Path, home: Path
) -> None:
    write("DimUser")
    _run()
    before = _watermark(home, "DimUser")
    with sqlite3.connect(source) as connection:
        (day,) = connection.execute("SELECT date(MIN(updated_at)) FROM DimUser").fetchone()
        sql = "SELECT COUNT(*) FROM DimUser WHERE date(updated_at) = ?"
        (expected,) = connection.execute(sql, [day]).fetchone()
    run, states = _run({"from_date": day, "to_date": day})
    assert states["DimUser.advance_watermark"] == "success"
    assert _watermark(home, "DimUser") == before
    lake = load_settings().lake
    table = load(open_store(lake.root), lake, "spotify", run.run_id).tables["DimUser"]
    assert (table.rows, table.backfill) == (expected, True)
