"""Attempts of the tasks `silver` and `gold` against the stand-in, without a scheduler.

An attempt is what Airflow makes of one: the real operator is executed, what it waits with is
written down and made again, as for the triggerer, and waits there; the operator goes on with its
event.
Everything is asked of the workspace over HTTP, by the provider's own hook.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from airflow.sdk.exceptions import TaskDeferred
from airflow.triggers.base import BaseTrigger
from databricks_programs import JOB, UPDATE
from databricks_workspace import Workspace, serve

from tidemark.airflow.factory import build_dags
from tidemark.pending import bronze_snapshot, mark_silver_done
from tidemark.settings import load_settings
from tidemark.storage import open_store

RUN_ID = "manual__2026-01-02"


@dataclass
class Ti:
    """What a task may ask of its instance."""

    try_number: int
    dag_id: str = "spotify"
    run_id: str = RUN_ID
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


@dataclass
class Attempt:
    """One attempt of a task.

    Attributes:
        shown: All that Airflow keeps or shows of it: XComs, rendered fields, what waits.
    """

    task: str
    number: int = 1
    tables: tuple[str, ...] = ("DimUser",)
    run_id: str = RUN_ID
    shown: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Let it run to its end; raise what makes it fail."""
        waiting = self.begin()
        while waiting is not None:
            waiting = self.go_on(waiting)

    def begin(self) -> TaskDeferred | None:
        """Let it run until it waits; None if it has ended."""
        self.operator = build_dags()["spotify"].get_task(self.task)
        if self.task == "silver":
            self.operator.job_parameters |= {"tables": ",".join(self.tables)}
        self._context = {
            "ti": Ti(self.number, run_id=self.run_id),
            "params": {"full_refresh": False},
        }
        return self._call("execute")

    def go_on(self, waiting: TaskDeferred) -> TaskDeferred | None:
        """Let the triggerer wait, and the task go on."""
        event = asyncio.run(_first(again(waiting)))
        self.shown.append(repr(event))
        return self._call(waiting.method_name, event=event)

    def _call(self, method: str, **given: Any) -> TaskDeferred | None:
        try:
            getattr(self.operator, method)(self._context, **given)
        except TaskDeferred as waiting:
            self.shown.append(repr((waiting.trigger.serialize(), waiting.kwargs)))
            return waiting
        finally:
            fields = [repr(getattr(self.operator, n)) for n in self.operator.template_fields]
            self.shown += [*fields, repr(self.operator), repr(self._context["ti"])]
        return None


def again(waiting: TaskDeferred) -> BaseTrigger:
    """Make a trigger as the triggerer does: of what is written down of it."""
    path, given = waiting.trigger.serialize()
    module, _, name = path.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    made: BaseTrigger = kind(**json.loads(json.dumps(given)))
    return made


async def _first(trigger: BaseTrigger) -> Any:
    async for event in trigger.run():
        return event.payload
    raise AssertionError("the trigger has ended without an event")


@contextmanager
def deployed(home: Path, *tables: str) -> Iterator[Workspace]:
    """Hold a workspace to which the metadata of some tables is deployed, with JOB and UPDATE."""
    keys = {"DimUser": "user_id", "DimArtist": "artist_id"}
    document = {
        "source": {"connection": "spotify_sql"},
        "compute": "databricks",
        "databricks": {"poll": "1s"},
        "defaults": {"cursor": "updated_at"},
        "tables": {t: {"key": keys[t], "gold": {"scd": 1}} for t in tables or ("DimUser",)},
    }
    (home / "config" / "spotify.yaml").write_text(yaml.safe_dump(document))
    with serve(home / "workspace") as workspace:
        settings = load_settings()
        workspace.deploy(settings.config, settings.lake.root)
        program_job(workspace)
        program_update(workspace)
        yield workspace


def program_job(workspace: Workspace, fails: str | tuple[str, ...] = ()) -> None:
    (workspace.files / "spark_jobs" / "silver.py").write_text(JOB.format(fails=fails))


def program_update(workspace: Workspace, seconds: float = 0) -> None:
    """Let the next updates take some seconds, and do nothing."""
    program = workspace.folder / "update.py"
    program.write_text(UPDATE.format(seconds=seconds))
    workspace.pipelines.program = program


def bronze_has_file(*tables: str, day: int = 2) -> None:
    """Let bronze have what silver has not."""
    lake = load_settings().lake
    for table in tables or ("DimUser",):
        path = lake.bronze_file(table, datetime(2026, 1, day, 3, 4, 5, tzinfo=UTC))
        open_store(lake.root).write(path, b"")


def silver_has_commits(*tables: str) -> None:
    """Let silver have what gold has not, and bronze nothing that silver has not."""
    lake = load_settings().lake
    store = open_store(lake.root)
    for table in tables or ("DimUser",):
        store.write(f"{lake.changes(table)}/_delta_log/{0:020}.json", b"{}")
        mark_silver_done(store, lake, table, bronze_snapshot(store, lake, table))
