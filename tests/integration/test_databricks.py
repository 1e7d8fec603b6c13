"""The whole Dag with `compute: databricks`: the real silver job, the real pipeline, the real log.

The workspace is a stand-in (`tests/support/databricks_workspace`), which executes what the bundle
deploys with local Spark. What a workspace can do to a run is in `tests/dags/test_databricks.py`.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from databricks_workspace import Workspace, serve
from home_harness import DagRuns, Home

from tidemark.layout import Lake
from tidemark.pending import gold_pending
from tidemark.report import RunReport, load, render_text
from tidemark.storage import open_store

CONFIG = """
source: {{connection: spotify_sql, schema: dbo}}
tasks: {{retries: 0}}
compute: {compute}
databricks: {{poll: 1s}}
defaults: {{cursor: updated_at}}
tables:
  DimUser:
    key: user_id
    gold: {{scd: 2, expect_or_drop: {{known: user_id > 10}}, expect: {{old: "user_id <= 490"}}}}
  DimArtist: {{key: artist_id, gold: {{scd: 1, {kind}: {{real: "country <> 'Nowhere'"}}}}}}
"""
TABLES = ("dim_user", "dim_artist", "dim_user_quarantine")


@dataclass(frozen=True)
class World:
    """A home whose Dag runs on Databricks, and the workspace."""

    folder: Path
    home: Home
    workspace: Workspace
    dag: DagRuns

    def configure(self, kind: str = "expect_or_fail") -> None:
        text = CONFIG.format(compute="databricks", kind=kind)
        (self.folder / "config" / "spotify.yaml").write_text(text)

    def deploy(self) -> None:
        self.workspace.deploy(self.folder / "config", str(self.home.lake))

    def report(self, run_id: str) -> RunReport:
        lake = Lake(str(self.home.lake))
        return load(open_store(lake.root), lake, "spotify", run_id)

    def why(self, run_id: str, task: str) -> str:
        return next(f.exception for f in self.report(run_id).failures if f.task_id == task)

    def change(self, statement: str) -> None:
        with closing(sqlite3.connect(self.home.database)) as connection, connection:
            connection.execute(statement)

    def asked(self, path: str) -> list[dict[str, Any]]:
        return [dict(call.body) for call in self.workspace.asked("POST", path)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("databricks")
    (folder / "config").mkdir()
    with serve(folder / "workspace") as workspace:
        variables = {
            "TIDEMARK_CONFIG": str(folder / "config"),
            "AIRFLOW_CONN_DATABRICKS_DEFAULT": json.dumps(workspace.connection()),
        }
        home = Home(folder / "home", variables)
        home.tidemark("sample")
        (folder / "config" / "spotify.yaml").write_text(
            CONFIG.format(compute="databricks", kind="expect_or_fail")
        )
        with home.dag() as dag:
            found = World(folder, home, workspace, dag)
            found.deploy()
            yield found


def test_the_whole_dag_runs_on_databricks(world: World) -> None:
    ended = world.dag.run()
    assert ended.state == "success", world.report(ended.run_id)
    assert (ended.tasks["silver"], ended.tasks["gold"]) == ("success", "success")
    (started,) = world.asked("run-now")
    assert started["job_parameters"]["tables"] == "DimUser,DimArtist"
    assert world.asked(r"/updates$") == [{"full_refresh": False}]
    report = world.report(ended.run_id)
    users = report.tables["DimUser"]
    assert (users.rows, users.silver_rows, users.gold_rows) == (500, 500, 490)
    assert report.dropped == {"dim_user": {"known": 10}}
    assert report.warned == {"dim_user": {"old": 10}}
    assert report.quarantined == {"dim_user": 10}
    lake = Lake(str(world.home.lake))
    assert gold_pending(open_store(lake.root), lake, ["DimUser", "DimArtist"]) == []


def test_gold_equals_what_spark_makes_of_the_same_bronze(world: World) -> None:
    folder = world.folder / "spark"
    (folder / "config").mkdir(parents=True)
    text = CONFIG.format(compute="spark", kind="expect_or_fail")
    (folder / "config" / "spotify.yaml").write_text(text)
    database = {"conn_type": "sqlite", "host": str(world.home.database)}
    variables = {
        "TIDEMARK_CONFIG": str(folder / "config"),
        "AIRFLOW_CONN_SPOTIFY_SQL": json.dumps(database),
    }
    other = Home(folder / "home", variables)
    shutil.copytree(world.home.lake / "bronze", other.lake / "bronze")
    with other.dag() as dag:
        ended = dag.run()
    assert ended.state == "success"
    assert ended.tasks["DimUser.advance_watermark"] == "skipped", "it reads nothing of its own"
    for name in TABLES:
        assert _sorted(other, name) == _sorted(world.home, name), name
        assert _sorted(other, name)


def _sorted(home: Home, name: str) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in home.rows(f"gold/{name}"))


def test_nothing_pending_starts_neither(world: World) -> None:
    before = len(world.workspace.jobs.runs), len(world.asked(r"/updates$"))
    ended = world.dag.run()
    assert ended.state == "success"
    assert (ended.tasks["silver"], ended.tasks["gold"]) == ("skipped", "skipped")
    assert (len(world.workspace.jobs.runs), len(world.asked(r"/updates$"))) == before


def test_a_failed_table_and_a_failed_expectation_are_told_and_hold_up_no_other(
    world: World,
) -> None:
    later = "updated_at = '2026-02-01 00:00:00'"
    world.change(f"UPDATE DimUser SET country = 'Atlantis', {later} WHERE user_id = 77")
    world.change(f"UPDATE DimArtist SET country = 'Nowhere', {later} WHERE artist_id = 7")
    table, aside = world.home.lake / "silver" / "DimUser", world.home.lake / "silver" / "_aside"
    table.rename(aside)
    table.write_text("in the way")
    ended = world.dag.run()
    table.unlink()
    aside.rename(table)
    assert (ended.tasks["silver"], ended.tasks["gold"]) == ("failed", "failed")
    assert "silver: 1 of 2 tables failed:\n  DimUser: " in world.why(ended.run_id, "silver")
    told = world.why(ended.run_id, "gold")
    assert "flow dim_artist: [EXPECTATION_VIOLATION" in told
    assert "Violated expectations: 'real'" in told
    assert "Nowhere" not in told, "the row is in the event log, and nobody's to mail"
    links = [f.run_url for f in world.report(ended.run_id).failures if f.run_url]
    assert len(links) == 2
    assert all(link in render_text(world.report(ended.run_id)) for link in links)


def test_other_metadata_than_deployed_is_refused_until_the_bundle_is_deployed(
    world: World,
) -> None:
    world.configure("expect_or_drop")
    ended = world.dag.run()
    assert ended.tasks["silver"] == "failed"
    assert "deploy the bundle" in world.why(ended.run_id, "silver")
    assert "deploy the bundle" in world.why(ended.run_id, "gold")
    world.deploy()
    with world.home.dag() as parsed_anew:
        ended = parsed_anew.run()
    assert ended.state == "success", world.report(ended.run_id)
    report = world.report(ended.run_id)
    assert report.dropped == {"dim_artist": {"real": 1}}
    found = [r for r in world.home.rows("gold/dim_user") if r["user_id"] == 77]
    assert sorted(r["country"] for r in found if r["__END_AT"] is None) == ["Atlantis"]


def test_a_full_refresh_is_made_only_when_asked_for(world: World) -> None:
    before = {name: len(world.home.rows(f"gold/{name}")) for name in TABLES}
    ended = world.dag.run(full_refresh=True)
    assert ended.state == "success", world.report(ended.run_id)
    assert (ended.tasks["silver"], ended.tasks["gold"]) == ("skipped", "success")
    asked = [body["full_refresh"] for body in world.asked(r"/updates$")]
    assert asked == [*[False] * (len(asked) - 1), True]
    assert {name: len(world.home.rows(f"gold/{name}")) for name in TABLES} == before
