"""Spotify's views, over random gold tables with gaps, against an oracle in plain Python."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import view_oracle
from pyspark.sql import SparkSession

from tidemark.layout import Lake
from tidemark.metadata import load_source
from tidemark.spark.pipeline import run_pipeline

PROJECT = Path(__file__).parents[2]
SCHEMAS = {
    "dim_user": "user_id INT, user_name STRING, country STRING",
    "dim_artist": "artist_id INT, artist_name STRING, genre STRING",
    "dim_track": "track_id INT, track_name STRING, artist_id INT, album_name STRING, "
    "duration_sec INT, release_date DATE",
    "fact_stream": "stream_id INT, user_id INT, track_id INT, device_type STRING, "
    "listen_duration INT, stream_timestamp TIMESTAMP",
}
HISTORY = ("dim_user", "dim_track")
NOON = datetime(2026, 1, 5, 12)  # noqa: DTZ001  Spark's wall clock
Rows = list[dict[str, Any]]


def _tables(chance: random.Random) -> dict[str, Rows]:
    def some(value: Any) -> Any:
        return None if chance.random() < 0.15 else value

    def moment() -> datetime:
        return NOON + timedelta(hours=chance.randint(0, 60))

    return {
        "dim_user": [
            {"user_id": n, "user_name": some(f"U{n}"), "country": some("AT")} for n in range(8)
        ],
        "dim_artist": [
            {"artist_id": n, "artist_name": some(f"A{n}"), "genre": some("Rock")} for n in range(6)
        ],
        "dim_track": [
            {
                "track_id": n,
                "track_name": some(f"T{n}"),
                "artist_id": some(chance.randint(0, 7)),  # some are of nobody we know
                "album_name": some(chance.choice(["Blue", "Red"])),
                "duration_sec": some(chance.randint(60, 400)),
                "release_date": some(date(2020, 1, 1) + timedelta(days=chance.randint(0, 900))),
            }
            for n in range(14)
        ],
        "fact_stream": [
            {
                "stream_id": n,
                "user_id": some(chance.randint(0, 9)),
                "track_id": some(chance.randint(0, 16)),
                "device_type": some(chance.choice(["Mobile", "Car"])),
                "listen_duration": some(chance.randint(1, 300)),
                "stream_timestamp": some(moment()),
            }
            for n in range(60)
        ],
    }


def _plain(rows: Rows) -> list[str]:
    """Write rows so that they compare, whatever their order."""
    return sorted(repr(sorted(row.items())) for row in rows)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_views_are_what_the_oracle_says(spark: SparkSession, tmp_path: Path, seed: int) -> None:
    source, lake = load_source(PROJECT / "config" / "spotify.yaml"), Lake(str(tmp_path))
    tables = _tables(random.Random(seed))
    for name, rows in tables.items():
        schema, values = SCHEMAS[name], rows
        if name in HISTORY:
            schema += ", __START_AT TIMESTAMP, __END_AT TIMESTAMP"
            ended = [row | {"__END_AT": NOON} for row in rows[::2]]
            values = [*rows, *(row | {"album_name": "Old", "user_name": "OLD"} for row in ended)]
        names = [each.split()[0] for each in schema.split(", ")]
        frame = spark.createDataFrame([tuple(map(r.get, names)) for r in values], schema)
        frame.write.format("delta").save(lake.url(lake.gold(name)))
    report = run_pipeline(spark, lake, source, PROJECT / "dlt", [])
    assert report.failure is None
    wanted = view_oracle.views(tables)
    assert set(report.views) == set(wanted)
    for name, rows in wanted.items():
        found = spark.read.format("delta").load(lake.url(lake.gold(name))).collect()
        assert _plain([row.asDict() for row in found]) == _plain(rows), name
