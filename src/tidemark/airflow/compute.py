"""Silver and gold on Spark: one job for all pending tables of a source."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Connection, Context
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException

from tidemark import report
from tidemark.errors import ConfigError, PipelineError
from tidemark.lake_access import access_variables
from tidemark.local_job import job_words, run_here
from tidemark.metadata import Source
from tidemark.settings import load_settings
from tidemark.spark_conf import conf_for, is_local, job_variables
from tidemark.storage import open_store

logger = logging.getLogger(__name__)

Layer = Literal["silver", "gold"]

SPARK_CONNECTION = "tidemark_spark"
_LAST_LINES = 20
_INSTALL = "install `tidemark[spark]` there, in the environment that Airflow runs in"


class SparkJob(SparkSubmitOperator):
    """A `SparkSubmitOperator` that tells what its job did, and which tables failed and why.

    A subclass, because that must happen around `execute`, whether it returns or raises, while
    Airflow's kill still reaches the operator that holds the process.
    """

    def __init__(self, *, layer: Layer, source: Source, **options: Any) -> None:
        settings = load_settings()
        # Unique for each attempt: what is found there is never an earlier attempt's.
        self.report_path = str(settings.home / "spark" / f"{source.name}.{layer}.{{{{ ti.id }}}}")
        pending = f"{{{{ ti.xcom_pull(task_ids='pending_for_{layer}') | join(',') }}}}"
        script, *words = job_words(
            settings, source, f"{layer}.py", [pending], report=self.report_path
        )
        super().__init__(
            application=script,
            application_args=words,
            conn_id=SPARK_CONNECTION,
            name=f"tidemark {source.name} {layer}",
            **options,
        )
        self.layer = layer
        self._process: subprocess.Popen[str] | None = None
        self._killed = False

    template_fields = (*SparkSubmitOperator.template_fields, "report_path")

    def execute(self, context: Context) -> None:
        """Run the job, record its report, and raise with the job's own words if tables failed.

        Raises:
            PipelineError: The job failed, as a whole or for some tables: it would fail again.
            ConfigError: There is no Spark to start, or no connection that says where it runs.
            AirflowException: The job was killed. Transient: it may do everything twice.
        """
        master = require_connection()
        Path(self.report_path).parent.mkdir(parents=True, exist_ok=True)
        try:
            if is_local(master):
                self._run_here(master)
            else:
                # Looked up here and not where the Dag is parsed, which may be another machine.
                self.env_vars = job_variables(os.environ, master)
                self.conf = conf_for(master, load_settings().lake.root)
                with _handed_on():
                    super().execute(context)
        except FileNotFoundError as error:
            message = f"{self.layer}: {error.filename} is not installed on this worker: {_INSTALL}"
            raise ConfigError(message) from error
        except AirflowException as error:
            done = self._record(context)
            reason = failed_tables(self.layer, done) or failed_job(self.layer, str(error))
            if reason is None:
                raise
            raise PipelineError(reason) from error
        self._record(context)

    def on_kill(self) -> None:
        """End the job with the task."""
        self._killed = True
        if self._process is not None:
            self._process.kill()
        else:
            super().on_kill()

    def _started(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        if self._killed:  # while it waited for its turn
            process.kill()

    def _run_here(self, master: str) -> None:
        last: deque[str] = deque(maxlen=_LAST_LINES)

        def show(line: str) -> None:
            last.append(line)
            logger.info(line)

        job = [self.application, *(self.application_args or ())]
        code = run_here(job, master, load_settings(), show, started=self._started)
        if code:
            said = "\n".join(last)
            message = f"Cannot execute: {self.name}. Error code is: {code}.\nLast lines:\n{said}"
            raise AirflowException(message)

    def _record(self, context: Context) -> dict[str, Any]:
        """Move the job's report into the run's report."""
        path = Path(self.report_path)
        if not path.exists():
            return {}
        done: dict[str, Any] = json.loads(path.read_text())
        lake, ti = load_settings().lake, context["ti"]
        report.record(open_store(lake.root), lake, ti.dag_id, ti.run_id, self.layer, done)
        path.unlink()
        return done


@contextmanager
def _handed_on() -> Iterator[None]:
    """Let spark-submit inherit what opens the lake: as an argument everybody could read it."""
    variables = access_variables(load_settings().lake.root)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name)


def failed_tables(layer: Layer, done: Mapping[str, Any]) -> str | None:
    """Say which tables a job's report calls failed, and why; None if it names none."""
    tables = done.get("tables", {})
    failed = {name: table["error"] for name, table in tables.items() if table["status"] == "failed"}
    if not failed:
        return None
    reasons = "".join(f"\n  {name}: {error}" for name, error in failed.items())
    return f"{layer}: {len(failed)} of {len(tables)} tables failed:{reasons}"


def failed_job(layer: Layer, error: str) -> str | None:
    """Say why a job failed as a whole, in its own last words; None if it was killed.

    Exit code 1 is a Python exception, a wrong argument or a missing Java; a kill, or a JVM out of
    memory, has another code, and another try may go well.
    """
    code, _, rest = error.partition("Error code is: ")[2].partition(".")
    if code != "1":
        return None
    return f"{layer}: the Spark job failed before it came to its tables.{rest.rstrip()}"


def require_compute(source: Source) -> None:
    """Look up the Airflow connection of what runs a source's silver and gold.

    Raises:
        ConfigError: There is no such connection.
    """
    if source.compute == "spark":
        require_connection()
        return
    # Dear to import, and needed by this kind of source alone.
    from tidemark.airflow.databricks_api import explained  # noqa: PLC0415  see above

    with explained(source.databricks.connection, "a connection"):
        Connection.get(source.databricks.connection)


def require_connection() -> str:
    """Give the Spark master of the Airflow connection.

    The Spark hook itself takes a missing connection for ``yarn``, and fails much later.

    Raises:
        ConfigError: There is no such connection.
    """
    try:
        connection = Connection.get(SPARK_CONNECTION)
    except AirflowNotFoundException as error:
        message = (
            f"there is no Airflow connection {SPARK_CONNECTION!r}, which says where Spark runs; "
            f"add it with `airflow connections add {SPARK_CONNECTION} --conn-type spark "
            "--conn-host 'local[*]'`, and run again: what is pending stays pending"
        )
        raise ConfigError(message) from error
    return str(connection.host or "")
