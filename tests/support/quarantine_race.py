"""Processes that write a table's quarantine at once: runs that hold files, and who dismisses some.

As a program it is one of them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

from tidemark.layout import Lake
from tidemark.quarantine import change, decide, held_files, hold
from tidemark.storage import open_store

TABLE, WORKERS, EACH = "DimUser", 4, 10


def assert_nothing_is_lost(root: str, environ: Mapping[str, str]) -> None:
    """Let them write, and see that all of it is there."""
    store, lake = open_store(root), Lake(root)
    change(store, lake, TABLE, lambda now: hold(now, {f"old {n}": "" for n in range(EACH)}))
    words = [sys.executable, __file__, root]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    workers = [
        subprocess.Popen([*words, str(number)], text=True, env=environ, **pipes)
        for number in range(WORKERS)
    ]
    assert [w.stdout.readline() for w in workers if w.stdout] == ["ready\n"] * WORKERS
    for worker in workers:  # all are there: now
        assert worker.stdin is not None
        worker.stdin.close()
    assert [worker.wait(120) for worker in workers] == [0] * WORKERS
    found = {name: h.decision for name, h in held_files(store, lake, TABLE).items()}
    held = {f"{number} {n}": "waiting" for number in range(1, WORKERS) for n in range(EACH)}
    assert found == {f"old {n}": "dismissed" for n in range(EACH)} | held


def _write(root: str, number: int) -> None:
    store, lake = open_store(root), Lake(root)
    for n in range(EACH):
        if number:
            change(store, lake, TABLE, lambda now, n=n: hold(now, {f"{number} {n}": ""}))
        else:
            change(store, lake, TABLE, lambda now, n=n: decide(now, [f"old {n}"], "dismissed"))


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    _write(sys.argv[1], int(sys.argv[2]))
