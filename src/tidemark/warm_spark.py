"""Spark jobs on this machine: the next one starts in the Java machine that the last one left warm.

To start Java and Spark, and to warm them up, takes longer than a small table's work. So on
``local[…]`` a keeper (`tidemark.spark.warm_jvm`) holds the Java machine, and ends it when nobody
has used it for a while. A job is a Python process of its own, as under spark-submit, with a Spark
session of its own; what it shares with earlier jobs is loaded classes, compiled code and, where
they left nothing at work in it, the Spark context.

One job at a time uses the machine, under a lock of the operating system (`flock`), which ends with
the process that holds it; another job meanwhile gets a spark-submit of its own. A job that was
killed takes the machine with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO

from tidemark.jars import spark_submit
from tidemark.spark_conf import is_local

IDLE_SECONDS = 30.0
# Java keeps a little of every job; nobody needs one that has run for days of backfills.
LIFETIME_SECONDS = 900.0
KILLED = 137  # the exit code that a shell gives for SIGKILL
# For another job to end: on few cores that is sooner done than a start beside it.
_PATIENCE_SECONDS = 20.0
_START_SECONDS = 120.0
_POLL_SECONDS = 0.05
_NOTICED_SECONDS = 1.0  # by then a keeper has seen that its Java is gone
# What Java, its libraries and the Python workers that it starts read of the environment: another
# value needs another machine.
_READ_BY_JAVA = (
    *("AWS_", "AZURE_", "HADOOP_", "JAVA_", "JDK_", "PATH", "PYTHONPATH", "SPARK_", "TMPDIR"),
    # A file system that Java has open keeps the key that it was opened with.
    "TIDEMARK_LAKE_ACCESS",
)


@dataclass(frozen=True)
class Machine:
    """A Java machine that a keeper holds; kept in a file that only its user may read.

    Attributes:
        token: Names it, once and for ever.
        key: A hash of what it was started with.
        port: Where it listens, on this machine alone.
        secret: What it asks for there.
        lent: Whether a job uses it.
    """

    token: str
    key: str
    port: int
    secret: str = field(repr=False)
    lent: bool = False


def run_job(
    job: Sequence[str],
    conf: Mapping[str, str],
    environ: Mapping[str, str],
    folder: Path,
    show: Callable[[str], None],
    *,
    started: Callable[[subprocess.Popen[str]], None] = lambda _process: None,
    stderr: IO[str] | int = subprocess.STDOUT,
) -> int:
    """Run a job's script to its end: in the warm machine if it is free, and Spark runs here.

    Args:
        job: The script and its arguments.
        conf: Spark's settings, ``spark.master`` included.
        environ: The whole environment.
        folder: Where the machine's files lie.
        show: Takes each line of the job's output; after a failure also what Java has to say.
        started: Takes the process, to be able to kill it.
        stderr: Where the job's other output goes.

    Returns:
        The exit code; ``KILLED`` or a negative one if the job or its machine was killed.

    Raises:
        FileNotFoundError: There is no spark-submit.
    """
    with _lent(folder, conf, environ) as machine:
        settings = [word for k, v in conf.items() for word in ("--conf", f"{k}={v}")]
        command, variables = [spark_submit(), *settings, *job], dict(environ)
        if machine is not None:
            command = [sys.executable, "-m", "tidemark.spark.in_warm_jvm", *job]
            variables["PYSPARK_GATEWAY_PORT"] = str(machine.port)
            variables["PYSPARK_GATEWAY_SECRET"] = machine.secret
        said = _size(folder / "log")
        code = _run(command, variables, show, started, stderr)
        if machine is None:
            return code
        if code:
            _show_since(folder / "log", said, show)
        return code if code in {0, 1} and _outlived(folder, code) else _killed(folder, code)


def end(folder: Path) -> None:
    """End the machine, if there is one, and wait until it is gone."""
    forget(folder)
    deadline = time.monotonic() + _START_SECONDS
    while _is_kept(folder) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def read(folder: Path) -> Machine | None:
    """Give the machine that a folder tells of."""
    try:
        return Machine(**json.loads(_file(folder).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write(folder: Path, machine: Machine) -> None:
    """Tell of a machine; the file's time says since when it is free."""
    unfinished = folder / f"{_file(folder).name}.{machine.token}"
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(asdict(machine)))
    unfinished.replace(_file(folder))


def forget(folder: Path) -> None:
    """Tell of no machine any more, which ends the one that is there."""
    _file(folder).unlink(missing_ok=True)


def taken(file: IO[str]) -> bool:
    """Take a file's lock, unless another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_file(folder: Path) -> Path:
    """Give the file whose lock whoever uses the machine holds."""
    return folder / "used"


def keeper_file(folder: Path) -> Path:
    """Give the file whose lock a keeper holds as long as its machine lives."""
    return folder / "kept"


def idle_seconds(folder: Path) -> float:
    """Say for how long the machine has been free."""
    return time.time() - _file(folder).stat().st_mtime


@contextmanager
def _lent(
    folder: Path, conf: Mapping[str, str], environ: Mapping[str, str]
) -> Iterator[Machine | None]:
    if not is_local(conf["spark.master"]):
        yield None
        return
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        opened = lock_file(folder).open("w")
    except PermissionError:  # another user's machine
        yield None
        return
    with opened as lock:
        if not _taken_soon(lock):
            yield None
            return
        key = _key(conf, environ)
        machine = read(folder)
        if machine is None or machine.lent or machine.key != key or not _is_kept(folder):
            end(folder)
            machine = _begin(folder, key, conf, environ)
        if machine is not None:
            write(folder, replace(machine, lent=True))
        yield machine
        # Not after an error, or a signal: the keeper finds it lent to nobody, and ends it.
        if machine is not None and _file(folder).exists():
            write(folder, machine)


def _begin(
    folder: Path, key: str, conf: Mapping[str, str], environ: Mapping[str, str]
) -> Machine | None:
    """Start a keeper; None if no Java came of it: spark-submit says best why."""
    token = uuid.uuid4().hex
    wish = {
        "token": token,
        "key": key,
        "conf": dict(conf),
        "idle": IDLE_SECONDS,
        "lifetime": LIFETIME_SECONDS,
    }
    with (folder / "log").open("w") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tidemark.spark.warm_jvm", str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=dict(environ),
            text=True,
            start_new_session=True,  # it outlives the job, and what kills the job's group
        )
    if keeper.stdin is not None:
        with keeper.stdin as pipe:
            pipe.write(json.dumps(wish))
    deadline = time.monotonic() + _START_SECONDS
    while keeper.poll() is None and time.monotonic() < deadline:
        machine = read(folder)
        if machine is not None and machine.token == token:
            return machine
        time.sleep(_POLL_SECONDS)
    keeper.kill()
    return None


def _run(
    command: Sequence[str],
    environ: Mapping[str, str],
    show: Callable[[str], None],
    started: Callable[[subprocess.Popen[str]], None],
    stderr: IO[str] | int,
) -> int:
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=dict(environ),
        encoding="utf-8",
        errors="replace",
    )
    started(process)
    try:
        for line in process.stdout or ():
            show(line.rstrip("\n"))
        return process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _outlived(folder: Path, code: int) -> bool:
    """Tell whether the machine is still there after its job."""
    if code:
        time.sleep(_NOTICED_SECONDS)
    return _is_kept(folder)


def _killed(folder: Path, code: int) -> int:
    end(folder)
    return code if code < 0 else KILLED


def _taken_soon(lock: IO[str]) -> bool:
    # The keeper itself takes it now and then, for a moment.
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not taken(lock):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _is_kept(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with keeper_file(folder).open("a") as file:
        return not taken(file)


def _key(conf: Mapping[str, str], environ: Mapping[str, str]) -> str:
    used = {name: value for name, value in environ.items() if name.startswith(_READ_BY_JAVA)}
    text = json.dumps([dict(conf), used, os.getuid(), _network()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _network() -> str:
    """Name the network that this process is in: a port of another container's is not ours."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/net').readlink()}"
    except OSError:  # not Linux
        return socket.gethostname()


def _file(folder: Path) -> Path:
    return folder / "machine.json"


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _show_since(log: Path, said: int, show: Callable[[str], None]) -> None:
    if log.exists():
        for line in log.read_bytes()[said:].decode(errors="replace").splitlines():
            show(line)
