"""Silver that keeps running: it follows bronze, and nobody else works on its tables."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from tiny_lake import KEYS, TinyLake, artist, user

from tidemark.errors import PipelineError
from tidemark.layers_lock import streamed_by
from tidemark.pending import silver_pending
from tidemark.spark.continuous import Stream, run_stream
from tidemark.storage import open_store


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
    until(lambda: not silver_pending(store, lake.lake, KEYS))
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
    thread.join(60)
    assert left == [["DimUser"]]
    assert streamed_by(lake.lake, "DimArtist") is None
    assert lake.run("DimArtist")["DimArtist"].batches == 0
