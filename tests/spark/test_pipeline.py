from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from small_view import write_view

from tidemark.errors import PipelineError
from tidemark.layout import Lake
from tidemark.metadata import load_source
from tidemark.spark.pipeline import PipelineReport, run_pipeline

PIPELINE = Path(__file__).resolve().parents[2] / "dlt"
META = (
    "TIMESTAMP '{day}' _sequence, '{operation}' _operation, CAST(NULL AS STRING) _source_sequence, "
    "X'00' _digest, 'r' _run_id"
)
CONFIG = """
source: {connection: music}
defaults: {cursor: updated_at}
tables:
  DimUser:
    key: user_id
    gold: {scd: 2, expect_or_drop: {valid_id: user_id IS NOT NULL, known_plan: "plan <> 'x'"}}
  DimTrack:
    key: track_id
    gold: {scd: 2, sequence_by: updated_at, track: [track_name]}
  FactStream:
    key: stream_id
    gold: {scd: 1}
"""
MONDAY, TUESDAY, WEDNESDAY = (datetime(2026, 1, day) for day in (5, 6, 7))  # noqa: DTZ001  Spark's


@dataclass(frozen=True)
class Home:
    """A lake, its metadata and a pipeline of its own."""

    spark: SparkSession
    lake: Lake
    config: Path
    pipeline: Path

    def change(
        self, table: str, values: str, day: str = "2026-01-05", operation: str = "upsert"
    ) -> None:
        """Append changes to a table's silver, as the silver job does."""
        meta = META.format(day=day, operation=operation)
        rows = self.spark.sql(f"SELECT *, {meta} FROM VALUES {values}")
        writer = rows.write.format("delta").mode("append").option("mergeSchema", "true")
        writer.save(self.lake.url(self.lake.changes(table)))

    def run(self, *tables: str) -> PipelineReport:
        return run_pipeline(
            self.spark, self.lake, load_source(self.config), self.pipeline, list(tables)
        )

    def gold(self, name: str) -> DataFrame:
        return self.spark.read.format("delta").load(self.lake.url(self.lake.gold(name)))

    def rows(self, name: str, *columns: str) -> set[tuple[Any, ...]]:
        return {tuple(row) for row in self.gold(name).select(*columns).collect()}

    def commits(self, *names: str) -> dict[str, int]:
        folders = {name: Path(self.lake.url(self.lake.gold(name)), "_delta_log") for name in names}
        return {name: len(list(folder.glob("*.json"))) for name, folder in folders.items()}


@pytest.fixture
def home(spark: SparkSession, tmp_path: Path) -> Iterator[Home]:
    config = tmp_path / "config" / "music.yaml"
    config.parent.mkdir()
    config.write_text(CONFIG)
    pipeline = tmp_path / "dlt"
    shutil.copytree(PIPELINE, pipeline, ignore=shutil.ignore_patterns("__pycache__"))
    write_view(pipeline, "music")
    yield Home(spark, Lake(str(tmp_path / "lake")), config, pipeline)
    assert not spark.catalog.listTables()  # views of one run are not seen by the next


USERS = "AS t(user_id, user_name, plan, updated_at)"
TRACKS = "AS t(track_id, track_name, artist_id, updated_at)"
STREAMS = "AS t(stream_id, user_id, track_id, listen_duration, stream_timestamp)"


def _first_day(home: Home) -> None:
    home.change("DimUser", f"(1, 'ANN', 'a', 1), (2, 'BO', 'a', 1), (3, 'CY', 'x', 1) {USERS}")
    home.change("DimUser", f"(NULL, 'NO', 'x', 1), (4, 'DI', NULL, 1) {USERS}")
    home.change("DimTrack", f"(7, 'Blue', 70, 3), (8, 'Red', 80, 3) {TRACKS}")
    home.change(
        "FactStream", f"(100, 1, 7, 30, 1), (101, 2, 7, 40, 2), (102, 2, 7, 5, 3) {STREAMS}"
    )


def test_three_runs_from_first_load_to_nothing_new(home: Home) -> None:
    _first_day(home)
    first = home.run("DimUser", "DimTrack", "FactStream")

    assert first.failure is None
    assert first.done == ["DimUser", "DimTrack", "FactStream"]
    assert (first.tables["DimUser"].rows_in, first.tables["DimUser"].rows) == (5, 2)
    # User 4's plan is NULL: not true is dropped. The row without an id fails both.
    assert first.dropped == {"dim_user": {"valid_id": 1, "known_plan": 3}}
    columns = ["user_id", "user_name", "plan", "updated_at", "__START_AT", "__END_AT"]
    assert home.gold("dim_user").columns == columns
    assert home.rows("track_popularity", "track_id", "streams", "listeners", "listen_seconds") == {
        (7, 3, 2, 75),
        (8, 0, 0, 0),
    }

    # A delete is no upsert: it is not judged. Track 7 is corrected, back-dated: into the past.
    home.change("DimUser", f"(1, 'ANN', 'b', 2), (5, 'ED', 'a', 2) {USERS}", "2026-01-06")
    home.change("DimUser", f"(2, NULL, 'x', 2) {USERS}", "2026-01-06", "delete")
    home.change("DimTrack", f"(7, 'Bleu', 70, 2), (8, 'Red', 81, 4) {TRACKS}", "2026-01-06")
    home.change("FactStream", f"(102, 2, 8, 6, 3) {STREAMS}", "2026-01-06")
    second = home.run("DimUser", "DimTrack", "FactStream")

    assert second.failure is None
    assert {name: t.rows_in for name, t in second.tables.items()} == {
        "DimUser": 3,
        "DimTrack": 2,
        "FactStream": 1,
    }
    assert home.rows("dim_user", "user_id", "plan", "__START_AT", "__END_AT") == {
        (1, "a", MONDAY, TUESDAY),
        (1, "b", TUESDAY, None),
        (2, "a", MONDAY, TUESDAY),
        (5, "a", TUESDAY, None),
    }
    assert home.rows(
        "dim_track", "track_id", "track_name", "artist_id", "__START_AT.updated_at"
    ) == {
        (7, "Bleu", 70, 2),
        (7, "Blue", 70, 3),
        (8, "Red", 81, 3),  # an untracked column is changed in place
    }
    assert home.rows("dim_track", "track_id", "__END_AT.updated_at") == {
        (7, 3),
        (7, None),
        (8, None),
    }
    assert home.rows("fact_stream", "stream_id", "track_id", "_sequence") == {
        (100, 7, MONDAY),
        (101, 7, MONDAY),
        (102, 8, TUESDAY),
    }
    assert home.rows("track_popularity", "track_id", "streams") == {(7, 2), (8, 1)}

    before = home.commits("dim_user", "dim_track", "fact_stream")
    third = home.run("DimUser", "DimTrack", "FactStream")
    assert [table.rows_in for table in third.tables.values()] == [0, 0, 0]
    assert home.commits("dim_user", "dim_track", "fact_stream") == before

    # One table alone is pending, with a column that is new.
    wider = USERS.replace(")", ", country)")
    home.change("DimUser", f"(5, 'ED', 'a', 3, 'AT') {wider}", "2026-01-07")
    fourth = home.run("DimUser")
    assert fourth.done == ["DimUser"]
    assert home.rows("dim_user", "user_id", "country", "__START_AT", "__END_AT") >= {
        (5, None, TUESDAY, WEDNESDAY),
        (5, "AT", WEDNESDAY, None),
    }


def test_gold_begins_anew_on_changes_that_grew_a_column_and_lost_their_first_commits(
    home: Home,
) -> None:
    changes = home.lake.url(home.lake.changes("DimUser"))
    home.change("DimUser", f"(1, 'ANN', 'a', 1), (2, 'BO', 'a', 1) {USERS}")
    home.spark.sql(
        f"ALTER TABLE delta.`{changes}` SET TBLPROPERTIES ('delta.checkpointInterval' = '1')"
    )
    wider = USERS.replace(")", ", country)")
    home.change("DimUser", f"(1, 'ANN', 'a', 2, 'AT') {wider}", "2026-01-06")
    columns = ("user_id", "country", "__START_AT", "__END_AT")
    assert home.run("DimUser").failure is None
    whole = home.rows("dim_user", *columns)
    assert whole == {(1, None, MONDAY, TUESDAY), (1, "AT", TUESDAY, None), (2, None, MONDAY, None)}

    for name in ("gold", "_tidemark"):
        shutil.rmtree(Path(home.lake.root, name))
    Path(changes, "_delta_log", f"{0:020}.json").unlink()  # what Delta does after thirty days
    home.change("DimUser", f"(3, 'CY', 'a', 3, NULL) {wider}", "2026-01-07")
    assert home.run("DimUser").failure is None
    assert home.rows("dim_user", *columns) == whole | {(3, None, WEDNESDAY, None)}


def test_what_fails_is_named_and_the_rest_is_done(home: Home, tmp_path: Path) -> None:
    text = home.config.read_text().replace("user_id IS NOT NULL", "usr_id IS NOT NULL")
    home.config.write_text(text)
    views = home.pipeline / "views" / "music.py"
    views.write_text(
        views.read_text()
        + """
@dp.materialized_view
def broken():
    return spark.read.table("fact_streem")

@dp.materialized_view
def over_users():
    return spark.read.table("dim_user")

@dp.materialized_view
def top():
    return spark.read.table("played").where("streams > 1")

@dp.temporary_view
def played():
    return spark.sql("SELECT * FROM track_popularity")
"""
    )
    _first_day(home)
    home.change("FactStream", f"(103, 1, 8, 30, 1) {STREAMS}")
    report = home.run("DimUser", "DimTrack", "FactStream", "DimUsr")

    assert {n: t.status for n, t in report.tables.items()} == {
        "DimUser": "failed",
        "DimTrack": "done",
        "FactStream": "done",
        "DimUsr": "failed",
    }
    assert {n: v.status for n, v in report.views.items()} == {
        "track_popularity": "done",
        "broken": "failed",
        "over_users": "skipped",
        "top": "done",
        "played": "done",
    }
    assert home.rows("top", "track_id", "streams") == {(7, 3)}
    assert isinstance(report.failure, PipelineError)
    message = str(report.failure)
    assert "3 of 9 tables and views failed" in message
    assert "dim_user: AnalysisException: [UNRESOLVED_COLUMN" in message
    assert "`usr_id`" in message
    assert "DimUsr: not a table with gold" in message
    assert "did you mean 'DimUser'?" in message
    assert (
        "broken: reads 'fact_streem', which is not declared; did you mean 'fact_stream'?" in message
    )
    assert "over_users: dim_user holds nothing yet" in str(report.views["over_users"].error)
    assert report.done == []  # the failed view is to be tried again

    report.write(tmp_path / "out" / "report.json")
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["tables"]["FactStream"]["rows"] == 4

    # Mended: the next run does what was left, and reads nothing twice.
    home.config.write_text(text.replace("usr_id", "user_id"))
    views.write_text(views.read_text().replace("fact_streem", "fact_stream"))
    again = home.run("DimUser", "DimTrack", "FactStream")
    assert again.done == ["DimUser", "DimTrack", "FactStream"]
    assert [table.rows_in for table in again.tables.values()] == [5, 0, 0]
    assert home.gold("over_users").count() == 2


def test_a_view_says_what_it_reads(home: Home) -> None:
    views = home.pipeline / "views" / "music.py"
    views.write_text(
        """
from pyspark.sql import SparkSession
from tidemark.spark.declare import materialized_view
spark = SparkSession.active()

@materialized_view(reads=["dim_track", "fact_stream"])
def played():
    return spark.sql("SELECT t.* FROM dim_track t JOIN fact_stream USING (track_id)")

@materialized_view(reads=["fact_stream"])
def silent():
    return spark.read.table("fact_stream").join(spark.read.table("dim_track"), "track_id", "semi")

@materialized_view(reads=["dim_user", "fact_stream"])
def waiting():
    return spark.read.table("dim_user").join(spark.read.table("fact_stream"), "user_id")
"""
    )
    _first_day(home)
    report = home.run("DimTrack", "FactStream")
    assert {n: v.status for n, v in report.views.items()} == {
        "played": "done",
        "silent": "failed",  # also where another view has brought the table before
        "waiting": "skipped",
    }
    assert "silent: it reads dim_track and does not say so" in str(report.failure)
    assert "waiting: dim_user holds nothing yet" in str(report.views["waiting"].error)


def test_changes_that_cannot_be_ordered_or_found_are_named(home: Home) -> None:
    home.change("DimUser", f"(1, 'ANN', 'a', 1) {USERS}")
    home.spark.sql("SELECT 1 AS id, 'Blue' AS track_name, 1 AS updated_at").write.format(
        "delta"
    ).save(home.lake.url(home.lake.changes("DimTrack")))
    null = home.spark.sql(
        "SELECT 1 stream_id, CAST(NULL AS TIMESTAMP) _sequence, 'upsert' _operation, "
        "'' _source_sequence, X'00' _digest, 'r' _run_id"
    )
    null.write.format("delta").save(home.lake.url(home.lake.changes("FactStream")))
    report = home.run("DimUser", "DimTrack", "FactStream")
    assert report.tables["DimUser"].status == "done"
    assert "dim_track: no column 'track_id'" in str(report.tables["DimTrack"].error)
    assert "fact_stream: 1 changes have no sequence" in str(report.tables["FactStream"].error)
    assert not Path(home.lake.url(home.lake.gold("fact_stream"))).exists()


def test_a_business_time_that_is_null_is_named(home: Home) -> None:
    home.change("DimTrack", f"(7, 'Blue', 70, 3), (8, 'Red', 80, CAST(NULL AS INT)) {TRACKS}")
    report = home.run("DimTrack")
    assert "dim_track: 1 changes have no sequence" in str(report.tables["DimTrack"].error)
