"""Silver and gold over both layouts of bronze, switched to and fro."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import life
import polars as pl
import pytest
from core_harness import World, make_world
from pyspark.sql import SparkSession

from tidemark.metadata import load_source
from tidemark.spark import bronze_stream
from tidemark.spark.silver import TableResult, run_silver

DDL = "CREATE TABLE Days (user_id INTEGER PRIMARY KEY, date DATE, updated_at TIMESTAMP)"
TEN = "2026-01-01 10:00:00"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, DDL, "strategy: snapshot")


def merge(spark: SparkSession, world: World) -> TableResult:
    source = load_source(world.folder / "config" / "spotify.yaml")
    done = run_silver(spark, world.lake.root, source, [world.name], world.folder / "rules")
    assert done[world.name].error is None
    return done[world.name]


def silver(world: World) -> dict[int, Any]:
    rows = pl.read_delta(world.lake.url(world.lake.silver(world.name)))
    return dict(rows.select("user_id", "date").rows())


def files_read(world: World) -> Counter[str]:
    """Count how often each file is in the stream's own list."""
    checkpoint = f"{world.lake.checkpoint('silver', world.name)}/sources/0"
    folder = Path(world.lake.url(checkpoint))
    logs = [log.read_text().splitlines()[1:] for log in folder.iterdir() if log.name.isdigit()]
    paths = [json.loads(line)["path"] for log in logs for line in log]
    return Counter(path.partition(f"/bronze/{world.name}/")[2] for path in paths)


def changes(world: World) -> int:
    return int(pl.read_delta(world.lake.url(world.lake.changes(world.name))).height)


def test_a_life_in_both_layouts_ends_as_the_source_does(
    spark: SparkSession, tmp_path: Path
) -> None:
    chance = random.Random(5)
    lived = life.begin(spark, tmp_path, chance, {"SeenOne": life.TABLES["SeenTwo"]})
    for number, layout in enumerate(["flat", "dated", "flat"]):
        for world in lived.worlds.values():
            world.switch(layout)
        lived.happen(number)
        assert lived.merge("silver") == []
    assert lived.merge() == []
    lived.check()
    for world in lived.worlds.values():
        assert {"/" in path for path in world.published} == {True, False}
        assert files_read(world) == Counter(world.published)
        assert changes(world) == len(world.bronze())
        assert {"insert", "update", "delete"} <= {row["_operation"] for row in world.bronze()}


def test_a_checkpoint_from_before_goes_on_and_a_column_named_date_stays_the_tables_own(
    spark: SparkSession, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        # As the stream was read before there were folders.
        patched.setattr(bronze_stream, "_IN_ALL_FOLDERS", ("recursiveFileLookup", "false"))
        world.put((1, "1999-12-31", TEN), (2, "2000-01-01", TEN))
        world.run()
        assert merge(spark, world).rows_in == 2
    world.switch("dated")
    world.put((2, "1066-10-14", TEN), (3, None, TEN))
    world.sql("DELETE FROM Days WHERE user_id = 1")
    world.run()
    assert merge(spark, world).rows_in == 3
    assert silver(world) == {2: date(1066, 10, 14), 3: None}
    world.switch("flat")
    world.put((3, "2026-11-22", TEN))
    world.run()
    assert merge(spark, world).rows_in == 1
    assert silver(world) == {2: date(1066, 10, 14), 3: date(2026, 11, 22)}
    assert files_read(world) == Counter(world.published)
    assert changes(world) == 6


def test_a_first_load_of_both_layouts_at_once_has_one_schema(
    spark: SparkSession, world: World
) -> None:
    """As after the loss of a checkpoint, or in a rebuild: all files in one batch."""
    for number, layout in enumerate(["dated", "flat", "dated"]):
        world.switch(layout)
        world.put((number, f"2001-01-0{number + 1}", TEN))
        world.run()
        world.sql(f"ALTER TABLE Days ADD COLUMN more_{number} TEXT")
    assert merge(spark, world).rows_in == 6  # with a new column every row changes
    assert silver(world) == {n: date(2001, 1, n + 1) for n in range(3)}
    columns = pl.read_delta(world.lake.url("silver/Days")).columns
    assert set(columns[:3]) == {"user_id", "date", "updated_at"}
    assert {"more_0", "more_1"} <= set(columns)


def test_files_that_are_moved_to_the_other_layout_are_not_merged_again(
    spark: SparkSession, world: World
) -> None:
    for key in (1, 2):
        world.put((key, "2001-01-01", TEN))
        world.run()
        merge(spark, world)
    oldest, newest = world.published
    for key, name in enumerate((newest, oldest), 3):
        world.store.move(f"bronze/Days/{name}", f"bronze/Days/date=2026-01-02/{name}")
        world.put((key, "2001-01-01", TEN), (1, f"2002-01-0{key}", TEN))
        world.run()
        assert merge(spark, world).rows_in == 3
        assert changes(world) == len(world.bronze())
    assert silver(world) == {key: row["date"] for (key,), row in world.replay().items()}


def test_what_was_moved_out_of_the_way_is_not_opened(spark: SparkSession, world: World) -> None:
    world.put((1, "2001-01-01", TEN))
    world.run()
    world.store.write("bronze/Days/broken/Days_20990101T000000000000Z.parquet", b"half a file")
    world.store.write("bronze/Days/date=2026-01-01/x/Days_20990101T000000000000Z.parquet", b"half")
    world.switch("dated")
    world.put((2, "2001-01-02", TEN))
    world.run()
    assert merge(spark, world).rows_in == 2
    # Mended and brought back, it is read.
    world.put((3, "2001-01-03", TEN))
    world.run()
    name = world.published[-1]
    world.store.move(f"bronze/Days/{name}", "bronze/Days/broken/one")
    world.put((4, "2001-01-04", TEN))
    world.run()
    assert merge(spark, world).rows_in == 1
    world.store.move("bronze/Days/broken/one", f"bronze/Days/{name}")
    assert merge(spark, world).rows_in == 1
    assert set(silver(world)) == {1, 2, 3, 4}
