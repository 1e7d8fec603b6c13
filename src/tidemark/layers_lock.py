"""Who may build a source's silver and gold: its runs side by side, a rebuild or maintenance alone.

The lock is the operating system's (`flock`): it ends with the process that holds it, and so no kill
leaves one behind. What a rebuild does leave behind that was killed while swapping is its journal.

Only a lake in a local folder can be rebuilt (`tidemark.rebuild`): elsewhere a run keeps nobody out.
There Delta's own commits decide between a maintenance and a run: of two that touch the same files
the later one fails whole, and is done again.
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
from tidemark.storage import LocalStore, Store, open_store

REBUILDING, MAINTAINING = "rebuilding", "maintaining"
WRITING, FOLLOWING = "writing", "following"
# A maintenance ends by itself, and its lock with its process: a run waits so long for it.
PATIENCE_SECONDS = 3600.0
_POLL_SECONDS = 0.2


class OccupiedError(PipelineError):
    """Another one is at work on the same tables; nothing was done, and later it can be.

    Attributes:
        who: Who it is, since when, and at what; for somebody who waits.
    """

    def __init__(self, message: str, who: str = "") -> None:
        super().__init__(message)
        self.who = who


@contextmanager
def as_a_run(lake: Lake, source: str, *, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Build as a run does: not while a rebuild is at work, nor on what one left half swapped.

    Args:
        lake: The lake.
        source: The source's name.
        patience: For how many seconds to wait for a maintenance; a rebuild is not waited for.

    Raises:
        OccupiedError: One of them is at work.
        PipelineError: A rebuild was killed in the middle of its swap.
    """
    with _opened(lake, lake.layers_lock(source)) as file:
        if file is not None:
            if holder := _waited(file, fcntl.LOCK_SH, patience, unless=REBUILDING):
                message = (
                    f"{source}: {holder} its silver and gold; nothing is lost: what is in bronze "
                    "stays pending, and the first run after it takes it"
                )
                raise OccupiedError(message, f"{holder} silver and gold of {source}")
            refuse_half_swapped(open_store(lake.root), lake, source)
        yield


@contextmanager
def as_the_writer(lake: Lake, table: str, *, patience: float = 0) -> Iterator[None]:
    """Write a table's silver: a run, a replay and a continuous stream, one at a time.

    Args:
        lake: The lake.
        table: The table's name in the lake.
        patience: For how many seconds to wait for another one.

    Raises:
        OccupiedError: Another one is at work.
    """
    with _opened(lake, lake.table_lock(table)) as file:
        if file is None:
            yield
            return
        if holder := _waited(file, fcntl.LOCK_EX, patience):
            message = (
                f"{table}: {holder} its silver; run again when that has "
                "ended: what is in bronze stays pending"
            )
            raise OccupiedError(message, f"{holder} its silver")
        with _named(file, WRITING):
            yield


@contextmanager
def as_the_stream(lake: Lake, table: str) -> Iterator[None]:
    """Follow a table's bronze as its only continuous stream; the Dag's runs leave it the table.

    Raises:
        PipelineError: Another stream follows it.
    """
    with _opened(lake, lake.stream_lock(table)) as file:
        if file is None:
            yield
            return
        if not _taken(file, fcntl.LOCK_EX):
            message = f"{table}: {_holder(file)} its bronze already; end that stream first"
            raise PipelineError(message)
        with _named(file, FOLLOWING):
            yield


def streamed_by(lake: Lake, table: str) -> str | None:
    """Say which process follows a table's bronze as a continuous stream; None if none does here."""
    store = open_store(lake.root)
    if not isinstance(store, LocalStore) or not store.exists(lake.stream_lock(table)):
        return None
    with store.local_path(lake.stream_lock(table)).open("a+") as file:
        return None if _taken(file, fcntl.LOCK_SH) else _holder(file)


@contextmanager
def as_a_rebuild(lake: Lake, source: str) -> Iterator[None]:
    """Build as a rebuild does: nobody else meanwhile.

    Raises:
        LakeError: A run's job, a maintenance or another rebuild is at work.
    """
    with _alone(lake, source, REBUILDING):
        yield


@contextmanager
def as_maintenance(lake: Lake, source: str) -> Iterator[None]:
    """Tidy a source's tables: no rebuild meanwhile, and runs wait.

    Raises:
        LakeError: A run's job, a rebuild or another maintenance is at work.
        PipelineError: A rebuild was killed in the middle of its swap.
    """
    with _alone(lake, source, MAINTAINING) as is_local:
        if is_local:
            refuse_half_swapped(open_store(lake.root), lake, source)
        yield


@contextmanager
def _alone(lake: Lake, source: str, work: str) -> Iterator[bool]:
    """Keep everybody else out; tell whether that could be done."""
    with _opened(lake, lake.layers_lock(source)) as file:
        if file is None:
            yield False
            return
        if not _taken(file, fcntl.LOCK_EX):
            run = _taken(file, fcntl.LOCK_SH)
            who = "the silver or gold job of a run is at work"
            if not run:
                who = f"{_holder(file)} its silver and gold"
            raise LakeError(f"{source}: {who}; wait until it has ended, then run again")
        with _named(file, work):
            yield True


def refuse_half_swapped(store: Store, lake: Lake, source: str) -> None:
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


@contextmanager
def _opened(lake: Lake, path: str) -> Iterator[IO[str] | None]:
    """Open a lock's file; None where the lake lies in no local folder, and nobody is kept out."""
    store = open_store(lake.root)
    if not isinstance(store, LocalStore):
        yield None
        return
    with store.local_path(path).open("a+") as file:
        yield file


def _waited(file: IO[str], kind: int, patience: float, *, unless: str = "") -> str | None:
    """Take a lock within `patience` seconds; else say who holds it, and at what.

    Args:
        file: The lock's file.
        kind: Side by side with others, or alone.
        patience: Seconds.
        unless: Work that is not waited for.
    """
    deadline = time.monotonic() + patience
    while not _taken(file, kind):
        holder = _holder(file)
        if time.monotonic() > deadline or (unless and unless in holder):
            return holder
        time.sleep(_POLL_SECONDS)
    return None


def _taken(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _named(file: IO[str], work: str) -> Iterator[None]:
    now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} (since {now}) is {work}")
    file.flush()
    try:
        yield
    finally:
        file.truncate(0)


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read() or "a process is changing"
