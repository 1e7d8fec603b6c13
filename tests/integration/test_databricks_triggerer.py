"""A real scheduler and a real triggerer: a run waits without a worker, and ends with its task."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from databricks_workspace import Workspace, serve
from home_harness import Home, get_json, wait_until

CONFIG = """
source: {connection: spotify_sql, schema: dbo}
tasks: {retries: 0}
compute: databricks
databricks: {poll: 1s}
tables:
  DimUser: {key: user_id, cursor: updated_at}
"""
SECONDS = 400

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with serve(tmp_path / "workspace") as found:
        yield found


def test_a_task_that_is_marked_while_it_waits_cancels_its_run(
    tmp_path: Path, workspace: Workspace
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "spotify.yaml").write_text(CONFIG)
    variables = {
        "TIDEMARK_CONFIG": str(tmp_path / "config"),
        "AIRFLOW_CONN_DATABRICKS_DEFAULT": json.dumps(workspace.connection()),
    }
    home = Home(tmp_path / "home", variables)
    home.tidemark("sample")
    workspace.deploy(tmp_path / "config", str(home.lake))
    workspace.held.set()
    with home.ui() as address:
        passwords = home.path / "airflow" / "simple_auth_manager_passwords.json.generated"
        admin = {"username": "admin", "password": json.loads(passwords.read_text())["admin"]}
        token = send("POST", f"{address}/auth/token", admin)["access_token"]
        dag = f"{address}/api/v2/dags/spotify"
        wait_until(lambda: known(dag, token), SECONDS, lambda: "no Dag")
        send("PATCH", dag, {"is_paused": False}, token)
        run = send("POST", f"{dag}/dagRuns", {"logical_date": None}, token)["dag_run_id"]
        silver = f"{dag}/dagRuns/{run}/taskInstances/silver"
        wait_until(
            lambda: state(silver, token) == "deferred", SECONDS, lambda: state(silver, token)
        )
        (started,) = workspace.jobs.runs.values()
        assert started.state()["life_cycle_state"] == "PENDING"
        # The triggerer asks on, and no worker does.
        asked = len(workspace.calls)
        wait_until(lambda: len(workspace.calls) > asked + 3, 60, lambda: "it is not waited for")
        send("PATCH", silver, {"new_state": "failed"}, token)
        wait_until(
            lambda: started.state().get("result_state") == "CANCELED",
            SECONDS,
            lambda: str(started.state()),
        )
    assert len(workspace.asked("POST", "run-now")) == 1


def known(dag: str, token: str) -> bool:
    try:
        return bool(get_json(dag, token))
    except OSError:
        return False


def state(task: str, token: str) -> str:
    return str(get_json(task, token)["state"])


def send(method: str, url: str, body: Any = None, token: str = "") -> Any:
    headers = {"Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310  # http://localhost
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310  # the same
        return json.load(answer)
