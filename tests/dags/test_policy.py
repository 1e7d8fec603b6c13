"""What holds for every Dag: the project's own, one of a single table, and a placeholder."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pendulum
import pytest
from airflow.sdk import DAG
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.serialization.serialized_objects import DagSerialization

from tidemark.airflow.factory import BROKEN, build_dags

PROJECT = Path(__file__).parents[2]
Write = Callable[..., Path]


@pytest.fixture(
    params=[
        "project",
        "one table",
        "ranges",
        "databricks",
        "placeholder",
        "project's comparison",
        "scheduled comparison",
    ]
)
def dag(request: pytest.FixtureRequest, write: Write) -> DAG:
    dag_id = "spotify_reconcile" if "comparison" in request.param else "spotify"
    if "project" in request.param:
        return build_dags(PROJECT / "config")[dag_id]
    path = write("DimUser", schedule="*/15 * * * *", reconcile={"schedule": "@weekly"})
    if request.param == "ranges":
        ranged = {"key": "user_id", "cursor": "updated_at", "initial_ranges": 4}
        write(tables={"DimUser": ranged})
    if request.param == "databricks":
        write("DimUser", compute="databricks")
    if request.param == "placeholder":
        path.write_text("tables: 7")
    return build_dags()[dag_id]


def test_a_dag_is_found_documented_and_owned(dag: DAG) -> None:
    assert "tidemark" in dag.tags
    assert dag.doc_md
    assert all(task.owner == "data-engineering" for task in dag.tasks)
    assert all(task.doc_md for task in dag.tasks)


def test_a_dag_runs_once_at_a_time_and_catches_nothing_up(dag: DAG) -> None:
    assert dag.max_active_runs == 1
    assert dag.catchup is False


def test_a_task_ends_in_time_and_tells_of_its_failure(dag: DAG) -> None:
    for task in dag.tasks:
        assert task.execution_timeout, task.task_id
        assert task.on_failure_callback, task.task_id
        assert task.retry_policy, task.task_id
        assert task.pool == "default_pool", task.task_id


def test_a_retry_waits_longer_each_time_up_to_a_bound(dag: DAG) -> None:
    for task in (task for task in dag.tasks if task.retries):
        assert task.retry_exponential_backoff == 2
        assert task.max_retry_delay == timedelta(minutes=15)


def test_a_dag_tells_who_wants_to_know_how_a_run_ended(dag: DAG) -> None:
    if BROKEN not in dag.tags:
        assert dag.on_failure_callback
        assert dag.on_success_callback


def test_a_scheduled_run_has_a_data_interval_in_utc(dag: DAG) -> None:
    if dag.schedule is None:
        return
    timetable = coerce_to_core_timetable(dag.timetable)
    moment = pendulum.datetime(2026, 3, 29, 1, 30)  # UTC, the night the clocks of Europe change
    interval = timetable.infer_manual_data_interval(run_after=moment)
    assert interval.start < interval.end <= moment
    assert interval.start.utcoffset() == timedelta(0)


def test_a_dag_survives_the_way_to_the_scheduler(dag: DAG) -> None:
    again = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert set(again.task_dict) == set(dag.task_dict)
