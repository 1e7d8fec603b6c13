from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from life import StoppedError, stopped_at
from pyspark.sql import SparkSession

from tidemark.layout import Lake
from tidemark.metadata import load_source
from tidemark.spark.pipeline import PipelineReport, run_pipeline

PIPELINE = Path(__file__).parents[2] / "dlt"
CONFIG = """
source: {connection: c}
tables:
  DimUser:
    key: [part, user_id]
    gold:
      scd: 2
      expect: {named: user_name IS NOT NULL, long: length(user_name) > 1}
      expect_or_drop: {with_id: user_id IS NOT NULL, old: age >= 18}
      expect_or_fail: {sane: age < 200 OR age IS NULL}
"""
FAILING = "old: age >= 18}\n      expect_or_fail: {sane:"
DROPPING = "old: age >= 18, sane:"
VIEW = """
from pyspark import pipelines as dp
from pyspark.sql import SparkSession
from tidemark.spark.declare import expect, expect_or_drop, expect_or_fail

@dp.materialized_view
@expect("not_ann", "user_name <> 'ANN'")
@expect_or_drop("adult", "age > 20")
@expect_or_fail("below", "user_id < 100")
def people():
    return SparkSession.active().read.table("dim_user").where("__END_AT IS NULL")
"""


class World:
    """A table's changes, and the gold that is made of them."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder, self.lake = spark, folder, Lake(str(folder / "lake"))
        (folder / "config").mkdir()
        self.config(CONFIG)
        shutil.copytree(PIPELINE, folder / "dlt", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "dlt" / "views" / "c.py").write_text(VIEW)

    def config(self, text: str) -> None:
        (self.folder / "config" / "c.yaml").write_text(text)

    def change(self, *rows: str, operation: str = "upsert", day: int = 5) -> None:
        meta = (
            f"TIMESTAMP '2026-01-{day:02}' _sequence, '{operation}' _operation, "
            "CAST(NULL AS STRING) _source_sequence, X'00' _digest, 'r' _run_id"
        )
        names = "AS t(part, user_id, user_name, age)"
        found = self.spark.sql(f"SELECT *, {meta} FROM VALUES {', '.join(rows)} {names}")
        found.write.format("delta").mode("append").save(self.lake.url(self.lake.changes("DimUser")))

    def run(self) -> PipelineReport:
        source = load_source(self.folder / "config" / "c.yaml")
        return run_pipeline(self.spark, self.lake, source, self.folder / "dlt", ["DimUser"])

    def rows(self, name: str, *columns: str) -> list[Any]:
        frame = self.spark.read.format("delta").load(self.lake.url(self.lake.gold(name)))
        return sorted((tuple(row) for row in frame.select(*columns).collect()), key=str)


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path) -> World:
    return World(spark, tmp_path)


FIRST = ("('a', 1, 'ANN', 30)", "('a', 2, 'B', 18)", "('a', 3, NULL, 40)", "('a', 4, 'DI', NULL)")
BROKEN = "__FAILED_EXPECTATIONS"


def test_what_fails_is_kept_dropped_or_stops_its_table(world: World) -> None:
    world.change(*FIRST, "('a', CAST(NULL AS INT), 'X', 3)")
    first = world.run()
    assert first.failure is None
    # NULL is not true, whatever the kind; a row that fails two counts for both.
    assert first.warned == {"dim_user": {"named": 1, "long": 3}, "people": {"not_ann": 2}}
    assert first.dropped == {"dim_user": {"with_id": 1, "old": 2}, "people": {"adult": 1}}
    assert first.quarantined == {"dim_user": 2}
    assert first.tables["DimUser"].rows == 3
    assert world.rows("dim_user", "user_id", "age") == [(1, 30), (2, 18), (3, 40)]
    assert world.rows("people", "user_id") == [(1,), (3,)]
    kept = world.rows("dim_user_quarantine", "user_name", "_operation", "_run_id", BROKEN)
    assert kept == [("DI", "upsert", "r", ["old"]), ("X", "upsert", "r", ["with_id", "old"])]
    report = world.folder / "report.json"
    first.write(report)
    assert json.loads(report.read_text())["quarantined"] == {"dim_user": 2}

    # A delete is judged by nobody; a row that fails stops its batch, and nothing of it is applied.
    world.change("('a', 1, NULL, NULL)", operation="delete", day=6)
    world.change("('a', 9, 'OLD', 201)", "('a', 8, 'OLDER', 300)", "('a', 7, 'NO', 1)", day=6)
    failed = world.run()
    assert failed.done == []
    message = str(failed.tables["DimUser"].error)
    predicate = "_operation = 'delete' OR (age < 200 OR age IS NULL)"
    assert message.startswith(
        f"dim_user: expectation 'sane' ({predicate}) is not met by 2 rows, "
        'such as {"part":"a","user_id":8}; nothing of this batch was applied.'
    )
    assert "expect_or_drop" in message
    assert world.rows("dim_user", "user_id", "__END_AT") == [(1, None), (2, None), (3, None)]
    assert len(world.rows("dim_user_quarantine", BROKEN)) == 2
    assert failed.views["people"].status == "done"

    # Named under another kind, the same rows are gone on without; nothing is lost or doubled.
    world.config(CONFIG.replace(FAILING, DROPPING))
    mended = world.run()
    assert mended.failure is None
    assert mended.dropped["dim_user"] == {"with_id": 0, "old": 1, "sane": 2}
    assert mended.quarantined == {"dim_user": 3}
    assert [row[0] for row in world.rows("dim_user", "user_id", "__END_AT") if not row[1]] == [2, 3]
    assert len(world.rows("dim_user_quarantine", BROKEN)) == 5


def test_a_batch_that_is_stopped_after_its_quarantine_quarantines_once(world: World) -> None:
    world.change(*FIRST)
    assert world.run().quarantined == {"dim_user": 1}
    world.change("('a', 5, 'KID', 3)", "('a', 6, 'FAY', 33)", day=6)
    with stopped_at("flow", "_quarantine", before=False) as hit:
        stopped = world.run()
    assert hit == ["_quarantine"]
    assert StoppedError.__name__ in str(stopped.tables["DimUser"].error)
    assert (6,) not in world.rows("dim_user", "user_id")
    assert world.run().failure is None
    assert (6,) in world.rows("dim_user", "user_id")
    assert world.rows("dim_user_quarantine", "user_name") == [("DI",), ("KID",)]


# Without the view, which the changes of rules say nothing about.
RULES = """
source: {{connection: c}}
tables:
  DimUser: {{key: [part, user_id], gold: {{scd: 2{rules}}}}}
"""
OLD, NEW = (
    RULES.format(rules=f', expect: {{n: "true"}}, expect_or_drop: {{kept: {rule}}}')
    for rule in ("age >= 18", "age <= 50")
)
NONE = RULES.format(rules="")
# Where the first attempt is stopped, what the second finds in the metadata, and who judges.
STOPS = [
    ("begun", "begin", True, NEW, "new"),
    ("begun", "begin", False, NEW, "old"),
    ("flow", "_quarantine", True, NONE, "old"),
    ("flow", "_quarantine", False, NEW, "old"),
    ("autocdc", "append_events", False, NEW, "old"),
]


def test_a_batch_that_was_begun_ends_by_the_rules_that_it_was_begun_with(world: World) -> None:
    (world.folder / "dlt" / "views" / "c.py").unlink()
    world.config(OLD)
    world.change("('a', 0, 'ANN', 30)")  # so that a later batch merges
    assert world.run().failure is None
    for number, (module, function, before, retried, judged) in enumerate(STOPS, start=1):
        kid, mia, oma = (number * 10 + each for each in range(3))
        rows = (f"('a', {kid}, 'KID', 10)", f"('a', {mia}, 'MIA', 30)", f"('a', {oma}, 'OMA', 60)")
        world.config(OLD)
        world.change(*rows, day=5 + number)
        with stopped_at(module, function, before=before) as hit:
            assert StoppedError.__name__ in str(world.run().failure)
        assert hit == [function]
        world.config(retried)
        report = world.run()
        assert report.failure is None
        assert report.dropped["dim_user"]["kept"] == 1
        # Each row is in one of the two, and once.
        kept = [i for (i,) in world.rows("dim_user", "user_id") if i >= kid]
        dropped = [i for (i,) in world.rows("dim_user_quarantine", "user_id") if i >= kid]
        wanted = {"old": ([mia, oma], [kid]), "new": ([kid, mia], [oma])}[judged]
        assert (sorted(kept), dropped) == wanted, (function, before)


def test_a_view_that_a_row_fails_stays_as_it_was(world: World) -> None:
    world.change("('a', 1, 'ANN', 30)")
    assert world.run().failure is None
    world.change("('a', 100, 'BO', 40)", day=6)
    failed = world.run()
    message = "people: expectation 'below' (user_id < 100) is not met by 1 rows, such as "
    assert message + '{"part":"a"}' in str(failed.failure)
    assert failed.tables["DimUser"].status == "done"
    assert world.rows("people", "user_id") == [(1,)]
