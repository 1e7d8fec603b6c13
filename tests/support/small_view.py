"""A view over two small gold tables, for tests whose tables have few columns."""

from __future__ import annotations

from pathlib import Path

_VIEW = """
from pyspark import pipelines as dp
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

spark = SparkSession.active()


@dp.materialized_view
def track_popularity() -> DataFrame:
    tracks = spark.read.table("dim_track").where("__END_AT IS NULL")
    played = spark.read.table("fact_stream").groupBy("track_id").agg(
        sf.count("*").alias("streams"),
        sf.count_distinct("user_id").alias("listeners"),
        sf.sum("listen_duration").alias("listen_seconds"),
    )
    return tracks.select("track_id", "track_name").join(played, "track_id", "left").fillna(0)
"""


def write_view(pipeline: Path, source: str) -> Path:
    """Let a pipeline's folder have this view alone, for a source."""
    views = pipeline / "views"
    for path in views.glob("*.py"):
        path.unlink()
    path = views / f"{source}.py"
    path.write_text(_VIEW)
    return path
