"""Random lives of a source through the real ingest, silver and gold, stopped at every write.

Silver and gold are stopped before each of their writes in turn, run again and so stopped at the
next one; then after each. In the end silver, SCD type 1 and the current rows of SCD type 2 are
the source where the strategy sees everything, and the history is that of all changes in bronze.
An exception stands in for the kill, so that one Spark serves all attempts; whole processes are
killed in tests/integration/test_broken_on_purpose.py.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import pytest
import scd_oracle
from core_harness import DIM_USER, World
from delta.tables import DeltaMergeBuilder
from pyspark.sql import DataFrameWriter, SparkSession

from tidemark.metadata import Source, load_source
from tidemark.pending import gold_pending, silver_pending
from tidemark.spark.gold import run_gold
from tidemark.spark.silver import run_silver
from tidemark.storage import LocalStore

DLT = Path(__file__).parents[2] / "dlt"
COLUMNS = ("user_id", "user_name", "updated_at")
T0 = datetime(2026, 1, 1)  # noqa: DTZ001  wall clocks, as sources hold them
SEEDS = range(8 if os.environ.get("TIDEMARK_SOAK") == "1" else 1)
TABLES = {
    "SeenOne": "strategy: snapshot, gold: {scd: 1}",
    "SeenTwo": "strategy: snapshot, gold: {scd: 2}",
}
# The functions that write, in the order in which a run comes to them; see WRITERS in
# tests/unit/test_killed_anywhere.py.
SITES = [
    ("silver", "SeenOne", "bronze_stream", "_write"),
    ("silver", "SeenOne", "silver_merge", "_append"),
    ("silver", "SeenOne", "silver_merge", "_merge"),
    ("silver", "SeenOne", "pending", "_write"),
    ("gold", "SeenOne", "autocdc", "remember_deletes"),
    ("gold", "SeenOne", "autocdc", "merge_newest"),
    ("silver", "SeenTwo", "silver_merge", "_merge"),
    ("gold", "SeenTwo", "autocdc", "append_events"),
    ("gold", "SeenTwo", "autocdc", "_merge"),
    ("gold", "SeenTwo", "views", "_write"),
    ("gold", "SeenTwo", "pending", "_write"),
]
VIEW = """
from pyspark import pipelines as dp
from pyspark.sql import DataFrame, SparkSession

@dp.materialized_view
def everybody() -> DataFrame:
    return SparkSession.active().read.table("seen_one").select("user_id")
"""


class StoppedError(RuntimeError):
    """The process would have ended here."""


@contextmanager
def stopped_at(module: str, function: str, *, before: bool) -> Iterator[list[str]]:
    """Stop once, before or after what a function writes; the value tells whether it came to it."""
    hit: list[str] = []

    def watching(plain: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            caller = sys._getframe(1)
            here = caller.f_code.co_name == function and module in caller.f_code.co_filename
            if here and before and not hit:
                hit.append(function)
                raise StoppedError(function)
            result = plain(*arguments, **options)
            if here and not hit:
                hit.append(function)
                raise StoppedError(function)
            return result

        return call

    with (
        patch.object(DataFrameWriter, "save", watching(DataFrameWriter.save)),
        patch.object(DeltaMergeBuilder, "execute", watching(DeltaMergeBuilder.execute)),
        patch.object(LocalStore, "write", watching(LocalStore.write)),
    ):
        yield hit


@dataclass
class Life:
    """A source of several tables, its lake, and a random choice of what happens."""

    spark: SparkSession
    folder: Path
    chance: random.Random
    worlds: dict[str, World] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tables = "".join(
            f"  {name}: {{key: user_id, cursor: updated_at, {fields}}}\n"
            for name, fields in TABLES.items()
        )
        path = self.folder / "config" / "spotify.yaml"
        path.parent.mkdir()
        path.write_text(f"source: {{connection: c}}\ntables:\n{tables}")
        shutil.copytree(DLT, self.folder / "dlt", ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / "dlt" / "views" / "spotify.py").write_text(VIEW)
        for name in TABLES:
            self.worlds[name] = World(self.folder, self.source.tables[name])
            self.worlds[name].sql(DIM_USER.replace("DimUser", name))

    @property
    def source(self) -> Source:
        return load_source(self.folder / "config" / "spotify.yaml")

    @property
    def root(self) -> str:
        return str(self.folder / "lake")

    def happen(self, number: int) -> None:
        """Let every table live on a little, with a delete and a new column, and read it."""
        for world in self.worlds.values():
            world.put((100 + number, "a", None), (200 + number, "b", f"{T0}"))
            world.sql(f"DELETE FROM {world.name} WHERE user_id = {99 + number}")
            for _ in range(self.chance.randint(4, 12)):
                self._change(world, number)
            world.run()
            world.sql(f"ALTER TABLE {world.name} ADD COLUMN more_{number} TEXT")

    def _change(self, world: World, number: int) -> None:
        key, name = self.chance.randint(1, 9), self.chance.choice("abc")
        minute = self.chance.choice([number * 60, number * 60 + 30, -5000, None])
        stamp = None if minute is None else f"{T0 + timedelta(minutes=minute)}"
        if self.chance.random() < 0.25:
            world.sql(f"DELETE FROM {world.name} WHERE user_id = {key}")
        else:
            world.put((key, name, stamp))

    def merge(self, layer: str = "", tables: Iterable[str] = TABLES) -> list[str]:
        """Run a layer, or both, for what is pending; name what failed."""
        store, lake = LocalStore(Path(self.root)), self.worlds["SeenOne"].lake
        failed: list[str] = []
        names = silver_pending(store, lake, tables)
        if names and layer != "gold":
            done = run_silver(self.spark, self.root, self.source, names, self.folder / "rules")
            failed += [str(result.error) for result in done.values() if result.error]
        names = gold_pending(store, lake, tables)
        if names and layer != "silver":
            report = run_gold(self.root, self.source, self.folder / "dlt", names)
            failed += [str(report.failure)] if report.failure else []
        return failed

    def check(self) -> None:
        """Compare every layer with the source, and the history with all that was read."""
        for name, world in self.worlds.items():
            folder = Path(self.root)
            silver = _rows(folder / "silver" / name)
            assert silver == {_plain(row[:3]) for row in world.rows()}
            if name == "SeenOne":
                assert _rows(folder / "gold" / "seen_one") == silver
                continue
            history = _rows(folder / "gold" / "seen_two", "__START_AT", "__END_AT")
            assert history == _history(world)
            assert {row[:3] for row in history if row[-1] is None} == silver


def _rows(path: Path, *more: str) -> set[tuple[Any, ...]]:
    frame = pl.read_delta(str(path)).select(*COLUMNS, *more)
    found = [_plain(row) for row in frame.rows()]
    assert len(set(found)) == len(found), path
    return set(found)


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Take timestamps as text, as the source has them: Spark keeps its wall clock as UTC."""
    return tuple(str(v.replace(tzinfo=None)) if isinstance(v, datetime) else v for v in row)


def _history(world: World) -> set[tuple[Any, ...]]:
    names = [*COLUMNS[1:], *(f"more_{n}" for n in range(9))]
    events = [
        scd_oracle.Event(
            key=row["user_id"],
            sequence=row["_sequence"],
            deleted=row["_operation"] == "delete",
            columns=tuple((name, row.get(name)) for name in names),
        )
        for row in world.bronze()
    ]
    rows = scd_oracle.history(events, names, names)
    return {_plain((*row[:3], *row[-2:])) for row in rows}


@pytest.mark.parametrize("seed", SEEDS)
def test_stopped_at_every_write_the_lake_ends_as_if_nothing_had_been(
    spark: SparkSession, tmp_path: Path, seed: int
) -> None:
    life = Life(spark, tmp_path, random.Random(seed))
    life.happen(0)
    assert life.merge() == []
    life.check()
    for number, before in ((1, True), (2, False)):
        life.happen(number)
        for layer, table, module, function in SITES:
            with stopped_at(module, function, before=before) as hit, suppress(StoppedError):
                life.merge(layer, [table])
            assert hit == [function], (table, function, before)
        assert life.merge() == []
        life.check()
    life.happen(3)
    assert life.merge() == []
    life.check()
