"""Maintenance on real Delta: the same rows in fewer files, and silver and gold go on as ever."""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from life import Life, begin
from pyspark.sql import SparkSession

from tidemark.errors import LakeError
from tidemark.lake_tables import query
from tidemark.layers_lock import as_a_run, as_maintenance, as_the_writer
from tidemark.layout import Lake
from tidemark.metadata import Source
from tidemark.pending import gold_pending
from tidemark.spark.maintenance import TableResult, failure, run_maintenance, write_report
from tidemark.storage import LocalStore

NAMES = ("SeenOne", "SeenTwo")
SINGLE = ("gold/everybody", "_tidemark/autocdc/seen_one")
TABLES = {
    "SeenOne": "strategy: snapshot, gold: {scd: 1}, maintenance: {z_order: [user_id, user_name]}",
    "SeenTwo": "strategy: snapshot, gold: {scd: 2}, maintenance: {cluster_by: [user_id]}",
}


def harshest(source: Source) -> Source:
    """Keep nothing that no longer counts, which the metadata itself refuses."""
    changed = {
        name: table.model_copy(
            update={
                "maintenance": table.maintenance.model_copy(update={"vacuum": timedelta(0)}),
            }
        )
        for name, table in source.tables.items()
    }
    return source.model_copy(update={"tables": changed})


def maintain(life: Life, *, dry_run: bool = False) -> dict[str, TableResult]:
    source = harshest(life.source)
    pipeline = life.folder / "dlt"
    results = run_maintenance(life.spark, life.root, source, (), pipeline=pipeline, dry_run=dry_run)
    assert failure(results) is None
    return results


def files(life: Life) -> dict[str, list[str]]:
    """List the files that lie in each Delta table's folder, whether they count or not."""
    folders = [log.parent for log in Path(life.root).rglob("_delta_log")]
    return {
        str(folder.relative_to(life.root)): sorted(f.name for f in folder.glob("*.parquet"))
        for folder in folders
    }


def operations(path: Path) -> list[str]:
    return [str(commit["operation"]) for commit in DeltaTable(path).history()]


@pytest.fixture(scope="module")
def life(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Live through two runs, each of which leaves small files."""
    life = begin(spark, tmp_path_factory.mktemp("maintained"), random.Random(7), TABLES)
    for number in range(2):
        life.happen(number)
        assert life.merge() == []
    life.check()
    return life


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(life: Life) -> None:
    before = files(life)
    results = maintain(life, dry_run=True)
    assert files(life) == before
    done = {path: place.done for r in results.values() for path, place in r.places.items()}
    assert done["silver/SeenOne"][1:] == ("OPTIMIZE ZORDER BY (`user_id`, `user_name`)", "VACUUM")
    assert done["gold/seen_two"][0] == "ALTER TABLE CLUSTER BY (`user_id`)"
    assert done["silver/SeenTwo_changes"][1:] == ("OPTIMIZE", "VACUUM")
    assert set(done) == set(before)
    assert done["gold/everybody"] == ("OPTIMIZE", "VACUUM")


def test_the_rows_stay_in_fewer_files_and_no_gold_is_started(life: Life) -> None:
    before = files(life)
    results = maintain(life)
    life.check()
    after = files(life)
    for path in before:
        # A view's old files are not a week old yet, and an SCD 1 remembers its deletes in one file.
        if path not in SINGLE:
            assert len(after[path]) == 1 < len(before[path]), path
    places = {p: place for r in results.values() for p, place in r.places.items()}
    assert set(places) == set(before)
    assert all(p.removed > p.added == 1 for path, p in places.items() if path not in SINGLE)
    store, lake = LocalStore(Path(life.root)), Lake(life.root)
    assert gold_pending(store, lake, NAMES) == []
    assert life.merge() == []

    # Once more, and nothing is written anew.
    again = maintain(life)
    assert files(life) == after
    assert all(place.removed == 0 for r in again.values() for place in r.places.values())
    assert "OPTIMIZE" not in "".join(again["SeenOne"].places["silver/SeenOne"].done)


def test_runs_and_late_reads_go_on_from_what_was_maintained(life: Life) -> None:
    life.happen(2)
    assert life.merge() == []
    life.check()
    maintain(life)
    life.check()
    clustered = life.spark.sql(f"DESCRIBE DETAIL delta.`{life.root}/gold/seen_two`").collect()[0]
    assert clustered["clusteringColumns"] == ["user_id"]
    # What was before is gone with its files, and this is said.
    lake = Lake(life.root)
    with pytest.raises(LakeError, match="a VACUUM removes those of old versions"):
        query(lake, "SeenOne", at=0)


def test_gold_that_lags_behind_finds_every_file_that_it_has_not_read(life: Life) -> None:
    life.happen(3)
    assert life.merge("silver") == []
    store, lake = LocalStore(Path(life.root)), Lake(life.root)
    assert gold_pending(store, lake, NAMES) == list(NAMES)
    unread = files(life)["silver/SeenTwo_changes"]
    results = maintain(life)
    assert set(unread) <= set(files(life)["silver/SeenTwo_changes"])
    place = results["SeenTwo"].places["silver/SeenTwo_changes"]
    assert "VACUUM" not in place.done
    assert "gold has not read all of it" in place.note
    assert operations(Path(life.root, "silver/SeenTwo_changes"))[0] == "OPTIMIZE"
    assert gold_pending(store, lake, NAMES) == list(NAMES)
    assert life.merge() == []
    life.check()
    assert gold_pending(store, lake, NAMES) == []


def test_a_gold_that_is_built_anew_reads_what_was_put_together(life: Life) -> None:
    life.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]
    lake = Lake(life.root)
    for path in (lake.gold("seen_two"), lake.auxiliary("seen_two"),
                 lake.checkpoint("gold", "seen_two"), lake.marker("gold", "SeenTwo")):  # fmt: skip
        folder = Path(life.root, path)
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    life.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]
    assert life.merge() == []
    life.check()


def test_one_tables_failure_is_named_and_leaves_the_others(life: Life, tmp_path: Path) -> None:
    source = life.source
    table = source.tables["SeenOne"]
    wrong = table.model_copy(
        update={"maintenance": table.maintenance.model_copy(update={"z_order": ("user_nam",)})}
    )
    source = source.model_copy(update={"tables": {**source.tables, "SeenOne": wrong}})
    life.happen(4)
    assert life.merge() == []
    results = run_maintenance(life.spark, life.root, source, ())
    assert {name: r.status for name, r in results.items()} == {
        "SeenOne": "failed",
        "SeenTwo": "done",
    }
    error = failure(results)
    assert error is not None
    assert "SeenOne" in str(error) and "user_nam" in str(error)  # noqa: PT018  one message
    write_report(results, life.root, str(tmp_path / "report.json"))
    write_report(results, life.root, "lake:_tidemark/report.json")
    for path in (tmp_path / "report.json", Path(life.root, "_tidemark/report.json")):
        tables: dict[str, Any] = json.loads(path.read_text())["tables"]
        assert tables["SeenTwo"]["places"]["gold/seen_two"]["files"] >= 1
        assert "user_nam" in tables["SeenOne"]["error"]
    life.check()


def test_it_keeps_out_of_a_runs_way_and_a_run_waits_for_it(life: Life) -> None:
    lake = Lake(life.root)
    source = life.source
    with as_a_run(lake, source.name), pytest.raises(LakeError, match="job of a run is at work"):
        run_maintenance(life.spark, life.root, source, NAMES)
    waited: list[float] = []

    def run() -> None:
        with as_a_run(lake, source.name):
            waited.append(time.monotonic())

    with as_maintenance(lake, source.name):
        waiting = threading.Thread(target=run)
        waiting.start()
        time.sleep(0.5)
        assert waited == []
        with pytest.raises(LakeError, match=r"process \d+ on .* is maintaining its silver"):
            run_maintenance(life.spark, life.root, source, NAMES)
    waiting.join(120)
    assert len(waited) == 1
    with as_the_writer(lake, "SeenOne"):  # as a stream without end does
        results = run_maintenance(life.spark, life.root, source, ["SeenOne"])
    assert "is writing its silver" in str(failure(results))
