"""The Pipelines API, version 2.0: pipelines, their updates and their event logs."""

from __future__ import annotations

import json
import re
import sys
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from databricks_workspace.event_log import Event, events_of, moment
from databricks_workspace.execution import Execution, Outcome
from databricks_workspace.fields import ApiError, checked, missing, refuse
from databricks_workspace.runs import now

UPDATE = Path(__file__).parent / "update.py"
# Not as a script, whose folder on the path would hide modules of the standard library.
_AS_AN_UPDATE = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_LATEST = 5
_STARTING = ("WAITING_FOR_RESOURCES", "INITIALIZING")
_SELECTION = {"refresh_selection": list, "full_refresh_selection": list, "validate_only": bool}


@dataclass
class Update:
    """An update of a pipeline."""

    update_id: str
    asked: dict[str, Any]
    report: Path
    created: int = field(default_factory=now)
    state: str | None = None
    execution: Execution | None = None
    polled: int = 0

    def shown(self) -> dict[str, Any]:
        known = {"update_id": self.update_id, "creation_time": self.created}
        return known | {"state": self.state or self._progress()}

    def _progress(self) -> str:
        if self.execution is not None and self.execution.state != "starting":
            return "RUNNING"
        self.polled += 1
        return _STARTING[min(self.polled - 1, 1)]


@dataclass
class Deployed:
    """A pipeline."""

    pipeline_id: str
    spec: dict[str, Any]
    updates: list[Update] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def active(self) -> Update | None:
        return next((u for u in self.updates if u.state is None), None)


@dataclass
class Pipelines:
    """The workspace's pipelines, by id.

    Attributes:
        folder: Where reports are written.
        held: While it is set, no compute comes up.
        start_seconds: How long it takes otherwise.
        page: How many events a page holds at the most.
        program: What an update executes: the pipeline itself, or what a test puts in its place.
    """

    folder: Path
    held: threading.Event
    start_seconds: float = 0.0
    page: int = 4
    program: Path = UPDATE
    pipelines: dict[str, Deployed] = field(default_factory=dict)

    def deploy(self, spec: Mapping[str, Any]) -> None:
        """Create a pipeline, or replace the specification of the one of that name."""
        for pipeline in self.pipelines.values():
            if pipeline.spec["name"] == spec["name"]:
                pipeline.spec = dict(spec)
                return
        pipeline_id = str(uuid.uuid4())
        self.pipelines[pipeline_id] = Deployed(pipeline_id, dict(spec))

    def list(self, body: Mapping[str, Any]) -> dict[str, Any]:
        fields = {"filter": str, "max_results": int, "page_token": str, "order_by": list}
        wanted = checked(body, fields).get("filter", "name LIKE '%'")
        match = re.fullmatch(r"name LIKE '([^']*)'", wanted)
        if match is None:
            raise refuse(f"filter can't be parsed: {wanted}")
        like = re.escape(match[1]).replace("%", ".*").replace("_", ".")
        found = [p for p in self.pipelines.values() if re.fullmatch(like, p.spec["name"])]
        statuses = [{"pipeline_id": p.pipeline_id, "name": p.spec["name"]} for p in found]
        return {"statuses": statuses} if statuses else {}

    def get(self, body: Mapping[str, Any], pipeline_id: str) -> dict[str, Any]:
        checked(body, {})
        pipeline = self._pipeline(pipeline_id)
        latest = [update.shown() for update in reversed(pipeline.updates[-_LATEST:])]
        return {
            "pipeline_id": pipeline_id,
            "name": pipeline.spec["name"],
            "spec": {"id": pipeline_id} | pipeline.spec,
            "state": "RUNNING" if pipeline.active else "IDLE",
        } | ({"latest_updates": latest} if latest else {})

    def start(self, body: Mapping[str, Any], pipeline_id: str) -> dict[str, Any]:
        asked = checked(body, {"full_refresh": bool, "cause": str} | _SELECTION)
        pipeline = self._pipeline(pipeline_id)
        if pipeline.active is not None:
            message = f"An active update {pipeline.active.update_id} already exists for pipeline."
            raise ApiError(409, "RESOURCE_CONFLICT", message)
        update_id = str(uuid.uuid4())
        update = Update(update_id, asked, self.folder / f"update.{update_id}.json")
        pipeline.updates.append(update)
        request = json.dumps(_request(pipeline.spec, update))
        update.execution = Execution(
            [sys.executable, "-c", _AS_AN_UPDATE, str(self.program), request],
            self.start_seconds,
            lambda outcome: _end(pipeline, update, outcome),
            self.held,
        )
        update.execution.begin()
        return {"update_id": update_id}

    def get_update(
        self, body: Mapping[str, Any], pipeline_id: str, update_id: str
    ) -> dict[str, Any]:
        checked(body, {})
        pipeline = self._pipeline(pipeline_id)
        update = next((u for u in pipeline.updates if u.update_id == update_id), None)
        if update is None:
            raise missing(f"The specified update {update_id} was not found.")
        known = {"pipeline_id": pipeline_id, "cause": "API_CALL", "full_refresh": False}
        return {"update": known | update.asked | update.shown()}

    def stop(self, body: Mapping[str, Any], pipeline_id: str) -> dict[str, Any]:
        checked(body, {})
        active = self._pipeline(pipeline_id).active
        if active is not None and active.execution is not None:
            active.execution.cancel()
        return {}

    def list_events(self, body: Mapping[str, Any], pipeline_id: str) -> dict[str, Any]:
        fields = {"filter": str, "max_results": int, "page_token": str, "order_by": list}
        asked = checked(body, fields)
        if "page_token" in asked and set(asked) - {"page_token", "max_results"}:
            raise refuse("page_token is mutually exclusive with all fields but max_results")
        if asked.get("max_results", 25) > 1000:
            raise refuse("max_results must be at most 1000")
        start, since = 0, ""
        if "page_token" in asked:
            start, since = json.loads(asked["page_token"])
        elif "filter" in asked:
            since = _since(asked["filter"])
        events = [e for e in self._pipeline(pipeline_id).events if e["timestamp"] >= since]
        newest = sorted(events, key=lambda e: e["timestamp"], reverse=True)
        end = start + min(asked.get("max_results", 25), self.page)
        more = {"next_page_token": json.dumps([end, since])} if end < len(newest) else {}
        return {"events": newest[start:end]} | more

    def _pipeline(self, pipeline_id: str) -> Deployed:
        if pipeline_id not in self.pipelines:
            raise missing(f"The specified pipeline {pipeline_id} was not found.")
        return self.pipelines[pipeline_id]


def _since(text: str) -> str:
    match = re.fullmatch(r"timestamp >= '(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)'", text)
    if match is None:
        raise refuse(f"filter can't be parsed: {text}")
    return match[1]


def _request(spec: Mapping[str, Any], update: Update) -> dict[str, Any]:
    return {
        "configuration": spec.get("configuration", {}),
        "libraries": spec["libraries"],
        "full_refresh": bool(update.asked.get("full_refresh")),
        "report": str(update.report),
    }


def _end(pipeline: Deployed, update: Update, outcome: Outcome | None) -> None:
    state = "CANCELED" if outcome is None else "FAILED" if outcome.code else "COMPLETED"
    report = json.loads(update.report.read_text()) if update.report.exists() else None
    error = outcome.error if outcome is not None and outcome.code else None
    origin = {"pipeline_id": pipeline.pipeline_id, "update_id": update.update_id}
    pipeline.events += events_of(origin, moment(update.created), state, report, error)
    update.state = state
