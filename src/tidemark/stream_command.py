"""``tidemark stream``: silver of the continuous tables, kept up to date until somebody ends it."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from tidemark.errors import ConfigError
from tidemark.job_command import known_source
from tidemark.local_job import job_environment, job_words
from tidemark.metadata import Source
from tidemark.settings import Settings

_HELP = """\
Follow the bronze of a source's tables with `processing: continuous`, and merge each new file into
silver within seconds. It runs until Ctrl-C, which waits for the batch that is being written; killed
anywhere, nothing is lost or doubled.

  tidemark stream spotify                        all its continuous tables
  tidemark stream spotify --table DimUser --every 2

Reads into bronze, gold and the mail stay the Dag's. Its runs leave silver of these tables to the
stream while it runs, and take it while it does not. A table that fails is left to the Dag's next
run, which says why.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tidemark stream``."""
    parser.description = _HELP
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", help="the metadata file's stem, such as spotify")
    parser.add_argument(
        "--table", action="append", default=[], metavar="NAME", help="only this one; repeatable"
    )
    parser.add_argument(
        "--every", type=float, default=10, metavar="S", help="seconds between looks (default: 10)"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run the command.

    Returns:
        The exit code: 0 when it was ended, 1 if a table was given up.

    Raises:
        ConfigError: There is nothing to follow here.
    """
    source = known_source(settings, arguments.source)
    tables = continuous_tables(source, arguments.table)
    words = job_words(
        settings, source, "silver.py", tables, "--continuous", every=str(arguments.every)
    )
    # Without spark-submit: a Java machine that Python started does not end by Ctrl-C itself.
    job = [sys.executable, *words]
    return run_to_its_end(job, job_environment(settings, "local[*]"))


def run_to_its_end(job: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a process, and leave it to it when to end: Ctrl-C reaches it too, SIGTERM is handed on.

    Returns:
        Its exit code.
    """
    begun: list[subprocess.Popen[bytes]] = []
    asked = threading.Event()

    def hand_on(number: int, _frame: object) -> None:
        asked.set()
        if number == signal.SIGTERM:
            for process in begun:
                process.terminate()

    # Before the job begins, or they could leave it behind. Ctrl-C is not left to Python: where its
    # exception meets the end of the job, the exit code is lost, and 0 stands for it.
    before = {n: signal.signal(n, hand_on) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        with subprocess.Popen(job, env=environment) as process:
            begun.append(process)
            if asked.is_set():
                process.terminate()
            return process.wait()  # until its last batch is written
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def continuous_tables(source: Source, names: list[str]) -> list[str]:
    """Give the lake names of the tables to follow.

    Raises:
        ConfigError: One is not continuous, or none is; or the source's Spark is elsewhere.
    """
    if source.compute != "spark":
        message = (
            f"{source.path}: compute is {source.compute!r}; there the job silver_stream of the "
            "bundle follows the continuous tables"
        )
        raise ConfigError(message)
    tables = source.tables_named(names)
    others = [t.name for t in tables if t.processing != "continuous"]
    if names and others:
        message = (
            f"{source.path}: {', '.join(others)}: processing is 'triggered'; write "
            "'processing: continuous' to let a stream follow it"
        )
        raise ConfigError(message)
    found = [t.lake_name for t in tables if t.processing == "continuous"]
    if not found:
        message = (
            f"{source.path}: no table is continuous; write 'processing: continuous' for one, or "
            "under defaults"
        )
        raise ConfigError(message)
    return found
