"""The workspace: what is deployed, who may ask, and which calls fail."""

from __future__ import annotations

import re
import shutil
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bundle

from databricks_workspace.fields import ApiError
from databricks_workspace.jobs import Jobs
from databricks_workspace.libraries import declared_files
from databricks_workspace.logins import Logins
from databricks_workspace.pipelines import Pipelines

_JOBS = "/api/2.2/jobs"
_ID = "([0-9a-f-]{36})"
_PIPELINES = "/api/2.0/pipelines"
_DEPLOYED = ("spark_jobs", "dlt")


@dataclass(frozen=True)
class Call:
    """A request that was answered."""

    method: str
    path: str
    body: Mapping[str, Any]
    status: int


@dataclass
class Fault:
    """What the next calls get instead of an answer.

    Attributes:
        path: A regular expression that is found in their path.
        status: The answer's status.
        times: How many calls.
        headers: The answer's headers.
        after: Whether the call is done nevertheless, and only its answer lost.
    """

    path: str
    status: int
    times: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    after: bool = False

    @property
    def error(self) -> ApiError:
        return ApiError(self.status, _CODES[self.status], "as it was asked for")


class Workspace:
    """A workspace: its jobs, its pipelines, and how it behaves.

    Attributes:
        held: While it is set, no compute comes up.
        faults: What goes wrong next.
        calls: All requests, in order.
        logins: Who may ask, beside the one who has `token`, and by which tokens.
    """

    token = "dapi-of-the-workspace"  # noqa: S105  a test's own

    def __init__(self, folder: Path, address: str = "") -> None:
        self.folder = folder
        self.held = threading.Event()
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.files = folder / "files"
        self.jobs = Jobs(address, self.held)
        self.pipelines = Pipelines(folder, self.held)
        self.logins = Logins()

    def deploy(self, config: Path, lake: str, target: str = "prod", digest: str = "") -> None:
        """Deploy the bundle: its jobs and pipelines, and copies of the folders that they name."""
        from tidemark.metadata import config_digest  # noqa: PLC0415  also where it is not installed

        for name in _DEPLOYED:
            shutil.copytree(bundle.PROJECT / name, self.files / name, dirs_exist_ok=True)
        shutil.rmtree(self.files / "config", ignore_errors=True)
        shutil.copytree(config, self.files / "config")
        variables = {"lake": lake, "config_digest": digest or config_digest(config)} | {
            name: f"{name}-id" for name in ("silver_principal", "gold_principal", "airflow")
        }
        loaded = bundle.load_bundle(target, variables)
        for settings in loaded.jobs.values():
            self.jobs.deploy(self._placed(settings))
        for spec in loaded.pipelines.values():
            placed = self._placed(spec)
            declared_files(placed["libraries"])  # `bundle deploy` refuses what is not there
            self.pipelines.deploy(placed)

    def _placed(self, value: Any) -> Any:
        """Put the deployed copies where the bundle says its files are."""
        if isinstance(value, dict):
            return {name: self._placed(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._placed(item) for item in value]
        if not isinstance(value, str):
            return value
        for name in _DEPLOYED:
            value = value.replace(f"{bundle.PROJECT}/{name}/", f"{self.files}/{name}/")
        return value.replace(bundle.FILES, str(self.files))

    def connection(self) -> dict[str, Any]:
        """Give the Airflow connection by which the workspace is asked, with a personal token."""
        address = urllib.parse.urlsplit(self.jobs.address)
        known = {"conn_type": "databricks", "host": address.hostname, "port": address.port}
        return known | {"schema": "http", "password": self.token}

    def answer(
        self, method: str, path: str, body: Mapping[str, Any], token: str
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Answer a request: the status, the body, headers."""
        fault = next((f for f in self.faults if f.times and re.search(f.path, path)), None)
        if fault is not None:
            fault.times -= 1
        try:
            status, result = (
                200,
                self._result(fault, token, lambda: self._dispatch(method, path, body)),
            )
        except ApiError as error:
            status, result = error.status, {"error_code": error.code, "message": str(error)}
        self.calls.append(Call(method, path, dict(body), status))
        return status, result, fault.headers if fault is not None else {}

    def end(self) -> None:
        """Cancel whatever goes on."""
        runs = [run.last.execution for run in self.jobs.runs.values()]
        updates = [p.active.execution for p in self.pipelines.pipelines.values() if p.active]
        for execution in filter(None, runs + updates):
            execution.cancel()

    def _result(self, fault: Fault | None, token: str, done: Callable[[], Any]) -> Any:
        if fault is not None and not fault.after:
            raise fault.error
        self.logins.check(token, self.token)
        result = done()
        if fault is not None:
            raise fault.error
        return result

    def asked(self, method: str, path: str) -> list[Call]:
        """List the calls of an endpoint that went well."""
        found = [c for c in self.calls if c.method == method and re.search(path, c.path)]
        return [call for call in found if call.status == 200]

    def _dispatch(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        jobs, pipelines = self.jobs, self.pipelines
        routes: dict[tuple[str, str], Callable[..., Any]] = {
            ("GET", f"{_JOBS}/list"): jobs.list,
            ("POST", f"{_JOBS}/run-now"): jobs.run_now,
            ("GET", f"{_JOBS}/runs/list"): jobs.list_runs,
            ("GET", f"{_JOBS}/runs/get"): jobs.get,
            ("GET", f"{_JOBS}/runs/get-output"): jobs.get_output,
            ("POST", f"{_JOBS}/runs/cancel"): jobs.cancel,
            ("POST", f"{_JOBS}/runs/repair"): jobs.repair,
            ("GET", _PIPELINES): pipelines.list,
            ("GET", f"{_PIPELINES}/{_ID}"): pipelines.get,
            ("POST", f"{_PIPELINES}/{_ID}/updates"): pipelines.start,
            ("GET", f"{_PIPELINES}/{_ID}/updates/{_ID}"): pipelines.get_update,
            ("POST", f"{_PIPELINES}/{_ID}/stop"): pipelines.stop,
            ("GET", f"{_PIPELINES}/{_ID}/events"): pipelines.list_events,
        }
        for (verb, pattern), call in routes.items():
            match = re.fullmatch(pattern, path)
            if match and verb == method:
                return call(body, *match.groups())
        raise ApiError(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'")


_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}
