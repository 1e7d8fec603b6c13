"""What every storage of a lake promises: a function each, for the tests of each kind of storage."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from tidemark.errors import ReadOvertaken
from tidemark.layout import Lake
from tidemark.storage import Store
from tidemark.watermark import load_state, reserve

MB = 2**20


def data_of(store: Store, path: str) -> bytes | None:
    content = store.read(path)
    return content and content.data


def of_many_writers_exactly_one_creates(store: Store) -> None:
    barrier = threading.Barrier(8)

    def create(number: int) -> int | None:
        barrier.wait()
        try:
            store.write_if("a/state", b"%d" % number, None)
        except ReadOvertaken:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        won = [n for n in pool.map(create, range(8)) if n is not None]
    assert [b"%d" % n for n in won] == [data_of(store, "a/state")]


def no_writers_addition_is_lost(store: Store) -> None:
    def add(_: int) -> None:
        for _ in range(5):
            while True:
                seen = store.read("a/count")
                try:
                    value = b"%d" % (int(seen.data) + 1 if seen else 1)
                    store.write_if("a/count", value, seen.version if seen else None)
                    break
                except ReadOvertaken:
                    pass

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(6)))
    assert data_of(store, "a/count") == b"30"


def a_stale_version_does_not_write(store: Store) -> None:
    first = store.write_if("state", b"1", None)
    second = store.write_if("state", b"2", first)
    for version in (first, None, '"0x1"'):
        with pytest.raises(ReadOvertaken, match=r"^state: "):
            store.write_if("state", b"3", version)
    content = store.read("state")
    assert content is not None
    assert (content.data, content.version) == (b"2", second)


def what_another_tool_wrote_since_is_noticed(store: Store) -> None:
    version = store.write_if("T_cdc/cdc.json", b"1", None)
    store.write("T_cdc/cdc.json", b"ADF's")
    with pytest.raises(ReadOvertaken):
        store.write_if("T_cdc/cdc.json", b"2", version)
    assert data_of(store, "T_cdc/cdc.json") == b"ADF's"


def publishing_moves_a_file_whole_and_never_overwrites(store: Store, size: int = 3) -> None:
    for content in (b"a" * size, b"b" * size):
        store.local_path("bronze/T/_new").write_bytes(content)
        if content[:1] == b"a":
            store.publish("bronze/T/_new", "bronze/T/T_1.parquet")
            assert store.names("bronze/T") == ["T_1.parquet"]
    with pytest.raises(ReadOvertaken, match="already published"):
        store.publish("bronze/T/_new", "bronze/T/T_1.parquet")
    assert data_of(store, "bronze/T/T_1.parquet") == b"a" * size
    assert store.names("bronze/T") == ["T_1.parquet", "_new"], "what the loser made can be removed"
    store.remove("bronze/T/_new")
    assert store.names("bronze/T") == ["T_1.parquet"]


def files_in_folders_of_days_are_published_listed_and_read(store: Store) -> None:
    day, later = "bronze/T/date=2026-11-22/T_1.parquet", "bronze/T/date=2026-11-23/T_2.parquet"
    for file in (day, later, "bronze/T/T_3.parquet"):
        store.local_path("bronze/T/_new").write_bytes(file.encode())
        store.publish("bronze/T/_new", file)
    store.local_path("bronze/T/_begun").write_bytes(b"")
    store.write("bronze/T/date=2026-11-22/deeper/T_4.parquet", b"")
    store.write("bronze/TT/T_5.parquet", b"")
    assert store.names("bronze/T") == ["T_3.parquet", "_begun"], "what was begun is found here"
    found = [name for name in store.names_below("bronze/T") if name != "_begun"]
    below = [file.removeprefix("bronze/T/") for file in (day, later)]
    assert found == ["T_3.parquet", *below]
    assert data_of(store, later) == later.encode()
    opened = store.readable(day)
    with opened.open("rb") if isinstance(opened, Path) else opened as file:
        assert file.read() == day.encode()
    store.local_path("bronze/T/_new").write_bytes(b"another")
    with pytest.raises(ReadOvertaken, match="already published"):
        store.publish("bronze/T/_new", day)
    store.remove(day)
    assert store.names_below("bronze/T/date=2026-11-22") == ["deeper/T_4.parquet"]
    assert store.names_below("bronze/none") == []


def of_many_publishers_exactly_one_wins(store: Store) -> None:
    for n in range(6):
        store.local_path(f"bronze/T/_{n}").write_bytes(b"%d" % n)

    def publish(number: int) -> int | None:
        try:
            store.publish(f"bronze/T/_{number}", "bronze/T/T_1")
        except ReadOvertaken:
            return None
        return number

    with ThreadPoolExecutor(6) as pool:
        won = [n for n in pool.map(publish, range(6)) if n is not None]
    assert [b"%d" % n for n in won] == [data_of(store, "bronze/T/T_1")]


def publishing_what_a_later_read_cleared_away_is_tried_again(store: Store) -> None:
    store.write("bronze/T/x", b"")
    store.local_path("bronze/T/_gone").write_bytes(b"")
    store.remove("bronze/T/_gone")
    with pytest.raises(ReadOvertaken, match=r"^bronze/T/T_1: overtaken by a later read; .*"):
        store.publish("bronze/T/_gone", "bronze/T/T_1")
    assert store.names("bronze/T") == ["x"]


def a_large_file_is_read_in_any_order(store: Store) -> None:
    data = random.Random(1).randbytes(3 * MB + 7)
    store.local_path("T_cdc/digests").write_bytes(data)
    store.upload("T_cdc/digests")
    assert store.names("T_cdc") == ["digests"]
    found = store.readable("T_cdc/digests")
    file = found.open("rb") if isinstance(found, Path) else found
    with file:
        for _ in range(30):
            place, length = random.Random(_).randrange(len(data)), random.Random(_).randrange(MB)
            file.seek(place)
            assert file.read(length) == data[place : place + length]
        assert file.seek(-4, 2) == len(data) - 4
        assert file.read() == data[-4:]


def names_and_folders_are_those_directly_inside(store: Store) -> None:
    assert (store.names("t"), store.folders("t"), store.read("t/x")) == ([], [], None)
    odd = "DimUser_2025-10-07T19:49:55.1234567Z"
    for path in ("t/b", f"t/{odd}", "t/sub/c", "t/sub two/c", "tt/d"):
        store.write(path, b"")
    assert store.names("t") == sorted(["b", odd])
    assert store.folders("t") == ["sub", "sub two"]
    assert data_of(store, f"t/{odd}") == b""


def names_below_are_those_of_the_folder_and_of_its_folders(store: Store) -> None:
    for path in ("t/b", "t/sub/c", "t/a", "t/date=2026-01-01/d", "t/sub/deeper/e", "tt/f", "g"):
        store.write(path, b"")
    assert store.names_below("t") == ["a", "b", "date=2026-01-01/d", "sub/c"]


def what_is_not_there(store: Store) -> None:
    assert store.read("x") is None
    assert store.names("bronze/T") == store.names_below("bronze/T") == []
    store.remove("bronze/T/x")
    with pytest.raises(FileNotFoundError):
        open(store.readable("bronze/T/x"))  # type: ignore[arg-type]  # noqa: PTH123, SIM115


def a_lake_of_any_kind_starts_empty(store: Store) -> None:
    lake = Lake("unused")
    first, second = (
        reserve(store, lake, "DimUser", now=datetime(2026, 1, 1, tzinfo=UTC)) for _ in "12"
    )
    assert second > first
    assert load_state(store, lake, "DimUser").reserved == second


_ALL = (
    of_many_writers_exactly_one_creates,
    no_writers_addition_is_lost,
    a_stale_version_does_not_write,
    what_another_tool_wrote_since_is_noticed,
    publishing_moves_a_file_whole_and_never_overwrites,
    files_in_folders_of_days_are_published_listed_and_read,
    of_many_publishers_exactly_one_wins,
    publishing_what_a_later_read_cleared_away_is_tried_again,
    a_large_file_is_read_in_any_order,
    names_and_folders_are_those_directly_inside,
    names_below_are_those_of_the_folder_and_of_its_folders,
    what_is_not_there,
    a_lake_of_any_kind_starts_empty,
)
PROMISES: dict[str, Callable[[Store], None]] = {p.__name__: p for p in _ALL} | {
    "publishing_a_large_file": partial(
        publishing_moves_a_file_whole_and_never_overwrites, size=20 * MB
    ),
}
