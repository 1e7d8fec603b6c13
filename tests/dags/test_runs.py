"""Real runs over a real source, up to where Spark would start."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def test_beside_a_rebuild_a_run_reads_and_leaves_the_rest_to_the_next(
    write: Write, home: Path
) -> None:
    write("DimUser")
    lake = load_settings().lake
    store = open_store(lake.root)
    with as_a_rebuild(store, lake, "spotify"):
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
