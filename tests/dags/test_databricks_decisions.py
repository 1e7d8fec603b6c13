"""What is decided about runs, updates and their logs: pure functions, without a workspace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from airflow.providers.databricks.hooks.databricks import RunState
from azure.core.exceptions import ClientAuthenticationError

from tidemark.airflow import databricks_triggers
from tidemark.airflow.databricks_api import explained, told_wait
from tidemark.airflow.databricks_gold import Choice, Intent, choose
from tidemark.airflow.databricks_silver import next_step, token
from tidemark.airflow.event_log import (
    dropped_line,
    failed_flows,
    failure_lines,
    gold_part,
    of_update,
)
from tidemark.errors import LakeError
from tidemark.metadata import load_source

Write = Callable[..., Path]
VERSIONS = {"DimUser": 4}
OURS = Intent(VERSIONS, known=["old"])


@pytest.mark.parametrize(
    ("life_cycle", "result", "step"),
    [
        ("PENDING", "", "wait"),
        ("QUEUED", "", "wait"),
        ("RUNNING", "", "wait"),
        ("WAITING_FOR_RETRY", "", "wait"),
        ("TERMINATED", "SUCCESS", "anew"),
        ("SKIPPED", "", "anew"),
        ("TERMINATED", "FAILED", "repair"),
        ("TERMINATED", "CANCELED", "repair"),
        ("TERMINATED", "TIMEDOUT", "repair"),
        ("INTERNAL_ERROR", "FAILED", "repair"),
    ],
)
def test_what_is_done_about_the_run_of_a_token(life_cycle: str, result: str, step: str) -> None:
    assert next_step(RunState(life_cycle, result)) == step


def test_a_token_is_a_dag_runs_own_and_short_enough() -> None:
    names = {
        token(job, lake, dag, run, n)
        for job in (1, 2)
        for lake in ("abfss://dev", "abfss://prod")
        for dag in "ab"
        for run in ("r1", "r2")
        for n in (0, 1)
    }
    assert len(names) == 32
    assert {len(name) for name in names} == {64}
    assert token(1, "l", "a", "r1", 0) == token(1, "l", "a", "r1", 0)


@pytest.mark.parametrize(
    ("latest", "intent", "choice"),
    [
        ([], None, Choice("start")),
        ([("old", "COMPLETED")], None, Choice("start")),
        ([("old", "RUNNING")], None, Choice("wait for another", "old")),
        ([("old", "RUNNING")], OURS, Choice("wait for another", "old")),
        ([("new", "WAITING_FOR_RESOURCES"), ("old", "FAILED")], OURS, Choice("wait", "new")),
        ([("new", "COMPLETED"), ("old", "FAILED")], OURS, Choice("wait", "new")),
        ([("new", "FAILED")], OURS, Choice("start")),
        ([("new", "CANCELED")], OURS, Choice("start")),
        ([("new", "STOPPING")], OURS, Choice("wait for another", "new")),
        # Silver has gone on since: what was begun before has not read it.
        ([("new", "COMPLETED")], Intent({"DimUser": 3}, ["old"]), Choice("start")),
        ([("new", "RUNNING")], Intent({"DimUser": 3}, ["old"]), Choice("wait", "new")),
    ],
)
def test_which_update_serves(
    latest: list[tuple[str, str]], intent: Intent | None, choice: Choice
) -> None:
    updates = [{"update_id": name, "state": state} for name, state in latest]
    assert choose(updates, intent, VERSIONS) == choice


@pytest.mark.parametrize(
    ("told", "least", "most"), [("7", 7, 7), ("100000", 300, 300), ("soon", 1, 60), (None, 1, 60)]
)
def test_the_wait_between_two_calls(told: str | None, least: float, most: float) -> None:
    headers = {} if told is None else {"Retry-After": told}
    by_requests: Any = SimpleNamespace(response=SimpleNamespace(headers=headers))
    by_aiohttp: Any = SimpleNamespace(headers=headers)
    for error in (by_requests, by_aiohttp):
        outcome = SimpleNamespace(exception=lambda error=error: error)
        state: Any = SimpleNamespace(outcome=outcome, attempt_number=1)
        assert least <= told_wait(state) <= most


def event(flow: str | None, error: str | None = None, **progress: Any) -> dict[str, Any]:
    origin = {"update_id": "u1"} | ({"flow_name": flow} if flow else {})
    made: dict[str, Any] = {"origin": origin, "timestamp": "t", "message": "it happened"}
    if progress:
        made["details"] = {"flow_progress": progress}
    if error is not None:
        made["error"] = {"exceptions": [{"message": "outer"}, {"message": error}]}
    return made


def quality(name: str, failed: int) -> dict[str, Any]:
    found = {"name": name, "dataset": "dim_user_changes", "failed_records": failed}
    return {"expectations": [found | {"passed_records": 1}]}


@pytest.fixture
def log() -> list[dict[str, Any]]:
    violated = (
        "[EXPECTATION_VIOLATION.VERBOSITY_ALL] Flow 'dim_track' failed to meet the expectation. "
        "Violated expectations: 'real'. Input data: '{\"name\":\"Jane\"}'. Output record: '{}'."
    )
    return [
        event(None),
        event("c.gold.dim_user", status="STARTING"),
        event(
            "c.gold.dim_user",
            status="RUNNING",
            metrics={"num_upserted_rows": 5, "num_deleted_rows": 1},
            data_quality=quality("named", 2),
        ),
        event("c.gold.dim_user", status="RUNNING", data_quality=quality("named", 1)),
        event("c.gold.dim_user", status="RUNNING", data_quality=quality("kind", 4)),
        event("c.gold.dim_user", status="COMPLETED", metrics={"num_output_rows": 3}),
        event("dim_user_quarantine_flow", status="COMPLETED", metrics={"num_output_rows": 3}),
        event("dim_track", violated, status="FAILED"),
        event("popularity", status="SKIPPED"),
        event(None, "the update failed as a whole"),
    ]


def test_an_updates_log_reads_like_a_local_runs_report(
    write: Write, log: list[dict[str, Any]]
) -> None:
    gold = {"scd": 1, "expect_or_drop": {"named": "name IS NOT NULL"}, "expect": {"kind": "x"}}
    tables = {"DimUser": {"key": "user_id", "gold": gold}}
    tables["DimTrack"] = {"key": "track_id", "gold": {"scd": 1}}
    part = gold_part(log, load_source(write(tables=tables)))
    assert part["tables"]["DimUser"] == {"rows_in": 12, "rows": 9, "status": "done", "error": None}
    assert part["tables"]["DimTrack"]["status"] == "failed"
    assert part["tables"]["DimTrack"]["rows"] is None
    assert part["dropped"] == {"dim_user": {"named": 3}}
    assert part["warned"] == {"dim_user": {"kind": 4}}
    assert part["quarantined"] == {"dim_user": 3}
    assert part["views"] == {"popularity": {"rows": None, "status": "skipped", "error": None}}
    assert dropped_line(part) == "rows dropped: dim_user.named: 3"


def test_a_failure_names_the_flow_and_the_expectation_and_shows_no_row(
    log: list[dict[str, Any]],
) -> None:
    (line,) = failure_lines(log)
    assert line.startswith("flow dim_track: [EXPECTATION_VIOLATION")
    assert line.endswith("Violated expectations: 'real'")
    assert failed_flows(log) == {"dim_track"}


def test_what_failed_before_any_flow_is_told() -> None:
    assert failure_lines([event(None, "[NO_CLUSTER] none to be had")]) == [
        "[NO_CLUSTER] none to be had"
    ]
    assert failure_lines([event(None)]) == []


def test_only_the_updates_own_events_count() -> None:
    foreign = {"origin": {"update_id": "u0"}, "timestamp": "s"}
    first, last = event("a") | {"timestamp": "1"}, event("b") | {"timestamp": "2"}
    assert of_update([last, foreign, first], "u1") == [first, last]


def test_a_login_that_the_lake_refuses_is_not_told_as_databricks() -> None:
    error = LakeError("no identity for the lake")
    error.__cause__ = ClientAuthenticationError("Server failed to authenticate the request")
    with pytest.raises(LakeError, match="no identity for the lake"), explained("any", "job 'a'"):
        raise error


def test_a_connection_that_drops_while_something_runs_is_told_and_may_be_tried_again() -> None:
    async def dropped() -> dict[str, Any]:
        raise aiohttp.ServerDisconnectedError

    event = asyncio.run(databricks_triggers._told("any", "run 7", dropped()))
    assert event.payload == {
        "unanswered": "run 7: ServerDisconnectedError: Server disconnected",
        "is_final": False,
    }
