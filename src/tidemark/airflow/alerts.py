"""One mail per run: on failure, on recovery, and on every end if asked for.

The callbacks are plain functions that use the SMTP hook: a Dag-level ``SmtpNotifier`` fails
silently under ``airflow dags test``. Under a scheduler Airflow calls them in the Dag processor,
which parses the Dag's file again and so finds these closures.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.sdk.configuration import conf

from tidemark import report as reports
from tidemark.airflow.mail import Outcome, Run, compose
from tidemark.airflow.redaction import describe, redacted
from tidemark.airflow.supervision import airflow_api
from tidemark.errors import TidemarkError
from tidemark.report.model import Failure, RunReport
from tidemark.settings import load_settings
from tidemark.storage import open_store

if TYPE_CHECKING:
    import smtplib

    from tidemark.metadata import Source

log = logging.getLogger(__name__)

# Not Airflow's own Context: where no task instance is at hand, a Dag callback gets `dag`,
# `run_id` and `reason` alone.
Context = Mapping[str, Any]
Callback = Callable[[Context], None]

_UNKNOWN = (
    "no exception was recorded: the worker was lost, or the task was stopped or marked from "
    "outside; see the task's log and the scheduler's"
)
# The task that only says which others failed.
_SUMMARY = "report"


def record_failure(context: Context) -> None:
    """Keep a failed task's exception in the run's report, for the one mail at the run's end.

    To be used as every task's ``on_failure_callback``: it is called once, after the last retry,
    in the task's own process, whose masker knows the secrets that the task has read; or, for a
    lost worker, in the Dag processor, without an exception.
    """
    ti = context["ti"]
    error = context.get("exception")
    value = {
        "exception": describe(error) if error is not None else _UNKNOWN,
        "try_number": ti.try_number,
        "log_url": ti.log_url,
        "run_url": getattr(error, "run_url", None),
    }
    mapped = ti.map_index is not None and ti.map_index >= 0
    # The name under which Airflow lists a mapped task's state.
    name = f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id
    lake = load_settings().lake
    reports.record(open_store(lake.root), lake, ti.dag_id, ti.run_id, f"failure.{name}", value)


def dag_callbacks(source: Source) -> dict[str, Callback]:
    """Give the Dag's ``on_failure_callback`` and ``on_success_callback`` for a source's alerts.

    Both are always needed: a success after a failure is known by what was remembered of the last
    run. They never raise, and never change the run's state.
    """

    def mail_failure(context: Context) -> None:
        _run_ended(source, context, failed=True)

    def mail_success(context: Context) -> None:
        _run_ended(source, context, failed=False)

    return {"on_failure_callback": mail_failure, "on_success_callback": mail_success}


def _run_ended(source: Source, context: Context, *, failed: bool) -> None:
    run_id = str(context["run_id"])
    # Whatever goes wrong from here on, the run itself has ended and its rows are in the lake:
    # a mail that can't be sent is worth a warning, never a failed callback or run. What can go
    # wrong is anything that a mail server, a secrets backend or a token service raises.
    try:
        recovered = _remember(source.name, run_id, failed=failed)
        outcome: Outcome = "failed" if failed else "recovered" if recovered else "succeeded"
        if not _wanted(outcome, source.alerts.events):
            return
        if not source.alerts.to:
            log.warning(
                "%s %s (%s) and nobody is told: add recipients as alerts.to in %s",
                *(source.name, outcome, run_id, source.path),
            )
            return
        _mail(source, context, outcome)
    except Exception as error:  # noqa: BLE001  see above
        log.warning(
            "%s: no mail for run %s: %s; recipients are alerts.to in %s, the mail server is the "
            "Airflow connection %r: see docs/alerts.md",
            *(source.name, run_id, describe(error), source.path, source.alerts.connection),
        )


def _wanted(outcome: Outcome, events: tuple[str, ...]) -> bool:
    asked = {
        "failed": {"failure", "completion"},
        "recovered": {"recovery", "success", "completion"},
        "succeeded": {"success", "completion"},
    }[outcome]
    return not asked.isdisjoint(events)


def _remember(source: str, run_id: str, *, failed: bool) -> bool:
    """Note how this run ended, and tell whether it is a success after a failure."""
    lake = load_settings().lake
    path = lake.alert_file(source)
    state = "failed" if failed else "success"
    try:
        store = open_store(lake.root)
        last = store.read(path)
        store.write(path, json.dumps({"run_id": run_id, "state": state}).encode())
        return not failed and last is not None and json.loads(last.data)["state"] == "failed"
    except (TidemarkError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: how the last run ended is not known: %s", source, error)
        return False


def _mail(source: Source, context: Context, outcome: Outcome) -> None:
    with airflow_api():
        run = _run(source.name, context, outcome)
        report = _report(run, _failed_tasks(context))
        with SmtpHook(smtp_conn_id=source.alerts.connection) as hook:
            message = compose(run, report, _sender(hook), source.alerts.to)
            # The hook's own `send_email_smtp` writes HTML only; there is no public way to its
            # client, which the hook has connected, secured and logged in.
            client = cast("smtplib.SMTP", hook._smtp_client)  # noqa: SLF001
            refused = client.send_message(message)
    taken = ", ".join(address for address in source.alerts.to if address not in refused)
    log.info("mail %r sent to %s", message["Subject"], taken)
    if refused:
        log.warning("mail %r: the server refused %s; mend alerts.to", message["Subject"], refused)


def _sender(hook: SmtpHook) -> str:
    login = hook.smtp_user if "@" in hook.smtp_user else None
    configured: str | None = conf.get("email", "from_email", fallback=None)
    return hook.from_email or login or configured or "tidemark@localhost"


def _run(source: str, context: Context, outcome: Outcome) -> Run:
    dag_run = context.get("dag_run")
    run_id = str(context["run_id"])
    return Run(
        source=source,
        outcome=outcome,
        run_id=run_id,
        run_type=getattr(dag_run, "run_type", None),
        interval=(
            getattr(dag_run, "data_interval_start", None),
            getattr(dag_run, "data_interval_end", None),
        ),
        started=getattr(dag_run, "start_date", None),
        ended=getattr(dag_run, "end_date", None) or datetime.now(UTC),
        reason=context.get("reason"),
        url=_run_url(source, run_id),
    )


def _run_url(dag_id: str, run_id: str) -> str:
    base = conf.get("api", "base_url", fallback="http://localhost:8080")
    return f"{base.rstrip('/')}/dags/{quote(dag_id)}/runs/{quote(run_id)}"


def _failed_tasks(context: Context) -> set[str] | None:
    """Name the tasks that are failed now; None if no task instance is there to ask by."""
    ti = context.get("ti")
    if ti is None:
        return None
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
    return {task for task, state in states.items() if state == "failed"}


def _report(run: Run, failed: set[str] | None) -> RunReport | str:
    lake = load_settings().lake
    try:
        report = reports.load(open_store(lake.root), lake, run.source, run.run_id)
    except TidemarkError as error:
        names = ", ".join(sorted(failed or ())) or "unknown"
        return redacted(f"failed tasks: {names}\n\n{error}")
    return _with_failures(report, failed, failed_run=run.outcome == "failed")


def _with_failures(report: RunReport, failed: set[str] | None, *, failed_run: bool) -> RunReport:
    """Keep the failures that hold now: a cleared task that succeeded has left its part behind."""
    if not failed_run:
        return replace(report, failures=())
    known = {failure.task_id: failure for failure in report.failures}
    names = set(known) if failed is None else failed
    shown = sorted(names - {_SUMMARY} or names)
    return replace(
        report, failures=tuple(known.get(name, Failure(name, _UNKNOWN)) for name in shown)
    )
