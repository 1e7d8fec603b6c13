"""A way to Airflow's API for code that may run outside of any task."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from uuid import uuid4

import psutil  # type: ignore[import-untyped]
import structlog
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.supervisor import (
    InProcessSupervisorComms,
    InProcessTestSupervisor,
    set_supervisor_comms,
)


@contextlib.contextmanager
def airflow_api() -> Iterator[None]:
    """Make connections and task states readable, also in a Dag callback of ``dag.test()``.

    Under a scheduler, callbacks run in the Dag processor, which answers them. ``dag.test()`` runs
    them after its last task's supervisor is gone: connections of Airflow's database would not be
    found, and task states could not be asked for. It is given what Airflow itself gives to the
    triggers of such a run.
    """
    if getattr(task_runner, "SUPERVISOR_COMMS", None) is not None:
        yield
        return
    supervisor = InProcessTestSupervisor(
        id=uuid4(),
        pid=os.getpid(),
        process=psutil.Process(),
        process_log=structlog.get_logger(logger_name="task").bind(),
        client=InProcessTestSupervisor._api_client(),  # type: ignore[no-untyped-call]  # noqa: SLF001
    )
    supervisor.comms = InProcessSupervisorComms(supervisor=supervisor)
    with set_supervisor_comms(supervisor.comms):
        yield
