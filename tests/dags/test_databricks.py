"""The Dag with `compute: databricks`, against the stand-in; what a job does is a script's of here.

`tests/integration/test_databricks.py` lets the real jobs and pipelines run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from databricks_programs import JOB
from databricks_tasks import silver_has_commits
from databricks_workspace import Fault, Workspace, serve
from home_harness import wait_until

from tidemark.airflow.factory import build_dags
from tidemark.report import RunReport, load
from tidemark.settings import load_settings
from tidemark.storage import open_store

pytestmark = pytest.mark.usefixtures("airflow_database", "source")
Write = Callable[..., Path]
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUN = """
import sys
from datetime import datetime
from tidemark.airflow.factory import build_dags

moment = datetime.fromisoformat(sys.argv[1])
build_dags()["spotify"].test(logical_date=moment, run_after=moment)
"""


@pytest.fixture
def workspace(home: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace to which the metadata of two tables is deployed."""
    configure(write)
    with serve(home / "workspace") as found:
        monkeypatch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", json.dumps(found.connection()))
        deploy(found)
        yield found


def configure(write: Write, **fields: Any) -> None:
    write("DimUser", "DimArtist", compute="databricks", databricks={"poll": "1s"}, **fields)


def deploy(workspace: Workspace, fails: str | tuple[str, ...] = (), **options: Any) -> None:
    settings = load_settings()
    workspace.deploy(settings.config, settings.lake.root, **options)
    program(workspace, fails)


def program(workspace: Workspace, fails: str | tuple[str, ...] = ()) -> None:
    (workspace.files / "spark_jobs" / "silver.py").write_text(JOB.format(fails=fails))


def run(moment: datetime | None = None, **conf: Any) -> tuple[DagRun, dict[str, str]]:
    dag = build_dags()["spotify"]
    made = dag.test(logical_date=moment, run_after=moment, run_conf=conf or None)
    return made, {ti.task_id: str(ti.state) for ti in made.get_task_instances()}


def report_of(made: DagRun) -> RunReport:
    lake = load_settings().lake
    return load(open_store(lake.root), lake, "spotify", made.run_id)


def reason(made: DagRun, task: str) -> str:
    return next(f.exception for f in report_of(made).failures if f.task_id == task)


def parameters(workspace: Workspace, call: str = "run-now") -> list[dict[str, str]]:
    return [c.body["job_parameters"] for c in workspace.asked("POST", call)]


def in_the_background(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def test_a_run_tells_of_its_rows_and_the_next_with_nothing_pending_starts_nothing(
    workspace: Workspace,
) -> None:
    made, states = run()
    assert made.state == "success"
    assert (states["silver"], states["gold"]) == ("success", "skipped")
    assert report_of(made).tables["DimUser"].silver_rows == 1
    (asked,) = parameters(workspace)
    assert asked["tables"] == "DimUser,DimArtist"
    assert asked["report"].startswith("lake:_tidemark/runs/spotify/")
    (call,) = workspace.asked("POST", "run-now")
    assert 0 < len(call.body["idempotency_token"]) <= 64
    link = next(ti for ti in made.get_task_instances() if ti.task_id == "silver").xcom_pull(
        task_ids="silver", key="run_page_url"
    )
    assert link.startswith(workspace.jobs.address)

    made, states = run()
    assert made.state == "success"
    assert states["silver"] == states["gold"] == "skipped"
    assert len(workspace.asked("POST", "run-now")) == 1


def test_a_failed_table_is_told_in_its_own_words_and_alone_repaired_in_the_same_run(
    workspace: Workspace,
) -> None:
    program(workspace, fails=("DimUser",))
    made, states = run(MOMENT)
    assert states["silver"] == "failed"
    assert "1 of 2 tables failed:\n  DimUser: DimUser: column 'x' is gone" in reason(made, "silver")
    (failure,) = [f for f in report_of(made).failures if f.task_id == "silver"]
    assert failure.run_url is not None
    assert "/run/" in failure.run_url
    assert report_of(made).tables["DimArtist"].silver_rows == 1

    program(workspace)
    made, states = run(MOMENT)  # as a cleared task: it is the same Dag run
    assert states["silver"] == "success"
    assert len(workspace.jobs.runs) == 1
    (repaired,) = parameters(workspace, "repair")
    assert repaired["tables"] == "DimUser"
    assert report_of(made).tables["DimUser"].silver_error is None


def test_a_repair_that_fails_is_repaired_in_turn(workspace: Workspace) -> None:
    program(workspace, fails=("DimUser",))
    for _ in range(3):
        _, states = run(MOMENT)
        assert states["silver"] == "failed"
    assert len(workspace.jobs.runs) == 1
    assert len(workspace.asked("POST", "repair")) == 2


def test_a_job_that_fails_as_a_whole_is_quoted_and_not_tried_again(
    workspace: Workspace, write: Write
) -> None:
    configure(write, tasks={"retries": 2, "retry_delay": "1s"})
    deploy(workspace, fails="whole")
    made, states = run()
    assert states["silver"] == "failed"
    assert "ValueError: the rules can't be imported" in reason(made, "silver")
    assert len(workspace.jobs.runs) == 1
    assert not workspace.asked("POST", "repair")


def test_without_a_cluster_from_the_cloud_the_retry_repairs_the_run(
    workspace: Workspace, write: Write
) -> None:
    configure(write, tasks={"retries": 1, "retry_delay": "1s"})
    deploy(workspace)
    workspace.jobs.no_clusters = 2  # the repair that finds it failed at once is the second
    made, states = run()
    assert states["silver"] == "success", reason(made, "silver")
    assert len(workspace.jobs.runs) == 1
    assert len(workspace.asked("POST", "repair")) == 2


def test_a_cancelled_run_is_told_and_going_on_is_the_users(
    workspace: Workspace, write: Write
) -> None:
    configure(write, tasks={"retries": 1, "retry_delay": "1s"})
    deploy(workspace)
    workspace.held.set()

    def cancel() -> None:
        wait_until(lambda: bool(workspace.jobs.runs), 60, lambda: "no run")
        for found in workspace.jobs.runs.values():
            workspace.jobs.cancel({"run_id": found.run_id})

    in_the_background(cancel)
    made, states = run(MOMENT)
    assert states["silver"] == "failed"
    assert "was cancelled in Databricks; clear this task" in reason(made, "silver")
    assert len(workspace.asked("POST", "run-now")) == 1, "not tried again by itself"
    workspace.held.clear()
    _, states = run(MOMENT)
    assert states["silver"] == "success"
    assert len(workspace.jobs.runs) == 1


def test_a_throttled_api_is_waited_for_as_long_as_it_says_and_starts_one_run(
    workspace: Workspace,
) -> None:
    workspace.faults += [
        Fault("run-now", 429, times=2, headers={"Retry-After": "3"}),
        Fault("runs/get", 503, times=2),
        Fault("jobs/list", 429, headers={"Retry-After": "soon"}),
    ]
    begin = datetime.now(UTC)
    made, states = run()
    assert states["silver"] == "success", reason(made, "silver")
    assert (datetime.now(UTC) - begin).total_seconds() > 6
    assert [c.status for c in workspace.calls if c.path.endswith("run-now")] == [429, 429, 200]
    assert all(fault.times == 0 for fault in workspace.faults)


@pytest.mark.parametrize(("other", "tries"), [("spotify", 2), ("shop", 1)])
def test_no_run_is_started_beside_one_that_is_still_at_work_on_the_source(
    workspace: Workspace, write: Write, other: str, tries: int
) -> None:
    configure(write, tasks={"retries": 1, "retry_delay": "1s"})
    deploy(workspace)
    workspace.held.set()
    jobs, others = workspace.jobs, list[int]()
    job = next(i for i, j in jobs.jobs.items() if j["settings"]["name"] == "tidemark_silver")
    given = {"source": other, "report": "lake:_tidemark/runs/spotify/another/_silver.0.json"}
    for _ in range(25):  # so many that the first is on the list's second page
        others.append(jobs.run_now({"job_id": job, "job_parameters": given})["run_id"])
        given = given | {"source": "third"}

    def release() -> None:
        wait_until(lambda: len(workspace.asked("GET", "runs/list")) > 1, 60, lambda: "not asked")
        for run_id in others:
            jobs.cancel({"run_id": run_id})
        workspace.held.clear()

    in_the_background(release)
    _, states = run(MOMENT)
    assert states["silver"] == "success"
    assert len(workspace.asked("POST", "run-now")) == 1
    asked = [call for call in workspace.asked("GET", "runs/list") if "page_token" not in call.body]
    assert len(asked) == tries


def test_a_start_whose_answer_was_lost_is_no_second_run(workspace: Workspace) -> None:
    workspace.faults.append(Fault("run-now", 503, after=True))
    _, states = run()
    assert states["silver"] == "success"
    assert len(workspace.jobs.runs) == 1


@pytest.mark.parametrize(
    ("path", "status", "remedy"),
    [
        ("jobs/list", 401, "renew the token or the secret of the connection"),
        ("run-now", 403, "grant it CAN MANAGE RUN on the job"),
        ("run-now", 404, "deploy the bundle"),
        ("run-now", 400, "as it was asked for"),
    ],
)
def test_what_the_workspace_refuses_is_told_with_its_remedy_and_not_tried_again(
    workspace: Workspace, write: Write, path: str, status: int, remedy: str
) -> None:
    configure(write, tasks={"retries": 2, "retry_delay": "1s"})
    deploy(workspace)
    workspace.faults.append(Fault(path, status))
    made, states = run()
    assert states["silver"] == "failed"
    told = reason(made, "silver")
    assert f"by connection 'databricks_default', answers {status}" in told
    assert remedy in told
    assert "(try 1)" in _failed_text(made)


def _failed_text(made: DagRun) -> str:
    return " ".join(f"(try {f.try_number})" for f in report_of(made).failures)


def test_a_wrong_token_is_told_and_never_shown(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "dapi0123456789abcdef-not-this-workspaces"
    connection = workspace.connection() | {"password": wrong}
    monkeypatch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", json.dumps(connection))
    made, states = run()
    assert states["silver"] == "failed"
    assert "answers 403: Invalid access token" in reason(made, "silver")
    assert "renew the token or the secret of the connection" in reason(made, "silver")
    kept = [p.read_text() for p in Path(load_settings().lake.root).rglob("*.json")]
    task = build_dags()["spotify"].get_task("silver")
    shown = [repr(getattr(task, name)) for name in task.template_fields]
    assert wrong not in "".join([*kept, caplog.text, *shown])


def test_without_a_connection_nothing_is_started(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_DATABRICKS_DEFAULT")
    made, states = run()
    assert states["pending_for_silver"] == "failed"
    assert "airflow connections add databricks_default" in reason(made, "pending_for_silver")
    assert not workspace.calls


def test_a_development_target_is_found_by_its_prefix(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.jobs.jobs.clear()
    deploy(workspace, target="dev")
    made, _ = run()
    told = reason(made, "silver")
    assert "job 'tidemark_silver' is not in the workspace" in told
    assert "TIDEMARK_DATABRICKS_PREFIX" in told
    monkeypatch.setenv("TIDEMARK_DATABRICKS_PREFIX", "[dev jane_doe] ")
    _, states = run()
    assert states["silver"] == "success"


def test_a_pipeline_of_other_metadata_is_not_started(workspace: Workspace, write: Write) -> None:
    silver_has_commits("DimUser")
    configure(write, owner="somebody else")
    made, states = run(tables=["DimArtist"])
    made, states = run()
    assert states["gold"] == "failed"
    assert "was deployed from other metadata" in reason(made, "gold")
    assert "deploy the bundle" in reason(made, "gold")
    assert not workspace.asked("POST", "updates")


def test_a_worker_that_is_killed_leaves_a_run_and_an_update_that_are_found_again(
    workspace: Workspace,
) -> None:
    workspace.held.set()
    _run_and_kill(lambda: bool(workspace.jobs.runs))
    (found,) = workspace.jobs.runs.values()
    assert found.state()["life_cycle_state"] == "PENDING", "it goes on without a worker"
    in_the_background(lambda: (_wait_for_second(workspace), workspace.held.clear()))
    _, states = run(MOMENT)
    assert states["silver"] == "success"
    assert len(workspace.jobs.runs) == 1
    assert not workspace.asked("POST", "repair")

    silver_has_commits("DimUser", "DimArtist")
    workspace.held.set()
    _run_and_kill(lambda: bool(workspace.asked("POST", "updates")))
    (pipeline,) = workspace.pipelines.pipelines.values()
    assert pipeline.active is not None
    in_the_background(lambda: _cancel_when_asked_again(workspace))
    made, states = run(MOMENT)
    assert len(pipeline.updates) == 1
    assert states["gold"] == "failed"
    assert "the update was cancelled in Databricks" in reason(made, "gold")


def test_an_update_of_somebody_else_is_waited_for_and_then_ours_is_started(
    workspace: Workspace,
) -> None:
    run()
    silver_has_commits("DimUser", "DimArtist")
    workspace.held.set()
    (pipeline,) = workspace.pipelines.pipelines.values()
    workspace.pipelines.start({"refresh_selection": ["dim_user"]}, pipeline.pipeline_id)

    def end_both() -> None:
        wait_until(lambda: len(workspace.asked("GET", "updates/")) > 1, 120, lambda: "not asked")
        workspace.pipelines.stop({}, pipeline.pipeline_id)
        wait_until(lambda: bool(workspace.asked("POST", "updates")), 120, lambda: "none began")
        workspace.pipelines.stop({}, pipeline.pipeline_id)

    in_the_background(end_both)
    made, states = run()
    assert states["gold"] == "failed"
    assert "the update was cancelled" in reason(made, "gold")
    assert len(pipeline.updates) == 2


def _wait_for_second(workspace: Workspace) -> None:
    wait_until(lambda: len(workspace.asked("POST", "run-now")) == 2, 120, lambda: "not asked")


def _cancel_when_asked_again(workspace: Workspace) -> None:
    seen = len(workspace.asked("GET", "updates/"))
    wait_until(lambda: len(workspace.asked("GET", "updates/")) > seen + 1, 120, lambda: "not asked")
    (pipeline,) = workspace.pipelines.pipelines.values()
    workspace.pipelines.stop({}, pipeline.pipeline_id)


def _run_and_kill(begun: Callable[[], bool]) -> None:
    """Run the Dag in a process of its own, and kill it when something has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, MOMENT.isoformat()],
        env=dict(os.environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: begun() or process.poll() is not None, 240, lambda: "it never began")
        assert process.poll() is None, "it ended by itself"
    finally:
        os.killpg(process.pid, 9)
        process.wait()
