"""`tidemark reconcile` from outside: what it prints, keeps and exits with, and what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from core_harness import World, make_world
from silver_harness import newest_rows, write_silver

from tidemark.cli import main
from tidemark.connection import source_url
from tidemark.errors import SourceError
from tidemark.metadata import load_source
from tidemark.report import load
from tidemark.settings import load_settings

SCHEMA = pa.schema(
    [("user_id", pa.int64()), ("user_name", pa.string()), ("updated_at", pa.timestamp("us"))]
)
SECRET = "pa55-word"  # noqa: S105
PEAK = """
import functools, resource, sys
from pathlib import Path
from core_harness import World, load_table
from tidemark.reconcile import Options, reconcile_table, sides
sides.read_changes = functools.partial(sides.read_changes, batch_rows=5_000)
def run(folder):
    world = World(Path(folder), load_table(Path(folder), "strategy: watermark"))
    return reconcile_table(world.job(), Options())
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert run(sys.argv[1]).differing == 1  # loads every library
base = peak()
result = run(sys.argv[2])
print(result.source_rows, result.differing, (peak() - base) // 1024)
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Give a table whose silver has one fault, and a home around it."""
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "source.db")}
    monkeypatch.setenv("AIRFLOW_CONN_SPOTIFY_SQL", json.dumps(connection))
    monkeypatch.setenv("TIDEMARK_HOME", str(tmp_path))
    monkeypatch.setenv("TIDEMARK_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("TIDEMARK_LAKE", raising=False)
    return made(tmp_path, 3)


def made(folder: Path, rows: int, text: str = "") -> World:
    """Make a table, and its silver without the row 1."""
    folder.mkdir(exist_ok=True)
    world = make_world(folder, fields="strategy: watermark")
    world.sql(
        f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {rows - 1}) "
        f"INSERT INTO DimUser SELECT i, i || '{text}', '2026-01-01 10:00:00' FROM n"
    )
    world.run()
    write_silver(world, [r for r in newest_rows(world) if r["user_id"] != 1], SCHEMA)
    return world


def test_differences_are_shown_kept_and_told_by_the_exit_code(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reconcile", "spotify"]) == 2
    shown = capsys.readouterr().out
    assert "missing    user_id=1" in shown
    page = Path(shown.splitlines()[-1].removeprefix("report: "))
    assert "### missing: 1\n\n- `user_id=1`" in page.read_text()
    assert main(["reconcile", "spotify", "--repair", "--dry-run"]) == 2
    assert len(world.published) == 1
    capsys.readouterr()
    assert main(["reconcile", "spotify", "--json", "--repair"]) == 0
    value = json.loads(capsys.readouterr().out)
    (table,) = value["tables"]
    assert (table["keys"]["missing"], table["repair"]["rows"]) == ([{"user_id": 1}], 1)
    assert len(world.published) == 2
    done = load(world.store, world.lake, "spotify", value["run_id"]).tables["DimUser"]
    assert (done.rows, done.backfill, done.note) == (
        1,
        True,
        "1 missing; written to bronze: 1 row",
    )
    write_silver(world, newest_rows(world), SCHEMA)
    assert main(["reconcile", "spotify", "--table", "DimUser", "--deep"]) == 0
    assert "equal: 1 table" in capsys.readouterr().out


def test_an_error_of_one_table_hides_no_other(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    config = world.folder / "config" / "spotify.yaml"
    config.write_text(f"{config.read_text()}  Gone: {{key: id}}\n")
    assert main(["reconcile", "spotify"]) == 1
    shown = capsys.readouterr().out
    assert "missing    user_id=1" in shown
    assert "table Gone: the source has no dbo.Gone" in shown
    assert "1 of 2 tables could not be compared: Gone" in shown


@pytest.mark.parametrize("arguments", [["spotfy"], ["spotify", "--table", "DimUsr"]])
@pytest.mark.usefixtures("world")
def test_what_does_not_exist_is_an_error(arguments: list[str]) -> None:
    assert main(["reconcile", *arguments]) == 1


@pytest.mark.parametrize("arguments", [[], ["spotify", "--repiar"], ["spotify", "--table"]])
def test_words_that_it_does_not_know_are_no_difference(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["reconcile", *arguments])
    assert ended.value.code == 1


@pytest.mark.usefixtures("world")
def test_a_dry_run_is_of_a_repair(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconcile", "spotify", "--dry-run"]) == 1
    assert "give --repair too" in capsys.readouterr().err


def test_the_exit_codes_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["reconcile", "--help"])
    assert "2  there are differences" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["nowhere", "airflow"])
def test_other_connections_are_airflows_to_find(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    source = load_source(world.folder / "config" / "spotify.yaml")
    asked: list[list[str]] = []

    def child(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        if where == "airflow":
            url = f"mssql+mssqlpython://sa:{SECRET}@db/x"
            return subprocess.CompletedProcess(command, 0, url.encode(), b"")
        words = f"Airflow met {SECRET}\ntidemark:no such connection, add it\n"
        return subprocess.CompletedProcess(command, 1, b"", words.encode())

    monkeypatch.setenv("AIRFLOW_CONN_SPOTIFY_SQL", f"mssql://sa:{SECRET}@db/x")
    monkeypatch.setattr(subprocess, "run", child)
    if where == "airflow":
        assert source_url(source, load_settings()).endswith(f":{SECRET}@db/x")
    else:
        with pytest.raises(SourceError, match=r"^no such connection, add it$"):
            source_url(source, load_settings())
    child_of = [sys.executable, "-m", "tidemark.airflow.source_url"]
    assert asked == [[*child_of, "spotify_sql", f"{source.path}: source.connection"]]


def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    made(tmp_path / "small", 3)
    made(tmp_path / "large", 120_000, "x" * 500)  # some 60 MB of text
    output = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "small"), str(tmp_path / "large")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path()},
    ).stdout
    rows, differing, megabytes = map(int, output.split())
    assert (rows, differing) == (120_000, 1)
    assert megabytes < 150  # the whole table at once takes some 360


def path() -> str:
    return os.pathsep.join([str(Path(__file__).parents[1] / "support"), *filter(None, sys.path)])
