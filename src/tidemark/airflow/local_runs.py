"""Run a Dag again and again in one process, as ``airflow dags test`` does, on request.

A child process of the demo: a request is a line of JSON on standard input, an answer one on
standard output. Airflow's import costs seconds; here it is paid once. What Airflow prints goes to
standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, TextIO

from airflow.dag_processing.dagbag import DagBag
from airflow.models.dagrun import DagRun
from airflow.sdk import DAG, timezone
from airflow.utils.types import DagRunType


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    dag_id = sys.argv[1]
    folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    bag = DagBag(dag_folder=folder)
    if dag_id not in bag.dags:
        _send(answers, event="error", message=f"no Dag {dag_id!r} in {folder}: {bag.import_errors}")
        return
    _send(answers, event="ready")
    for line in sys.stdin:
        _run(bag.dags[dag_id], json.loads(line), answers)


def _run(dag: DAG, conf: dict[str, Any], answers: TextIO) -> None:
    moment = timezone.utcnow()
    run_id = DagRun.generate_run_id(
        run_type=DagRunType.MANUAL, logical_date=moment, run_after=moment
    )
    _send(answers, event="started", run_id=run_id)
    began = time.monotonic()
    run = dag.test(run_after=moment, logical_date=moment, run_conf=conf)
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    seconds = time.monotonic() - began
    _send(answers, event="ended", state=str(run.state), seconds=seconds, tasks=states)


def _send(answers: TextIO, **event: object) -> None:
    answers.write(json.dumps(event) + "\n")


if __name__ == "__main__":
    main()
