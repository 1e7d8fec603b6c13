"""Who may build a source's silver and gold: its runs side by side, a rebuild alone.

The lock is the operating system's (`flock`): it ends with the process that holds it, and so no kill
leaves one behind. What a rebuild does leave behind that was killed while swapping is its journal.

Only a lake in a local folder can be rebuilt (`tidemark.rebuild`): elsewhere a run keeps nobody out.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO

from tidemark.errors import LakeError, PipelineError
from tidemark.layout import Lake
from tidemark.storage import LocalStore, open_store

_POLL_SECONDS = 0.2


@contextmanager
def as_a_run(lake: Lake, source: str) -> Iterator[None]:
    """Build as a run does: not while a rebuild is at work, nor on what one left half swapped.

    Raises:
        PipelineError: It is so; the message says what to do.
    """
    store = open_store(lake.root)
    if not isinstance(store, LocalStore):
        yield
        return
    with store.local_path(lake.layers_lock(source)).open("a+") as file:
        if not _taken(file, fcntl.LOCK_SH):
            message = (
                f"{source}: {_holder(file)} is rebuilding its silver and gold; nothing is lost: "
                "what is in bronze stays pending, and the first run after the rebuild takes it"
            )
            raise PipelineError(message)
        refuse_half_swapped(store, lake, source)
        yield


@contextmanager
def as_the_writer(lake: Lake, table: str, *, patience: float = 0) -> Iterator[None]:
    """Write a table's silver: a run, a replay and a continuous stream, one at a time.

    Args:
        lake: The lake.
        table: The table's name in the lake.
        patience: For how many seconds to wait for another one.

    Raises:
        PipelineError: Another one is at work.
    """
    store = open_store(lake.root)
    if not isinstance(store, LocalStore):
        yield
        return
    with store.local_path(lake.table_lock(table)).open("a+") as file:
        deadline = time.monotonic() + patience
        while not _taken(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                message = (
                    f"{table}: {_holder(file)} is writing its silver; run again when that has "
                    "ended: what is in bronze stays pending"
                )
                raise PipelineError(message)
            time.sleep(_POLL_SECONDS)
        with _named(file):
            yield


@contextmanager
def as_a_rebuild(store: LocalStore, lake: Lake, source: str) -> Iterator[None]:
    """Build as a rebuild does: nobody else meanwhile.

    Raises:
        LakeError: A run's job, or another rebuild, is at work.
    """
    with store.local_path(lake.layers_lock(source)).open("a+") as file:
        if not _taken(file, fcntl.LOCK_EX):
            run = _taken(file, fcntl.LOCK_SH)
            who = "the silver or gold job of a run" if run else f"a rebuild, {_holder(file)},"
            message = f"{source}: {who} is at work; wait until it has ended, then run again"
            raise LakeError(message)
        with _named(file):
            yield


def refuse_half_swapped(store: LocalStore, lake: Lake, source: str) -> None:
    """Refuse to touch a lake in which a rebuild was killed between old and new.

    Raises:
        PipelineError: It is so; the message says what to do.
    """
    if store.read(lake.swap_file(source)) is not None:
        message = (
            f"{source}: a rebuild was killed while it swapped its tables in "
            f"({lake.url(lake.swap_file(source))}); complete it with `tidemark rebuild {source}`, "
            "which takes a moment: until then silver and gold are partly old, partly new"
        )
        raise PipelineError(message)


def _taken(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _named(file: IO[str]) -> Iterator[None]:
    now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} (since {now})")
    file.flush()
    try:
        yield
    finally:
        file.truncate(0)


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read() or "a process"
