"""Each kind of login to Databricks, by the provider's own hook: the worker's and the triggerer's.

Of the provider one constant is replaced, the address of Azure's metadata service, and of aiohttp
the certificates that it trusts, which it reads when it is imported. All else is the environment's.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp.connector
import pytest
from airflow.providers.databricks.hooks import databricks_base
from airflow.sdk.exceptions import AirflowException, TaskDeferred
from databricks_tasks import Attempt, bronze_has_file, deployed, silver_has_commits
from databricks_workspace import Workspace
from databricks_workspace.login_server import LoginServer, serve_logins

from tidemark.airflow.databricks_api import RunFailed
from tidemark.errors import ConfigError
from tidemark.pending import gold_pending, silver_pending
from tidemark.settings import load_settings
from tidemark.storage import open_store

KINDS = ("oauth", "entra", "machine")
SECRET = {
    "oauth": "make a new secret for the service principal",
    "entra": "make a new secret for the service principal",
    "machine": "assign a managed identity to the machine",
}


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Workspace, LoginServer]]:
    with deployed(home) as workspace, serve_logins(workspace.logins, home / "logins") as found:
        trusted = ssl.create_default_context(cafile=found.certificate)
        monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusted)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(found.certificate))
        instance = f"{found.address}/metadata/instance"
        monkeypatch.setattr(databricks_base, "AZURE_METADATA_SERVICE_INSTANCE_URL", instance)
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", found.address)
        yield workspace, found


@pytest.fixture
def workspace(
    server: tuple[Workspace, LoginServer], kind: str, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    workspace, logins = server
    connection = connection_of(workspace, logins, kind)
    monkeypatch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", json.dumps(connection))
    return workspace


def connection_of(workspace: Workspace, server: LoginServer, kind: str) -> dict[str, Any]:
    known = workspace.connection()
    del known["password"]
    if kind == "machine":
        return known | {"extra": {"use_azure_managed_identity": True}}
    logins = workspace.logins
    own: dict[str, Any] = {
        "oauth": {"service_principal_oauth": True},
        "entra": {"azure_tenant_id": logins.tenant},
    }[kind]
    proxies = {"proxies": {"https": server.address}}
    return known | {"login": logins.client, "password": logins.secret, "extra": own | proxies}


def refuse(workspace: Workspace) -> None:
    """Let what opened the workspace not do so any more: a new secret, an identity taken away."""
    workspace.logins.secret = "another"  # noqa: S105  a test's own
    workspace.logins.has_identity = False


def waiting(task: Attempt) -> TaskDeferred:
    found = task.begin()
    assert found is not None
    return found


def left() -> list[str]:
    lake = load_settings().lake
    store = open_store(lake.root)
    return [*silver_pending(store, lake, ["DimUser"]), *gold_pending(store, lake, ["DimUser"])]


def secrets_of(workspace: Workspace, secret: str) -> list[str]:
    logins = workspace.logins
    basic = base64.b64encode(f"{logins.client}:{secret}".encode()).decode()
    return [secret, basic, *logins.given]


@pytest.mark.parametrize("kind", KINDS)
def test_silver_and_gold_run_by_a_login_that_is_shown_nowhere(
    workspace: Workspace,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bronze_has_file()
    silver = Attempt("silver")
    silver.run()
    assert len(workspace.logins.given) == 2, "one token for the worker, one for the triggerer"
    silver_has_commits()
    gold = Attempt("gold")
    gold.run()
    assert left() == []
    told = capsys.readouterr()
    shown = "".join([*silver.shown, *gold.shown, caplog.text, told.out, told.err])
    lake = Path(load_settings().lake.root)
    shown += "".join(path.read_text(errors="replace") for path in lake.rglob("*.json"))
    assert "run_page_url" in shown
    for secret in secrets_of(workspace, workspace.logins.secret):
        assert secret not in shown


@pytest.mark.parametrize("kind", KINDS)
def test_a_login_that_is_refused_names_the_connection_and_what_to_do(
    workspace: Workspace,
    kind: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = workspace.logins.secret
    bronze_has_file()
    silver_has_commits("DimUser")
    refuse(workspace)
    for task in (Attempt("silver"), Attempt("gold")):
        with pytest.raises(ConfigError, match="connection 'databricks_default' gets no token") as e:
            task.run()
        assert SECRET[kind] in str(e.value)
        shown = "".join([str(e.value), repr(e.value), *task.shown, caplog.text])
        told = capsys.readouterr()
        for each in secrets_of(workspace, secret):
            assert each not in shown + told.out + told.err
    assert not workspace.jobs.runs


@pytest.mark.parametrize("kind", KINDS)
def test_a_login_that_is_refused_while_something_runs_is_told_and_the_retry_goes_on(
    workspace: Workspace,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = workspace.logins.secret
    bronze_has_file()
    workspace.held.set()
    task = Attempt("silver")
    deferred = waiting(task)
    refuse(workspace)
    with pytest.raises(ConfigError, match="connection 'databricks_default' gets no token") as e:
        task.go_on(deferred)
    assert SECRET[kind] in str(e.value)
    shown = "".join([str(e.value), *task.shown, caplog.text])
    assert all(each not in shown for each in secrets_of(workspace, secret))

    workspace.logins.secret, workspace.logins.has_identity = secret, True
    workspace.held.clear()
    Attempt("silver", 2).run()
    assert len(workspace.jobs.runs) == 1

    silver_has_commits()
    workspace.held.set()
    gold = Attempt("gold")
    deferred = waiting(gold)
    refuse(workspace)
    with pytest.raises(ConfigError, match=SECRET[kind]):
        gold.go_on(deferred)
    workspace.logins.secret, workspace.logins.has_identity = secret, True
    workspace.held.clear()
    Attempt("gold", 2).run()
    (pipeline,) = workspace.pipelines.pipelines.values()
    assert [update.state for update in pipeline.updates] == ["COMPLETED"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_is_renewed_before_it_ends(workspace: Workspace) -> None:
    workspace.logins.seconds = 60  # the provider takes a new one two minutes before the end
    bronze_has_file()
    Attempt("silver").run()
    assert len(workspace.logins.given) > 2
    assert left() == []


@pytest.mark.parametrize("kind", ["entra"])
def test_a_tenant_that_is_not_there_is_told(workspace: Workspace) -> None:
    bronze_has_file()
    workspace.logins.tenant = "99999999-2222-4333-8444-555555555555"
    with pytest.raises(ConfigError, match="`azure_tenant_id` is the id of its tenant") as e:
        Attempt("silver").run()
    assert "connection 'databricks_default' gets no token" in str(e.value)
    assert "11111111-2222-4333-8444-555555555555" in str(e.value)


@pytest.mark.parametrize("kind", ["machine"])
def test_a_machine_that_is_not_azures_is_told_and_tried_again(workspace: Workspace) -> None:
    bronze_has_file()
    workspace.logins.is_azure = False
    with pytest.raises(AirflowException, match="on a machine of Azure only") as e:
        Attempt("silver").run()
    assert "connection 'databricks_default'" in str(e.value)
    assert not isinstance(e.value, RunFailed)


@pytest.mark.parametrize("kind", ["oauth"])
def test_a_token_that_the_workspace_takes_back_is_told(workspace: Workspace) -> None:
    bronze_has_file()
    workspace.held.set()
    task = Attempt("silver")
    deferred = waiting(task)
    event = task.go_on
    workspace.logins.seconds = -1  # whatever is given out from now on has ended
    with pytest.raises(ConfigError, match="answers 403: Forbidden") as e:
        event(deferred)
    assert "not valid any more" in str(e.value)
    with pytest.raises(ConfigError, match="answers 403: Invalid access token"):
        Attempt("silver", 2).run()
