"""What becomes of the task in each state that a run may be in, by the provider's own hook.

https://docs.databricks.com/api/jobs/v2/get-run, and "Databricks Jobs queueing and concurrency
settings" for runs that wait for another, or are skipped because of it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException
from databricks_tasks import (
    Attempt,
    bronze_has_file,
    deployed,
    program_job,
)
from databricks_workspace import Fault, Workspace
from databricks_workspace.runs import NO_CLUSTER
from home_harness import wait_until

from tidemark.airflow.databricks_api import RunFailed
from tidemark.errors import ConfigError
from tidemark.pending import silver_pending
from tidemark.settings import load_settings
from tidemark.storage import open_store


@pytest.fixture
def workspace(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    with deployed(home) as found:
        monkeypatch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", json.dumps(found.connection()))
        bronze_has_file()
        yield found


def job_of(workspace: Workspace) -> tuple[int, dict[str, Any]]:
    jobs = workspace.jobs.jobs.items()
    return next((i, j["settings"]) for i, j in jobs if j["settings"]["name"] == "tidemark_silver")


def begin_another(workspace: Workspace) -> int:
    """Let a run for another source be at work, and hold it."""
    workspace.held.set()
    parameters = {"source": "another", "report": "lake:_tidemark/another.json"}
    asked = {"job_id": job_of(workspace)[0], "job_parameters": parameters}
    return int(workspace.jobs.run_now(asked)["run_id"])


def states(workspace: Workspace) -> list[str]:
    return [run.state()["life_cycle_state"] for run in workspace.jobs.runs.values()]


def is_done() -> bool:
    lake = load_settings().lake
    return not silver_pending(open_store(lake.root), lake, ["DimUser"])


def test_a_run_that_is_not_over_is_waited_for_whatever_its_state(workspace: Workspace) -> None:
    workspace.held.set()
    workspace.jobs.cleaning.set()
    task = Attempt("silver")
    waiting = task.begin()
    (run,) = workspace.jobs.runs.values()
    run.passing = ["QUEUED", "BLOCKED", "PENDING", "RUNNING", "WAITING_FOR_RETRY", "TERMINATING"]
    seen: list[str] = []

    def release() -> None:
        wait_until(lambda: not run.passing, 60, lambda: str(run.passing), pause=0.05)
        workspace.held.clear()
        wait_until(lambda: run.last.ending, 60, lambda: str(run.state()), pause=0.05)
        asked = len(workspace.calls)
        wait_until(lambda: len(workspace.calls) > asked + 1, 60, lambda: "not asked", pause=0.05)
        seen.append(run.state()["life_cycle_state"])
        workspace.jobs.cleaning.clear()

    threading.Thread(target=release, daemon=True).start()
    assert waiting is not None
    assert task.go_on(waiting) is None
    assert seen == ["TERMINATING"], "it was still waited for"
    assert is_done()
    assert len(workspace.asked("POST", "run-now")) == 1


def test_the_retry_waits_for_the_run_in_each_of_these_states_and_starts_none(
    workspace: Workspace,
) -> None:
    workspace.held.set()
    for number, state in enumerate(["QUEUED", "BLOCKED", "PENDING", "WAITING_FOR_RETRY"], 1):
        for run in workspace.jobs.runs.values():
            run.passing = [state] * 9
        assert Attempt("silver", number).begin() is not None
    (run,) = workspace.jobs.runs.values()
    run.passing.clear()
    # One that is ending has been cancelled with its task, perhaps: how it ends says what is next.
    workspace.jobs.cleaning.set()
    workspace.jobs.cancel({"run_id": run.run_id})
    threading.Timer(1.5, workspace.jobs.cleaning.clear).start()
    assert Attempt("silver", 5).begin() is not None
    assert len(workspace.jobs.runs) == 1
    assert len(workspace.asked("POST", "repair")) == 1


def test_a_run_waits_in_the_jobs_queue_for_another_to_end(workspace: Workspace) -> None:
    job_of(workspace)[1]["max_concurrent_runs"] = 1
    another = begin_another(workspace)
    task = Attempt("silver")
    waiting = task.begin()
    assert states(workspace) == ["PENDING", "QUEUED"]
    shown = workspace.jobs.get({"run_id": max(workspace.jobs.runs)})
    assert shown["status"]["queue_details"]["code"] == "MAX_CONCURRENT_RUNS_REACHED"
    workspace.jobs.cancel({"run_id": another})
    workspace.held.clear()
    assert waiting is not None
    task.go_on(waiting)
    assert is_done()


def test_a_run_is_skipped_without_a_queue_which_is_told_and_the_retry_starts_another(
    workspace: Workspace,
) -> None:
    settings = job_of(workspace)[1]
    settings |= {"max_concurrent_runs": 1, "queue": {"enabled": False}}
    another = begin_another(workspace)
    with pytest.raises(AirflowException, match="Databricks skipped the run: Run was skipped") as e:
        Attempt("silver").run()
    assert not isinstance(e.value, RunFailed), "a retry may go well"
    assert "`queue` in resources/jobs.yml" in str(e.value)
    tried = len(workspace.jobs.runs)
    assert set(states(workspace)[1:]) == {"SKIPPED"}

    workspace.jobs.cancel({"run_id": another})
    workspace.held.clear()
    wait_until(lambda: "PENDING" not in states(workspace), 60, lambda: str(states(workspace)))
    Attempt("silver", 2).run()
    assert is_done()
    assert len(workspace.jobs.runs) == tried + 1
    assert not workspace.asked("POST", "repair"), "a run that was skipped has nothing to repair"


def test_a_run_that_is_skipped_while_it_waits_is_told_and_tried_again(
    workspace: Workspace,
) -> None:
    workspace.held.set()
    task = Attempt("silver")
    waiting = task.begin()
    (run,) = workspace.jobs.runs.values()
    run.last.state = {
        "life_cycle_state": "SKIPPED",
        "result_state": "MAXIMUM_CONCURRENT_RUNS_REACHED",
        "state_message": "Run was in the queue for 48 hours.",
    }
    assert waiting is not None
    with pytest.raises(AirflowException, match="skipped the run: Run was in the queue") as e:
        task.go_on(waiting)
    assert not isinstance(e.value, RunFailed)


def test_an_internal_error_is_a_failure_whose_retry_repairs_the_run(workspace: Workspace) -> None:
    workspace.held.set()
    task = Attempt("silver")
    waiting = task.begin()
    (run,) = workspace.jobs.runs.values()
    run.last.state = NO_CLUSTER
    assert waiting is not None
    with pytest.raises(AirflowException, match="the cloud has no machine of this type") as e:
        task.go_on(waiting)
    assert not isinstance(e.value, RunFailed)
    workspace.held.clear()
    Attempt("silver", 2).run()
    assert is_done()
    assert len(workspace.jobs.runs) == 1
    assert len(workspace.asked("POST", "repair")) == 1


def test_no_run_is_repaired_while_a_later_one_of_ours_is_at_work(workspace: Workspace) -> None:
    workspace.jobs.no_clusters = 1
    workspace.held.set()
    workspace.faults.append(Fault("runs/repair", 400))
    assert Attempt("silver").begin() is not None
    first, second = workspace.jobs.runs.values()
    assert (first.is_over, second.is_over) == (True, False)

    # The worker was lost, say. By now Databricks would accept the repair of the first.
    task = Attempt("silver", 2)
    waiting = task.begin()
    assert first.is_over, "two runs are at work on the same tables"
    workspace.held.clear()
    assert waiting is not None
    task.go_on(waiting)
    assert is_done()
    assert len(workspace.jobs.runs) == 2


def test_what_failed_is_repaired_where_the_repair_is_accepted_and_nothing_else_is_at_work(
    workspace: Workspace,
) -> None:
    program_job(workspace, fails="whole")
    workspace.faults.append(Fault("runs/repair", 400))
    for number in (1, 2):
        with pytest.raises(RunFailed, match="the rules can't be imported"):
            Attempt("silver", number).run()
    first, second = workspace.jobs.runs.values()
    program_job(workspace)
    Attempt("silver", 3).run()
    assert is_done()
    assert (len(first.attempts), len(second.attempts)) == (2, 1)


def test_a_repair_whose_answer_is_lost_is_waited_for_and_no_second_run_is_started(
    workspace: Workspace,
) -> None:
    workspace.jobs.no_clusters = 1
    workspace.held.set()
    workspace.faults.append(Fault("runs/repair", 503, after=True))  # the hook asks again: 400
    task = Attempt("silver")
    waiting = task.begin()
    (run,) = workspace.jobs.runs.values()
    assert len(run.attempts) == 2
    workspace.held.clear()
    assert waiting is not None
    task.go_on(waiting)
    assert is_done()


def test_a_run_of_an_earlier_dag_run_that_has_ended_is_in_nobodys_way(workspace: Workspace) -> None:
    Attempt("silver").run()
    (run,) = workspace.jobs.runs.values()
    asked = workspace.jobs.list_runs({"job_id": run.job_id, "active_only": "True"})
    assert asked["runs"], "the service does not take `True` for true"
    bronze_has_file(day=3)
    Attempt("silver", run_id="manual__2026-01-03").run()
    assert len(workspace.jobs.runs) == 2


def test_a_task_that_is_killed_while_it_looks_at_its_run_knows_what_to_cancel(
    workspace: Workspace,
) -> None:
    workspace.held.set()
    workspace.faults.append(Fault("runs/get", 403))
    task = Attempt("silver")
    with pytest.raises(ConfigError, match="answers 403"):
        task.begin()
    (run,) = workspace.jobs.runs.values()
    task.operator.on_kill()
    workspace.held.clear()
    wait_until(lambda: run.is_over, 60, lambda: str(run.state()))
    assert run.state()["result_state"] == "CANCELED"
