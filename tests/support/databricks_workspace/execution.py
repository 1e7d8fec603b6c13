"""The work itself: the bundle's files in a process and a Spark context of their own.

Spark is local. Only its Java machine is shared, with earlier work and with the homes of the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import shared_spark

from tidemark.home import LOCAL_MASTER, environment
from tidemark.settings import load_settings
from tidemark.spark_conf import conf_for, job_variables
from tidemark.warm_spark import run_job

_LAST = 5_000_000  # the service keeps 5 MB of what a task printed
SOURCES = Path(__file__).parents[3] / "src"


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    code: int
    output: str
    errors: str

    @property
    def error(self) -> str:
        """The exception's line, as a task's output gives it."""
        lines = [line for line in self.errors.splitlines() if line.strip()]
        raised = "Traceback (most recent call last):" in self.errors
        return lines[-1] if raised and lines else f"SystemExit: {self.code}"


@dataclass
class Execution:
    """One piece of work on compute of its own, from its request to its end.

    Attributes:
        command: The process.
        start_seconds: How long its compute takes to come up.
        ended: Called once, with what became of it; None if it was cancelled.
    """

    command: Sequence[str]
    start_seconds: float
    ended: Callable[[Outcome | None], None]
    held: threading.Event
    state: str = "starting"
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _process: subprocess.Popen[str] | None = None

    def begin(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def cancel(self) -> None:
        self._cancelled.set()
        if self._process is not None:
            self._process.kill()

    def _run(self) -> None:
        limit = time.monotonic() + self.start_seconds
        while time.monotonic() < limit or self.held.is_set():
            if self._cancelled.wait(0.05):
                return self._end(None)
        if self._cancelled.is_set():
            return self._end(None)
        self.state = "running"
        with tempfile.TemporaryDirectory() as folder:
            outcome = self._work(Path(folder))
        return self._end(None if self._cancelled.is_set() else outcome)

    def _work(self, folder: Path) -> Outcome:
        output: list[str] = []
        environ = _environment()
        with (folder / "errors").open("w+") as errors:
            code = run_job(
                _script(self.command, folder),
                conf_for(LOCAL_MASTER) | {"spark.master": LOCAL_MASTER},
                environ | job_variables(environ, LOCAL_MASTER),
                shared_spark.folder(),
                output.append,
                started=self._started,
                stderr=errors,
            )
            errors.seek(0)
            return Outcome(code, "\n".join(output)[-_LAST:], errors.read()[-_LAST:])

    def _started(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        if self._cancelled.is_set():  # meanwhile
            self.cancel()

    def _end(self, outcome: Outcome | None) -> None:
        self.ended(outcome)
        self.state = "ended"


def _script(command: Sequence[str], folder: Path) -> list[str]:
    """Give a file and its arguments, also for what is Python's `-c`."""
    _, first, *words = command
    if first != "-c":
        return [first, *words]
    text, *words = words
    file = folder / "task.py"
    file.write_text(text)
    return [str(file), *words]


def _environment() -> dict[str, str]:
    """What a cluster has: nothing of Airflow's or of this project's settings, and the wheel."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "TIDEMARK"))}
    path = os.pathsep.join([str(SOURCES), str(Path(__file__).parents[1])])
    return own | {
        "PATH": environment(load_settings())["PATH"],  # a home's: another would be another machine
        "PYTHONPATH": path,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
    }
