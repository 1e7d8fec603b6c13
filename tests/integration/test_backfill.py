"""A real scheduler: `airflow dags backfill` over five days, and a run by REST, as the docs say."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from home_harness import PROJECT, Home, get_json, wait_until

# No gold: only silver starts Spark.
CONFIG = """
source: {connection: spotify_sql, schema: dbo}
schedule: "@daily"
tasks: {retries: 1, retry_delay: 5s}
tables:
  DimUser: {key: user_id, cursor: updated_at}
"""
RANGED = """
source: {connection: spotify_sql, schema: dbo}
tables:
  DimArtist: {key: artist_id, cursor: updated_at, strategy: watermark, initial_ranges: 3}
"""
# The sample's cursors lie in December: the last two days hold no rows.
DAYS = ("2025-12-29", "2025-12-30", "2025-12-31", "2026-01-01", "2026-01-02")
RUN_SECONDS = 600

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, str]]:
    """A home after a first good run of one table, which the scheduler began, and its UI."""
    folder = tmp_path_factory.mktemp("backfill")
    (folder / "config").mkdir()
    (folder / "config" / "spotify.yaml").write_text(CONFIG)
    (folder / "config" / "ranged.yaml").write_text(RANGED)
    variables = {
        "TIDEMARK_CONFIG": str(folder / "config"),
        # A command to switch on each Dag would be a start of Airflow each.
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    }
    made = Home(folder / "home", variables)
    made.tidemark("sample")
    with made.ui() as address:
        wait_until(
            lambda: made.ended_runs() != [],
            RUN_SECONDS,
            lambda: f"no run: {(made.path / 'ui.log').read_text()[-4000:]}",
        )
        assert made.ended_runs() == ["success"]
        yield made, address


@pytest.fixture
def home(served: tuple[Home, str]) -> Home:
    return served[0]


@pytest.fixture
def address(served: tuple[Home, str]) -> str:
    return served[1]


def _source(home: Home, where: str = "1") -> list[tuple[Any, ...]]:
    statement = f"SELECT user_id, country, updated_at FROM DimUser WHERE {where} ORDER BY user_id"
    with closing(sqlite3.connect(home.database)) as connection:
        return connection.execute(statement).fetchall()


def _change(home: Home, change: str, key: int) -> None:
    with closing(sqlite3.connect(home.database)) as connection, connection:
        connection.execute(f"UPDATE DimUser SET {change} WHERE user_id = ?", (key,))


def _rows(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    moment = pl.col("updated_at").dt.strftime("%Y-%m-%d %H:%M:%S")
    return frame.select("user_id", "country", moment).sort("user_id").rows()


def _published(files: list[Path], run_id: str) -> list[tuple[Any, ...]]:
    """Give the rows that a run has published, twice those that it has published twice."""
    return _rows(pl.concat([pl.read_parquet(f).filter(_run_id=run_id) for f in files]))


def _silver(home: Home) -> list[tuple[Any, ...]]:
    return _rows(pl.read_delta(str(home.lake / "silver" / "DimUser")))


def test_a_backfill_reads_each_days_rows_as_they_are_and_leaves_the_watermark(home: Home) -> None:
    slices = [_source(home, f"updated_at LIKE '{day}%'") for day in DAYS]
    assert [bool(rows) for rows in slices] == [True, True, True, False, False]
    watermark = home.state("DimUser")["cdc"]
    # What no watermark can see, a backfill can.
    changed = slices[1][0][0]
    _change(home, "country = 'Atlantis'", changed)
    slices[1] = _source(home, f"updated_at LIKE '{DAYS[1]}%'")

    shown = home.airflow("dags", "backfill", "spotify", "-s", DAYS[0], "-e", DAYS[-1], "--wait")

    assert "will run 5 data intervals" in shown.stdout
    assert "5 success" in shown.stdout
    runs = sorted(
        (run for run in home.list_runs() if run["run_id"].startswith("backfill__")),
        key=lambda run: run["logical_date"],
    )
    assert [(run["logical_date"][:10], run["state"]) for run in runs] == [
        (day, "success") for day in DAYS
    ]
    files = home.bronze("DimUser")
    assert [_published(files, run["run_id"]) for run in runs] == slices
    assert home.state("DimUser")["cdc"] == watermark
    assert _silver(home) == _source(home)
    assert (changed, "Atlantis") in {row[:2] for row in _silver(home)}


def test_a_backfill_and_a_run_at_the_same_time_lose_nothing(home: Home) -> None:
    first, second = (_source(home, f"updated_at LIKE '{day}%'")[0][0] for day in DAYS[:2])
    _change(home, "country = 'Mu'", first)
    _change(home, "country = 'Thule'", second)
    _change(home, "country = 'Ys', updated_at = '2026-01-15 00:00:00'", 9)
    days = ("-s", DAYS[0], "-e", DAYS[1], "--reprocess-behavior", "completed")

    with ThreadPoolExecutor() as pool:
        backfill = pool.submit(
            home.airflow, "dags", "backfill", "spotify", *days, "--max-active-runs", "2", "--wait"
        )
        home.airflow("dags", "trigger", "spotify", "--run-id", "beside")
        assert "2 success" in backfill.result().stdout

    def run(name: str) -> dict[str, str]:
        return next(run for run in home.list_runs() if run["run_id"].startswith(name))

    wait_until(lambda: run("beside")["state"] == "success", RUN_SECONDS, lambda: f"{run('beside')}")
    one, other = run("beside"), run("backfill__2025-12-30")
    assert one["start_date"] < other["end_date"], "they did not run side by side"
    assert other["start_date"] < one["end_date"], "they did not run side by side"
    assert home.state("DimUser")["cdc"] == "2026-01-15 00:00:00"
    assert _silver(home) == _source(home)


def test_a_run_by_rest_as_the_docs_say(home: Home, address: str) -> None:
    _change(home, "country = 'Lemuria', updated_at = '2026-02-01 00:00:00'", 7)
    blocks = re.findall(
        r"```bash\n(.*?)```", (PROJECT / "docs" / "operations.md").read_text(), re.DOTALL
    )
    (documented,) = (block for block in blocks if "/auth/token" in block)
    script = documented.replace("localhost:8080", address.removeprefix("http://"))

    answer = subprocess.run(
        ["bash", "-euc", f'{script}\necho; echo "$token"'],
        capture_output=True,
        text=True,
        check=True,
        env=home.environment(),
    ).stdout

    created, token = answer.strip().split("\n")
    run = json.loads(created)
    assert run["conf"] == {"tables": ["DimUser"]}
    url = f"{address}/api/v2/dags/spotify/dagRuns/{run['dag_run_id']}"
    wait_until(
        lambda: get_json(url, token)["state"] in ("success", "failed"),
        RUN_SECONDS,
        lambda: f"the run did not end: {get_json(url, token)}",
    )
    assert get_json(url, token)["state"] == "success"
    assert home.state("DimUser")["cdc"] == "2026-02-01 00:00:00"
    assert _silver(home) == _source(home)


def test_an_initial_load_in_ranges_is_mapped_by_the_scheduler(home: Home) -> None:
    home.airflow("dags", "trigger", "ranged", "--run-id", "first")

    def ended() -> bool:
        path = home.lake / "bronze" / "DimArtist_cdc" / "cdc.json"
        return path.exists() and home.state("DimArtist")["cdc"] is not None

    wait_until(ended, RUN_SECONDS, lambda: "the initial load did not end")
    files = home.bronze("DimArtist")
    assert len(files) == 3
    read = pl.concat(pl.read_parquet(file, columns=["artist_id"]) for file in files)
    with closing(sqlite3.connect(home.database)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM DimArtist").fetchone()
    assert read.n_unique() == len(read) == count
