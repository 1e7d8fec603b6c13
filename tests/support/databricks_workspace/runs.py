"""A job's run: its attempts, and its state in both forms that the API gives.

https://docs.databricks.com/api/jobs/v2/get-run: ``state`` is the old form, which the provider
reads; ``status`` the new one, which for SKIPPED and INTERNAL_ERROR says why it is TERMINATED.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from databricks_workspace.execution import Execution, Outcome

# "An active run is a run in the QUEUED, PENDING, RUNNING, or TERMINATING" (list-runs).
ACTIVE = frozenset({"QUEUED", "PENDING", "RUNNING", "TERMINATING"})
TERMINAL = frozenset({"TERMINATED", "SKIPPED", "INTERNAL_ERROR"})
_QUEUED = "Queued due to reaching the maximum of concurrent runs of the job."
NO_CLUSTER = {
    "life_cycle_state": "INTERNAL_ERROR",
    "result_state": "FAILED",
    "state_message": "Cluster could not be launched: the cloud has no machine of this type.",
}
SKIPPED = {
    "life_cycle_state": "SKIPPED",
    "result_state": "MAXIMUM_CONCURRENT_RUNS_REACHED",
    "state_message": "Run was skipped because the maximum of concurrent runs was reached.",
}
# The new form's words, where they are others.
_RENAMED = {"WAITING_FOR_RETRY": "WAITING"}
_TERMINATION = {
    "SUCCESS": ("SUCCESS", "SUCCESS"),
    "CANCELED": ("USER_CANCELED", "CLIENT_ERROR"),
    "MAXIMUM_CONCURRENT_RUNS_REACHED": ("MAX_CONCURRENT_RUNS_EXCEEDED", "CLIENT_ERROR"),
    "FAILED": ("RUN_EXECUTION_ERROR", "CLIENT_ERROR"),
}


def now() -> int:
    return int(time.time() * 1000)


@dataclass
class Attempt:
    """A task's run: the original one, or a repair's.

    Attributes:
        state: How it ended; empty until then.
        ending: Whether its work is over, and its cluster is being cleaned up.
        queued: Whether it waits for another run of the job to end.
    """

    run_id: int
    number: int
    parameters: dict[str, str]
    started: int = field(default_factory=now)
    state: dict[str, str] = field(default_factory=dict)
    outcome: Outcome | None = None
    execution: Execution | None = None
    repair_id: int | None = None
    queued: bool = False
    ending: bool = False

    def end(self, outcome: Outcome | None) -> None:
        """Take down how the work ended; None if it was cancelled."""
        self.outcome = outcome
        if outcome is None:
            result, message = "CANCELED", "Run cancelled."
        elif outcome.code == 0:
            result, message = "SUCCESS", ""
        else:
            result, message = "FAILED", "Workload failed, see run output for details"
        self.ending, self.queued = False, False
        self.state = {
            "life_cycle_state": "TERMINATED", "result_state": result, "state_message": message,
        }  # fmt: skip


@dataclass
class Run:
    """A job's run.

    Attributes:
        passing: States that it goes through next, one for each time that somebody looks.
    """

    run_id: int
    job_id: int
    token: str | None
    attempts: list[Attempt]
    passing: list[str] = field(default_factory=list)

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]

    def state(self) -> dict[str, str]:
        last = self.last
        if last.state:
            return last.state
        if self.passing:
            return {"life_cycle_state": self.passing[0], "state_message": ""}
        if last.queued:
            known = {"life_cycle_state": "QUEUED", "queue_reason": _QUEUED}
            return known | {"state_message": ""}
        running = last.execution is not None and last.execution.state != "starting"
        life_cycle = "TERMINATING" if last.ending else "RUNNING" if running else "PENDING"
        return {"life_cycle_state": life_cycle, "state_message": ""}

    @property
    def is_over(self) -> bool:
        return self.state()["life_cycle_state"] in TERMINAL

    def looked(self) -> dict[str, str]:
        """Give the state, and go on to the next of those that it passes through."""
        state = self.state()
        if self.passing and not self.last.state:
            self.passing.pop(0)
        return state


def status(state: Mapping[str, str]) -> dict[str, Any]:
    """Write a state in its new form."""
    life_cycle = state["life_cycle_state"]
    if life_cycle == "QUEUED":
        details = {"code": "MAX_CONCURRENT_RUNS_REACHED", "message": state.get("queue_reason", "")}
        return {"state": "QUEUED", "queue_details": details}
    if life_cycle not in TERMINAL:
        return {"state": _RENAMED.get(life_cycle, life_cycle)}
    code, kind = _TERMINATION[state["result_state"]]
    if state == NO_CLUSTER:
        code, kind = "CLOUD_FAILURE", "CLOUD_FAILURE"
    details = {"code": code, "type": kind, "message": state["state_message"]}
    return {"state": "TERMINATED", "termination_details": details}


def repair_entry(attempt: Attempt) -> dict[str, Any]:
    """Write an attempt as the run's history has it."""
    kind = (
        {"type": "REPAIR", "id": attempt.repair_id} if attempt.repair_id else {"type": "ORIGINAL"}
    )
    state = {"state": attempt.state} if attempt.state else {}
    return kind | state | {"start_time": attempt.started, "task_run_ids": [attempt.run_id]}
