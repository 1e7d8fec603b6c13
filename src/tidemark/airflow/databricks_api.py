"""What Tidemark says to a Databricks workspace, and how it tells of what the workspace refuses.

Over the provider's hook, which takes every kind of login that an Airflow connection can hold. Of
the Jobs API the hook knows all; of the Pipelines API it can only list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from airflow.providers.databricks.exceptions import DatabricksApiError
from airflow.providers.databricks.hooks.databricks import DatabricksHook, RunState
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException
from tenacity import RetryCallState, wait_exponential

from tidemark.airflow.databricks_login import refusal
from tidemark.errors import ConfigError, PipelineError, TidemarkError

# With 1, 2, 4 … seconds between two calls, two minutes in all: calls of a second are limited.
_CALLS = 8
_LONGEST_WAIT = 60
# A workspace that asks for more than this is not waited for: the task's retry will.
_LONGEST_TOLD = 300
_EVENTS_A_PAGE, _RUNS_A_PAGE = 250, 24  # as many as the API gives
_NOT_VALID = "Invalid access token"  # which comes with 403
_OF_THE_CALL = {400, 401, 403, 404, 409}
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELED"})  # an update's states
DEPLOY = "deploy the bundle (`databricks bundle deploy`) from the metadata that Airflow has"


class RunFailed(PipelineError):
    """A run on Databricks that failed for good, with the address of its page."""

    def __init__(self, message: str, run_url: str | None = None) -> None:
        super().__init__(message)
        self.run_url = run_url


class Workspace(DatabricksHook):
    """The provider's hook, which here also waits as long as a throttled API says.

    A subclass, because the provider makes its retries from a dictionary that has to be
    serializable when an operator is deferrable: a function can't be handed in.
    """

    def __init__(self, connection: str) -> None:
        super().__init__(databricks_conn_id=connection, retry_limit=_CALLS, caller="tidemark")
        self.retry_args["wait"] = told_wait

    def active_runs(self, job_id: int) -> Iterator[dict[str, Any]]:
        """Read the runs of a job that have not ended, with the parameters that they were given."""
        # As text: `requests` would write `True`, which the service does not take for true.
        asked: dict[str, Any] = {"job_id": job_id, "active_only": "true", "limit": _RUNS_A_PAGE}
        while True:
            answer = self._do_api_call(("GET", "2.2/jobs/runs/list"), asked)
            yield from (run for run in answer.get("runs", ()) if goes_on(run))
            if not answer.get("next_page_token"):
                return
            asked["page_token"] = answer["next_page_token"]

    def pipeline(self, pipeline_id: str) -> dict[str, Any]:
        """Get a pipeline: its specification, its state, its latest updates."""
        found: dict[str, Any] = self._do_api_call(("GET", _pipeline(pipeline_id)))
        return found

    def start_update(self, pipeline_id: str, *, full_refresh: bool) -> str:
        """Start an update of all tables; give its id.

        Raises:
            DatabricksApiError: With status 409 if an update is active.
        """
        body = {"full_refresh": full_refresh}
        started = self._do_api_call(("POST", f"{_pipeline(pipeline_id)}/updates"), body)
        return str(started["update_id"])

    def update(self, pipeline_id: str, update_id: str) -> dict[str, Any]:
        """Get an update."""
        found: dict[str, Any] = self._do_api_call(("GET", _update(pipeline_id, update_id)))[
            "update"
        ]
        return found

    async def a_update(self, pipeline_id: str, update_id: str) -> dict[str, Any]:
        """Get an update, asynchronously."""
        answer = await self._a_do_api_call(("GET", _update(pipeline_id, update_id)))
        found: dict[str, Any] = answer["update"]
        return found

    def stop_update(self, pipeline_id: str, update_id: str) -> None:
        """Cancel an update, if it goes on: what is stopped is the pipeline's active update."""
        if self.update(pipeline_id, update_id)["state"] not in ENDED:
            self._do_api_call(("POST", f"{_pipeline(pipeline_id)}/stop"), {})

    def events(self, pipeline_id: str, since: datetime) -> Iterator[dict[str, Any]]:
        """Read a pipeline's event log from a moment on, the newest first."""
        moment = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        asked: dict[str, Any] = {"filter": f"timestamp >= '{moment}'"}
        while True:
            body = {"max_results": _EVENTS_A_PAGE, **asked}
            answer = self._do_api_call(("GET", f"{_pipeline(pipeline_id)}/events"), body)
            yield from answer.get("events", ())
            token = answer.get("next_page_token")
            if not token:
                return
            # Beside a token, nothing but max_results may stand.
            asked = {"page_token": token}

    def update_url(self, pipeline_id: str, update_id: str) -> str:
        """Give the address of an update's page."""
        page = f"#joblist/pipelines/{pipeline_id}/updates/{update_id}"
        return str(self._endpoint_url(page))  # type: ignore[no-untyped-call]


def goes_on(run: Mapping[str, Any]) -> bool:
    """Tell whether a run, as the API gives it, has not ended."""
    return not RunState(**run["state"]).is_terminal


def _pipeline(pipeline_id: str) -> str:
    return f"2.0/pipelines/{quote(pipeline_id, safe='')}"


def _update(pipeline_id: str, update_id: str) -> str:
    return f"{_pipeline(pipeline_id)}/updates/{quote(update_id, safe='')}"


def told_wait(state: RetryCallState) -> float:
    """Give the seconds until the next try of a call: as many as ``Retry-After`` says, if it does.

    https://docs.databricks.com/en/resources/limits.html: a throttled call is answered with 429.
    """
    own = float(wait_exponential(min=1, max=_LONGEST_WAIT)(state))
    error = state.outcome.exception() if state.outcome else None
    # `requests` keeps the answer's headers in its response, `aiohttp` in its error.
    headers = getattr(getattr(error, "response", error), "headers", None) or {}
    told = str(headers.get("Retry-After", ""))
    return max(own, min(float(told), _LONGEST_TOLD)) if told.isdigit() else own


@contextmanager
def explained(connection: str, what: str) -> Iterator[None]:
    """Turn what a workspace refuses into an error that says what to mend.

    What comes of the network, of throttling or of a fault of the workspace is passed on: the hook
    has tried several times, and the task's retry will.

    Args:
        connection: The Airflow connection's id.
        what: What is asked for, such as ``job 'tidemark_silver'``.

    Raises:
        ConfigError: There is no such connection, or its login or its rights are refused.
        PipelineError: The workspace refuses the call itself.
        AirflowException: A machine's identity can't be asked for now. Transient.
    """
    try:
        yield
    except TidemarkError:
        raise  # the lake's, whose own cause may be a login that Azure refuses
    except AirflowNotFoundException as error:
        raise ConfigError(no_connection(connection)) from error
    except DatabricksApiError as error:
        status = error.http_status_code
        if status not in _OF_THE_CALL:
            raise
        raise _refused(connection, what, status, _said(error)) from error
    except Exception as error:
        found = refusal(error)
        if found is None:
            raise
        message = (
            f"Databricks' connection {connection!r} gets no token: {found.said}; {found.remedy}"
        )
        # Not `from error`: an error of aiohttp shows the request's headers to who prints it whole.
        raise (ConfigError if found.is_final else AirflowException)(message) from None


def no_connection(connection: str) -> str:
    """Say that a connection is missing, and how to add it."""
    return (
        f"there is no Airflow connection {connection!r}, which says where the Databricks workspace "
        f"is and what opens it; add it with `airflow connections add {connection} --conn-type "
        "databricks --conn-host https://adb-….azuredatabricks.net --conn-extra "
        "'{\"use_azure_managed_identity\": true}'` (docs/databricks-runs.md), and run again: what "
        "is pending stays pending"
    )


def not_deployed(kind: str, name: str, connection: str) -> ConfigError:
    """Say that the workspace has no job or pipeline of a name."""
    message = (
        f"{kind} {name!r} is not in the workspace of connection {connection!r}, or its identity "
        f"may not view it: {DEPLOY}, grant CAN MANAGE RUN (a job) or CAN RUN (a pipeline), and set "
        "TIDEMARK_DATABRICKS_PREFIX to what a development target puts before the names, such as "
        "'[dev jane] '"
    )
    return ConfigError(message)


def _refused(connection: str, what: str, status: int, said: str) -> Exception:
    login = f"Databricks, asked for {what} by connection {connection!r}, answers {status}: {said}"
    renew = (
        "the login is not valid: renew the token or the secret of the connection, or let the "
        "identity into the workspace"
    )
    grant = (
        "the identity lacks a right: grant it CAN MANAGE RUN on the job and CAN RUN on the "
        "pipeline; a token that is not valid any more is answered so too: renew it"
    )
    remedies = {
        401: renew,
        403: renew if _NOT_VALID in said else grant,
        404: f"it is gone, or the connection's host is another workspace: {DEPLOY}",
    }
    if status in remedies:
        return ConfigError(f"{login}; {remedies[status]}")
    return PipelineError(login)


def _said(error: DatabricksApiError) -> str:
    """Give the API's own message; the hook wraps the answer's whole body."""
    text = str(error).removeprefix("Response: ").rpartition(", Status Code: ")[0]
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if isinstance(body, Mapping):
        return str(body.get("message") or body.get("error_code") or "no message")
    return " ".join(text.split())[:200] or "no message"


def only_one(found: list[dict[str, Any]], kind: str, name: str, connection: str) -> dict[str, Any]:
    """Give the one of a name.

    Raises:
        ConfigError: There is none, or there are several.
    """
    if not found:
        raise not_deployed(kind, name, connection)
    if len(found) > 1:
        message = (
            f"{kind} {name!r} is {len(found)} times in the workspace of connection {connection!r}: "
            "delete those that no bundle deployed"
        )
        raise ConfigError(message)
    return found[0]
