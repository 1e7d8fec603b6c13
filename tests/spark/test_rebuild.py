"""A rebuild on real Spark and Delta gives what the runs gave, and runs go on from it.

All tests share one lake: each begins with what lies there, and publishes later than the others.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from small_view import write_view

from tidemark.errors import LakeError, PipelineError
from tidemark.lake_tables import scan, table_names
from tidemark.layout import Lake
from tidemark.metadata import Source, load_source
from tidemark.pending import gold_pending, silver_pending
from tidemark.rebuild import Layer, complete, rebuild, undo
from tidemark.spark.gold import run_gold
from tidemark.spark.pipeline import PipelineReport
from tidemark.spark.silver import TableResult, failure, run_silver
from tidemark.storage import LocalStore
from tidemark.swap import Swap

PIPELINE = Path(__file__).parents[2] / "dlt"
CONFIG = """
source: {connection: c}
defaults: {cursor: updated_at}
tables:
  DimUser: {key: user_id, gold: {scd: 2}}
  DimTrack: {key: track_id, gold: {scd: 2, track: [track_name]}}
  FactStream: {key: stream_id, gold: {scd: 1}}
"""
NAMES = ["DimUser", "DimTrack", "FactStream"]
META = {
    "_sequence": pa.timestamp("us", "UTC"),
    "_operation": pa.string(),
    "_source_sequence": pa.string(),
    "_digest": pa.binary(16),
    "_run_id": pa.string(),
}
GONE = {"_operation": "delete"}
Rows = list[dict[str, Any]]
Run = tuple[dict[str, TableResult], PipelineReport]
Tables = dict[str, Rows]


@dataclass
class Home:
    """A lake whose bronze is written by hand, and its two jobs in the tests' own session."""

    spark: SparkSession
    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "rules").mkdir(parents=True)
        self.rule("")
        shutil.copytree(PIPELINE, self.folder / "dlt")
        write_view(self.folder / "dlt", "spotify")
        (self.folder / "spotify.yaml").write_text(CONFIG)
        self.lake = Lake(str(self.folder / "lake"))
        self.store = LocalStore(self.folder / "lake")

    def rule(self, text: str) -> None:
        head = "from pyspark.sql import functions as sf\n"
        (self.folder / "rules" / "spotify.py").write_text(head + text)

    @property
    def source(self) -> Source:
        return load_source(self.folder / "spotify.yaml", self.folder / "rules")

    def publish(self, table: str, minute: int, *rows: dict[str, Any]) -> None:
        sequence = dt.datetime(2026, 1, 1, 0, minute, tzinfo=dt.UTC)
        own = {"_sequence": sequence, "_digest": bytes(16), "_operation": "upsert"}
        full = [own | row for row in rows]
        names = dict.fromkeys(name for row in rows for name in row if name not in META)
        types = {name: pa.infer_type([row.get(name) for row in rows]) for name in names}
        path = self.store.local_path(self.lake.bronze_file(table, sequence))
        pq.write_table(pa.Table.from_pylist(full, pa.schema({**types, **META})), path)

    def silver(self, lake: Lake, tables: Sequence[str]) -> dict[str, TableResult]:
        # A job has a process of its own; this one remembers what lay at a path.
        self.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
        rules = self.folder / "rules"
        results = run_silver(self.spark, lake.root, self.source, tables, rules, beside=lake.beside)
        if error := failure(results):
            raise error
        return results

    def gold(self, lake: Lake, tables: Sequence[str]) -> PipelineReport:
        self.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
        report = run_gold(lake.root, self.source, self.folder / "dlt", tables, beside=lake.beside)
        if report.failure:
            raise report.failure
        return report

    def run(self) -> Run:
        """Do what a Dag's run does after its reads."""
        silver = self.silver(self.lake, silver_pending(self.store, self.lake, NAMES))
        gold = self.gold(self.lake, gold_pending(self.store, self.lake, NAMES))
        return silver, gold

    def rebuild(self, *names: str) -> Swap:
        def job(layer: Layer, lake: Lake, tables: Sequence[str]) -> None:
            assert lake == replace(self.lake, beside=lake.beside)
            (self.silver if layer == "silver" else self.gold)(lake, tables)

        return rebuild(self.lake, self.source, self.source.tables_named(names), job, print)

    def tables(self) -> Tables:
        """Read all of silver and gold, whatever the order of rows and columns."""
        names = table_names(self.lake)
        found = {name: scan(self.lake, name).collect() for name in names}
        return {
            name: sorted(rows.select(sorted(rows.columns)).to_dicts(), key=repr)
            for name, rows in found.items()
        }


def user(user_id: int, name: str, **more: Any) -> dict[str, Any]:
    return {"user_id": user_id, "user_name": name} | more


def track(track_id: int, name: str, artist_id: int) -> dict[str, Any]:
    return {"track_id": track_id, "track_name": name, "artist_id": artist_id}


def stream(stream_id: int, track_id: int, seconds: int) -> dict[str, Any]:
    at = dt.datetime(2026, 1, 1, 0, stream_id, tzinfo=dt.UTC)
    own = {"stream_id": stream_id, "track_id": track_id, "user_id": 1}
    return own | {"listen_duration": seconds, "stream_timestamp": at}


def three_runs(home: Home) -> None:
    home.publish("DimUser", 10, user(1, "Ann"), user(2, "Ben"), user(3, "Cid"))
    home.publish("DimTrack", 10, track(1, "a", 1), track(2, "b", 1))
    home.publish("FactStream", 10, stream(1, 1, 10), stream(2, 1, 20), stream(3, 2, 30))
    home.run()
    home.publish("DimUser", 20, user(1, "Ann B", country="Chile"), user(4, "Dee", country=None))
    home.publish("DimUser", 30, user(2, "Ben") | GONE, user(1, "Ann C", country="Peru"))
    home.publish("DimTrack", 20, track(1, "a", 2), track(2, "bb", 1), track(3, "c", 1))
    home.publish("FactStream", 20, stream(2, 1, 21), stream(3, 2, 30) | GONE)
    home.run()
    # Late: it was reserved before what the second run read, and published after it.
    home.publish("DimUser", 15, user(1, "Ann late"), user(2, "Ben late"), user(5, "Eve"))
    home.publish("DimUser", 40, user(2, "Ben again"), user(3, "Cid") | GONE)
    home.publish("FactStream", 15, stream(3, 2, 31), stream(4, 2, 40))
    home.run()


@pytest.fixture(scope="module")
def shared(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(spark, tmp_path_factory.mktemp("rebuild"))
    three_runs(home)
    return home


@pytest.fixture
def home(shared: Home) -> Home:
    shared.rule("")
    if silver_pending(shared.store, shared.lake, NAMES):
        shared.run()
    return shared


def test_it_gives_what_the_runs_gave_and_runs_go_on_from_it(home: Home) -> None:
    before = home.tables()
    names = {"DimUser", "DimUser_changes", "dim_user", "fact_stream", "track_popularity"}
    assert names <= set(before)
    assert sum(row["__END_AT"] is not None for row in before["dim_user"]) > 1
    assert {row["_operation"] for row in before["DimUser_changes"]} == {"upsert", "delete"}
    number = _batches(home, "DimUser")

    done = home.rebuild()
    assert home.tables() == before
    assert _batches(home, "DimUser") == 1 < number  # all at once, and yet the same
    assert silver_pending(home.store, home.lake, NAMES) == []
    assert gold_pending(home.store, home.lake, NAMES) == []
    assert Path(home.store.root, done.kept, "silver", "DimUser", "_delta_log").is_dir()

    # The next run takes what is new, and nothing else.
    home.publish("DimUser", 41, user(1, "Ann D"), user(4, "Dee") | GONE)
    home.publish("FactStream", 41, stream(5, 3, 50))
    silver, gold = home.run()
    assert {name: (r.rows_in, r.rows) for name, r in silver.items()} == {
        "DimUser": (2, 2), "FactStream": (1, 1)
    }  # fmt: skip
    assert {name: r.rows_in for name, r in gold.tables.items()} == {"DimUser": 2, "FactStream": 1}
    assert _batches(home, "DimUser") == 2
    after = home.tables()
    assert [r["streams"] for r in after["track_popularity"] if r["track_id"] == 3] == [1]
    assert {r["user_id"]: r["user_name"] for r in after["DimUser"]}[1] == "Ann D"
    assert 4 not in {r["user_id"] for r in after["DimUser"]}


def test_one_table_by_a_new_rule_and_back_again(home: Home) -> None:
    before = home.tables()
    home.rule('def dim_user(rows): return rows.withColumn("user_name", sf.upper("user_name"))\n')
    home.publish("FactStream", 50, stream(6, 2, 60))
    done = home.rebuild("DimUser")
    after = home.tables()
    for name, rows in before.items():
        if name in ("DimUser", "DimUser_changes", "dim_user"):
            upper = [row | {"user_name": _upper(row["user_name"])} for row in rows]
            assert after[name] == sorted(upper, key=repr)
        else:
            assert after[name] == rows

    # The view reads a table that is rebuilt and one that is not.
    home.rebuild("FactStream")
    popular = {row["track_id"]: row["streams"] for row in home.tables()["track_popularity"]}
    assert popular[2] == 1 + sum(r["streams"] for r in before["track_popularity"]
                                 if r["track_id"] == 2)  # fmt: skip

    # What the undo brings back goes on from where it was.
    undo(home.lake, "spotify", done.name)
    names = ("DimUser", "DimUser_changes", "dim_user")
    assert [home.tables()[name] for name in names] == [before[name] for name in names]
    home.rule("")
    home.publish("DimUser", 50, user(1, "Ann E"))
    silver, gold = home.run()
    assert {name: r.rows_in for name, r in silver.items()} == {"DimUser": 1}
    assert {name: r.rows_in for name, r in gold.tables.items()} == {"DimUser": 1}
    # The undo brought the old view back, too: the run has computed it.
    again = {row["track_id"]: row["streams"] for row in home.tables()["track_popularity"]}
    assert again == popular


def test_what_was_lost_is_healed_also_by_a_swap_that_is_killed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = home.tables()
    lake = home.lake
    for lost in (
        lake.checkpoint("silver", "DimUser"),
        lake.auxiliary("dim_user"),
        lake.gold("fact_stream"),
        lake.changes("DimTrack"),
    ):
        shutil.rmtree(home.store.root / lost)
    move = LocalStore.move
    monkeypatch.setattr(LocalStore, "move", _killing(9))
    with pytest.raises(_Killed):
        home.rebuild()
    monkeypatch.setattr(LocalStore, "move", move)
    home.publish("DimUser", 51, user(1, "Ann F"))
    for run in (home.silver, home.gold):
        with pytest.raises(PipelineError, match="killed while it swapped"):
            run(home.lake, ["DimUser"])
    assert complete(home.lake, "spotify") is not None
    assert home.tables() == before
    silver, gold = home.run()
    assert (silver["DimUser"].rows_in, gold.tables["DimUser"].rows_in) == (1, 1)


def test_a_failed_table_and_a_run_meanwhile_leave_all_as_it_was(home: Home) -> None:
    before = home.tables()
    home.rule('def dim_user(rows): return rows.drop("_sequence")\n')
    with pytest.raises(PipelineError, match="DimUser: rule dim_user dropped column _sequence"):
        home.rebuild("DimUser")
    assert home.tables() == before
    home.rule("")

    def job(layer: Layer, lake: Lake, tables: Sequence[str]) -> None:
        if layer == "gold":
            home.gold(lake, tables)
            return
        home.silver(lake, tables)
        # A read publishes while the rebuild is at work, and its run's silver is refused.
        home.publish("DimUser", 55, user(1, "Ann G"))
        with pytest.raises(PipelineError, match="is rebuilding its silver and gold"):
            home.silver(home.lake, ["DimUser"])
        with pytest.raises(LakeError, match="rebuilding its silver and gold; wait"):
            home.rebuild()

    rebuild(home.lake, home.source, home.source.tables_named(["DimUser"]), job, print)
    assert home.tables() == before
    assert silver_pending(home.store, home.lake, NAMES) == ["DimUser"]
    silver, _ = home.run()
    assert silver["DimUser"].rows_in == 1


class _Killed(BaseException):
    """The process ends here."""


def _killing(number: int) -> Callable[[LocalStore, str, str], None]:
    left = list(range(number))
    move = LocalStore.move

    def moving(self: LocalStore, source: str, target: str) -> None:
        if not left:
            raise _Killed
        left.pop()
        move(self, source, target)

    return moving


def _upper(name: str | None) -> str | None:
    return name.upper() if name else None


def _batches(home: Home, table: str) -> int:
    """Count the batches that silver's stream has read, by its checkpoint."""
    offsets = home.store.names(f"{home.lake.checkpoint('silver', table)}/offsets")
    content = [home.store.read(f"{home.lake.checkpoint('silver', table)}/offsets/{name}")
               for name in offsets if name.isdigit()]  # fmt: skip
    assert all(c and json.loads(c.data.splitlines()[-1]) for c in content)
    return len(content)
