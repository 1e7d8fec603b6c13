"""The bench of the copy: it runs, and leaves nothing in a database that is not its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import sqlglot
from postgres import server

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_copy_is_measured_and_the_database_is_as_it_was() -> None:
    with server() as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE wide (mine int)")
        words = ["--url", url, "--rows", "2000", "--repeats", "2", "--only", "bare,tidemark"]
        done = subprocess.run(
            [sys.executable, str(BENCHMARKS / "copy_to_bronze.py"), *words, "--large"],
            env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        )
        with psycopg.connect(url) as connection:
            schemas = connection.execute("SELECT nspname FROM pg_namespace").fetchall()
            connection.execute("SELECT mine FROM wide")
    assert not [name for (name,) in schemas if name.startswith("tidemark")]
    ours = next(line for line in done.stdout.splitlines() if line.startswith("tidemark "))
    assert " x bare, CPU " in ours
    assert "tidemark, 20,000 rows: " in done.stdout
    assert "left out" not in done.stdout


def test_a_run_is_measured_beside_the_initial_load(tmp_path: Path) -> None:
    words = ["--rows", "1000", "--rounds", "1", "--strategy", "watermark"]
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "incremental.py"), *words],
        env=dict(os.environ) | {"PYTHONPATH": path, "TIDEMARK_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "wide: 1000 changes read, 1000 applied, done" in done.stdout
    assert "wide: 10 changes read, 10 applied, done" in done.stdout
    assert "wide: 1 changes read, 1 applied, done" in done.stdout
    assert done.stdout.count("whole run ") == 1 + 1


def test_a_reconcile_is_measured_and_finds_what_differs() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "reconcile.py"), "--rows", "2000"],
        env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "2,000 rows against bronze: " in done.stdout
    assert "2,000 rows against silver: " in done.stdout


def test_sql_servers_table_is_t_sql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench_table  # noqa: PLC0415  # it lies beside the benchmarks

    words = {"schema": "s", "rows": 1_000, "numbers": bench_table._numbers(1_000)}
    for statement in bench_table.STATEMENTS["mssql"].split(";"):
        assert sqlglot.parse_one(statement.format(**words), read="tsql")
    assert words["numbers"].count("UNION ALL SELECT 9") == len("999")
