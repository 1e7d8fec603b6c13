"""What waits for silver and gold is decided by the lake, not by the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemark.errors import StateError
from tidemark.layout import Lake
from tidemark.pending import (
    BronzeSnapshot,
    bronze_snapshot,
    gold_pending,
    has_only_appends,
    mark_gold_done,
    mark_silver_done,
    silver_pending,
    silver_version,
)
from tidemark.storage import LocalStore

LAKE = Lake("unused")
TABLES = ["DimUser", "DimTrack"]
ONE = "DimUser_20260101T000000000001Z.parquet"
TWO = "DimUser_20260101T000000000002Z.parquet"
ADF = "DimUser_2025-10-07T19:49:55.1234567Z"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def land(store: LocalStore, *names: str) -> None:
    for name in names:
        store.write(f"bronze/DimUser/{name}", b"")


def commit(store: LocalStore, *names: str) -> None:
    for name in names:
        store.write(f"silver/DimUser_changes/_delta_log/{name}", b"{}")


def done(store: LocalStore) -> None:
    mark_silver_done(store, LAKE, "DimUser", bronze_snapshot(store, LAKE, "DimUser"))


def test_an_empty_lake_has_nothing_pending(store: LocalStore) -> None:
    land(store, "_DimUser_20260101T000000000001Z.parquet", "_SUCCESS", ".x.crc")
    assert silver_pending(store, LAKE, TABLES) == []
    assert gold_pending(store, LAKE, TABLES) == []


def test_a_file_is_pending_until_silver_has_done_it(store: LocalStore) -> None:
    land(store, ONE)
    assert silver_pending(store, LAKE, TABLES) == ["DimUser"]
    done(store)
    assert silver_pending(store, LAKE, TABLES) == []
    land(store, TWO)
    assert silver_pending(store, LAKE, TABLES) == ["DimUser"]


def test_a_file_that_lands_while_silver_runs_stays_pending(store: LocalStore) -> None:
    land(store, ONE)
    before = bronze_snapshot(store, LAKE, "DimUser")
    land(store, TWO)
    mark_silver_done(store, LAKE, "DimUser", before)
    assert silver_pending(store, LAKE, TABLES) == ["DimUser"]


def test_a_file_published_late_under_an_older_sequence_is_pending(store: LocalStore) -> None:
    land(store, TWO)
    done(store)
    land(store, ONE)
    assert silver_pending(store, LAKE, TABLES) == ["DimUser"]


def test_adfs_files_count_and_order_by_time(store: LocalStore) -> None:
    land(store, ADF)
    assert silver_pending(store, LAKE, TABLES) == ["DimUser"]
    assert bronze_snapshot(store, LAKE, "DimUser") == BronzeSnapshot(ADF, 1)
    land(store, "DimUser_20251007T194954000000Z.parquet")  # by its text the greater name
    assert bronze_snapshot(store, LAKE, "DimUser") == BronzeSnapshot(ADF, 2)
    land(store, "DimUser_20251007T194956000000Z.parquet")
    newest = bronze_snapshot(store, LAKE, "DimUser").newest
    assert newest == "DimUser_20251007T194956000000Z.parquet"


def test_silvers_newest_commit_is_read_from_delta(store: LocalStore) -> None:
    assert silver_version(store, LAKE, "DimUser") is None
    commit(store, f"{0:020d}.json", f"{9:020d}.json", f"{10:020d}.json", ".tmp.json")
    commit(store, f"{10:020d}.checkpoint.parquet", f"{11:020d}.crc", "_last_checkpoint")
    assert silver_version(store, LAKE, "DimUser") == 10


def test_a_commit_is_pending_until_gold_has_done_it(store: LocalStore) -> None:
    commit(store, f"{0:020d}.json")
    assert gold_pending(store, LAKE, TABLES) == ["DimUser"]
    mark_gold_done(store, LAKE, "DimUser", 0)
    assert gold_pending(store, LAKE, TABLES) == []
    commit(store, f"{1:020d}.json")
    assert gold_pending(store, LAKE, TABLES) == ["DimUser"]


@pytest.mark.parametrize("data", [b"", b"[1]", b"{"])
def test_a_corrupt_marker_is_named_with_its_remedy(store: LocalStore, data: bytes) -> None:
    land(store, ONE)
    path = LAKE.marker("silver", "DimUser")
    store.write(path, data)
    with pytest.raises(StateError, match=rf"^{path}: .*delete the file"):
        silver_pending(store, LAKE, TABLES)


def test_changes_are_followed_commit_by_commit_only_while_no_file_was_replaced(
    store: LocalStore,
) -> None:
    names = [f"{version:020}.json" for version in range(11)]
    commit(store, *names[:10], f"{3:020}.crc")
    assert has_only_appends(store, LAKE, "DimUser")
    commit(store, names[10])
    assert not has_only_appends(store, LAKE, "DimUser")  # no longer young
    for version in (10, 0):
        store.remove(f"silver/DimUser_changes/_delta_log/{names[version]}")
    assert not has_only_appends(store, LAKE, "DimUser")  # the first is gone
    commit(store, names[0])
    optimized = b'{"commitInfo":{}}\n{"add":{"path":"b"}}\n{"remove":{"path":"a"}}\n'
    store.write(f"silver/DimUser_changes/_delta_log/{names[9]}", optimized)
    assert not has_only_appends(store, LAKE, "DimUser")


@pytest.mark.parametrize("tidying", ["OPTIMIZE", "VACUUM START", "SET TBLPROPERTIES", "CLUSTER BY"])
def test_a_commit_that_only_tidied_starts_no_gold(store: LocalStore, tidying: str) -> None:
    log = "silver/DimUser_changes/_delta_log"

    def wrote(version: int, operation: str) -> None:
        line = f'{{"commitInfo":{{"operation":"{operation}"}}}}\n{{"add":{{}}}}\n'
        store.write(f"{log}/{version:020}.json", line.encode())

    wrote(0, "WRITE")
    mark_gold_done(store, LAKE, "DimUser", 0)
    wrote(1, tidying)
    wrote(2, tidying)
    assert gold_pending(store, LAKE, TABLES) == []
    store.remove(f"{log}/{1:020}.json")  # nobody knows what it was
    assert gold_pending(store, LAKE, TABLES) == ["DimUser"]
    wrote(1, "WRITE")
    assert gold_pending(store, LAKE, TABLES) == ["DimUser"]
    mark_gold_done(store, LAKE, "DimUser", 7)  # a lake that was put back
    assert gold_pending(store, LAKE, TABLES) == ["DimUser"]
