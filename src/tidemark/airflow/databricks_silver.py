"""Silver on Databricks: one run of the bundle's job for all pending tables of a source."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from typing import Any, Literal

from airflow.providers.databricks.exceptions import DatabricksApiError
from airflow.providers.databricks.hooks.databricks import RunState
from airflow.providers.databricks.operators.databricks import DatabricksRunNowOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException

from tidemark import pending, report
from tidemark.airflow.compute import failed_tables
from tidemark.airflow.databricks_api import RunFailed, Workspace, explained, goes_on, only_one
from tidemark.airflow.databricks_triggers import RunTrigger, require_waited
from tidemark.layout import Lake
from tidemark.metadata import Source, config_digest
from tidemark.settings import load_settings
from tidemark.storage import open_store

log = logging.getLogger(__name__)

Step = Literal["wait", "repair", "anew"]

# Databricks' own fault, or the cloud's; https://docs.databricks.com/api/jobs/v2/get-run.md
_THEIRS = {"INTERNAL_ERROR", "CLOUD_FAILURE"}
_BAD_REQUEST = 400


def next_step(state: RunState) -> Step:
    """Say what to do about the run that a token names, while bronze holds what silver has not."""
    if not state.is_terminal:
        return "wait"
    # A run that succeeded did an earlier piece of work, and one that was skipped did none: the
    # token is used up.
    if state.is_successful or state.life_cycle_state == "SKIPPED":
        return "anew"
    return "repair"


def token(job_id: int, lake: str, dag_id: str, run_id: str, number: int) -> str:
    """Give the idempotency token of a Dag run's silver, of at most 64 characters.

    The same for each attempt of the task: Databricks then gives the run that there is. Another for
    another job or lake: a workspace may serve several Airflows, whose runs have the same names.
    """
    facts = (str(job_id), lake, dag_id, run_id, "silver", str(number))
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


class SilverRun(DatabricksRunNowOperator):
    """Starts the silver job, or takes up the run that an earlier attempt started, and waits.

    A subclass of the provider's operator, which finds the job by its name, merges its parameters
    and cancels on a kill; what to do about a run that is there already is decided here.
    """

    def __init__(self, *, source: Source, **options: Any) -> None:
        settings = load_settings()
        super().__init__(
            job_name=f"{settings.databricks_prefix}{source.databricks.silver_job}",
            job_parameters={
                "source": source.name,
                "tables": "{{ ti.xcom_pull(task_ids='pending_for_silver') | join(',') }}",
            },
            databricks_conn_id=source.databricks.connection,
            polling_period_seconds=int(source.databricks.poll.total_seconds()),
            deferrable=True,
            forward_dag_params=False,
            **options,
        )

    def _get_hook(self, caller: str) -> Workspace:  # noqa: ARG002  the provider's signature
        return Workspace(self.databricks_conn_id)

    def execute(self, context: Context) -> None:
        """Start the job's run or go on with it, and leave the worker until it has ended.

        Raises:
            ConfigError: The workspace refuses the login, or has no such job.
            AirflowException: The workspace does not answer. Transient: the retry finds the run.
        """
        with explained(self.databricks_conn_id, f"job {self.job_name!r}"):
            found = self._run(context)
            if found is None:
                log.info("nothing is left to do: silver has all of these tables")
                return
            run, path = found
            run_id, url = int(run["run_id"]), str(run["run_page_url"])
            context["ti"].xcom_push(key="run_id", value=run_id)
            context["ti"].xcom_push(key="run_page_url", value=url)
            log.info("run %s: %s", run_id, url)
        self.defer(
            trigger=RunTrigger(
                run_id, self.databricks_conn_id, self.polling_period_seconds, url, path
            ),
            method_name="execute_complete",
            timeout=self.execution_timeout,
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> None:
        """Record the ended run's report, and raise with the tables' own words if some failed.

        Raises:
            ConfigError: While it was waited for, the workspace refused the login.
            RunFailed: Tables failed, or the job did: it would fail again.
            AirflowException: Databricks or the cloud failed, or Databricks skipped the run.
                Transient: the retry repairs the run, or starts another.
        """
        ended = event or {}
        require_waited(ended)
        state = RunState.from_json(ended["run_state"])
        done = self._record(context, ended["report"])
        if state.is_successful:
            return
        url = str(ended["run_page_url"])
        reason = failed_tables("silver", done)
        if reason is not None:
            raise RunFailed(reason, url)
        if state.result_state == "CANCELED":
            message = "silver: the run was cancelled in Databricks; clear this task to go on"
            raise RunFailed(message, url)
        if state.life_cycle_state == "SKIPPED":
            raise AirflowException(f"silver: {_skipped(state)} ({url})")
        told = "; ".join(str(error["error"]) for error in ended["errors"]) or state.state_message
        message = f"silver: the Databricks run failed before it came to its tables: {told}"
        with explained(self.databricks_conn_id, f"run {ended['run_id']}"):
            if self._is_theirs(int(ended["run_id"]), state):
                raise AirflowException(f"{message} ({url})")
        raise RunFailed(message, url)

    def _run(self, context: Context) -> tuple[dict[str, Any], str] | None:
        """Give the run to wait for and where its report will lie; None if all is done."""
        payload, ti, lake = self._payload(), context["ti"], load_settings().lake
        names, store = payload["job_parameters"]["tables"].split(","), open_store(lake.root)
        at_work = self._at_work(payload, f"lake:{lake.run_folder(ti.dag_id, ti.run_id)}/")
        why = ""
        # Each attempt leaves one used-up token behind at the most.
        for number in range(ti.try_number + 1):
            path = _report_path(lake, ti.dag_id, ti.run_id, number)
            left = pending.silver_pending(store, lake, names)
            if not left:
                self._record(context, path)
                return None
            asked = payload["job_parameters"] | {"tables": ",".join(left), "report": f"lake:{path}"}
            name = token(payload["job_id"], lake.root, ti.dag_id, ti.run_id, number)
            named = {"idempotency_token": name, "job_parameters": asked}
            # At once: a task that is killed while it looks at the run must know what to cancel.
            self.run_id = self._hook.run_now(payload | named)
            run = self._settled(self.run_id)
            state = RunState(**run["state"])
            step = next_step(state)
            if step == "repair":
                step = self._repaired(int(run["run_id"]), asked, path, at_work)
            if step == "wait":
                return run, path
            why = f"; {_skipped(state)}" if state.life_cycle_state == "SKIPPED" else ""
        message = f"silver: {', '.join(left)}: each run of the job that was started ended at once"
        raise AirflowException(f"{message}{why}")

    def _at_work(self, payload: dict[str, Any], ours: str) -> set[int]:
        """Name the runs of this Dag run that go on; let none of another Dag run do so.

        Raises:
            AirflowException: One of an earlier Dag run, which did not wait for it to its end, is
                at work on the source. Transient: the retry finds it ended.
        """
        found = set()
        for run in self._hook.active_runs(payload["job_id"]):
            given = {p["name"]: p.get("value", "") for p in run.get("job_parameters", ())}
            if given.get("source") != payload["job_parameters"]["source"]:
                continue
            if not given.get("report", "").startswith(ours):
                message = (
                    f"silver: run {run['run_id']} of another Dag run is still at work on this "
                    f"source: {run.get('run_page_url', '')}; it is waited for, or cancel it there"
                )
                raise AirflowException(message)
            found.add(int(run["run_id"]))
        return found

    def _settled(self, run_id: int) -> dict[str, Any]:
        """Get a run that is not just ending: a task that was cleared has its run cancelled."""
        while True:
            run: dict[str, Any] = self._hook.get_run(run_id)
            if run["state"]["life_cycle_state"] != "TERMINATING":
                return run
            time.sleep(self.polling_period_seconds)

    def _payload(self) -> dict[str, Any]:
        name = str(self.job_name)
        jobs = self._hook.list_jobs(job_name=name)
        job = only_one(jobs, "job", name, self.databricks_conn_id)
        parameters = dict(self.job_parameters or {})
        parameters["config_digest"] = config_digest(load_settings().config)
        return {"job_id": job["job_id"], "job_parameters": parameters}

    def _repaired(
        self, run_id: int, parameters: dict[str, str], path: str, at_work: set[int]
    ) -> Step:
        """Run what failed again, within the same run, or say that another is to be taken.

        Databricks may refuse a repair, and accept the same one later: by then the run that was
        started in its stead may be at work, and one of the next tokens names it.
        """
        if at_work - {run_id}:
            return "anew"
        _forget(path)
        body = {"run_id": run_id, "rerun_all_failed_tasks": True, "job_parameters": parameters}
        latest = self._hook.get_latest_repair_id(run_id)
        try:
            self._hook.repair_run(body | ({"latest_repair_id": latest} if latest else {}))
        except DatabricksApiError as error:
            if error.http_status_code != _BAD_REQUEST:
                raise
            if goes_on(self._hook.get_run(run_id)):
                return "wait"  # accepted before, and only the answer was lost; or by somebody else
            log.warning("run %s can't be repaired, so that another is started: %s", run_id, error)
            return "anew"
        log.info("run %s is repaired, for %s", run_id, parameters["tables"])
        return "wait"

    def _is_theirs(self, run_id: int, state: RunState) -> bool:
        if state.life_cycle_state == "INTERNAL_ERROR" or state.result_state == "TIMEDOUT":
            return True
        status = self._hook.get_run(run_id).get("status") or {}
        return (status.get("termination_details") or {}).get("type") in _THEIRS

    def _record(self, context: Context, path: str) -> dict[str, Any]:
        """Move the job's report into the run's report."""
        lake, ti = load_settings().lake, context["ti"]
        store = open_store(lake.root)
        content = store.read(path)
        if content is None:
            log.warning("the run has left no report at %s: its rows are not known", path)
            return {}
        done: dict[str, Any] = json.loads(content.data)
        report.record(store, lake, ti.dag_id, ti.run_id, "silver", done)
        return done


def _skipped(state: RunState) -> str:
    return (
        f"Databricks skipped the run: {state.state_message or state.result_state}; let the job "
        "queue its runs (`queue` in resources/jobs.yml) or raise `max_concurrent_runs`; a retry "
        "starts another run"
    )


def _report_path(lake: Lake, dag_id: str, run_id: str, number: int) -> str:
    # What begins with "_" is no part of the run's own report.
    return f"{lake.run_folder(dag_id, run_id)}/_silver.{number}.json"


def _forget(path: str) -> None:
    """Remove an earlier attempt's report: it must not be taken for the next one's."""
    store = open_store(load_settings().lake.root)
    store.remove(path)
