"""The files of ``dlt/`` on a stand-in for Databricks' module, which knows what its pages list."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databricks_pipelines import NAMES, Recorder, databricks_pipelines, execute
from pyspark import pipelines as open_source
from pyspark.sql import SparkSession

from tidemark.errors import ConfigError
from tidemark.metadata import config_digest

PROJECT = Path(__file__).parents[2]
FILES = sorted((PROJECT / "dlt").rglob("*.py"))
TABLES = ("DimUser", "DimArtist", "DimTrack", "DimDate", "FactStream")
DELETE = "_operation = 'delete'"
CHANGES = (
    "TIMESTAMP '2026-01-05' _sequence, '{operation}' _operation, CAST(NULL AS STRING) "
    "_source_sequence, X'00' _digest, 'r' _run_id"
)


@pytest.fixture
def set_conf(spark: SparkSession) -> Iterator[Callable[..., None]]:
    """Set the pipeline's configuration."""
    names = ["lake", "config", "source", "config_digest"]

    def set_(lake: str, config: Path, source: str, digest: str = "") -> None:
        for name, value in zip(names, (lake, str(config), source, digest), strict=True):
            spark.conf.set(f"tidemark.{name}", value)

    yield set_
    for name in names:
        spark.conf.unset(f"tidemark.{name}")


def _load(files: list[Path] = FILES) -> Recorder:
    with databricks_pipelines() as recorder:
        for path in files:
            execute(path)
    return recorder


def _in_order() -> list[Path]:
    """Give the files as the bundle's pipeline names them."""
    return [PROJECT / "dlt" / "scd.py", *(path for path in FILES if path.name != "scd.py")]


def _lake(spark: SparkSession, folder: Path, *tables: str) -> Path:
    """Make a lake in which silver has something of some tables."""
    for table in tables:
        rows = spark.sql(f"SELECT 1 id, {CHANGES.format(operation='insert')}")
        rows.write.format("delta").save(f"{folder}/silver/{table}_changes")
    return folder


def _judged(rule: str) -> str:
    return f"coalesce(({DELETE} OR ({rule})), false)"


def test_every_file_declares_the_sample_as_databricks_documents_it(
    spark: SparkSession, set_conf: Callable[..., None], tmp_path: Path
) -> None:
    set_conf(str(_lake(spark, tmp_path, *TABLES)), PROJECT / "config", "spotify")
    recorder = _load()
    keys = {
        "dim_user": ("user_id", "DimUser", 2),
        "dim_artist": ("artist_id", "DimArtist", 1),
        "dim_track": ("track_id", "DimTrack", 2),
        "dim_date": ("date_key", "DimDate", 2),
        "fact_stream": ("stream_id", "FactStream", 1),
    }
    flows = recorder.named("create_auto_cdc_flow")
    for flow in flows:
        assert str(flow.pop("sequence_by")) == "Column<'_sequence'>"
        assert "delete" in str(flow.pop("apply_as_deletes"))
    left_out = ["_operation", "_source_sequence", "_digest", "_run_id"]
    assert flows == [
        {
            "target": name,
            "source": f"{name}_changes",
            "keys": [key],
            "except_column_list": [*left_out, "_sequence"] if scd == 2 else left_out,
            "stored_as_scd_type": scd,
        }
        for name, (key, _, scd) in keys.items()
    ]
    tables = {each["name"]: each["comment"] for each in recorder.named("create_streaming_table")}
    assert tables == {
        **{name: f"{table}, SCD type {scd}" for name, (_, table, scd) in keys.items()},
        **{f"{name}_quarantine": f"What the expectations of {name} dropped" for name in keys},
    }
    forget = "pipelines.cdc.tombstoneGCThresholdInSeconds"
    for table in recorder.named("create_streaming_table"):
        scd = keys.get(table["name"], (None, None, None))[2]
        assert (forget in table.get("table_properties", {})) == (scd == 1)
    assert recorder.named("append_flow") == [
        {"target": f"{name}_quarantine", "name": f"{name}_quarantine_flow"} for name in keys
    ]
    assert recorder.named("temporary_view") == [{"name": f"{name}_changes"} for name in keys]
    expected = {name: kinds for name, kinds in recorder.expectations.items() if kinds}
    assert expected == {
        f"{name}_changes": {
            "expect_or_drop": {
                "valid_key" if name == "dim_date" else "valid_id": _judged(f"{key} IS NOT NULL")
            }
        }
        for name, (key, _, _) in keys.items()
    }
    views = recorder.queries.keys() - {f"{name}_changes" for name in keys}
    assert views - {f"{name}_quarantine_flow" for name in keys} == {
        "track_popularity", "artist_popularity", "user_engagement", "dim_albums", "stream_details"
    }  # fmt: skip


def test_a_table_of_which_silver_has_nothing_holds_up_no_other(
    spark: SparkSession, set_conf: Callable[..., None], tmp_path: Path
) -> None:
    set_conf(str(_lake(spark, tmp_path, "DimUser", "DimTrack")), PROJECT / "config", "spotify")
    recorder = _load([PROJECT / "dlt" / "scd.py", PROJECT / "dlt" / "business_views.py"])
    flows = recorder.named("create_auto_cdc_flow")
    assert [flow["target"] for flow in flows] == ["dim_user", "dim_track"]
    assert not recorder.named("materialized_view")  # it joins a table that is not there yet


READ = {
    "track_popularity": {"DimTrack", "FactStream"},
    "artist_popularity": {"DimArtist", "DimTrack", "FactStream"},
    "user_engagement": {"FactStream"},
    "dim_albums": {"DimTrack"},
    "stream_details": {"FactStream", "DimUser", "DimTrack", "DimArtist"},
}


@pytest.mark.parametrize("missing", ["DimArtist", "FactStream"])
def test_a_view_whose_table_is_not_there_yet_is_left_out_and_comes_by_itself(
    spark: SparkSession,
    set_conf: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    missing: str,
) -> None:
    _lake(spark, tmp_path, *(table for table in TABLES if table != missing))
    set_conf(str(tmp_path), PROJECT / "config", "spotify")
    with databricks_pipelines() as recorder:
        for path in FILES:
            execute(path)
        assert len(recorder.named("create_auto_cdc_flow")) == len(TABLES) - 1
        there = {view for view, tables in READ.items() if missing not in tables}
        assert READ.keys() & recorder.queries.keys() == there
        said = capsys.readouterr().out.splitlines()
        name = {"FactStream": "fact_stream"}.get(missing, f"dim_{missing[3:].lower()}")
        assert sorted(said) == sorted(
            f"{view}: left out of this update: {name} holds nothing yet; the view comes by itself "
            "with the first row"
            for view in READ.keys() - there
        )
    # The next update, in the same process.
    _lake(spark, tmp_path, missing)
    recorder = _load(_in_order())
    assert READ.keys() <= recorder.queries.keys()
    assert not capsys.readouterr().out


def test_what_comes_while_an_update_loads_its_files_is_of_the_next(
    spark: SparkSession, set_conf: Callable[..., None], tmp_path: Path
) -> None:
    _lake(spark, tmp_path, "DimTrack", "DimArtist", "DimUser")
    set_conf(str(tmp_path), PROJECT / "config", "spotify")
    first, *others = _in_order()
    with databricks_pipelines() as recorder:
        execute(first)
        _lake(spark, tmp_path, "FactStream")
        for path in others:
            execute(path)
        # Else they would read `fact_stream`, which this update does not have.
        assert READ.keys() & recorder.queries.keys() == {"dim_albums"}
        recorder.queries.clear()
        for path in (first, *others):
            execute(path)
        assert READ.keys() <= recorder.queries.keys()


def test_a_view_over_a_view_waits_with_it(
    spark: SparkSession, set_conf: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "shop.yaml").write_text(
        "source: {connection: c}\n"
        "tables:\n"
        "  A: {key: id, gold: {scd: 1, expect_or_drop: {x: id > 0}}}\n"
        "  B: {key: id, gold: {scd: 1}}\n"
        "views:\n"
        "  both:\n"
        "    tables:\n"
        "      - {table: a, alias: a, columns: [id]}\n"
        "      - {table: b, alias: b, match: {id: a.id}, columns: {id: other}}\n"
    )
    own = tmp_path / "own.py"
    own.write_text(
        "from tidemark.spark.declare import materialized_view\n"
        "for name, reads in {\n"
        "    'kept': ['a_quarantine'], 'far': ['main.x.y'], 'over': ['both'],\n"
        "    'top': ['over'], 'over_a': ['a'], 'top_a': ['over_a'], 'of_another': ['c'],\n"
        "}.items():\n"
        "    materialized_view(name=name, reads=reads)(lambda: None)\n"
    )
    files = [PROJECT / "dlt" / "scd.py", PROJECT / "dlt" / "business_views.py", own]
    set_conf(str(_lake(spark, tmp_path, "A")), tmp_path, "shop")
    names = {each["name"] for each in _load(files).named("materialized_view")}
    assert names == {"kept", "far", "over_a", "top_a"}
    _lake(spark, tmp_path, "B")
    names = {each["name"] for each in _load(files).named("materialized_view")}
    assert names == {"kept", "far", "over_a", "top_a", "both", "over", "top"}


def test_each_kind_of_expectation_and_a_business_order_reach_databricks(
    spark: SparkSession, tmp_path: Path, set_conf: Callable[..., None]
) -> None:
    (tmp_path / "shop.yaml").write_text(
        "source: {connection: c}\n"
        "tables:\n"
        "  Line:\n"
        "    key: [order_id, line]\n"
        "    gold:\n"
        "      scd: 2\n"
        "      sequence_by: changed at\n"
        "      track: [price]\n"
        "      expect: {a: price > 0}\n"
        "      expect_or_fail: {b: line > 0}\n"
    )
    set_conf(str(_lake(spark, tmp_path, "Line")), tmp_path, "shop")
    recorder = _load([PROJECT / "dlt" / "scd.py"])
    assert recorder.expectations["line_changes"] == {
        "expect": {"a": _judged("price > 0")},
        "expect_or_fail": {"b": _judged("line > 0")},
    }
    (flow,) = recorder.named("create_auto_cdc_flow")
    assert flow["keys"] == ["order_id", "line"]
    assert flow["track_history_column_list"] == ["price"]
    assert "struct(`changed at`, _sequence)" in str(flow["sequence_by"])
    assert not recorder.named("append_flow")  # nothing is dropped, so nothing is kept


def test_metadata_that_is_not_what_was_deployed_declares_nothing(
    tmp_path: Path, set_conf: Callable[..., None]
) -> None:
    (tmp_path / "shop.yaml").write_text("source: {connection: c}\ntables: {A: {key: k}}\n")
    set_conf("/lake", tmp_path, "shop", "0" * 64)
    with pytest.raises(ConfigError, match="deploy the bundle"):
        _load()
    set_conf("/lake", tmp_path, "shop", config_digest(tmp_path))
    assert _load([PROJECT / "dlt" / "scd.py"]).calls == []


def test_the_flow_beside_the_view_takes_what_the_view_leaves_out(
    spark: SparkSession, tmp_path: Path, set_conf: Callable[..., None]
) -> None:
    (tmp_path / "shop.yaml").write_text(
        "source: {connection: c}\n"
        "tables: {Line: {key: id, gold: {scd: 1, expect_or_drop: {a: id > 1, b: n > 0}}}}\n"
    )
    for operation, values in (("upsert", "(1, NULL), (2, 0), (3, 3)"), ("delete", "(0, NULL)")):
        rows = spark.sql(
            f"SELECT *, {CHANGES.format(operation=operation)} FROM VALUES {values} AS t(id, n)"
        )
        rows.write.format("delta").mode("append").save(f"{tmp_path}/lake/silver/Line_changes")
    set_conf(f"{tmp_path}/lake", tmp_path, "shop")
    recorder = _load([PROJECT / "dlt" / "scd.py"])
    stream = recorder.queries["line_quarantine_flow"]().writeStream.format("delta")
    stream = stream.option("checkpointLocation", f"{tmp_path}/checkpoint")
    stream.trigger(availableNow=True).start(f"{tmp_path}/kept").awaitTermination()
    kept = spark.read.format("delta").load(f"{tmp_path}/kept")
    found = {(row["id"], *row["__FAILED_EXPECTATIONS"]) for row in kept.collect()}
    assert found == {(1, "a", "b"), (2, "b")}
    (rules,) = recorder.expectations["line_changes"].values()
    passing = spark.read.format("delta").load(f"{tmp_path}/lake/silver/Line_changes")
    for rule in rules.values():
        passing = passing.where(rule)
    assert {row["id"] for row in passing.collect()} == {0, 3}


FLOW = {"target": "t", "source": "s", "keys": ["k"], "sequence_by": "q"}


def _query() -> None: ...


@pytest.mark.parametrize(
    "wrong",
    [
        lambda dp: dp.create_auto_cdc_flow(**FLOW, stored_as_scd_type=3),
        lambda dp: dp.create_auto_cdc_flow(**FLOW, scd_type=2),
        lambda dp: dp.create_auto_cdc_flow(**FLOW | {"keys": "k"}),
        lambda dp: dp.create_auto_cdc_flow(**FLOW, track_history_column_list=["a"]),
        lambda dp: dp.create_auto_cdc_flow(**FLOW, column_list=["a"], except_column_list=["b"]),
        lambda dp: dp.temporary_view(name="v", spark_conf={}),  # open source's alone
        lambda dp: dp.materialized_view(name="v", format="delta"),  # open source's alone
        lambda dp: dp.create_streaming_table("t", format="delta"),  # open source's alone
        lambda dp: dp.append_flow(name="f"),
        lambda dp: dp.expect("a"),
        lambda dp: dp.expect_all([("a", "b")]),
        lambda dp: dp.expect("a", "1")(dp.expect_or_drop("a", "2")(_query)),
        lambda dp: dp.expect_or_quarantine("a", "b"),
        lambda dp: dp.read("t"),
    ],
)
def test_what_databricks_does_not_document_is_refused(wrong: Callable[[Any], object]) -> None:
    with databricks_pipelines():
        theirs = sys.modules["pyspark.pipelines"]
        with pytest.raises((AssertionError, AttributeError, TypeError)):
            wrong(theirs)


def test_what_only_open_source_has_is_not_there() -> None:
    with databricks_pipelines():
        with pytest.raises(ModuleNotFoundError):
            __import__("pyspark.pipelines.graph_element_registry")
        with pytest.raises(ModuleNotFoundError):
            __import__("tidemark.spark.graph")
        assert set(dir(sys.modules["pyspark.pipelines"])) - NAMES < set(dir(object)) | {
            "__name__", "__doc__", "__loader__", "__package__", "__spec__",
        }  # fmt: skip
    assert sys.modules["pyspark.pipelines"] is open_source
