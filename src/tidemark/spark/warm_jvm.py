"""The keeper of a warm Java machine: starts it, and ends it when nobody uses it any more.

A process of its own, told on standard input what to start. It looks around a few times a second:
the machine ends when it is idle or old, when the job that has it was killed, when its file is
removed, and with the keeper itself, because Java ends when its standard input does. What Spark had
on the disk goes with it.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
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


def main() -> None:
    """Keep a machine to its end."""
    folder, wish = Path(sys.argv[1]), json.load(sys.stdin)
    with keeper_file(folder).open("a") as mine:
        if not taken(mine):
            sys.exit("another keeper is at work")
        # Java is killed, and leaves its files; what this keeper can't remove, the next one does.
        local = folder / "local"
        shutil.rmtree(local, ignore_errors=True)
        settings = {"spark.local.dir": str(local)} | wish["conf"]
        conf = SparkConf(loadDefaults=False).setAll(list(settings.items()))
        gateway = launch_gateway(conf)  # type: ignore[no-untyped-call]
        at = gateway.gateway_parameters
        write(folder, Machine(wish["token"], wish["key"], at.port, at.auth_token))
        began = time.monotonic()
        while gateway.proc.poll() is None and _is_wanted(folder, wish, began):
            time.sleep(_POLL_SECONDS)
        gateway.proc.kill()
        gateway.proc.wait()
        shutil.rmtree(local, ignore_errors=True)


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
