"""A home of its own for a test: the real CLI, the real Airflow, the real Spark."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import shared_spark

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
_UI_SECONDS = 400
_END_SECONDS = 10
# For Airflow's processes: what their users have time for, and tests do not.
CALM = {
    # Else the Dag file is parsed twice a minute, in a process of its own.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
    # The first task may wait for Airflow's server for longer than five seconds.
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
}


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

    `extra` goes into the environment of every process that the home starts. Homes of one test
    process share a warm Java machine, but for one with `own_spark`.
    """

    path: Path
    extra: dict[str, str] = field(default_factory=dict)
    own_spark: bool = False

    def __post_init__(self) -> None:
        if not self.own_spark:
            shared_spark.share(self.path / "spark" / "warm")

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
    def dag(self, name: str = "spotify") -> Iterator[DagRuns]:
        """Hold a process that runs the Dag on request, as `airflow dags test` does."""
        self.path.mkdir(parents=True, exist_ok=True)
        log = (self.path / "test.log").open("a")
        process = subprocess.Popen(
            [sys.executable, "-m", "tidemark.airflow.local_runs", name],
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

    @contextmanager
    def ui(self) -> Iterator[str]:
        """Hold Airflow's UI and scheduler, as `tidemark ui` starts them; give the address.

        At the end every process of theirs is gone.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = self.path / "ui.log"
        self.path.mkdir(parents=True, exist_ok=True)
        with log.open("a") as output:
            process = subprocess.Popen(
                [str(BIN / "tidemark"), "ui", "--port", str(port)],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=PROJECT,
                env=self._base() | CALM,
                start_new_session=True,
            )
        address = f"http://localhost:{port}"
        try:
            wait_until(
                lambda: process.poll() is not None or _is_healthy(address),
                _UI_SECONDS,
                lambda: f"the UI never became healthy: {log.read_text()[-4000:]}",
            )
            assert process.poll() is None, f"the UI has ended: {log.read_text()[-4000:]}"
            yield address
        finally:
            end_session(process)

    def list_runs(self) -> list[dict[str, str]]:
        """List the Dag's runs as `airflow dags list-runs` does."""
        text = self.airflow("dags", "list-runs", "spotify", "-o", "json").stdout
        # Airflow's warnings stand before it, on the same stream.
        runs: list[dict[str, str]] = json.loads(text.splitlines()[-1])
        return runs

    def ended_runs(self, dag: str = "spotify") -> list[str]:
        """Give the states of the Dag's runs that have ended, without a start of Airflow."""
        database = f"file:{self.path}/airflow/airflow.db?mode=ro"
        statement = "SELECT state FROM dag_run WHERE dag_id = ? AND state IN ('success', 'failed')"
        with closing(sqlite3.connect(database, uri=True, timeout=60)) as connection:
            return [state for (state,) in connection.execute(statement, (dag,))]

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
        return self.end(self.start(**conf))

    def end(self, run_id: str) -> Ended:
        """Wait for the end of the run that was begun."""
        ended = self._answer("ended")
        return Ended(run_id, ended["state"], ended["seconds"], ended["tasks"])

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


def get_json(url: str, token: str = "") -> Any:
    """Ask a server of the test's own; the first task may keep Airflow's for half a minute."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # always http://localhost
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  # the same
        return json.load(answer)


def wait_until(
    happened: Callable[[], bool],
    seconds: float,
    otherwise: Callable[[], str],
    pause: float = 0.5,
) -> None:
    """Wait until something has happened; say what is amiss if it does not."""
    limit = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > limit:
            raise AssertionError(otherwise())
        time.sleep(pause)


def _is_healthy(address: str) -> bool:
    try:
        health = get_json(f"{address}/api/v2/monitor/health")
    except (OSError, ValueError):
        return False
    return all(health[part]["status"] == "healthy" for part in ("scheduler", "dag_processor"))


def end_session(process: subprocess.Popen[Any]) -> None:
    """End a process and all that it started; Airflow gives each task a process group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_END_SECONDS)
        wait_until(lambda: not _session(process.pid), _END_SECONDS, lambda: "some are left")
    except (subprocess.TimeoutExpired, AssertionError):
        for pid in _session(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not _session(process.pid), 10, lambda: "SIGKILL had no effect")


def _session(leader: int) -> list[int]:
    """List the living processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(int(folder.name))
    return found
