"""Random lives of a source through the real ingest, silver and gold, stopped wherever one likes.

As a program it brings a lake's silver or gold up to date and kills itself, and its JVM, at a write.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import scd_oracle
from core_harness import DIM_USER, World
from delta.tables import DeltaMergeBuilder
from pyspark.sql import DataFrameWriter, SparkSession

from tidemark.layout import Lake
from tidemark.metadata import Source, load_source
from tidemark.pending import gold_pending, silver_pending
from tidemark.spark.gold import run_gold
from tidemark.spark.session import build_session
from tidemark.spark.silver import run_silver
from tidemark.storage import LocalStore
from tidemark.windows import Interval

DLT = Path(__file__).parents[2] / "dlt"
COLUMNS = ("user_id", "user_name", "updated_at")
T0 = datetime(2026, 1, 1)  # noqa: DTZ001  wall clocks, as sources hold them
TABLES = {
    "SeenOne": "strategy: snapshot, gold: {scd: 1}",
    "SeenTwo": "strategy: snapshot, gold: {scd: 2}",
}
# The functions that write, in the order in which a run comes to them; see WRITERS in
# tests/unit/test_killed_anywhere.py.
SITES = [
    ("silver", "SeenOne", "bronze_stream", "write_schema"),
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


def _raise(function: str) -> None:
    raise StoppedError(function)


@contextmanager
def stopped_at(
    module: str, function: str, *, before: bool, stop: Callable[[str], None] = _raise
) -> Iterator[list[str]]:
    """Stop once, before or after what a function writes; the value tells whether it came to it."""
    hit: list[str] = []

    def watching(plain: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            caller = sys._getframe(1)
            here = caller.f_code.co_name == function and module in caller.f_code.co_filename
            if here and before and not hit:
                hit.append(function)
                stop(function)
            result = plain(*arguments, **options)
            if here and not hit:
                hit.append(function)
                stop(function)
            return result

        return call

    with (
        patch.object(DataFrameWriter, "save", watching(DataFrameWriter.save)),
        patch.object(DeltaMergeBuilder, "execute", watching(DeltaMergeBuilder.execute)),
        patch.object(LocalStore, "write", watching(LocalStore.write)),
        patch.object(LocalStore, "write_if", watching(LocalStore.write_if)),
    ):
        yield hit


def begin(
    spark: SparkSession,
    folder: Path,
    chance: random.Random,
    tables: Mapping[str, str] = TABLES,
    stories: int = 1,
) -> Life:
    """Make the metadata and an empty source."""
    text = "".join(
        f"  {name}: {{key: user_id, cursor: updated_at, {fields}}}\n"
        for name, fields in tables.items()
    )
    path = folder / "config" / "spotify.yaml"
    path.parent.mkdir()
    path.write_text(f"source: {{connection: c}}\ntables:\n{text}")
    shutil.copytree(DLT, folder / "dlt", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "dlt" / "views" / "spotify.py").write_text(VIEW)
    life = Life(spark, folder, chance, stories)
    for name, world in life.worlds.items():
        world.sql(DIM_USER.replace("DimUser", name))
    return life


@dataclass
class Life:
    """A source of several tables, its lake, and a random choice of what happens.

    Attributes:
        spark: The session.
        folder: Where all of it lies.
        chance: What chooses.
        stories: In each table, sequences of changes that know nothing of each other: nine keys
            each.
        worlds: The tables.
    """

    spark: SparkSession
    folder: Path
    chance: random.Random
    stories: int = 1
    worlds: dict[str, World] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.worlds = {name: World(self.folder, t) for name, t in self.source.tables.items()}

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
            for story in range(self.stories):
                for _ in range(self.chance.randint(4, 12)):
                    self._change(world, number, story)
            if self.chance.random() < 0.3:
                begin = T0.replace(tzinfo=UTC) + timedelta(hours=self.chance.randint(0, number + 1))
                world.run(Interval(begin, begin + timedelta(hours=1)))
                self._change(world, number)
            world.run()
            world.sql(f"ALTER TABLE {world.name} ADD COLUMN more_{number} TEXT")

    def _change(self, world: World, number: int, story: int = 0) -> None:
        key, name = story * 1000 + self.chance.randint(1, 9), self.chance.choice("abc")
        minute = self.chance.choice([number * 60, number * 60 + 30, -5000, None])
        stamp = None if minute is None else f"{T0 + timedelta(minutes=minute)}"
        if self.chance.random() < 0.25:
            world.sql(f"DELETE FROM {world.name} WHERE user_id = {key}")
        else:
            world.put((key, name, stamp))

    def merge(self, layer: str = "", tables: Iterable[str] = ()) -> list[str]:
        """Run a layer, or both, for what is pending; name what failed."""
        tables = list(tables) or list(self.worlds)
        store, lake = LocalStore(Path(self.root)), Lake(self.root)
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
            folder, gold = Path(self.root), world.table.gold
            assert gold is not None
            silver = _rows(folder / "silver" / name)
            assert silver == {
                _plain(tuple(row[column] for column in COLUMNS)) for row in world.replay().values()
            }
            if world.table.strategy == "snapshot":
                assert silver == {_plain(row[:3]) for row in world.rows()}
            if gold.scd == 1:
                assert _rows(folder / "gold" / gold.name) == silver
                continue
            history = _rows(folder / "gold" / gold.name, "__START_AT", "__END_AT")
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


def _kill(spark: SparkSession) -> Callable[[str], None]:
    """Kill the JVM and this process, without a word."""

    def kill(function: str) -> None:
        sys.stdout.write(f"{function}\n")
        sys.stdout.flush()
        os.kill(spark.sparkContext._gateway.proc.pid, signal.SIGKILL)  # type: ignore[union-attr]
        os.kill(os.getpid(), signal.SIGKILL)

    return kill


def _kill_within(lake: Path, kill: Callable[[str], None]) -> Callable[[str], None]:
    """Kill as soon as Delta has begun a Parquet file, which no commit names yet."""

    def watch(function: str, known: set[Path]) -> None:
        while set(lake.rglob("*.parquet")) <= known:
            time.sleep(0.001)
        kill(function)

    def begin_to_watch(function: str) -> None:
        arguments = (function, set(lake.rglob("*.parquet")))
        threading.Thread(target=watch, args=arguments, daemon=True).start()

    return begin_to_watch


def main() -> None:
    """Bring a layer of one table up to date, and be killed at a write of it."""
    folder, layer, table, module, function, when = sys.argv[1:]
    session = build_session("tidemark-killed", master="local[2]")
    life = Life(session, Path(folder), random.Random(0))
    kill = _kill(session)
    stop = _kill_within(Path(folder, "lake", layer), kill) if when == "within" else kill
    with stopped_at(module, function, before=when != "after", stop=stop):
        life.merge(layer, [table])


if __name__ == "__main__":
    main()
