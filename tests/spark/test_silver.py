"""Silver on real Spark and Delta; each lake is built once and looked at by several tests."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf
from tiny_lake import KEYS, TinyLake, artist, job, user

from tidemark.pending import silver_pending
from tidemark.spark import bronze_stream, silver, silver_merge
from tidemark.spark.silver import TableResult
from tidemark.storage import open_store

# --- what three runs make of changes of every kind -----------------------------------------------


@pytest.fixture(scope="module")
def three_runs(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TinyLake, list[dict[str, TableResult]]]:
    lake = TinyLake(spark, tmp_path_factory.mktemp("runs") / "lake")
    gone, whole = {"_delete": True}, {"user_id": pa.int64()}
    lake.publish("DimUser", 10, [user(1, "Ann"), user(2, "Ben"), user(3, "Cid"), user(3, "Cid")])
    lake.publish("DimArtist", 10, [artist(1, "a"), artist(2, "b"), artist(5, "e")])
    first = {"user_id": [None, 1], "track_id": [7, 7], "device": ["tv", "car"]}
    lake.publish("FactStream", 10, pa.table(first).to_pylist())
    lake.publish("DimTrack", 10, [{"track_id": 1, "old": "o", "len": 5}, {"track_id": 2, "len": 6}],
                 {"len": pa.int64(), "price": pa.decimal128(8, 2)})  # fmt: skip
    results = [lake.run("DimUser", "DimArtist", "FactStream", "DimTrack", "DimDate")]

    lake.publish("DimUser", 30, [user(1, "Ann B"), user(4, "Dee"), user(4, "Dee")])
    lake.publish("DimUser", 40, [user(1, "Ann C")])
    lake.publish("DimArtist", 30, [artist(1, "x") | gone, artist(3, "c"), artist(4, "x") | gone])
    lake.publish("FactStream", 30, [{"user_id": None, "track_id": 7, "device": "web"}], whole)
    lake.publish("DimTrack", 30, [{"track_id": 1, "len": 50, "new": 1.5}], {"len": pa.int32()})
    results.append(lake.run("DimUser", "DimArtist", "FactStream", "DimTrack"))

    lake.publish("DimUser", 20, [user(1, "late"), user(2, "Ben B")])
    lake.publish("DimArtist", 20, [artist(1, "a late"), artist(2, "b late"), artist(4, "d late")])
    lake.publish("DimArtist", 50, [artist(5, "x") | gone])
    lake.publish("DimArtist", 60, [artist(5, "e again")])
    lake.publish("FactStream", 40, [{"user_id": None, "track_id": 7, "device": None} | gone], whole)
    results.append(lake.run("DimUser", "DimArtist", "FactStream"))
    return lake, results


def test_the_newest_sequence_wins_in_and_across_runs(three_runs: tuple[TinyLake, list]) -> None:
    lake, _ = three_runs
    columns = ("user_id", "user_name", "_sequence")
    assert lake.current("DimUser", *columns, version=0) == [
        (1, "Ann", 10), (2, "Ben", 10), (3, "Cid", 10)
    ]  # fmt: skip
    # 1: of two versions in one batch the newer; a file that came later is older. 2: it is newer.
    assert lake.current("DimUser", *columns) == [
        (1, "Ann C", 40), (2, "Ben B", 20), (3, "Cid", 10), (4, "Dee", 30)
    ]  # fmt: skip
    assert lake.changes("DimUser", *columns) == [
        (1, "Ann B", 30), (1, "Ann C", 40), (1, "Ann", 10), (1, "late", 20),
        (2, "Ben B", 20), (2, "Ben", 10), (3, "Cid", 10), (4, "Dee", 30),
    ]  # fmt: skip


def test_a_delete_removes_and_is_remembered(three_runs: tuple[TinyLake, list]) -> None:
    lake, _ = three_runs
    # 1 and 4 were deleted at 30: what is older comes too late. 5 came again after its delete.
    assert lake.current("DimArtist", "artist_id", "artist_name", "_sequence") == [
        (2, "b late", 20), (3, "c", 30), (5, "e again", 60)
    ]  # fmt: skip
    deletes = [r for r in lake.changes("DimArtist", "artist_id", "_sequence", "_operation")
               if r[2] == "delete"]  # fmt: skip
    assert deletes == [(1, 30, "delete"), (4, 30, "delete"), (5, 50, "delete")]


def test_a_key_part_that_is_null_is_a_value(three_runs: tuple[TinyLake, list]) -> None:
    lake, _ = three_runs
    columns = ("user_id", "track_id", "device")
    assert lake.current("FactStream", *columns, version=1) == [(1, 7, "car"), (None, 7, "web")]
    assert lake.current("FactStream", *columns) == [(1, 7, "car")]


def test_a_column_that_left_becomes_null_and_a_new_one_arrives(
    three_runs: tuple[TinyLake, list],
) -> None:
    lake, _ = three_runs
    columns = ("track_id", "old", "len", "new")
    # Narrower integers are read into the wider column that silver has.
    assert lake.current("DimTrack", *columns) == [(1, None, 50, 1.5), (2, None, 6, None)]
    assert lake.changes("DimTrack", *columns) == [
        (1, "o", 5, None), (1, None, 50, 1.5), (2, None, 6, None)
    ]  # fmt: skip
    assert (
        dict(lake.spark.read.format("delta").load(lake.lake.url("silver/DimTrack")).dtypes)["price"]
        == "decimal(8,2)"
    )


def test_results_count_what_was_read_and_what_was_appended(
    three_runs: tuple[TinyLake, list],
) -> None:
    lake, (first, second, third) = three_runs
    assert [r["DimUser"].rows_in for r in (first, second, third)] == [4, 4, 2]
    assert [r["DimUser"].rows for r in (first, second, third)] == [3, 3, 2]
    assert [r["DimUser"].version for r in (first, second, third)] == [0, 1, 2]
    assert {r.status for run in (first, second, third) for r in run.values()} == {"done"}
    assert first["DimDate"] == TableResult(seconds=first["DimDate"].seconds)  # no bronze yet
    assert silver_pending(open_store(str(lake.root)), lake.lake, KEYS) == []


# --- the same again, after every accident --------------------------------------------------------


def test_a_replay_changes_nothing(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = TinyLake(spark, tmp_path / "lake")
    columns = ("user_id", "user_name", "_sequence")
    checkpoint = lake.root / lake.lake.checkpoint("silver", "DimUser")

    def state() -> tuple[list, list, int, int]:
        tables = lake.lake.changes("DimUser"), lake.lake.silver("DimUser")
        return (*(lake.read(t, *columns) for t in tables), *map(lake.commits, tables))

    lake.publish("DimUser", 1, [user(1, "Ann"), user(2, "Ben")])
    lake.run("DimUser")

    # The process ends between the two writes: of a first load, and of a merge.
    lake.publish("DimUser", 2, [user(2, "Ben B"), user(3, "Cid")])
    lake.publish("DimArtist", 1, [artist(1, "a")])
    with monkeypatch.context() as patch:
        patch.setattr(silver_merge, "_merge", lambda *_: 1 / 0)
        ended = lake.run("DimUser", "DimArtist")
    assert {r.status for r in ended.values()} == {"failed"}
    assert len(lake.changes("DimUser", *columns)) == 4
    assert lake.current("DimUser", *columns) == [(1, "Ann", 1), (2, "Ben", 1)]
    assert silver_pending(open_store(str(lake.root)), lake.lake, KEYS) == ["DimUser", "DimArtist"]
    again = lake.run("DimUser", "DimArtist")
    assert again["DimUser"].rows == 0
    assert lake.current("DimArtist", "artist_id", "artist_name") == [(1, "a")]
    changes, current, *_ = done = state()
    assert changes == [(1, "Ann", 1), (2, "Ben B", 2), (2, "Ben", 1), (3, "Cid", 2)]
    assert current == [(1, "Ann", 1), (2, "Ben B", 2), (3, "Cid", 2)]

    # The process ends after both, before the stream knows it.
    (checkpoint / "commits" / "1").unlink()
    (checkpoint / "commits" / ".1.crc").unlink()
    assert lake.run("DimUser")["DimUser"].batches == 1
    assert state() == done

    # The checkpoint is lost: every file comes again, with one that is new.
    shutil.rmtree(checkpoint)
    lake.publish("DimUser", 3, [user(1, "Ann C")])
    lost = lake.run("DimUser")["DimUser"]
    assert (lost.rows_in, lost.rows) == (5, 1)
    changes, current, *_ = state()
    assert changes == sorted([*done[0], (1, "Ann C", 3)], key=repr)
    assert current == [(1, "Ann C", 3), (2, "Ben B", 2), (3, "Cid", 2)]


def test_a_column_of_a_file_published_meanwhile_is_not_lost(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = TinyLake(spark, tmp_path / "lake")
    lake.publish("DimUser", 1, [user(1, "Ann")])

    def late(*args: Any) -> bronze_stream.StreamSchema:
        schema = bronze_stream.stream_schema(*args)
        lake.publish("DimUser", 2, [user(1, "Ann") | {"country": "Chile"}])
        return schema

    monkeypatch.setattr(silver, "stream_schema", late)
    assert lake.run("DimUser")["DimUser"].rows == 2
    assert lake.current("DimUser", "user_id", "country", "_sequence") == [(1, "Chile", 2)]


# --- failures ------------------------------------------------------------------------------------

BROKEN = """
from pyspark.sql import functions as sf
def dim_user(rows): return rows.withColumn("user_id", rows.user_id + (rows.user_id > 1).cast("int"))
def dim_track(rows): return rows.select("track_id", "track_name")
def dim_date(rows): return rows.withColumn("weekday", sf.upper("week_day"))
"""


def test_a_broken_table_is_named_and_holds_up_no_other(
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lake = TinyLake(spark, tmp_path / "lake", BROKEN)
    lake.publish("DimUser", 1, [user(1, "Ann"), user(7, "Ben")])
    lake.publish("DimTrack", 1, [{"track_id": 1, "track_name": "a"}])
    lake.publish("DimDate", 1, [{"date_key": 20260101, "weekday": "Thursday"}])
    lake.publish("DimArtist", 1, [artist(1, "a")])
    odd = lake.publish("DimArtist", 2, [{"artist_id": "two", "artist_name": "b"}])
    lake.publish("FactStream", 1, [{"user_id": 1, "track_id": 1}])

    assert job(lake, monkeypatch) == 1
    report = json.loads((lake.root / "report.json").read_text())["tables"]
    errors = {name: t["error"] for name, t in report.items() if t["status"] == "failed"}
    assert list(errors) == ["DimUser", "DimTrack", "DimDate", "DimArtist"]
    assert '{"user_id":7}' in errors["DimUser"]
    assert errors["DimUser"].startswith("DimUser: rule dim_user changed column user_id of the row")
    assert errors["DimTrack"].startswith("DimTrack: rule dim_track dropped column _sequence")
    assert errors["DimDate"].startswith("DimDate: rule dim_date failed: AnalysisException")
    assert "week_day" in errors["DimDate"]
    assert '(its key is now {"user_id":8})' in errors["DimUser"]
    for part in ("DimArtist: column artist_id is string", odd.name, "bigint before"):
        assert part in errors["DimArtist"]
    assert report["FactStream"] | {"seconds": 0} == {
        "rows_in": 1, "rows": 1, "batches": 1, "version": 0, "seconds": 0,
        "status": "done", "error": None, "rescued": 0, "quarantined": [],
    }  # fmt: skip
    output = capsys.readouterr()
    assert "FactStream: 1 rows read, 1 changes, done" in output.out
    assert all(error in output.err for error in errors.values())
    assert not (lake.root / "silver" / "DimUser").exists()

    # Mended, what was left behind is done.
    (lake.root / "rules" / "spotify.py").write_text("")
    odd.rename(lake.root / odd.name)
    assert job(lake, monkeypatch) == 0
    assert lake.current("DimUser", "user_id", "user_name") == [(1, "Ann"), (7, "Ben")]
    assert silver_pending(open_store(str(lake.root)), lake.lake, KEYS) == []


# --- types -------------------------------------------------------------------------


def test_types_and_extreme_values_are_kept(spark: SparkSession, tmp_path: Path) -> None:
    lake = TinyLake(spark, tmp_path / "lake")
    types = {
        "date_key": pa.int32(), "small": pa.int16(), "big": pa.int64(), "flag": pa.bool_(),
        "price": pa.decimal128(18, 4), "ratio": pa.float32(), "day": pa.date32(),
        "local": pa.timestamp("us"), "at": pa.timestamp("us", "UTC"), "raw": pa.binary(),
    }  # fmt: skip
    values = {
        "small": -5, "big": 2**62, "flag": True, "price": Decimal("-1.2345"), "ratio": 0.5,
        "day": dt.date(1, 1, 1), "local": dt.datetime(1, 1, 1, 0, 0, 0, 1),  # noqa: DTZ001
        "at": dt.datetime(9999, 12, 31, 23, 59, 59, 999999, dt.UTC), "raw": b"\x00",
    }  # fmt: skip
    lake.publish("DimDate", 1, [{"date_key": 1} | values, {"date_key": 2}], types)
    assert lake.run("DimDate")["DimDate"].error is None
    found = spark.read.format("delta").load(lake.lake.url("silver/DimDate")).where("date_key = 1")
    assert [t for _, t in found.dtypes[: len(types)]] == [
        "int", "smallint", "bigint", "boolean", "decimal(18,4)", "float", "date",
        "timestamp", "timestamp", "binary",
    ]  # fmt: skip
    text = found.select(*(sf.col(c).cast("string") for c in [*types][:-1])).collect()[0]
    assert tuple(text) == (
        "1", "-5", str(2**62), "true", "-1.2345", "0.5", "0001-01-01",
        "0001-01-01 00:00:00.000001", "9999-12-31 23:59:59.999999",
    )  # fmt: skip


def test_a_lost_current_state_is_made_anew_from_all_changes(
    spark: SparkSession, tmp_path: Path
) -> None:
    tiny = TinyLake(spark, tmp_path)
    tiny.publish("DimUser", 1, [user(1, "a"), user(2, "b")])
    tiny.run("DimUser")
    shutil.rmtree(tmp_path / tiny.lake.silver("DimUser"))
    tiny.publish("DimUser", 2, [user(3, "c")])
    assert tiny.run("DimUser")["DimUser"].status == "done"
    assert tiny.current("DimUser", "user_id", "_sequence") == [(1, 1), (2, 1), (3, 2)]
