"""Gold on Databricks: an update of the source's pipeline, which the bundle deployed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

from airflow.providers.databricks.exceptions import DatabricksApiError
from airflow.providers.databricks.operators.databricks import DatabricksJobRunLink
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException

from tidemark import pending, report
from tidemark.airflow import event_log
from tidemark.airflow.databricks_api import (
    DEPLOY,
    ENDED,
    RunFailed,
    Workspace,
    explained,
    only_one,
)
from tidemark.airflow.databricks_triggers import UpdateTrigger, require_waited
from tidemark.errors import ConfigError
from tidemark.metadata import Source, config_digest
from tidemark.settings import load_settings
from tidemark.storage import Store, open_store

log = logging.getLogger(__name__)

_CONFLICT = 409
_PARTIAL = ("validate_only", "refresh_selection", "full_refresh_selection")


@dataclass(frozen=True)
class Intent:
    """What was noted before an update was started: what it will have read at the least.

    Attributes:
        versions: By table, silver's newest commit.
        known: The updates that there were, by id: any other began later.
    """

    versions: Mapping[str, int]
    known: Sequence[str]


@dataclass(frozen=True)
class Choice:
    """What to do: wait for an update, ours or somebody else's, or start one."""

    step: Literal["wait", "wait for another", "start"]
    update_id: str = ""


def choose(
    latest: Sequence[Mapping[str, Any]], intent: Intent | None, versions: Mapping[str, int]
) -> Choice:
    """Choose between an update that is there and a new one.

    Args:
        latest: The pipeline's latest updates, the newest first.
        intent: What this Dag run noted before it started one; None if it did not.
        versions: By table, silver's newest commit now.
    """
    if latest and intent and latest[0]["update_id"] not in intent.known:
        newest, state = str(latest[0]["update_id"]), latest[0]["state"]
        # One that has ended serves if silver has not gone on since it was begun.
        goes_on = state not in ENDED and state != "STOPPING"
        if goes_on or (state == "COMPLETED" and intent.versions == versions):
            return Choice("wait", newest)
    for update in latest:
        if update["state"] not in ENDED:
            return Choice("wait for another", str(update["update_id"]))
    return Choice("start")


class GoldUpdate(BaseOperator):
    """Starts an update of the gold pipeline, or takes up an earlier attempt's, and waits.

    The provider has no operator for pipelines, and a job of one task would hide the update.
    """

    template_fields = ("pipeline_name", "databricks_conn_id")
    operator_extra_links = (DatabricksJobRunLink(),)

    def __init__(self, *, source: Source, **options: Any) -> None:
        super().__init__(**options)
        self.source = source
        self.pipeline_name = f"{load_settings().databricks_prefix}{source.gold_pipeline}"
        self.databricks_conn_id = source.databricks.connection
        self._started: tuple[str, str] | None = None

    def execute(self, context: Context, event: dict[str, Any] | None = None) -> None:
        """Start an update or go on with one, and leave the worker until it has ended.

        Args:
            context: Airflow's.
            event: Of an update of somebody else, which was waited for.

        Raises:
            ConfigError: The workspace refuses the login, has no such pipeline, or one that was
                deployed from other metadata.
            AirflowException: The workspace does not answer. Transient: the retry finds the update.
        """
        require_waited(event or {})
        with explained(self.databricks_conn_id, f"pipeline {self.pipeline_name!r}"):
            pipeline_id, chosen = self._update(context)
            url = self._workspace.update_url(pipeline_id, chosen.update_id)
        foreign = chosen.step == "wait for another"
        log.info("update %s%s: %s", chosen.update_id, " of somebody else" if foreign else "", url)
        if not foreign:
            self._started = pipeline_id, chosen.update_id
            context["ti"].xcom_push(key="run_page_url", value=url)
        poll = int(self.source.databricks.poll.total_seconds())
        self.defer(
            trigger=UpdateTrigger(
                pipeline_id, chosen.update_id, self.databricks_conn_id, poll, foreign=foreign
            ),
            method_name="execute" if foreign else "execute_complete",
            timeout=self.execution_timeout,
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Record what the update did by its event log, mark the tables, or say what failed.

        Raises:
            ConfigError: While it was waited for, the workspace refused the login.
            RunFailed: A flow failed, or the update was cancelled.
            AirflowException: The update failed before its flows. Transient: a retry starts another.
        """
        require_waited(event)
        pipeline_id, update_id = event["pipeline_id"], event["update_id"]
        with explained(self.databricks_conn_id, f"pipeline {self.pipeline_name!r}"):
            update = self._workspace.update(pipeline_id, update_id)
            since = datetime.fromtimestamp(update["creation_time"] / 1000, UTC)
            events = list(self._workspace.events(pipeline_id, since))
            url = self._workspace.update_url(pipeline_id, update_id)
        own = event_log.of_update(events, update_id)
        part = event_log.gold_part(own, self.source)
        lake, ti = load_settings().lake, context["ti"]
        store = open_store(lake.root)
        report.record(store, lake, ti.dag_id, ti.run_id, "gold", part)
        if update["state"] != "COMPLETED":
            raise _failed(update["state"], own, part, url)
        intent = self._intent(store, context)
        for table, version in intent.versions.items() if intent else ():
            pending.mark_gold_done(store, lake, table, version)

    def on_kill(self) -> None:
        """Cancel the update with the task."""
        if self._started is not None:
            self._workspace.stop_update(*self._started)

    @cached_property
    def _workspace(self) -> Workspace:
        return Workspace(self.databricks_conn_id)  # it keeps the token that it was given

    def _update(self, context: Context) -> tuple[str, Choice]:
        """Find the update to wait for, or start it; give the pipeline's id with it."""
        store, full = open_store(load_settings().lake.root), bool(context["params"]["full_refresh"])
        # First: an update that is not among the latest ones yet has then read at least these.
        versions = self._versions(store)
        pipeline = self._pipeline()
        pipeline_id, latest = str(pipeline["pipeline_id"]), pipeline.get("latest_updates", [])
        chosen = choose(latest, self._intent(store, context), versions)
        if chosen.step == "wait" and not self._serves(pipeline_id, chosen.update_id, full=full):
            ended = latest[0]["state"] in ENDED
            chosen = Choice("start" if ended else "wait for another", chosen.update_id)
        if chosen.step != "start":
            return pipeline_id, chosen
        self._note(store, context, Intent(versions, [str(u["update_id"]) for u in latest]))
        try:
            update_id = self._workspace.start_update(pipeline_id, full_refresh=full)
        except DatabricksApiError as error:
            if error.http_status_code != _CONFLICT:
                raise
            message = f"gold: another update of {self.pipeline_name!r} began just now"
            raise AirflowException(message) from error
        return pipeline_id, Choice("wait", update_id)

    def _pipeline(self) -> dict[str, Any]:
        name, workspace = self.pipeline_name, self._workspace
        # The filter is a LIKE, in which the underscore stands for any character.
        listed = [p for p in workspace.list_pipelines(pipeline_name=name) if p["name"] == name]
        found = only_one(listed, "pipeline", name, self.databricks_conn_id)
        pipeline = workspace.pipeline(str(found["pipeline_id"]))
        deployed = pipeline["spec"].get("configuration", {}).get("tidemark.config_digest")
        ours = config_digest(load_settings().config)
        if deployed != ours:
            message = (
                f"pipeline {name!r} was deployed from other metadata ({deployed}) than Airflow has "
                f"({ours}): {DEPLOY}, then clear this task"
            )
            raise ConfigError(message)
        return pipeline

    def _serves(self, pipeline_id: str, update_id: str, *, full: bool) -> bool:
        """Tell whether an update that began after ours was asked for does what ours would."""
        update = self._workspace.update(pipeline_id, update_id)
        whole = not any(update.get(name) for name in _PARTIAL)
        return whole and bool(update.get("full_refresh")) == full

    def _versions(self, store: Store) -> dict[str, int]:
        """Look up silver's newest commit of each table: an update reads them all."""
        lake = load_settings().lake
        names = [table.lake_name for table in self.source.tables.values() if table.gold]
        found = {name: pending.silver_version(store, lake, name) for name in names}
        return {name: version for name, version in found.items() if version is not None}

    def _path(self, context: Context) -> str:
        ti = context["ti"]
        return f"{load_settings().lake.run_folder(ti.dag_id, ti.run_id)}/_gold.json"

    def _intent(self, store: Store, context: Context) -> Intent | None:
        content = store.read(self._path(context))
        return None if content is None else Intent(**json.loads(content.data))

    def _note(self, store: Store, context: Context, intent: Intent) -> None:
        data = {"versions": dict(intent.versions), "known": list(intent.known)}
        store.write(self._path(context), json.dumps(data).encode())


def _failed(
    state: str, events: Sequence[event_log.Event], part: Mapping[str, Any], url: str
) -> AirflowException | RunFailed:
    if state == "CANCELED":
        return RunFailed(
            "gold: the update was cancelled in Databricks; clear this task to go on", url
        )
    lines = [*event_log.failure_lines(events), event_log.dropped_line(part)]
    said = "\n  ".join(["gold: the update failed:", *filter(None, lines)])
    if event_log.failed_flows(events):
        return RunFailed(said, url)
    # No flow was begun: compute that could not be had, or a pipeline that can't be read.
    return AirflowException(f"{said}\n  {url}")
