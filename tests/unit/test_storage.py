"""The lake's storage: whole or absent, one winner, and errors that say what to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from store_contract import PROMISES

from tidemark.errors import LakeError
from tidemark.storage import LocalStore, _explained, open_store

ENDLESS_WRITER = """
import sys
from pathlib import Path
from tidemark.storage import LocalStore
store = LocalStore(Path(sys.argv[1]))
print("ready", flush=True)
n = 0
while True:
    n += 1
    store.write("bronze/T_cdc/cdc.json", b"%d;" % n * 40_000)
"""

COUNTER = """
import sys
from pathlib import Path
from tidemark.errors import ReadOvertaken
from tidemark.storage import LocalStore
store = LocalStore(Path(sys.argv[1]))
for _ in range(40):
    while True:
        seen = store.read("counter")
        try:
            value = int(seen.data) + 1 if seen else 1
            store.write_if("counter", b"%d" % value, seen.version if seen else None)
            break
        except ReadOvertaken:
            pass
"""

KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from tidemark.storage import LocalStore
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
LocalStore(Path(sys.argv[1])).write_if(sys.argv[2], b"x", None)
"""

TOO_LARGE = """
import resource, sys
from pathlib import Path
from tidemark.errors import LakeError
from tidemark.storage import LocalStore
store = LocalStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    store.write("cdc.json", b"x" * 5000)
except LakeError as error:
    print(error)
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "lake")


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("promise", PROMISES)
def test_what_every_storage_promises(promise: str, store: LocalStore) -> None:
    PROMISES[promise](store)


def test_a_killed_writer_leaves_the_file_whole(store: LocalStore) -> None:
    values = set()
    for index in range(5):
        writer = python(ENDLESS_WRITER, store.root)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.03 + 0.011 * index)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        content = store.read("bronze/T_cdc/cdc.json")
        if content:
            number = content.data.partition(b";")[0]
            assert content.data == number + b";" + (number + b";") * 39_999
            values.add(number)
    assert values


@pytest.mark.parametrize("path", ["cdc.json", "bronze/T_cdc/cdc.json"])
def test_the_next_writer_removes_what_a_killed_one_left(store: LocalStore, path: str) -> None:
    assert python(KILLED_WRITER, store.root, path).wait() == -signal.SIGKILL
    folder = str(Path(path).parent)
    assert len(store.names(folder)) == 2, "the lock, and the unfinished file"
    store.write(f"{folder}/_cdc.json.other", b"somebody else's")
    store.write_if(path, b"new", None)
    assert set(store.names(folder)) == {"_cdc.json.lock", "_cdc.json.other", "cdc.json"}


def test_of_two_processes_exactly_one_wins_each_time(store: LocalStore) -> None:
    store.root.mkdir()
    workers = [python(COUNTER, store.root) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    content = store.read("counter")
    assert content is not None
    assert content.data == b"120"


def test_publishing_makes_the_folder_and_waits_for_the_disk_up_to_the_root(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("bronze/T/_new", b"new")
    synced: list[Path] = []
    monkeypatch.setattr("tidemark.storage._sync_folder", synced.append)
    store.publish("bronze/T/_new", "bronze/T/date=2026-01-02/T_1.parquet")
    assert store.names_below("bronze") == []
    assert store.names_below("bronze/T") == ["date=2026-01-02/T_1.parquet"]
    # A folder that the disk forgets takes the file with it.
    folders = ["bronze/T/date=2026-01-02", "bronze/T", "bronze", "."]
    assert synced == [store.root / folder for folder in folders]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("cdc.json", b"old")
    writer = python(TOO_LARGE, tmp_path)
    message, _ = writer.communicate()
    assert message.startswith("cdc.json: File too large; ")
    assert store.names("") == ["cdc.json"]
    content = store.read("cdc.json")
    assert content is not None
    assert content.data == b"old"


def test_a_full_disk_says_what_to_do() -> None:
    with (
        pytest.raises(LakeError, match=r"^bronze/T: No space left on device; free space"),
        _explained("bronze/T"),
        Path("/dev/full").open("wb") as full,
    ):
        full.write(b"x")


def test_a_refused_right_says_what_to_do() -> None:
    # Root is refused nothing, so that the refusal itself is raised here.
    with pytest.raises(LakeError, match=r"^bronze/T: .*; let the user who runs Airflow write"):  # noqa: SIM117
        with _explained("bronze/T"):
            raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize(
    "operation", ["read", "write", "write_if", "names", "names_below", "publish", "local_path"]
)
def test_a_file_where_a_folder_should_be(store: LocalStore, operation: str) -> None:
    store.write("bronze", b"a file")
    store.write("_new", b"")
    calls = {
        "read": lambda: store.read("bronze/T/x"),
        "write": lambda: store.write("bronze/T/x", b""),
        "write_if": lambda: store.write_if("bronze/T/x", b"", None),
        "names": lambda: store.names("bronze/T"),
        "names_below": lambda: store.names_below("bronze/T"),
        "publish": lambda: store.publish("_new", "bronze/T/x"),
        "local_path": lambda: store.local_path("bronze/T/x"),
    }
    with pytest.raises(LakeError, match=r"^bronze/T.*: .*directory|exists; "):
        calls[operation]()


def test_a_folder_where_the_lock_should_be(store: LocalStore) -> None:
    store.local_path("_state.lock/x")
    with pytest.raises(LakeError, match=r"^state: Is a directory; "):
        store.write_if("state", b"", None)


def test_other_users_of_the_lake_may_read(store: LocalStore) -> None:
    before = os.umask(0o022)
    try:
        store.write("bronze/T_cdc/cdc.json", b"{}")
    finally:
        os.umask(before)
    assert (store.root / "bronze/T_cdc/cdc.json").stat().st_mode & 0o777 == 0o644


def test_lakes_open_by_folder_or_file_url(tmp_path: Path) -> None:
    for root in (str(tmp_path), f"file://{tmp_path}"):
        assert open_store(root) == LocalStore(tmp_path)
    with pytest.raises(LakeError, match=r"'s3'.*TIDEMARK_LAKE.*abfss://"):
        open_store("s3://bucket/x")
