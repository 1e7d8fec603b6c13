"""What waits in Airflow's triggerer while something runs on Databricks.

A task that waits so takes no worker. A trigger that is cancelled because somebody cleared or
marked the task ends the run; one that is restarted or timed out lets it go on. Airflow 3.3 may take
one that was moved for cancelled (https://github.com/apache/airflow/pull/73454).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any

from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger
from airflow.sdk.exceptions import AirflowException
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from tidemark.airflow.databricks_api import ENDED, Workspace, explained
from tidemark.errors import ConfigError, TidemarkError


def require_waited(event: Mapping[str, Any]) -> None:
    """Raise what kept a trigger from waiting: what runs goes on, and a later attempt finds it.

    Raises:
        ConfigError: The workspace refuses the login or its rights.
        AirflowException: The workspace does not answer. Transient.
    """
    if "unanswered" in event:
        raise (ConfigError if event["is_final"] else AirflowException)(event["unanswered"])


async def _told(connection: str, what: str, waiting: Awaitable[dict[str, Any]]) -> TriggerEvent:
    """Wait, and tell what went wrong too: of a trigger that fails Airflow says just that."""
    try:
        with explained(connection, what):
            payload = await waiting
    except Exception as error:  # noqa: BLE001  whatever it is, what runs goes on
        is_final = isinstance(error, TidemarkError)
        told = is_final or isinstance(error, AirflowException)
        # Not its `repr`: that of aiohttp's errors has the request's headers.
        said = str(error) if told else f"{what}: {type(error).__name__}: {error}"
        payload = {"unanswered": said, "is_final": is_final}
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]


class RunTrigger(DatabricksExecutionTrigger):
    """Waits for a job's run as the provider does, and hands on where the run leaves its report."""

    def __init__(
        self, run_id: int, connection: str, poll: int, run_page_url: str, report: str
    ) -> None:
        super().__init__(
            run_id=run_id,
            databricks_conn_id=connection,
            polling_period_seconds=poll,
            run_page_url=run_page_url,
        )
        self.report = report
        self.hook = Workspace(connection)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Say how to make this trigger again, in the triggerer."""
        return f"{__name__}.{type(self).__name__}", {
            "run_id": self.run_id,
            "connection": self.databricks_conn_id,
            "poll": self.polling_period_seconds,
            "run_page_url": self.run_page_url,
            "report": self.report,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Give one event, when the run has ended, or when it can't be asked for any more."""
        yield await _told(self.databricks_conn_id, f"run {self.run_id}", self._ended())

    async def _ended(self) -> dict[str, Any]:
        async for event in super().run():  # type: ignore[no-untyped-call]
            return {**event.payload, "report": self.report}
        message = f"the provider's trigger has ended without an event for run {self.run_id}"
        raise AirflowException(message)


class UpdateTrigger(BaseTrigger):
    """Waits for an update of a pipeline, for which the provider has no trigger."""

    def __init__(
        self, pipeline_id: str, update_id: str, connection: str, poll: int, *, foreign: bool
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pipeline_id = pipeline_id
        self.update_id = update_id
        self.connection = connection
        self.poll = poll
        self.foreign = foreign
        self.hook = Workspace(connection)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Say how to make this trigger again, in the triggerer."""
        return f"{__name__}.{type(self).__name__}", {
            "pipeline_id": self.pipeline_id,
            "update_id": self.update_id,
            "connection": self.connection,
            "poll": self.poll,
            "foreign": self.foreign,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Give one event, when the update has ended, or when it can't be asked for any more."""
        yield await _told(self.connection, f"update {self.update_id}", self._ended())

    async def _ended(self) -> dict[str, Any]:
        async with self.hook:
            while True:
                update = await self.hook.a_update(self.pipeline_id, self.update_id)
                if update["state"] in ENDED:
                    break
                self.log.info("update %s is %s", self.update_id, update["state"])
                await asyncio.sleep(self.poll)
        known = {"pipeline_id": self.pipeline_id, "update_id": self.update_id}
        return {**known, "state": update["state"], "foreign": self.foreign}

    async def on_kill(self) -> None:
        """Cancel the update with the task; somebody else's is left alone."""
        if not self.foreign:
            # By the hook that waited, as the provider does: it knows its connection already.
            await sync_to_async(self.hook.stop_update)(self.pipeline_id, self.update_id)
