"""The Jobs API, version 2.2: jobs of one task, their runs, and repairs of runs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from databricks_workspace.execution import Execution, Outcome
from databricks_workspace.fields import checked, missing, refuse
from databricks_workspace.runs import (
    ACTIVE,
    NO_CLUSTER,
    SKIPPED,
    Attempt,
    Run,
    now,
    repair_entry,
    status,
)

_TOKEN = 64  # the longest idempotency token
_PARAMETERS = {
    "job_parameters": dict, "python_params": list, "notebook_params": dict, "jar_params": list,
    "spark_submit_params": list, "python_named_params": dict, "dbt_commands": list,
    "pipeline_params": dict, "sql_params": dict, "performance_target": str,
}  # fmt: skip
_RUNS_LISTED = 24
# As Databricks runs a Python task, by the reports of those who met it: no `__file__`, and an exit
# that counts as a failure whatever its code.
_AS_A_TASK = """
import sys
sys.argv = sys.argv[1:]
code = compile(open(sys.argv[0]).read(), sys.argv[0], "exec")
try:
    exec(code, {"__name__": "__main__"})
except SystemExit as end:
    sys.exit(end.code or "SystemExit: 0")
"""
_ids = count(700_000_000_001, 7)


@dataclass
class Jobs:
    """The workspace's jobs, by id, and their runs.

    Attributes:
        held: While it is set, no cluster comes up.
        start_seconds: How long one takes otherwise.
        no_clusters: How many of the next runs get none from the cloud.
        cleaning: While it is set, no cluster is done with cleaning up: runs are TERMINATING.
    """

    address: str
    held: threading.Event
    start_seconds: float = 0.0
    no_clusters: int = 0
    cleaning: threading.Event = field(default_factory=threading.Event)
    jobs: dict[int, dict[str, Any]] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)

    def deploy(self, settings: Mapping[str, Any]) -> None:
        """Create a job, or replace the settings of the one of that name."""
        for job in self.jobs.values():
            if job["settings"]["name"] == settings["name"]:
                job["settings"] = dict(settings)
                return
        job_id = next(_ids)
        self.jobs[job_id] = {"job_id": job_id, "created_time": now(), "settings": dict(settings)}

    def list(self, body: Mapping[str, Any]) -> dict[str, Any]:
        fields = {"limit": int, "expand_tasks": bool, "include_user_names": bool, "name": str}
        asked = checked(body, fields | {"page_token": str, "offset": int})
        if not 1 <= asked.get("limit", 20) <= 100:
            raise refuse("limit must be between 1 and 100")
        name = asked.get("name", "").lower()
        found = [j for j in self.jobs.values() if name in ("", j["settings"]["name"].lower())]
        short = [j | {"settings": {"name": j["settings"]["name"]}} for j in found]
        return {"jobs": short} if short else {}

    def run_now(self, body: Mapping[str, Any]) -> dict[str, Any]:
        fields = {"job_id": int, "idempotency_token": str, "queue": dict, "only": list}
        asked = checked(body, fields | _PARAMETERS, "job_id")
        if asked["job_id"] not in self.jobs:
            raise missing(f"Job {asked['job_id']} does not exist.")
        token = asked.get("idempotency_token")
        if token is not None and len(token) > _TOKEN:
            raise refuse(f"idempotency_token must have at most {_TOKEN} characters")
        for run in self.runs.values():
            if token is not None and run.token == token:
                return {"run_id": run.run_id}
        parameters = self._parameters(asked["job_id"], asked)
        attempt = Attempt(next(_ids), 0, parameters)
        run = Run(next(_ids), asked["job_id"], token, [attempt])
        self._admit(run, attempt, queue=_may_queue(asked))
        self.runs[run.run_id] = run
        return {"run_id": run.run_id, "number_in_job": run.run_id}

    def get(self, body: Mapping[str, Any]) -> dict[str, Any]:
        fields = {"include_history": bool, "include_resolved_values": bool, "page_token": str}
        asked = checked(body, {"run_id": int} | fields, "run_id")
        run = self._run(asked["run_id"])
        shown = self._shown(run, run.looked())
        history = {"repair_history": [repair_entry(attempt) for attempt in run.attempts]}
        return shown | (history if asked.get("include_history") else {})

    def _shown(self, run: Run, state: Mapping[str, str]) -> dict[str, Any]:
        return {
            "job_id": run.job_id,
            "run_id": run.run_id,
            "run_name": self.jobs[run.job_id]["settings"]["name"],
            "run_page_url": f"{self.address}/?o=1#job/{run.job_id}/run/{run.run_id}",
            "start_time": run.attempts[0].started,
            "state": {"user_cancelled_or_timedout": False, **state},
            "status": status(state),
            "job_parameters": [
                {"name": name, "default": "", "value": value}
                for name, value in run.last.parameters.items()
            ],
            "tasks": [self._task(run, attempt) for attempt in run.attempts],
        }

    def list_runs(self, body: Mapping[str, Any]) -> dict[str, Any]:
        fields = {"job_id": int, "active_only": bool, "limit": int, "page_token": str}
        asked = checked(body, fields)
        if not 1 <= asked.get("limit", 20) <= _RUNS_LISTED:
            raise refuse(f"limit must be between 1 and {_RUNS_LISTED}")
        runs = [self.runs[run_id] for run_id in sorted(self.runs, reverse=True)]
        shown = [self._shown(run, run.state()) for run in runs]
        active = asked.get("active_only", False)
        found = [
            run
            for run in shown
            if run["job_id"] == asked.get("job_id", run["job_id"])
            and (not active or run["state"]["life_cycle_state"] in ACTIVE)
        ]
        first = int(asked.get("page_token", 0))
        page = found[first : first + asked.get("limit", 20)]
        rest = first + len(page) < len(found)
        token = {"next_page_token": str(first + len(page))} if rest else {}
        return {"runs": page, "has_more": rest, **token} if page else {"has_more": False}

    def get_output(self, body: Mapping[str, Any]) -> dict[str, Any]:
        run_id = checked(body, {"run_id": int}, "run_id")["run_id"]
        if run_id in self.runs:
            raise refuse("Retrieving the output of runs with multiple tasks is not supported.")
        attempt = next(
            (a for r in self.runs.values() for a in r.attempts if a.run_id == run_id), None
        )
        if attempt is None:
            raise missing(f"Run {run_id} does not exist.")
        outcome = attempt.outcome
        if outcome is None:
            return {"metadata": {"run_id": run_id}}
        failed = {"error": outcome.error, "error_trace": outcome.errors} if outcome.code else {}
        return {"metadata": {"run_id": run_id}, "logs": outcome.output} | failed

    def cancel(self, body: Mapping[str, Any]) -> dict[str, Any]:
        run = self._run(checked(body, {"run_id": int}, "run_id")["run_id"])
        if run.last.queued:
            run.last.end(None)
        elif not run.last.state and run.last.execution is not None:
            run.last.execution.cancel()
        return {}

    def repair(self, body: Mapping[str, Any]) -> dict[str, Any]:
        fields = {"rerun_tasks": list, "rerun_all_failed_tasks": bool}
        own = {"run_id": int, "latest_repair_id": int, "rerun_dependent_tasks": bool}
        asked = checked(body, fields | own | _PARAMETERS, "run_id")
        run = self._run(asked["run_id"])
        if not run.last.state:
            raise refuse(f"Run {run.run_id} is in progress and can't be repaired.")
        if ("rerun_tasks" in asked) == bool(asked.get("rerun_all_failed_tasks")):
            raise refuse("Exactly one of rerun_tasks and rerun_all_failed_tasks must be given.")
        if asked.get("latest_repair_id") != run.last.repair_id:
            raise refuse(
                "The latest repair ID needs to be provided in order to create a new repair"
            )
        if run.last.state["result_state"] == "SUCCESS":
            raise refuse("There are no failed tasks to repair.")
        parameters = run.last.parameters | self._parameters(run.job_id, asked)
        attempt = Attempt(next(_ids), len(run.attempts), parameters, repair_id=next(_ids))
        self._admit(run, attempt, queue={})
        run.attempts.append(attempt)
        return {"repair_id": attempt.repair_id}

    def _run(self, run_id: int) -> Run:
        if run_id not in self.runs:
            raise missing(f"Run {run_id} does not exist.")
        return self.runs[run_id]

    def _parameters(self, job_id: int, asked: Mapping[str, Any]) -> dict[str, str]:
        others = sorted(set(asked) & set(_PARAMETERS) - {"job_parameters", "performance_target"})
        if others and "job_parameters" in asked:
            raise refuse(f"job_parameters can't be used in combination with {others[0]}")
        declared = self.jobs[job_id]["settings"].get("parameters", [])
        values = {p["name"]: p["default"] for p in declared}
        for name, value in asked.get("job_parameters", {}).items():
            if name not in values:
                raise refuse(f"job parameter {name} is not defined in the job")
            if not isinstance(value, str):
                raise refuse(f"job parameter {name} is no text: {value!r}")
            values[name] = value
        return values

    def _admit(self, run: Run, attempt: Attempt, queue: Mapping[str, Any]) -> None:
        """Begin, if as many runs of the job are active as may be: queue, or skip it.

        "Databricks Jobs queueing and concurrency settings": without a queue the run is skipped.
        """
        settings = self.jobs[run.job_id]["settings"]
        if self._active(run.job_id) < settings.get("max_concurrent_runs", 1):
            self._begin(run, attempt)
        elif (settings.get("queue", {}) | dict(queue)).get("enabled", False):
            attempt.queued = True
        else:
            attempt.state = SKIPPED

    def _active(self, job_id: int) -> int:
        own = [run for run in list(self.runs.values()) if run.job_id == job_id]
        return sum(1 for run in own if not run.is_over and not run.last.queued)

    def _begin(self, run: Run, attempt: Attempt) -> None:
        attempt.queued = False
        if self.no_clusters:
            self.no_clusters -= 1
            attempt.state = NO_CLUSTER
            return
        (task,) = self.jobs[run.job_id]["settings"]["tasks"]
        python = task["spark_python_task"]
        words = [_filled(word, attempt.parameters) for word in python["parameters"]]
        attempt.execution = Execution(
            [sys.executable, "-c", _AS_A_TASK, python["python_file"], *words],
            self.start_seconds,
            lambda outcome: self._end(run.job_id, attempt, outcome),
            self.held,
        )
        attempt.execution.begin()

    def _end(self, job_id: int, attempt: Attempt, outcome: Outcome | None) -> None:
        attempt.ending = True
        while self.cleaning.is_set():
            time.sleep(0.05)
        attempt.end(outcome)
        waiting = [r for r in list(self.runs.values()) if r.job_id == job_id and r.last.queued]
        if waiting:
            self._begin(waiting[0], waiting[0].last)

    def _task(self, run: Run, attempt: Attempt) -> dict[str, Any]:
        (task,) = self.jobs[run.job_id]["settings"]["tasks"]
        state = attempt.state or run.state()
        known = {"run_id": attempt.run_id, "task_key": task["task_key"], "state": state}
        return known | {"attempt_number": attempt.number, "start_time": attempt.started}


def _may_queue(asked: Mapping[str, Any]) -> dict[str, Any]:
    return checked(
        asked.get("queue", {}), {"enabled": bool}, *(["enabled"] if "queue" in asked else [])
    )


def _filled(word: str, parameters: Mapping[str, str]) -> str:
    for name, value in parameters.items():
        word = word.replace(f"{{{{job.parameters.{name}}}}}", value)
    if "{{" in word:
        raise refuse(f"{word}: a reference that this workspace does not know")
    return word
