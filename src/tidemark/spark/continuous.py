"""Silver that keeps running: a table's new bronze files, merged within seconds of their arrival.

What a run of the Dag does for a table (`tidemark.spark.silver`) is done here whenever a file waits,
in one session that stays: the same checkpoint, the same markers. Ended anywhere, the next run or
stream goes on from there.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pyspark.sql import SparkSession

from tidemark.errors import LakeUnavailable, PipelineError
from tidemark.layers_lock import OccupiedError, as_the_stream
from tidemark.layout import Lake
from tidemark.metadata import Source
from tidemark.pending import silver_pending
from tidemark.spark.registration import registered
from tidemark.spark.silver import TableResult, run_silver
from tidemark.storage import LocalStore, open_store

# Attempts of a table, one after the other, before the stream leaves it to the Dag's runs.
ATTEMPTS = 3
# Between two lines that say the same of one who is waited for.
SAY_AGAIN_SECONDS = 300.0
_WHOLE = ""  # what keeps all tables waiting
Say = Callable[[str], None]


@dataclass(frozen=True)
class Stream:
    """What a stream works on.

    Attributes:
        spark: The session.
        lake_root: The lake's folder or URL.
        source: The metadata.
        rules: The folder of the rules files.
        every: Seconds between two looks at bronze.
        stop: Ends the stream when set, after the batch that is being written.
        say: Shows a line.
        failures: How often each table has failed, one time after the other.
        waits: What each table, or all of them, was last said to wait for, and when that was.
    """

    spark: SparkSession
    lake_root: str
    source: Source
    rules: Path
    every: float
    stop: threading.Event
    say: Say
    failures: dict[str, int] = field(default_factory=dict)
    waits: dict[str, tuple[str, float]] = field(default_factory=dict)


def set_by(*numbers: signal.Signals) -> threading.Event:
    """Give an event that any of these signals sets, whatever the main thread is doing."""
    event = threading.Event()

    def set_it(*_: object) -> None:
        # By a thread of its own: the main one may hold the event's lock, and waits for us.
        threading.Thread(target=event.set).start()

    for number in numbers:
        signal.signal(number, set_it)
    return event


def run_stream(stream: Stream, tables: Collection[str]) -> list[str]:
    """Merge what comes into bronze until somebody ends it.

    A table that fails three times, or has a file in quarantine, is left to the Dag's next run,
    which tells who is to be told; the others go on. Another one at work on a table (a run that
    began before the stream, a replay, a maintenance, a rebuild) is no failure: it is waited for,
    which is said now and then.

    Returns:
        The tables that were left, in the order in which they failed.

    Raises:
        PipelineError: Another stream is at work on one of the tables.
    """
    lake = Lake(stream.lake_root)
    given_up: list[str] = []
    with _held(lake, tables) as locks:
        while locks and not stream.stop.is_set():
            for name, result in _looked(stream, lake, list(locks)).items():
                if result.status == "occupied":
                    _say_waiting(stream, name, f"{name}: waits, as {result.error}")
                    continue
                _say(stream, name, result)
                if _is_given_up(stream, name, result):
                    stream.say(f"{name}: left to the Dag's next run, which tells of it")
                    given_up.append(name)
                    locks.pop(name).close()
                    if not isinstance(open_store(lake.root), LocalStore):
                        return given_up  # no run takes it while it is continuous: end, and be seen
            stream.stop.wait(stream.every)
    return given_up


def follow(stream: Stream, tables: Collection[str]) -> int:
    """Do as `run_stream`, and give the exit code: 1 if a table was left, or could not be had."""
    try:
        return 1 if run_stream(stream, tables) else 0
    except PipelineError as error:
        stream.say(str(error))
        return 1


@contextmanager
def _held(lake: Lake, tables: Collection[str]) -> Iterator[dict[str, ExitStack]]:
    """Keep the tables for this stream: a run of the Dag leaves them to it."""
    with ExitStack() as every:
        locks: dict[str, ExitStack] = {}
        for name in tables:
            locks[name] = every.enter_context(ExitStack())
            locks[name].enter_context(as_the_stream(lake, name))
        yield locks


def _looked(stream: Stream, lake: Lake, tables: list[str]) -> dict[str, TableResult]:
    """Merge what waits now; nothing if nothing does, or if it can't be done at the moment."""
    root, source = stream.lake_root, stream.source
    names: list[str] = []
    try:
        names = silver_pending(open_store(lake.root), lake, tables)
        if not names:
            return {}
        done = run_silver(stream.spark, root, source, names, stream.rules, streaming=True)
        return registered(stream.spark, root, source, done)
    except OccupiedError as error:
        _say_waiting(stream, _WHOLE, f"{', '.join(names)}: waits, as {error.who}")
    except (PipelineError, LakeUnavailable) as error:
        # A rebuild that was killed while it swapped, or a storage that does not answer.
        _say_waiting(stream, _WHOLE, f"{error}")
    return {}


def _say_waiting(stream: Stream, name: str, text: str) -> None:
    """Say what is waited for: when that begins, and now and then while it lasts."""
    before, at = stream.waits.get(name, ("", 0.0))
    now = time.monotonic()
    if text != before or now - at >= SAY_AGAIN_SECONDS:
        stream.say(text)
        stream.waits[name] = text, now


def _is_given_up(stream: Stream, name: str, result: TableResult) -> bool:
    stream.failures[name] = stream.failures.get(name, 0) + 1 if result.error else 0
    return bool(result.quarantined) or stream.failures[name] == ATTEMPTS


def _say(stream: Stream, name: str, result: TableResult) -> None:
    for key in (name, _WHOLE):
        stream.waits.pop(key, None)  # nobody is in the way now: who comes next is said at once
    counts = f"{result.rows_in} rows read, {result.rows} changes"
    stream.say(f"{name}: {counts}, {result.status}, {result.seconds:.1f} s")
    if result.error:
        stream.say(result.error)
