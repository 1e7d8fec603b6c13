"""Late rows that a backfill brings: the lake ends as if they had come in time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import life as lives
import polars as pl
import scd_oracle
from core_harness import SOAK, World
from life import begin
from pyspark.sql import SparkSession

from tidemark.windows import Interval

HOURS, KEYS = 6, 40
T0 = datetime(2026, 1, 1)  # noqa: DTZ001  wall clocks, as sources hold them
TABLES = {
    "History": "strategy: watermark, gold: {scd: 2, sequence_by: updated_at, track: [user_name]}",
    "Current": "strategy: watermark, gold: {scd: 1}",
}


@dataclass(frozen=True)
class Version:
    """A row as it is from some minute on; the source has it `late` hours after that."""

    key: int
    name: str
    minute: int
    late: int

    @property
    def hour(self) -> int:
        return self.minute // 60

    @property
    def row(self) -> tuple[int, str, str]:
        return self.key, self.name, f"{T0 + timedelta(minutes=self.minute)}"

    def put(self, world: World, *, backfill: bool = False) -> None:
        world.put(self.row)
        if backfill:
            first = T0.replace(tzinfo=UTC) + timedelta(hours=self.hour)
            world.run(Interval(first, first + timedelta(hours=1)))


def some_versions(chance: random.Random) -> list[Version]:
    """Give each key a version in some of the hours; every third is late."""
    return [
        Version(
            key=key,
            name=chance.choice("ab"),
            minute=hour * 60 + chance.randint(0, 59),
            late=chance.choice([0, 0, 1, 2, 4]) if hour else 0,
        )
        for key in range(KEYS)
        for hour in range(HOURS)
        if chance.random() < 0.6
    ]


def arrive(world: World, version: Version, known: dict[int, Version]) -> None:
    """Let a late row come and read its hour again; then what had replaced it, in the same way."""
    version.put(world, backfill=True)
    newer = known.get(version.key)
    if newer is not None and newer.minute > version.minute:
        newer.put(world, backfill=True)
    else:
        known[version.key] = version


def test_late_rows_end_as_if_they_had_come_in_time(spark: SparkSession, tmp_path: Path) -> None:
    for seed in range(8 if SOAK else 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        chance = random.Random(seed)
        versions = some_versions(chance)
        life = begin(spark, folder, chance, TABLES)
        (folder / "dlt" / "views" / "spotify.py").unlink()
        known: dict[str, dict[int, Version]] = {name: {} for name in TABLES}
        for hour in range(HOURS + 4):
            for name, world in life.worlds.items():
                for version in (v for v in versions if v.hour + v.late == hour):
                    if version.late:
                        arrive(world, version, known[name])
                    else:
                        version.put(world)
                        known[name][version.key] = version
                world.run()
            if hour in {1, HOURS, HOURS + 3}:
                assert life.merge() == []
        for name in TABLES:
            check(folder / "lake", name, versions)


def check(lake: Path, name: str, versions: list[Version]) -> None:
    events = [
        scd_oracle.Event(
            key=v.key,
            sequence=v.row[2],
            deleted=False,
            columns=(("user_name", v.name), ("updated_at", v.row[2])),
        )
        for v in versions
    ]
    names = list(lives.COLUMNS[1:])
    now = scd_oracle.current(events, names)
    text = [pl.col("user_id"), pl.col("user_name"), pl.col("updated_at").dt.to_string("%F %T")]
    silver = pl.read_delta(str(lake / "silver" / name)).select(text)
    assert set(silver.rows()) == now
    gold = pl.read_delta(str(lake / "gold" / name.lower()))
    if name == "Current":
        assert sorted(gold.select(text).rows()) == sorted(now)
        return
    bounds = [
        pl.col(bound).struct.field("updated_at").dt.to_string("%F %T").alias(bound)
        for bound in ("__START_AT", "__END_AT")
    ]
    history = scd_oracle.history(events, names, ["user_name"])
    assert sorted(gold.select(*text, *bounds).rows(), key=str) == sorted(history, key=str)
