"""Which schema a table's stream has, and what is taken from file names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.types import StructType

from tidemark.errors import LakeUnavailable, PipelineError, ReadOvertaken
from tidemark.layout import Lake, sequence_of
from tidemark.quarantine import held_files
from tidemark.spark import bronze_stream
from tidemark.storage import LocalStore, open_store


@pytest.mark.usefixtures("spark")  # to parse the types
@pytest.mark.parametrize(
    ("before", "now", "wide"),
    [
        ("x int", "X bigint", "x bigint"),
        ("x bigint", "x smallint, y date", "x bigint, y date"),
        ("x float", "x double", "x double"),
        ("x decimal(8,2)", "x decimal(10,2)", "x decimal(10,2)"),
        ("x decimal(8,2)", "x decimal(8,3)", "x decimal(9,3)"),
        ("x decimal(38,2)", "x decimal(8,3)", None),
        ("x bigint", "x double", None),
        ("x date", "x timestamp", None),
    ],
)
def test_types_become_wider_before_silver_is_written(
    before: str, now: str, wide: str | None
) -> None:
    one, other, none = (StructType.fromDDL(t) if t else StructType([]) for t in (before, now, ""))
    if wide is not None:
        assert bronze_stream.merged(one, other, none, "T", "f") == StructType.fromDDL(wide)
    if wide is None or other[0].dataType == bronze_stream.wider(one[0].dataType, other[0].dataType):
        with pytest.raises(PipelineError, match=r"^T: column [xX] is .* in bronze file f, but "):
            bronze_stream.merged(one, other, one, "T", "f")


def test_the_time_in_a_file_of_adf_is_read_as_the_layout_reads_it(spark: SparkSession) -> None:
    names = ["DimUser_2025-10-07T19:49:55.1234567Z", "D_2025-10-07T19:49:55Z", "D_2025_1.parquet"]
    read = spark.createDataFrame([(n,) for n in names], "name string").select(
        sf.unix_micros(bronze_stream._time_in(sf.col("name")))
    )
    times = [sequence_of(name) for name in names]
    assert [r[0] for r in read.collect()] == [
        t and int(t.timestamp()) * 1_000_000 + t.microsecond for t in times
    ]


def test_a_file_that_is_none_of_bronze_is_named(spark: SparkSession, tmp_path: Path) -> None:
    lake, store = Lake(str(tmp_path)), open_store(str(tmp_path))
    for name in ("_DimUser_20260101T000000000000Z.parquet", "copy.parquet"):
        store.write(f"bronze/DimUser/{name}", b"")
    with pytest.raises(PipelineError, match=r"DimUser: bronze/DimUser/copy\.parquet is no bronze"):
        bronze_stream.stream_schema(spark, store, lake, "DimUser")


def test_a_file_that_is_no_parquet_is_held_and_an_outage_holds_nothing(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, store = Lake(str(tmp_path)), open_store(str(tmp_path))
    name = "DimUser_20260101T000000000000Z.parquet"
    store.write(f"bronze/DimUser/{name}", b"half a file")

    def away(*_: object) -> Path:
        raise LakeUnavailable("the storage does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "readable", away)
        with pytest.raises(LakeUnavailable, match="does not answer"):
            bronze_stream.stream_schema(spark, store, lake, "DimUser")
    assert store.names(lake.checkpoint("silver", "DimUser")) == []  # it is looked at again

    assert bronze_stream.stream_schema(spark, store, lake, "DimUser").held == {name}
    held = held_files(store, lake, "DimUser")
    assert f"DimUser: bronze file {name} can't be read as Parquet" in held[name].reason
    # Who moves it away has decided.
    (tmp_path / "bronze" / "DimUser" / name).rename(tmp_path / name)
    assert bronze_stream.stream_schema(spark, store, lake, "DimUser").held == frozenset()
    assert held_files(store, lake, "DimUser")[name].decision == "absent"
    # A stream passes over what it has met: back again, it waits again.
    (tmp_path / name).rename(tmp_path / "bronze" / "DimUser" / name)
    assert bronze_stream.stream_schema(spark, store, lake, "DimUser").held == {name}
    assert held_files(store, lake, "DimUser") == held


def test_columns_that_a_replay_adds_meanwhile_are_not_lost(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, store = Lake(str(tmp_path)), open_store(str(tmp_path))
    name = "DimUser_20260101T000000000000Z.parquet"
    (tmp_path / "bronze" / "DimUser").mkdir(parents=True)
    rows = spark.sql("SELECT 1 AS user_id, 'Ann' AS user_name").toPandas()
    rows.to_parquet(tmp_path / "bronze" / "DimUser" / name)
    plain, times = bronze_stream._union, []

    def beside(*arguments: Any) -> Any:  # in Azure, where no lock keeps it out
        if not times:
            known = bronze_stream.known_schema(store, lake, "DimUser")
            columns = StructType([*known.columns, *StructType.fromDDL("rescued_one string")])
            bronze_stream.write_schema(store, lake, "DimUser", replace(known, columns=columns))
        times.append(1)
        return plain(*arguments)

    monkeypatch.setattr(bronze_stream, "_union", beside)
    found = bronze_stream.stream_schema(spark, store, lake, "DimUser")
    assert len(times) == 2
    assert {"rescued_one", "user_id", "user_name"} <= set(found.columns.names)
    again = bronze_stream.known_schema(store, lake, "DimUser")
    assert (again.columns, again.files) == (found.columns, {name})
    # Who read before that may not write any more.
    with pytest.raises(ReadOvertaken):
        bronze_stream.write_schema(store, lake, "DimUser", replace(again, version="older"))
