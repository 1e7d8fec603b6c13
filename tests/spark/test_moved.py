"""A lake that is moved to another folder goes on there, also if a run had failed before."""

from __future__ import annotations

import json
from pathlib import Path

import life as lives
import pytest
from pyspark.sql import SparkSession
from tiny_lake import TinyLake, user

from tidemark.errors import PipelineError
from tidemark.layout import Lake
from tidemark.spark.moved import where_it_lies
from tidemark.storage import LocalStore

LOG = "_tidemark/checkpoints/silver/DimUser/sources/0"


def paths(root: Path) -> list[str]:
    parts = sorted(p for p in (root / LOG).iterdir() if p.name.isdigit())
    return [json.loads(line)["path"] for p in parts for line in p.read_text().splitlines()[1:]]


def test_a_lake_that_is_moved_with_a_batch_half_done_goes_on(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = TinyLake(spark, tmp_path / "lake")
    lake.publish("DimUser", 1, [user(1, "Ann")])
    assert lake.run("DimUser")["DimUser"].rows == 1
    lake.publish("DimUser", 2, [user(2, "Ben")])
    with lives.stopped_at("silver_merge", "_append", before=True):  # planned, and not done
        assert lake.run("DimUser")["DimUser"].status == "failed"

    lake.root.rename(tmp_path / "one more é lake")
    lake.root = tmp_path / "one more é lake"
    lake.publish("DimUser", 3, [user(1, "Ann C")])
    result = lake.run("DimUser")["DimUser"]
    assert (result.error, result.rows_in, result.rows) == (None, 2, 2), "and nothing is read again"
    assert lake.current("DimUser", "user_id", "user_name") == [(1, "Ann C"), (2, "Ben")]
    assert len(lake.changes("DimUser", "user_id")) == 3
    assert len({path.rpartition("/")[0] for path in paths(lake.root)}) == 1


@pytest.mark.parametrize("name", ["up/../lake", "tab\there", "no\u00a0break"])
def test_a_lake_that_lies_where_it_lay_is_left_as_it_is(
    spark: SparkSession, tmp_path: Path, name: str
) -> None:
    (tmp_path / "up").mkdir()
    lake = TinyLake(spark, tmp_path / name)
    lake.publish("DimUser", 1, [user(1, "Ann")])
    assert lake.run("DimUser")["DimUser"].error is None
    before = (lake.root / LOG / "0").read_bytes()
    lake.publish("DimUser", 2, [user(2, "Ben")])
    result = lake.run("DimUser")["DimUser"]
    assert (result.error, result.rows_in) == (None, 1), "the first file is read again"
    assert (lake.root / LOG / "0").read_bytes() == before


def test_a_move_that_is_followed_half_way_is_followed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, lake = LocalStore(tmp_path), Lake(str(tmp_path))
    was = "file:///somewhere%20else/bronze/DimUser/"
    for part in ("9.compact", "10", "11"):
        entry = {"path": f"{was}date=2026-01-01/{part}.parquet", "timestamp": 1, "batchId": 1}
        store.write(f"{LOG}/{part}", f"v1\n{json.dumps(entry)}".encode())
        store.write(f"{LOG}/.{part}.crc", b"")
    plain, left = LocalStore.write, [1]

    def write(self: LocalStore, path: str, data: bytes) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        plain(self, path, data)

    def follow() -> None:
        with where_it_lies(store, lake, "DimUser"):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "write", write)
        with pytest.raises(KeyboardInterrupt):  # killed after the first of three
            follow()
    follow()
    for part in ("9.compact", "10", "11"):
        content = store.read(f"{LOG}/{part}")
        assert content is not None
        entry = json.loads(content.data.splitlines()[1])
        assert entry["path"] == (f"file://{tmp_path}/bronze/DimUser/date=2026-01-01/{part}.parquet")
    assert store.names(LOG) == ["10", "11", "9.compact"], "no checksum of what it was"


def test_where_it_cannot_be_followed_both_places_are_named(tmp_path: Path) -> None:
    said = "Wrong basePath abfss://b/lake for the root path: abfss://a/lake/bronze/T/x.parquet"
    with (
        pytest.raises(
            PipelineError, match=rf"^T: the lake was moved .*{said}.*`tidemark rebuild` the table"
        ),
        where_it_lies(LocalStore(tmp_path), Lake(str(tmp_path)), "T"),
    ):
        raise RuntimeError(f"org.apache.spark.SparkException: {said}\nat org.apache")
    with (
        pytest.raises(ValueError, match="other"),
        where_it_lies(LocalStore(tmp_path), Lake(str(tmp_path)), "T"),
    ):
        raise ValueError("other")
