"""The work itself: the bundle's files in a process of their own, on local Spark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

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
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _run(self) -> None:
        limit = time.monotonic() + self.start_seconds
        while time.monotonic() < limit or self.held.is_set():
            if self._cancelled.wait(0.05):
                return self._end(None)
        if self._cancelled.is_set():
            return self._end(None)
        self.state = "running"
        self._process = subprocess.Popen(
            self.command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if self._cancelled.is_set():  # meanwhile
            self.cancel()
        output, errors = self._process.communicate()
        outcome = Outcome(self._process.returncode, output[-_LAST:], errors[-_LAST:])
        return self._end(None if self._cancelled.is_set() else outcome)

    def _end(self, outcome: Outcome | None) -> None:
        self.ended(outcome)
        self.state = "ended"


def _environment() -> dict[str, str]:
    """What a cluster has: nothing of Airflow's or of this project's settings, and the wheel."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "TIDEMARK"))}
    path = os.pathsep.join([str(SOURCES), str(Path(__file__).parents[1])])
    return own | {
        "PYTHONPATH": path,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
    }
