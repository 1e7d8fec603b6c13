"""Run a Dag again and again in one process, as ``airflow dags test`` does, on request.

A child process of the demo: a request is a line of JSON on standard input, an answer one on
standard output. Airflow's start costs many seconds; here it is paid once. What Airflow prints goes
to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, TextIO

import httpx
from airflow.dag_processing.dagbag import DagBag
from airflow.models.dagrun import DagRun
from airflow.sdk import DAG, timezone
from airflow.sdk.execution_time.supervisor import in_process_api_server
from airflow.utils.types import DagRunType

from tidemark.errors import TidemarkError
from tidemark.home import prepare
from tidemark.settings import load_settings


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        dag = _ready(sys.argv[1])
    except TidemarkError as error:
        _send(answers, event="error", message=str(error))
        return
    _send(answers, event="ready")
    for line in sys.stdin:
        _run(dag, json.loads(line), answers)


def _ready(dag_id: str) -> DAG:
    prepare(load_settings())
    folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    bag = DagBag(dag_folder=folder)
    _warm_up()
    if dag_id not in bag.dags:
        message = f"no Dag {dag_id!r} in {folder}: {bag.import_errors}"
        raise TidemarkError(message)
    return bag.dags[dag_id]


def _warm_up() -> None:
    """Let the API that tasks speak to build its routes, which the first task would wait for."""
    api = in_process_api_server()
    httpx.Client(transport=api.transport, base_url="http://in-process.invalid./").get("health")


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
