"""Silver that keeps running: it follows bronze, and nobody else works on its tables."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from pyspark.sql import SparkSession
from tiny_lake import KEYS, TinyLake, artist, user

from tidemark.errors import PipelineError
from tidemark.layers_lock import as_maintenance, as_the_stream, as_the_writer, streamed_by
from tidemark.layout import Lake
from tidemark.metadata import load_source
from tidemark.pending import silver_pending
from tidemark.spark.continuous import Stream, follow, run_stream
from tidemark.spark.silver import TableResult
from tidemark.storage import LocalStore, open_store

WAITS = r"{}: waits, as process \d+ on \S+ \(since \d{{4}}-\d\d-\d\d [\d:+]+\) is {}"


def until(is_so: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_stream_follows_bronze_and_a_run_leaves_it_its_tables(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = TinyLake(spark, tmp_path / "lake")
    store, said, stop = open_store(str(lake.root)), [], threading.Event()
    stream = Stream(spark, str(lake.root), lake.source, lake.root / "rules", 0.2, stop, said.append)
    left: list[list[str]] = []
    lake.publish("DimUser", 1, [user(1, "Ann")])
    thread = threading.Thread(
        target=lambda: left.append(run_stream(stream, ["DimUser", "DimArtist"]))
    )
    thread.start()
    until(lambda: bool(said) and not silver_pending(store, lake.lake, KEYS))
    assert "DimUser: 1 rows read, 1 changes, done" in said[0]

    # Another stream, and a run: both keep off, and the run's other tables are done.
    with pytest.raises(PipelineError, match=r"DimUser: process .* is following its bronze already"):
        run_stream(stream, ["DimUser"])
    lake.publish("DimTrack", 1, [{"track_id": 1}])
    lake.publish("DimUser", 2, [user(1, "Ann B"), user(2, "Ben") | {"country": "Chile"}])
    run = lake.run("DimUser", "DimTrack")
    assert {name: (r.status, r.error) for name, r in run.items()} == {
        "DimUser": ("streamed", None), "DimTrack": ("done", None)
    }  # fmt: skip
    until(lambda: not silver_pending(store, lake.lake, KEYS))
    assert lake.current("DimUser", "user_id", "user_name", "country") == [
        (1, "Ann B", None), (2, "Ben", "Chile")
    ]  # fmt: skip

    # A table that fails is left to the next run, which says why; the other one goes on.
    lake.publish("DimUser", 3, [{"user_id": "three"}])
    until(lambda: streamed_by(lake.lake, "DimUser") is None)
    failed = lake.run("DimUser")["DimUser"]
    assert (failed.status, len(failed.quarantined)) == ("failed", 1)
    assert streamed_by(lake.lake, "DimArtist") is not None
    lake.publish("DimArtist", 1, [artist(1, "a")])
    until(lambda: silver_pending(store, lake.lake, KEYS) == ["DimUser"])
    stop.set()
    thread.join(120)
    assert left == [["DimUser"]]
    assert streamed_by(lake.lake, "DimArtist") is None
    assert lake.run("DimArtist")["DimArtist"].batches == 0


def test_another_writer_is_waited_for_and_named_and_is_no_failure(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = TinyLake(spark, tmp_path / "lake")
    store, said, stop = open_store(str(lake.root)), [], threading.Event()
    root, rules = str(lake.root), lake.root / "rules"
    stream = Stream(spark, root, lake.source, rules, 0.02, stop, said.append)
    left: list[list[str]] = []
    thread = threading.Thread(
        target=lambda: left.append(run_stream(stream, ["DimUser", "DimArtist"]))
    )
    lake.publish("DimUser", 1, [user(1, "Ann")])
    lake.publish("DimArtist", 1, [artist(1, "a")])
    with as_the_writer(lake.lake, "DimUser"):  # as a replay does
        thread.start()
        until(lambda: silver_pending(store, lake.lake, KEYS) == ["DimUser"])
        time.sleep(1)  # for many more looks than ATTEMPTS
        waits = [line for line in said if "waits" in line]
        assert len(waits) == 1, "said once, not at each look"
        assert re.fullmatch(WAITS.format("DimUser", "writing its silver"), waits[0])
    until(lambda: any("DimUser: " in line and "done" in line for line in said))  # its locks too

    with as_maintenance(lake.lake, "spotify"):
        lake.publish("DimUser", 2, [user(1, "Ann B")])
        until(lambda: "maintaining" in said[-1])
        whole = WAITS.format("DimUser", "maintaining silver and gold of spotify")
        assert re.fullmatch(whole, said[-1])
        stop.set()
        thread.join(120)  # and not when the maintenance ends
        assert not thread.is_alive()
    assert left == [[]]
    assert "failed" not in " ".join(said)


def test_only_failures_count_and_what_is_waited_for_is_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LocalStore(tmp_path).write("bronze/A/A_20260101T000000000000Z.parquet", b"")
    occupied = TableResult(status="occupied", error="process 7 (since 9:00) is writing its silver")
    failed = TableResult(status="failed", error="A: no such column")
    looks = iter([failed, occupied, occupied, failed, occupied, occupied, occupied, failed])

    def run(*_: object, **__: object) -> dict[str, TableResult]:
        return {"A": next(looks)}

    monkeypatch.setattr("tidemark.spark.continuous.run_silver", run)
    monkeypatch.setattr("tidemark.spark.continuous.SAY_AGAIN_SECONDS", 0.0)
    said: list[str] = []
    source, stop = load_source(_two_tables(tmp_path)), threading.Event()
    stream = Stream(cast("Any", None), str(tmp_path), source, tmp_path, 0.0, stop, said.append)
    assert run_stream(stream, ["A"]) == ["A"]
    waits = "A: waits, as process 7 (since 9:00) is writing its silver"
    assert [line for line in said if "failed" not in line] == [
        *("A: no such column", waits, waits, "A: no such column", waits, waits, waits),
        *("A: no such column", "A: left to the Dag's next run, which tells of it"),
    ]
    assert next(looks, None) is None


def test_a_stream_waits_for_a_rebuild_and_yields_to_another_stream(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("source: {connection: c}\ntables: {A: {key: k, processing: continuous}}\n")
    source, lake, store = load_source(path), Lake(str(tmp_path)), LocalStore(tmp_path)
    store.write("bronze/A/A_20260101T000000000000Z.parquet", b"")
    said: list[str] = []
    stop = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        stop.set()

    # Neither comes to a session of Spark.
    stream = Stream(cast("Any", None), str(tmp_path), source, tmp_path, 0.01, stop, say)
    with as_the_stream(lake, "A"):
        assert follow(stream, ["A"]) == 1
    assert "A: process" in said[0]
    assert "is following its bronze already; end that stream first" in said[0]
    stop.clear()
    with patch("tidemark.spark.continuous.run_silver", as_in_a_rebuild):
        assert follow(stream, ["A"]) == 0
    assert said[1:] == ["shop: a rebuild is at work"]


@pytest.mark.parametrize(("local", "left", "looks"), [(True, ["A"], 2), (False, ["A"], 1)])
def test_where_no_run_can_take_a_table_that_is_left_the_stream_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: bool, left: list[str], looks: int
) -> None:
    source, store = load_source(_two_tables(tmp_path)), LocalStore(tmp_path)
    for name in "AB":
        store.write(f"bronze/{name}/{name}_20260101T000000000000Z.parquet", b"")
    stop, asked = threading.Event(), list[list[str]]()

    def run(_s: object, _l: str, _m: object, names: list[str], *_: object, **__: object) -> Any:
        asked.append(names)
        if len(asked) == looks:
            stop.set()
        quarantined = {"A": ("a.parquet",)}
        return {n: TableResult(quarantined=quarantined.get(n, ())) for n in names}

    monkeypatch.setattr("tidemark.spark.continuous.run_silver", run)
    if not local:  # as in Azure, where no lock shows that the table is free
        monkeypatch.setattr("tidemark.spark.continuous.LocalStore", type("Elsewhere", (), {}))
    stream = Stream(cast("Any", None), str(tmp_path), source, tmp_path, 0.01, stop, str)
    assert run_stream(stream, ["A", "B"]) == left
    assert asked == [["A", "B"], ["B"]][:looks]


def _two_tables(folder: Path) -> Path:
    path = folder / "shop.yaml"
    tables = "A: {key: k, processing: continuous}, B: {key: k, processing: continuous}"
    path.write_text(f"source: {{connection: c}}\ntables: {{{tables}}}\n")
    return path


def as_in_a_rebuild(*_: object, **__: object) -> dict[str, TableResult]:
    raise PipelineError("shop: a rebuild is at work")
