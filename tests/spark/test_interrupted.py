"""Random lives of a source, whole and stopped at every write: the lake ends as the oracle says.

Silver and gold are stopped before each of their writes in turn, run again and so stopped at the
next one; then after each. An exception stands in for the kill, so that one Spark serves all
attempts; then a process and its JVM are killed at some of them, and in `make soak` at each.
"""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import life as lives
from core_harness import SOAK
from life import SITES, StoppedError, begin, stopped_at
from pyspark.sql import SparkSession

# Delta begins a Parquet file at these; the others write a file of ours at once.
DELTA = [site for site in SITES if site[2] in {"silver_merge", "autocdc", "views"}]
KILLS = [(SITES[1], "within"), (SITES[8], "after")]
SOAK_KILLS = [
    *([(site, when) for site in SITES] for when in ("before", "after")),
    [(site, "within") for site in DELTA],
]
MANY = {
    f"{strategy.title()}{scd}{letter}": f"strategy: {strategy}, gold: {{scd: {scd}}}"
    for strategy in ("snapshot", "watermark")
    for scd in (1, 2)
    for letter in ("abcdefghij" if SOAK else "a")
}


def test_stopped_at_every_write_the_lake_ends_as_if_nothing_had_been(
    spark: SparkSession, tmp_path: Path
) -> None:
    life = begin(spark, tmp_path, random.Random(0))
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


def test_many_lives_end_as_the_source_and_its_history(spark: SparkSession, tmp_path: Path) -> None:
    # Ten sequences in each of four tables; with the soak's tables four hundred.
    life = begin(spark, tmp_path, random.Random(1), MANY, stories=10)
    (tmp_path / "dlt" / "views" / "spotify.py").unlink()
    for number in range(6 if SOAK else 2):
        life.happen(number)
        assert life.merge() == []
        life.check()


def test_killed_at_a_write_the_lake_ends_as_if_nothing_had_been(
    spark: SparkSession, tmp_path: Path
) -> None:
    life = begin(spark, tmp_path, random.Random(2))
    life.happen(0)
    assert life.merge() == []
    for number, kills in enumerate(SOAK_KILLS if SOAK else (KILLS,), start=1):
        life.happen(number)
        for (layer, *site), when in kills:
            if layer == "gold" and not SOAK:
                life.merge("silver")
            before = _not_committed(tmp_path / "lake" / layer)
            words = [sys.executable, str(lives.__file__), str(tmp_path), layer, *site, when]
            killed = subprocess.run(words, capture_output=True, text=True, check=False)
            assert killed.returncode == -9, killed.stderr[-3000:]
            assert killed.stdout.split()[-1] == site[-1]
            if when == "within":
                left = _not_committed(tmp_path / "lake" / layer) - before
                assert left, "the kill came too late"
        assert life.merge() == []
        life.check()


def _not_committed(layer: Path) -> set[str]:
    """Name the Parquet files of a layer that no commit of its tables names."""
    named = "".join(log.read_text() for log in layer.rglob("_delta_log/*.json"))
    files = (path.name for path in layer.rglob("*.parquet") if "_delta_log" not in path.parts)
    return {name for name in files if name not in named}
