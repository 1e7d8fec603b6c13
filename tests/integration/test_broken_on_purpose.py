"""What a user breaks, and what happens then: the message, and that the next run mends it all."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from home_harness import DagRuns, Home, wait_until

from tidemark import warm_spark

CONFIG = """
source: {connection: spotify_sql, schema: dbo}
schedule: "@daily"
tasks: {retries: 0}
defaults: {cursor: updated_at}
tables:
  DimUser:   {key: user_id, gold: {scd: 2, expect_or_drop: {valid_id: user_id IS NOT NULL}}}
  DimArtist: {key: artist_id, gold: {scd: 1}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home of two tables, whose every Java process is noted down."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "config").mkdir()
    (folder / "config" / "spotify.yaml").write_text(CONFIG)
    noting = folder / "bin" / "java"
    noting.parent.mkdir()
    java = subprocess.run(["which", "java"], capture_output=True, text=True, check=True)
    noted = f'echo "$$" >> {folder}/java.log'
    noting.write_text(f'#!/bin/sh\n{noted}\nexec {java.stdout.strip()} "$@"\n')
    noting.chmod(0o755)
    extra = {
        "TIDEMARK_CONFIG": str(folder / "config"),
        "PATH": f"{noting.parent}:{os.environ['PATH']}",
        "JAVA_HOME": str(folder),
    }
    made = Home(folder / "home", extra, own_spark=True)
    made.tidemark("sample")
    return made


@pytest.fixture(scope="module")
def dag(home: Home) -> Iterator[DagRuns]:
    """The process in which all runs are made that need no Airflow of their own: a start is dear."""
    with home.dag() as runs:
        assert runs.run().state == "success"
        yield runs


def _java_starts(home: Home) -> list[str]:
    log = home.path.parent / "java.log"
    return log.read_text().split() if log.exists() else []


def _change(home: Home, statement: str) -> None:
    with closing(sqlite3.connect(home.database)) as connection, connection:
        connection.execute(statement)


def _cell(home: Home, relative: str, key: str, value: int, column: str) -> list[Any]:
    frame = pl.read_delta(str(home.lake / relative)).filter(pl.col(key) == value)
    return frame[column].to_list()


def test_nothing_pending_starts_no_java_process(home: Home, dag: DagRuns) -> None:
    before = _java_starts(home)
    assert before, "the first run must have started Spark, or this test shows nothing"
    warm_spark.end(home.path / "spark" / "warm")  # or nobody would need to start one
    ended = dag.run()
    assert ended.state == "success"
    assert (ended.tasks["silver"], ended.tasks["gold"]) == ("skipped", "skipped")
    assert _java_starts(home) == before


def test_silver_that_fails_for_one_table_is_made_up_by_the_next_run(
    home: Home, dag: DagRuns
) -> None:
    _change(
        home,
        "UPDATE DimUser SET country = 'Atlantis', updated_at = '2026-02-01 00:00:00' "
        "WHERE user_id = 7",
    )
    _change(
        home,
        "UPDATE DimArtist SET country = 'Atlantis', updated_at = '2026-02-01 00:00:00' "
        "WHERE artist_id = 7",
    )
    table, aside = home.lake / "silver" / "DimUser", home.lake / "silver" / "_aside"
    table.rename(aside)
    table.write_text("in the way")
    failed = dag.run()
    assert failed.state == "failed"
    assert failed.tasks["silver"] == "failed"
    assert failed.tasks["gold"] == "success", "the other table goes on"
    assert _cell(home, "gold/dim_artist", "artist_id", 7, "country") == ["Atlantis"]
    assert "DimUser" in (home.path / "test.log").read_text()
    table.unlink()
    aside.rename(table)
    healed = dag.run()
    assert healed.state == "success"
    assert healed.tasks["DimUser.advance_watermark"] == "skipped", "no new row was read"
    assert _cell(home, "silver/DimUser", "user_id", 7, "country") == ["Atlantis"]
    assert len(_cell(home, "gold/dim_user", "user_id", 7, "country")) == 2


def test_killed_in_the_middle_of_silver_and_run_again_nothing_is_lost_or_doubled(
    home: Home, dag: DagRuns
) -> None:
    _change(
        home,
        "UPDATE DimUser SET country = 'Lemuria', updated_at = '2026-02-02 00:00:00' "
        "WHERE user_id BETWEEN 1 AND 50",
    )
    changes = home.lake / "silver" / "DimUser_changes" / "_delta_log"
    commits = len(list(changes.glob("*.json")))
    # Airflow ends with it.
    with home.dag() as killed:
        killed.start()
        _kill_when(lambda: len(list(changes.glob("*.json"))) > commits, home)
    merged = set(_cell(home, "silver/DimUser", "user_id", 1, "country"))
    assert dag.run().state == "success"
    users = pl.read_delta(str(home.lake / "silver" / "DimUser"))
    assert users.filter(pl.col("country") == "Lemuria").height == 50, merged
    assert users["user_id"].n_unique() == users.height == 500
    history = pl.read_delta(str(home.lake / "gold" / "dim_user"))
    lemurians = history.filter(pl.col("country") == "Lemuria")
    assert lemurians.height == 50
    assert lemurians["__END_AT"].null_count() == 50
    kept = pl.read_delta(str(home.lake / "silver" / "DimUser_changes"))
    assert kept.select("user_id", "_sequence").is_unique().all()


def _kill_when(happened: Any, home: Home) -> None:
    """Kill Spark's JVM, without a word, as soon as something has happened in the lake."""
    limit = time.monotonic() + 600
    while not happened():
        assert time.monotonic() < limit, "silver never wrote its changes"
        time.sleep(0.01)
    for process in _java_starts(home):
        command = Path(f"/proc/{process}/cmdline")
        if command.exists() and b"org.apache.spark" in command.read_bytes():
            os.kill(int(process), signal.SIGKILL)


@pytest.mark.usefixtures("dag")
def test_a_misspelt_cursor_names_the_nearest_column(home: Home) -> None:
    config = home.path.parent / "config" / "spotify.yaml"
    config.write_text(CONFIG.replace("cursor: updated_at", "cursor: updatd_at"))
    try:
        with home.dag() as misled:
            ended = misled.run()
    finally:
        config.write_text(CONFIG)
    assert ended.state == "failed"
    log = (home.path / "test.log").read_text()
    assert "cursor 'updatd_at' is not a column of dbo.DimUser; did you mean 'updated_at'?" in log


def test_a_corrupt_watermark_stops_its_own_table_alone(home: Home, dag: DagRuns) -> None:
    file = home.lake / "bronze" / "DimUser_cdc" / "cdc.json"
    good = file.read_text()
    file.write_text(good[: len(good) // 2])
    failed = dag.run()
    assert failed.tasks["DimUser.lookup_watermark"] == "failed"
    assert failed.tasks["DimArtist.copy_to_bronze"] == "success"
    assert failed.state == "failed"
    file.write_text(good)
    assert dag.run().state == "success"


def test_an_unreachable_database_is_named_and_nothing_is_lost(home: Home, dag: DagRuns) -> None:
    hidden = home.database.with_suffix(".hidden")
    home.database.rename(hidden)
    failed = dag.run()
    assert failed.state == "failed"
    assert str(home.database) in (home.path / "test.log").read_text()
    hidden.rename(home.database)
    assert dag.run().state == "success"


def test_a_table_dropped_between_the_steps_is_named_and_nothing_is_lost_or_doubled(
    home: Home, dag: DagRuns
) -> None:
    for table, key in (("DimUser", "user_id"), ("DimArtist", "artist_id")):
        _change(
            home,
            f"UPDATE {table} SET country = 'Thule', updated_at = '2026-02-03 00:00:00' "
            f"WHERE {key} = 8",
        )
    before = {table: (home.state(table), home.bronze(table)) for table in ("DimUser", "DimArtist")}
    # While the source is locked the copy waits: the table is gone before it can be read.
    with _locked(home) as source:
        run_id = dag.start()
        wait_until(
            lambda: _task_state(home, run_id, "DimUser.lookup_watermark") == "success",
            400,
            lambda: f"never looked up: {(home.path / 'test.log').read_text()[-4000:]}",
            pause=0.05,
        )
        source.execute("ALTER TABLE DimUser RENAME TO DimUser_gone")
    failed = dag.end(run_id)
    assert failed.state == "failed"
    assert failed.tasks["DimUser.lookup_watermark"] == "success"
    assert failed.tasks["DimUser.copy_to_bronze"] == "failed"
    assert "the source has no dbo.DimUser" in (home.path / "test.log").read_text()
    assert home.state("DimUser")["cdc"] == before["DimUser"][0]["cdc"]
    assert home.bronze("DimUser") == before["DimUser"][1]
    assert failed.tasks["DimArtist.advance_watermark"] == "success", "the other table goes on"
    assert _cell(home, "gold/dim_artist", "artist_id", 8, "country") == ["Thule"]
    _change(home, "ALTER TABLE DimUser_gone RENAME TO DimUser")
    healed = dag.run()
    assert healed.state == "success"
    assert len(home.bronze("DimUser")) == len(before["DimUser"][1]) + 1
    assert len(home.bronze("DimArtist")) == len(before["DimArtist"][1]) + 1, "read once"
    users = pl.read_delta(str(home.lake / "silver" / "DimUser"))
    assert users["user_id"].n_unique() == users.height == 500
    assert _cell(home, "silver/DimUser", "user_id", 8, "country") == ["Thule"]
    assert _cell(home, "gold/dim_user", "user_id", 8, "country").count("Thule") == 1


@contextmanager
def _locked(home: Home) -> Iterator[sqlite3.Connection]:
    """Hold the source alone for one transaction."""
    with closing(sqlite3.connect(home.database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield connection
        connection.execute("COMMIT")


def _task_state(home: Home, run_id: str, task: str) -> str | None:
    database = f"file:{home.path}/airflow/airflow.db?mode=ro"
    statement = "SELECT state FROM task_instance WHERE run_id = ? AND task_id = ?"
    with closing(sqlite3.connect(database, uri=True, timeout=60)) as connection:
        found = connection.execute(statement, (run_id, task)).fetchone()
    return found[0] if found else None
