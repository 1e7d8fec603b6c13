"""Aggregates over Spotify's gold tables, and a dimension derived from another."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from tidemark.spark.declare import materialized_view

spark = SparkSession.active()
SUMS = ["streams", "listeners", "listen_seconds"]


def current(table: str) -> DataFrame:
    """Read the current rows of a table with history."""
    return spark.read.table(table).where("__END_AT IS NULL")


def played(streams: DataFrame, *by: str) -> DataFrame:
    """Sum up streams: how often, by how many and for how long was played."""
    return streams.groupBy(*by).agg(
        sf.count("*").alias("streams"),
        sf.count_distinct("user_id").alias("listeners"),
        sf.sum("listen_duration").alias("listen_seconds"),
        sf.max("stream_timestamp").alias("last_streamed_at"),
    )


@materialized_view(
    comment="How often, by how many and for how long each track was played",
    reads=["dim_track", "fact_stream"],
)
def track_popularity() -> DataFrame:
    """One row per current track; a track that nobody played has 0."""
    tracks = current("dim_track").select("track_id", "track_name", "artist_id")
    streams = played(spark.read.table("fact_stream"), "track_id")
    return tracks.join(streams, "track_id", "left").fillna(0, SUMS)


@materialized_view(
    comment="How often, by how many and for how long each artist was played",
    reads=["dim_artist", "dim_track", "fact_stream"],
)
def artist_popularity() -> DataFrame:
    """One row per artist; one that nobody played has 0, and so has one without tracks."""
    own = current("dim_track").select("track_id", "artist_id")
    tracks = own.groupBy("artist_id").agg(sf.count("*").alias("tracks"))
    streams = played(spark.read.table("fact_stream").join(own, "track_id"), "artist_id")
    artists = spark.read.table("dim_artist").select("artist_id", "artist_name", "genre")
    joined = artists.join(tracks, "artist_id", "left").join(streams, "artist_id", "left")
    return joined.fillna(0, ["tracks", *SUMS])


@materialized_view(
    comment="What was played on each day, by kind of device",
    reads=["fact_stream"],
)
def user_engagement() -> DataFrame:
    """One row per day (UTC) and kind of device on which something was played."""
    streams = spark.read.table("fact_stream").withColumn("day", sf.to_date("stream_timestamp"))
    sums = played(streams, "day", "device_type").drop("last_streamed_at")
    each = sf.try_divide("listen_seconds", "listeners")  # nobody known may have listened
    return sums.withColumn("seconds_per_listener", each)


@materialized_view(
    comment="Albums, derived from the current tracks",
    reads=["dim_track"],
)
def dim_albums() -> DataFrame:
    """One row per artist and album name; tracks without an album are in none."""
    tracks = current("dim_track").where("album_name IS NOT NULL")
    return tracks.groupBy("artist_id", "album_name").agg(
        sf.count("*").alias("tracks"),
        sf.sum("duration_sec").alias("duration_sec"),
        sf.min("release_date").alias("first_released"),
        sf.max("release_date").alias("last_released"),
    )
