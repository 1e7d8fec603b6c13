"""One warm Java machine for all homes of a test process: to start one costs more than most jobs."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path

from tidemark import warm_spark

_AWAKE_SECONDS = 10.0


@cache
def folder() -> Path:
    """Give the machine's folder; it is made at the first call, and the machine ends with us."""
    made = Path(tempfile.mkdtemp(prefix="tidemark-warm-"))
    ended = threading.Event()
    atexit.register(_end, made, ended)
    threading.Thread(target=_keep_awake, args=(made, ended), daemon=True).start()
    return made


def share(warm: Path) -> None:
    """Make a home's own folder for its machine lead to the one that all share."""
    if not warm.exists():
        warm.parent.mkdir(parents=True, exist_ok=True)
        warm.symlink_to(folder(), target_is_directory=True)


def _keep_awake(made: Path, ended: threading.Event) -> None:
    # Airflow's start takes longer than a machine waits for its next job. It grows old all the same.
    while not ended.wait(_AWAKE_SECONDS):
        with suppress(OSError):
            os.utime(made / "machine.json")


def _end(made: Path, ended: threading.Event) -> None:
    ended.set()
    warm_spark.end(made)
    shutil.rmtree(made, ignore_errors=True)
