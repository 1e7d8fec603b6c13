"""``tidemark demo``: the whole way of a source's rows, three runs in real Airflow."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidemark import report, sample
from tidemark.adf_rule import SourceState, after_plain_watermark, compare, read_silver, read_source
from tidemark.demo_text import StageLine, summary
from tidemark.errors import TidemarkError
from tidemark.home import LOCAL_MASTER, connections, environment
from tidemark.mail_server import MailServer
from tidemark.metadata import Source, load_source
from tidemark.settings import Settings
from tidemark.spark_conf import conf_for, job_variables, small_job
from tidemark.storage import open_store
from tidemark.warm_spark import end as end_machine
from tidemark.warm_spark import run_job

_DAG = "spotify"
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Run:
    """One Dag run of the demo, ended.

    Attributes:
        run_id: Airflow's id of the run.
        state: ``success`` or ``failed``.
        seconds: How long it took.
        tasks: The state of each task, by id.
        report: What the run did.
    """

    run_id: str
    state: str
    seconds: float
    tasks: dict[str, str]
    report: report.RunReport


@dataclass
class DagProcess:
    """A process that holds Airflow and the Dag, ready to run it."""

    settings: Settings
    process: subprocess.Popen[str] = field(repr=False)
    _answers: queue.Queue[str] = field(default_factory=queue.Queue, repr=False)

    def __post_init__(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()

    def wait_ready(self) -> None:
        """Wait until Airflow's database is made, Airflow is imported and the Dag is parsed.

        Raises:
            TidemarkError: It never came so far; names the log.
        """
        self._expect("ready")

    def run(self, line: StageLine) -> Run:
        """Run the Dag once and show how it gets on.

        Raises:
            TidemarkError: The process died; names the log.
        """
        if self.process.stdin:
            self.process.stdin.write("{}\n")
            self.process.stdin.flush()
        run_id = self._expect("started")["run_id"]
        store = open_store(self.settings.lake.root)
        ended = self._watch(line, run_id)
        done = report.load(store, self.settings.lake, _DAG, run_id)
        line.show(done)
        return Run(run_id, ended["state"], ended["seconds"], ended["tasks"], done)

    def _watch(self, line: StageLine, run_id: str) -> dict[str, Any]:
        store = open_store(self.settings.lake.root)
        while True:
            line.show(report.load(store, self.settings.lake, _DAG, run_id))
            try:
                return self._checked(self._answers.get(timeout=_POLL_SECONDS), "ended")
            except queue.Empty:
                continue

    def _expect(self, event: str) -> dict[str, Any]:
        return self._checked(self._answers.get(), event)

    def _checked(self, text: str, event: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(text) if text else {}
        if value.get("event") != event:
            raise self._died(value.get("message", ""))
        return value

    def _died(self, message: str = "") -> TidemarkError:
        why = message or "Airflow's process ended early"
        return TidemarkError(f"demo: {why}; read {log_file(self.settings)}")

    def _listen(self) -> None:
        for answer in self.process.stdout or ():
            self._answers.put(answer)
        self._answers.put("")


def log_file(settings: Settings) -> Path:
    """Give the file that everything Airflow and Spark print goes to."""
    return settings.home / "demo.log"


def run_demo(settings: Settings) -> int:
    """Run the demo in the home, and print what happened.

    Returns:
        The exit code: 1 if a run failed.

    Raises:
        TidemarkError: It could not be run.
    """
    began = time.monotonic()
    source = load_source(settings.config / f"{_DAG}.yaml", settings.rules_folder)
    settings.home.mkdir(parents=True, exist_ok=True)
    _set_aside(settings)
    database = sample.default_path(settings.home)
    url = f"sqlite:///{database}"
    print(f"Tidemark's demo, in {settings.home} (Airflow's and Spark's own words: demo.log)\n")
    sample.create(database)
    first = _source_states(source, url)
    with MailServer(settings.home / "mail") as mail, _dag_process(settings, mail.connection) as dag:
        runs = [_one(dag, source, 1, "initial")]
        changes = sample.advance(database, 2)
        print(f"  the source moves on: {changes.summary()}")
        runs.append(_one(dag, source, 2, "incremental"))
        second = _source_states(source, url)
        runs.append(_one(dag, source, 3, "no change"))
    failed = [run for run in runs if run.state != "success"]
    for run in failed:
        print(f"\n{report.render_text(run.report)}")
    if failed:
        print(f"\nthe demo failed: {len(failed)} of 3 runs; read {log_file(settings)}")
        return 1
    print(_compared(settings, source, first, second))
    print(f"\n{time.monotonic() - began:.0f} s in all")
    return 0


def _compared(
    settings: Settings,
    source: Source,
    first: dict[str, SourceState],
    second: dict[str, SourceState],
) -> str:
    """Compare the lake with the source as it is now; `first` is how it was before it moved on."""
    seen = {
        name: compare(second[name].digests, read_silver(settings.lake, table))
        for name, table in source.tables.items()
    }
    lost = {
        name: compare(second[name].digests, after_plain_watermark(first[name], second[name])).count
        for name in source.tables
    }
    return summary(settings, source, seen, lost)


def _one(dag: DagProcess, source: Source, number: int, title: str) -> Run:
    line = StageLine(number, title, len(source.tables))
    run = dag.run(line)
    line.end(run.tasks, run.state, run.seconds)
    return run


def _source_states(source: Source, url: str) -> dict[str, SourceState]:
    return {name: read_source(url, table) for name, table in source.tables.items()}


def _set_aside(settings: Settings) -> None:
    """Begin with an empty lake; one that is there is kept under another name, never removed."""
    if settings.lake.root != str(settings.home / "lake"):
        raise TidemarkError(
            f"demo: it writes to the home's own lake only, and TIDEMARK_LAKE is "
            f"{settings.lake.root}; unset TIDEMARK_LAKE"
        )
    lake = Path(settings.lake.root)
    if lake.exists():
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        lake.rename(settings.home / f"lake-before-{moment}")
        print(f"the lake that was there is now {settings.home / f'lake-before-{moment}'}")


def _variables(settings: Settings, smtp: str) -> dict[str, str]:
    # The home's own connections, also where the caller has set them: the demo compares the lake
    # with the sample, and somebody's real database has no place in it.
    own = connections(settings) | {"AIRFLOW_CONN_SMTP_DEFAULT": smtp}
    return os.environ | environment(settings) | own


@contextmanager
def _dag_process(settings: Settings, smtp: str) -> Iterator[DagProcess]:
    with log_file(settings).open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tidemark.airflow.local_runs", _DAG],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=_variables(settings, smtp),
        )
        try:
            dag = DagProcess(settings, process)
            began = time.monotonic()
            print("Airflow starts", end="", flush=True)
            _warm_up_spark(settings, smtp)
            dag.wait_ready()
            print(f"{time.monotonic() - began:>49.0f} s")
            yield dag
        finally:
            if process.stdin:
                process.stdin.close()
            process.terminate()
            _end(process)
            end_machine(settings.warm_spark_folder)


def _warm_up_spark(settings: Settings, smtp: str) -> None:
    """Start Spark beside Airflow, on another core. If it fails, the first run will say why."""
    environ = _variables(settings, smtp)
    conf = conf_for(LOCAL_MASTER) | {"spark.master": LOCAL_MASTER}
    environ |= job_variables(environ, LOCAL_MASTER)

    def warm_up() -> None:
        with suppress(OSError):
            run_job([small_job()], conf, environ, settings.warm_spark_folder, lambda _line: None)

    threading.Thread(target=warm_up, daemon=True).start()


def _end(process: subprocess.Popen[str]) -> None:
    # Airflow hands a SIGTERM on to the running task and goes on; it has ten seconds for that.
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
