"""The keeper of a warm Java machine: starts it, and ends it when nobody uses it any more.

A process of its own, told on standard input what to start. It looks around a few times a second:
the machine ends when it is idle or old, when the job that has it was killed, when its file is
removed, and with the keeper itself, because Java ends when its standard input does. The files that
Java and Spark had for the while go with it.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark import SparkConf
from pyspark.java_gateway import launch_gateway

from tidemark.warm_spark import (
    Machine,
    forget,
    idle_seconds,
    keeper_file,
    lock_file,
    read,
    taken,
    write,
)

_POLL_SECONDS = 0.2
_JAVA_OPTIONS = "spark.driver.extraJavaOptions"
_LOCAL = "local-"


def main() -> None:
    """Keep a machine to its end."""
    folder, wish = Path(sys.argv[1]), json.load(sys.stdin)
    with keeper_file(folder).open("a") as mine:
        if not taken(mine):
            sys.exit("another keeper is at work")
        with _files_for_the_while(folder) as options:
            _keep(folder, wish, options)


def _keep(folder: Path, wish: dict[str, Any], options: str) -> None:
    settings: dict[str, str] = wish["conf"]
    java = f"{settings.get(_JAVA_OPTIONS, '')} {options}".strip()
    conf = SparkConf(loadDefaults=False).setAll([*settings.items(), (_JAVA_OPTIONS, java)])
    gateway = launch_gateway(conf)  # type: ignore[no-untyped-call]
    at = gateway.gateway_parameters
    write(folder, Machine(wish["token"], wish["key"], at.port, at.auth_token))
    began = time.monotonic()
    while gateway.proc.poll() is None and _is_wanted(folder, wish, began):
        time.sleep(_POLL_SECONDS)
    gateway.proc.kill()
    gateway.proc.wait()


@contextmanager
def _files_for_the_while(folder: Path) -> Iterator[str]:
    """Give the option by which Java, and Spark in it, keep such files below the keeper's folder.

    Java is killed in the end, and leaves them. What a keeper could not remove, a later one does.
    """
    for left in folder.glob(f"{_LOCAL}*"):
        shutil.rmtree(left, ignore_errors=True)
    # Spark splits options at blanks, and the folders that it is given at commas.
    if re.search(r"[\s,]", str(folder)):
        yield ""
        return
    with tempfile.TemporaryDirectory(
        prefix=_LOCAL, dir=folder, ignore_cleanup_errors=True
    ) as local:
        yield f"-Djava.io.tmpdir={local}"


def _is_wanted(folder: Path, wish: dict[str, Any], began: float) -> bool:
    with lock_file(folder).open("a") as lock:
        in_use = not taken(lock)
        machine = read(folder)
        if machine is None or machine.token != wish["token"]:
            return False
        if in_use:
            return True
        idle = idle_seconds(folder) > wish["idle"]
        if machine.lent or idle or time.monotonic() - began > wish["lifetime"]:
            # While the lock is held: whoever takes it next must not be lent what is about to end.
            forget(folder)
            return False
        return True


if __name__ == "__main__":
    main()
