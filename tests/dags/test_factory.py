"""From config files to Dags: the graph's shape, and files that can't be used."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from airflow.sdk import DAG

from tidemark.airflow.factory import BROKEN, build_dags
from tidemark.cli import main
from tidemark.errors import ConfigError

PROJECT = Path(__file__).parents[2]
Write = Callable[..., Path]

STEPS = ("lookup_watermark", "copy_to_bronze", "has_rows", "advance_watermark", "discard_empty")
END = ["pending_for_silver", "silver", "pending_for_gold", "gold", "report"]


def _edges(dag: DAG) -> set[tuple[str, str]]:
    return {(task.task_id, after) for task in dag.tasks for after in task.downstream_task_ids}


@pytest.mark.parametrize("tables", [["DimUser"], ["DimUser", "DimArtist", "DimTrack"]])
def test_each_table_has_adfs_sequence_and_joins_before_silver(
    write: Write, tables: list[str]
) -> None:
    write(*tables)
    dag = build_dags()["spotify"]
    expected = set(itertools.pairwise(END))
    for table in tables:
        lookup, copy, has_rows, advance, discard = (f"{table}.{step}" for step in STEPS)
        expected |= {(lookup, copy), (copy, has_rows), (has_rows, advance), (has_rows, discard)}
        expected |= {(advance, "pending_for_silver"), (discard, "pending_for_silver")}
    assert _edges(dag) == expected


def test_an_initial_load_in_ranges_comes_before_the_sequence(write: Write) -> None:
    write(tables={"T": {"key": "id", "cursor": "at", "initial_ranges": 4}})
    dag = build_dags()["spotify"]
    edges = {(a, b) for a, b in _edges(dag) if b.startswith("T.") and "range" in f"{a}{b}"}
    assert edges == {
        ("T.missing_ranges", "T.copy_range"),
        ("T.missing_ranges", "T.finish_initial_load"),
        ("T.copy_range", "T.finish_initial_load"),
    }
    assert ("T.finish_initial_load", "T.lookup_watermark") in _edges(dag)


def test_a_table_is_read_and_a_layer_is_written_by_one_task_at_a_time(write: Write) -> None:
    write("DimUser")
    dag = build_dags()["spotify"]
    alone = {task.task_id for task in dag.tasks if task.max_active_tis_per_dag == 1}
    assert alone == {"DimUser.copy_to_bronze", "silver", "gold"}


def test_no_task_carries_a_copy_of_the_tables_names(write: Write) -> None:
    write("DimUser", "DimArtist")
    for dag in build_dags().values():
        assert "DimArtist" in dag.params.get_param("tables").schema["examples"]
        assert not any(dict(task.params) for task in dag.tasks)


def test_a_lake_name_names_the_group(write: Write) -> None:
    table = {"key": "id", "lake_name": "SalesOrderLine", "schema": "sales"}
    write(tables={"OrderLine": table})
    dag = build_dags()["spotify"]
    assert "SalesOrderLine.copy_to_bronze" in dag.task_ids
    assert "`sales.OrderLine`" in (dag.doc_md or "")


def test_the_metadata_reaches_the_dag(write: Write) -> None:
    tasks = {"retries": 5, "retry_delay": "30m", "timeout": "1h", "pool": "sql"}
    write(
        "DimUser", tasks=tasks, owner="music", tags=["sql"], schedule="@daily",
        start_date=date(2026, 1, 2),
    )  # fmt: skip
    dag = build_dags()["spotify"]
    copy = dag.get_task("DimUser.copy_to_bronze")
    assert (copy.owner, copy.retries, copy.pool) == ("music", 5, "sql")
    assert copy.execution_timeout is not None
    assert copy.execution_timeout.total_seconds() == 3600
    assert copy.max_retry_delay == copy.retry_delay  # never shorter than what was asked for
    assert dag.tags == {"tidemark", "sql"}
    assert str(dag.start_date) == "2026-01-02 00:00:00+00:00"


def test_the_doc_says_what_is_read_and_what_is_not_seen(write: Write) -> None:
    table = {"key": ["a", "b"], "lookback": "2d", "clock_lag": "5m", "gold": {"scd": 2}}
    write(tables={"DimUser": table})
    doc = build_dags()["spotify"].doc_md or ""
    assert "`watermark - 2d <= updated_at <=` the newest at the source, 5m behind its clock" in doc
    assert "| `a`, `b` |" in doc
    assert "`dim_user` (SCD 2)" in doc
    assert "deletes" in doc


def test_a_broken_file_becomes_a_dag_and_leaves_the_others_alone(write: Write) -> None:
    write("DimUser", name="good")
    write("DimUser", name="bad", shedule="@daily")
    dags = build_dags()
    assert set(dags) == {"good", "good_reconcile", "bad"}
    assert BROKEN not in dags["good"].tags
    assert BROKEN in dags["bad"].tags
    assert "shedule" in (dags["bad"].doc_md or "")
    with pytest.raises(ConfigError, match="shedule"):
        dags["bad"].tasks[0].python_callable()


def test_a_broken_file_fails_ci(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write("DimUser", name="bad", shedule="@daily")
    assert main(["validate"]) == 1
    shown = capsys.readouterr()
    assert "shedule" in shown.out + shown.err


def test_what_only_airflow_refuses_becomes_a_placeholder_too(write: Write) -> None:
    write("DimUser", tags=["x" * 101])  # Airflow takes 100 characters
    (dag,) = build_dags().values()
    assert BROKEN in dag.tags
    assert "spotify.yaml: Airflow refuses this Dag" in (dag.doc_md or "")


@pytest.mark.parametrize("name", ["two words", "x" * 250])
def test_a_placeholder_is_found_whatever_the_file_is_called(write: Write, name: str) -> None:
    write("DimUser", name=name)
    (dag,) = build_dags().values()
    assert dag.dag_id == name.replace(" ", "_")


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_metadata_is_seen_in_the_ui(home: Path, folder: str) -> None:
    (home / "empty").mkdir()
    (dag,) = build_dags(home / folder).values()
    assert BROKEN in dag.tags
    assert str(home / folder) in (dag.doc_md or "")


def test_parsing_imports_nothing_that_only_a_task_needs(write: Write) -> None:
    write("DimUser")
    script = (
        "import sys, runpy; dags = runpy.run_path(sys.argv[1]); assert dags['spotify'].tasks;"
        "print([m for m in ('pyspark', 'pyarrow', 'polars', 'pandas') if m in sys.modules])"
    )
    loader = str(PROJECT / "dags" / "tidemark_sources.py")
    done = subprocess.run(
        [sys.executable, "-c", script, loader], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
