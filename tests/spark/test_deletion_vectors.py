"""Large tables get deletion vectors: a MERGE writes what it changes; all else stays the same."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from core_harness import World
from deltalake import DeltaTable
from life import StoppedError, begin, stopped_at
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from tidemark.adf_rule import read_silver
from tidemark.known_rows import LakeTable
from tidemark.known_rows import _from_silver as from_silver
from tidemark.lake_tables import query, read_batches, scan
from tidemark.reconcile import Options, reconcile_table
from tidemark.spark import deletion_vectors
from tidemark.spark.autocdc import Events, Target, apply_events
from tidemark.spark.bronze_stream import FILE
from tidemark.spark.change_flow import ChangeFlow
from tidemark.spark.deletion_vectors import enable_when_large
from tidemark.spark.history import events_of
from tidemark.spark.silver_merge import Batch, SilverTable, ranked, write_batch

MANY = 600


def test_on_databricks_nobody_looks_into_the_lake_past_spark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    session: Any = None  # whatever would be asked of it fails
    enable_when_large(session, "abfss://silver@account.dfs.core.windows.net/DimUser")


FAR = dt.datetime(9999, 12, 31, 23, 59, 59, 999999, dt.UTC)
SCD1 = ChangeFlow(
    target="dim_user",
    source="dim_user_changes",
    keys=("user-id",),
    sequence_by="_sequence",
    apply_as_deletes="_operation = 'delete'",
    except_columns=("_operation", "_digest"),
    scd_type=1,
)
SCD2 = replace(SCD1, scd_type=2, except_columns=("_operation", "_digest", "_sequence"))
Row = tuple[int, str, int, str]


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a table of three rows be large."""
    monkeypatch.setattr(deletion_vectors, "NEGLIGIBLE_BYTES", 0)
    monkeypatch.setattr(deletion_vectors, "LARGE_ROWS", 3)


# --- silver and gold, batch by batch


def first_rows(spark: SparkSession) -> DataFrame:
    return stamped(
        spark.range(MANY).select(
            sf.col("id").cast("int").alias("user-id"),
            sf.concat(sf.lit("user "), sf.col("id")).alias("name"),
            sf.lit(1).alias("minute"),
            sf.lit("upsert").alias("_operation"),
        )
    )


def changes(spark: SparkSession, rows: Iterable[Row], **more: str) -> DataFrame:
    types = "`user-id` INT, name STRING, minute INT, _operation STRING"
    return stamped(spark.createDataFrame(list(rows), types), **more)


def stamped(rows: DataFrame, **more: str) -> DataFrame:
    read = {
        "_sequence": sf.timestamp_seconds(60 * sf.col("minute")),
        "_digest": sf.unhex(sf.md5("name")),
    }
    return rows.withColumns(read | {n: sf.lit(v) for n, v in more.items()}).drop("minute")


SECOND: list[Row] = [
    (0, "other", 2, "upsert"),
    (1, "", 2, "delete"),
    (2, "other", 2, "upsert"),
    (MANY, "new", 2, "upsert"),
]
THIRD: list[Row] = [
    (0, "late", 0, "upsert"),
    (1, "back", 3, "upsert"),
    (2, "", 3, "delete"),
    (2, "too late", 2, "upsert"),
    (MANY, "newer", 3, "upsert"),
]


def steps(spark: SparkSession) -> list[DataFrame]:
    """Give three batches; the last one has another column."""
    return [
        first_rows(spark),
        changes(spark, SECOND),
        changes(spark, THIRD, more="added"),
    ]


def silver(folder: Path, rows: DataFrame, number: int) -> str:
    table = SilverTable(("user-id",), None, str(folder / "changes"), str(folder / "sil `ver"))
    batch = Batch(rows.withColumn(FILE, sf.lit("file")), "stream", number)
    with ranked(batch, table) as (ordered, facts):
        write_batch(batch, ordered, facts, table, in_order=False)
    return table.current


def gold(flow: ChangeFlow) -> Callable[[Path, DataFrame, int], str]:
    def apply(folder: Path, rows: DataFrame, number: int) -> str:
        target = Target(flow, str(folder / "go `ld"), str(folder / "auxiliary"))
        apply_events(Events(events_of(rows, flow), True, "stream", number), target)
        return target.table

    return apply


# What brings a table up to a batch, and where it merges.
Layer = tuple[Callable[[Path, DataFrame, int], str], tuple[str, str]]
LAYERS = pytest.mark.parametrize(
    "layer",
    [
        (silver, ("silver_merge", "_merge")),
        (gold(SCD1), ("autocdc", "merge_newest")),
        (gold(SCD2), ("autocdc", "_merge")),
    ],
    ids=["silver", "scd1", "scd2"],
)


def content(spark: SparkSession, path: str) -> list[dict[str, Any]]:
    rows = [row.asDict(recursive=True) for row in spark.read.format("delta").load(path).collect()]
    return sorted(rows, key=lambda row: sorted((n, str(v)) for n, v in row.items()))


def has_vectors(path: str | Path) -> bool:
    return "deletionVectors" in (DeltaTable(path).protocol().reader_features or ())


def operations(path: str) -> list[str]:
    return [str(commit["operation"]) for commit in reversed(DeltaTable(path).history())]


def files(path: str) -> dict[str, int]:
    added = pa.table(DeltaTable(path).get_add_actions()).to_pylist()
    return {row["path"]: row["size_bytes"] for row in added}


@LAYERS
def test_a_large_table_keeps_its_files_and_ends_as_a_small_one(
    spark: SparkSession, tmp_path: Path, request: pytest.FixtureRequest, layer: Layer
) -> None:
    first, second, third = steps(spark)
    apply, site = layer
    small = apply(tmp_path / "small", first, 0)
    for number, rows in ((1, second), (2, third)):
        apply(tmp_path / "small", rows, number)
    assert not has_vectors(small)
    expected = content(spark, small)
    assert DeltaTable(small).to_pyarrow_table().num_rows == len(expected)
    assert any(row.get("more") == "added" for row in expected)

    request.getfixturevalue("large")
    path = apply(tmp_path / "large", first, 0)
    before = files(path)
    assert not has_vectors(path)  # whole, and never merged into
    with stopped_at(*site, before=True) as hit, suppress(StoppedError):
        apply(tmp_path / "large", second, 1)
    assert hit
    assert has_vectors(path)
    apply(tmp_path / "large", second, 1)
    assert operations(path) == ["WRITE", "SET TBLPROPERTIES", "MERGE"]
    assert before.items() <= files(path).items()
    assert sum(files(path).values()) < 1.5 * sum(before.values())
    now = content(spark, path)
    apply(tmp_path / "large", second, 1)  # as after a crash
    assert content(spark, path) == now
    apply(tmp_path / "large", third, 2)
    assert content(spark, path) == expected
    assert operations(path).count("SET TBLPROPERTIES") == 1


@pytest.mark.usefixtures("large")
def test_what_somebody_has_decided_about_a_table_stays(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "decided")
    enable_when_large(spark, path)  # there is no table yet
    writer = first_rows(spark).write.format("delta")
    writer.option("delta.enableDeletionVectors", "false").save(path)
    enable_when_large(spark, path)
    assert operations(path) == ["WRITE"]


# --- what reads these tables without Spark


@pytest.mark.usefixtures("large")
def test_a_table_is_read_in_batches_with_the_types_of_its_schema(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = str(tmp_path / "ty pes")
    rows = first_rows(spark).withColumns(
        {
            'na"me': sf.col("name"),
            "far": sf.expr("timestamp'9999-12-31 23:59:59.999999'"),
            "amount": sf.col("user-id").cast("decimal(20,4)"),
            "day": sf.expr("date'0001-01-01'"),
        }
    )
    rows.write.format("delta").save(path)
    types = pa.schema(DeltaTable(path).schema().to_arrow())
    plain = list(read_batches(DeltaTable(path), types.names, rows=500))
    enable_when_large(spark, path)
    spark.sql(f"DELETE FROM delta.`{path}` WHERE `user-id` % 3 = 0")
    found = list(read_batches(DeltaTable(path), types.names[::-1], rows=500))
    assert has_vectors(path)
    assert {batch.schema for batch in plain} == {types}
    assert max(batch.num_rows for batch in [*plain, *found]) <= 500
    kept = [r for r in pa.Table.from_batches(plain).to_pylist() if r["user-id"] % 3]
    order = [("user-id", "ascending")]
    assert pa.Table.from_batches(found).select(types.names).sort_by(order).to_pylist() == kept
    assert {row["far"] for row in kept} == {FAR}


def keys_of_every_reader(world: World) -> list[set[int]]:
    """Give the keys that `snapshot`, the demo's rule of ADF, `show` and gold find."""
    lake, gold = world.lake, world.table.gold
    assert gold is not None
    known = LakeTable(world.store, lake, world.name, pa.schema([("user_id", pa.int64())]))
    current = scan(lake, gold.name).collect()
    if gold.scd == 2:
        current = current.filter(current["__END_AT"].is_null())
    return [
        {key for batch in from_silver(known) for key in batch["user_id"].to_pylist()},
        {key for (key,) in read_silver(lake, world.table)},
        set(query(lake, world.name)["user_id"]),
        set(query(lake, world.name, where="user_id > 0", columns=["user_id"])["user_id"]),
        set(current["user_id"]),
    ]


@pytest.mark.usefixtures("large")
def test_whole_lives_on_large_tables_come_out_right_for_every_reader(
    spark: SparkSession, tmp_path: Path
) -> None:
    life = begin(spark, tmp_path, random.Random(4))
    for number in range(3):
        life.happen(number)
        assert life.merge() == []
        life.check()
    for name, world in life.worlds.items():
        assert world.table.gold is not None
        tables = [world.lake.silver(name), world.lake.gold(world.table.gold.name)]
        assert all(has_vectors(Path(life.root, table)) for table in tables)
        assert not has_vectors(Path(life.root, world.lake.changes(name)))
        keys = {row[0] for row in world.rows()}
        assert keys_of_every_reader(world) == [keys] * 5
        result = reconcile_table(world.job(run_id="reconcile__1"), Options())
        assert (result.differing, result.lake_rows) == (0, len(keys))
        world.run()  # of the last column too: before that, the next read would bring each row
        assert life.merge() == []
        lost = min(keys)
        spark.sql(f"DELETE FROM delta.`{Path(life.root, tables[0])}` WHERE user_id = {lost}")
        result = reconcile_table(world.job(run_id="reconcile__2"), Options())
        assert result.keys["missing"] == ({"user_id": lost},)
    view = scan(world.lake, "everybody").collect()  # computed by Spark, from gold
    assert set(view["user_id"]) == {row[0] for row in life.worlds["SeenOne"].rows()}
