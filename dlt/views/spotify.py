"""Aggregates and business views over Spotify's gold tables."""

from __future__ import annotations

from pyspark import pipelines as dp
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

spark = SparkSession.active()


@dp.materialized_view(comment="How often, by how many and for how long each track was played")
def track_popularity() -> DataFrame:
    """One row per current track; a track that nobody played has 0."""
    tracks = spark.read.table("dim_track").where("__END_AT IS NULL")
    played = (
        spark.read.table("fact_stream")
        .groupBy("track_id")
        .agg(
            sf.count("*").alias("streams"),
            sf.count_distinct("user_id").alias("listeners"),
            sf.sum("listen_duration").alias("listen_seconds"),
            sf.max("stream_timestamp").alias("last_streamed_at"),
        )
    )
    return (
        tracks.select("track_id", "track_name", "artist_id")
        .join(played, "track_id", "left")
        .fillna(0, ["streams", "listeners", "listen_seconds"])
    )
