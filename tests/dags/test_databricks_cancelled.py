"""A gold update that is cancelled while it is at work, and one that can't begin."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowException, TaskDeferred
from databricks_tasks import (
    Attempt,
    again,
    deployed,
    program_update,
    silver_has_commits,
)
from databricks_workspace import Workspace
from databricks_workspace.pipelines import UPDATE, Deployed, Update
from home_harness import wait_until

from tidemark.airflow.databricks_api import RunFailed
from tidemark.pending import gold_pending
from tidemark.settings import load_settings
from tidemark.storage import open_store

SLOW = 600


@pytest.fixture
def workspace(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    with deployed(home) as found:
        monkeypatch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", json.dumps(found.connection()))
        silver_has_commits()
        yield found


def pipeline_of(workspace: Workspace) -> Deployed:
    (found,) = workspace.pipelines.pipelines.values()
    return found


def begun(workspace: Workspace) -> tuple[TaskDeferred, Attempt, Update]:
    """Let the task start an update that does not end by itself, and wait until it is at work."""
    program_update(workspace, SLOW)
    task = Attempt("gold")
    waiting = task.begin()
    assert waiting is not None
    update = pipeline_of(workspace).updates[-1]
    wait_until(update.report.with_suffix(".begun").exists, 60, lambda: "it never began", pause=0.05)
    return waiting, task, update


def is_at_work(update: Update) -> bool:
    """Tell whether the process that does the update's work lives."""
    execution = update.execution
    assert execution is not None
    assert execution._process is not None
    return execution._process.poll() is None


def stop_by_hand(workspace: Workspace) -> None:
    """Do what somebody does who presses Stop in the workspace."""
    path = f"/api/2.0/pipelines/{pipeline_of(workspace).pipeline_id}/stop"
    request = urllib.request.Request(  # noqa: S310  http://127.0.0.1
        f"{workspace.jobs.address}{path}",
        b"{}",
        {"Authorization": f"Bearer {workspace.token}"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  the same
        assert answer.status == 200


def is_done() -> bool:
    lake = load_settings().lake
    return not gold_pending(open_store(lake.root), lake, ["DimUser"])


def updates(workspace: Workspace) -> list[str | None]:
    return [update.state for update in pipeline_of(workspace).updates]


def test_an_update_that_somebody_cancels_fails_the_task_and_clearing_it_starts_one_more(
    workspace: Workspace,
) -> None:
    waiting, task, update = begun(workspace)
    assert is_at_work(update)
    stop_by_hand(workspace)
    with pytest.raises(RunFailed, match="was cancelled in Databricks; clear this task to go on"):
        task.go_on(waiting)
    assert not is_at_work(update)
    assert not is_done()

    program_update(workspace)
    Attempt("gold", 2).run()
    assert updates(workspace) == ["CANCELED", "COMPLETED"]
    assert is_done()


def test_a_task_that_is_cleared_while_it_waits_ends_its_update_and_the_next_starts_one(
    workspace: Workspace,
) -> None:
    waiting, _, update = begun(workspace)
    asyncio.run(again(waiting).on_kill())  # as the triggerer does
    wait_until(lambda: update.state == "CANCELED", 60, lambda: str(update.state), pause=0.05)
    assert not is_at_work(update)

    program_update(workspace)
    Attempt("gold", 2).run()
    assert updates(workspace) == ["CANCELED", "COMPLETED"]
    assert is_done()


def test_a_task_that_is_killed_before_it_waits_ends_its_update(workspace: Workspace) -> None:
    _, task, update = begun(workspace)
    task.operator.on_kill()
    wait_until(lambda: update.state == "CANCELED", 60, lambda: str(update.state), pause=0.05)
    assert not is_at_work(update)


def test_a_task_that_ends_late_leaves_somebody_elses_update_alone(workspace: Workspace) -> None:
    waiting, task, update = begun(workspace)
    stop_by_hand(workspace)
    wait_until(lambda: update.state is not None, 60, lambda: "it goes on", pause=0.05)
    pipeline = pipeline_of(workspace)
    workspace.pipelines.start({"refresh_selection": ["dim_user"]}, pipeline.pipeline_id)
    asyncio.run(again(waiting).on_kill())
    task.operator.on_kill()
    assert updates(workspace) == ["CANCELED", None]
    # And a task that waits for another's does not end that one.
    theirs = Attempt("gold", 2).begin()
    assert theirs is not None
    asyncio.run(again(theirs).on_kill())
    assert updates(workspace) == ["CANCELED", None]


def test_a_declared_file_that_is_not_in_the_workspace_fails_the_update(
    workspace: Workspace,
) -> None:
    workspace.pipelines.program = UPDATE
    (workspace.files / "dlt" / "views" / "spotify.py").unlink()
    with pytest.raises(AirflowException, match=r"FileNotFoundError: .*views/spotify\.py"):
        Attempt("gold").run()
    assert not is_done()


def test_what_the_pipeline_does_not_declare_as_its_configuration_is_not_there(
    workspace: Workspace,
) -> None:
    workspace.pipelines.program = UPDATE
    pipeline_of(workspace).spec["configuration"].pop("tidemark.source")
    with pytest.raises(AirflowException, match=r"tidemark\.source"):
        Attempt("gold").run()
    assert not is_done()
