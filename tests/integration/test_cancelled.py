"""A killed task leaves no statement running at the source."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from postgres import server
from postgres_world import PostgresWorld, make_postgres_world

from tidemark.extract.cancelling import cancelled_on_kill

HANDLED = """
import signal
signal.signal(signal.SIGTERM, lambda *_: None)  # as Airflow's, which calls on_kill and returns
"""
TIMED = """
import signal
def _expired(*_):
    raise TimeoutError("the task's own limit")
signal.signal(signal.SIGALRM, _expired)
"""
READER = """
import signal, sys
from pathlib import Path
import sqlalchemy as sa
from core_harness import load_table
from tidemark.extract.source import open_source
with open_source(sys.argv[2], load_table(Path(sys.argv[1]))) as source:
    signal.setitimer(signal.ITIMER_REAL, float(sys.argv[3]))
    source.connection.execute(sa.text("SELECT pg_sleep(600)"))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresWorld]:
    with server() as url:
        yield make_postgres_world(tmp_path_factory.mktemp("world"), url)


def running(url: str) -> int:
    with psycopg.connect(url) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' "
            "AND state = 'active' AND pid <> pg_backend_pid()"
        ).fetchone() or (0,)
    return int(count)


def wait_for(url: str, count: int) -> None:
    deadline = time.monotonic() + 120
    while running(url) != count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_killed_task_cancels_its_statement(world: PostgresWorld, sent: signal.Signals) -> None:
    support = Path(__file__).parents[1] / "support"
    task = subprocess.Popen(
        [sys.executable, "-c", READER, str(world.folder), world.url, "0"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(support), *sys.path])},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(world.url, 1)
        task.send_signal(sent)
        task.wait(120)
    finally:
        task.kill()
    assert task.returncode
    wait_for(world.url, 0)


@pytest.mark.parametrize(
    ("before", "sent", "limit"), [(HANDLED, signal.SIGTERM, "0"), (TIMED, None, "8")]
)
def test_what_was_cancelled_is_tried_again_and_a_time_limit_counts(
    world: PostgresWorld, before: str, sent: signal.Signals | None, limit: str
) -> None:
    support = Path(__file__).parents[1] / "support"
    task = subprocess.Popen(
        [sys.executable, "-c", before + READER, str(world.folder), world.url, limit],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(support), *sys.path])},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(world.url, 1)
        if sent is not None:
            task.send_signal(sent)
        _, said = task.communicate(timeout=120)
    finally:
        task.kill()
    if sent is None:
        assert "the task's own limit" in said
    else:
        assert "SourceUnavailable" in said.splitlines()[-1]
    wait_for(world.url, 0)


def test_a_signal_is_heard_while_a_driver_waits_and_goes_on_to_its_handler() -> None:
    heard = threading.Event()
    raised = []
    before = signal.signal(signal.SIGINT, lambda *_: raised.append(heard.wait(10)))
    try:
        with cancelled_on_kill(heard.set):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert raised == [True], "the driver was told while the handler had not ended"


def test_other_signals_cancel_nothing_and_what_was_there_before_comes_back() -> None:
    called: list[int] = []
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    outer = signal.set_wakeup_fd(mouth)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with cancelled_on_kill(lambda: called.append(1)):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.1)
        assert signal.set_wakeup_fd(outer) == mouth
    finally:
        signal.signal(signal.SIGUSR1, before)
        os.close(ear)
        os.close(mouth)
    assert called == []
