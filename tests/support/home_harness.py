"""A home of its own for a test: the real CLI, the real Airflow, the real Spark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Ended:
    """A Dag run that ended."""

    run_id: str
    state: str
    seconds: float
    tasks: dict[str, str]


@dataclass
class Home:
    """A Tidemark home in a folder of the test's own.

    `extra` goes into the environment of every process that the home starts.
    """

    path: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def lake(self) -> Path:
        return self.path / "lake"

    @property
    def database(self) -> Path:
        return self.path / "source" / "spotify.db"

    def environment(self) -> dict[str, str]:
        """The exports that `tidemark env` prints, as a user would evaluate them."""
        lines = self.tidemark("env").stdout.splitlines()
        show = "import json, os; print(json.dumps(dict(os.environ)))"
        script = "\n".join([*lines, f"exec {sys.executable} -c '{show}'"])
        shell = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, check=True, env=self._base()
        )
        variables: dict[str, str] = json.loads(shell.stdout)
        return variables

    def _base(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "TIDEMARK"))}
        return kept | {"TIDEMARK_HOME": str(self.path)} | self.extra

    def tidemark(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `tidemark` in the project, as a user would."""
        return self._call("tidemark", words, self._base(), check)

    def airflow(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `airflow` after `eval "$(tidemark env)"`."""
        return self._call("airflow", words, self.environment(), check)

    def _call(
        self, program: str, words: tuple[str, ...], env: Mapping[str, str], check: bool
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(BIN / program), *words],
            capture_output=True,
            text=True,
            cwd=PROJECT,
            env=dict(env),
            check=False,
        )
        if check and done.returncode:
            message = f"{program} {' '.join(words)}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            raise AssertionError(message)
        return done

    @contextmanager
    def dag(self) -> Iterator[DagRuns]:
        """Hold a process that runs the Dag on request, as `airflow dags test` does."""
        self.path.mkdir(parents=True, exist_ok=True)
        log = (self.path / "test.log").open("a")
        process = subprocess.Popen(
            [sys.executable, "-m", "tidemark.airflow.local_runs", "spotify"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=PROJECT,
            env=self.environment(),
        )
        try:
            yield DagRuns(process, self)
        finally:
            if process.stdin:
                process.stdin.close()
            process.terminate()
            process.wait()
            log.close()

    def rows(self, relative: str) -> list[dict[str, Any]]:
        """Read a Delta table of the lake without Spark."""
        return pl.read_delta(str(self.lake / relative)).to_dicts()

    def state(self, table: str) -> dict[str, Any]:
        """Read a table's `cdc.json`."""
        text = (self.lake / "bronze" / f"{table}_cdc" / "cdc.json").read_text()
        value: dict[str, Any] = json.loads(text)
        return value

    def bronze(self, table: str) -> list[Path]:
        """List a table's published files."""
        return sorted((self.lake / "bronze" / table).glob(f"{table}_*.parquet"))


@dataclass
class DagRuns:
    """The process behind `Home.dag`."""

    process: subprocess.Popen[str]
    home: Home

    def run(self, **conf: Any) -> Ended:
        """Run the Dag once, to its end."""
        started = self.start(**conf)
        ended = self._answer("ended")
        return Ended(started, ended["state"], ended["seconds"], ended["tasks"])

    def start(self, **conf: Any) -> str:
        """Begin a run; give its id."""
        assert self.process.stdin is not None
        if self.process.stdin.closed:
            raise AssertionError("the process has ended")
        self._ready()
        self.process.stdin.write(json.dumps(conf) + "\n")
        self.process.stdin.flush()
        return str(self._answer("started")["run_id"])

    def _ready(self) -> None:
        if not getattr(self, "_is_ready", False):
            self._answer("ready")
            self._is_ready = True

    def _answer(self, event: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        value: dict[str, Any] = json.loads(line) if line else {}
        if value.get("event") != event:
            log = (self.home.path / "test.log").read_text()[-4000:]
            raise AssertionError(f"expected {event}, got {value}: {log}")
        return value
