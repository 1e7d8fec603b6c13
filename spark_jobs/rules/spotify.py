"""Cleaning rules of the source `spotify`.

This file is yours. To clean another table, add a function named after it in snake_case
(`DimUser`: `dim_user`) that takes the table's rows as a DataFrame and returns them:

    def dim_date(rows: DataFrame) -> DataFrame:
        return rows.withColumn("is_weekend", sf.col("weekday").isin("Saturday", "Sunday"))

A table without a function passes through as it is. A rule sees some rows at a time, deletes among
them (only the key is filled there), so let NULL stay NULL. It may change, add and drop columns, but
not the key columns, nor those that begin with `_`, nor which rows there are. It holds for rows that
arrive from now on. Helpers: `trimmed(rows, "a", "b")`, `drop_columns(rows, "a")`.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from tidemark.spark.rules import trim, trimmed

# Letters and digits of every script (marks belong to their letters), spaces, and the punctuation
# that names use: . , ! ? & ' " ( ) / + : ; - and the typographic apostrophe, U+2019.
_NOT_IN_A_NAME = r"""[^\p{L}\p{M}\p{Nd} .,!?&'\x{2019}"()/+:;-]"""
_LOW_BELOW, _MEDIUM_BELOW = 150, 300  # seconds


def dim_user(rows: DataFrame) -> DataFrame:
    """Upper-case the trimmed user names."""
    return rows.withColumn("user_name", sf.upper(trim(sf.col("user_name"))))


def dim_track(rows: DataFrame) -> DataFrame:
    """Turn hyphens in track names into spaces, trim the names and grade the duration.

    `duration_flag` is low below 150 seconds, medium below 300, high from there; NULL if unknown.
    """
    seconds = sf.col("duration_sec")
    flag = sf.when(seconds < _LOW_BELOW, "low").when(seconds < _MEDIUM_BELOW, "medium")
    spaced = rows.withColumns(
        {
            "track_name": sf.translate("track_name", "-\u2010\u2011", "   "),
            "duration_flag": flag.when(seconds.isNotNull(), "high"),
        }
    )
    return trimmed(spaced, "track_name", "album_name")


def dim_artist(rows: DataFrame) -> DataFrame:
    """Reduce artist names to letters, digits, spaces and common punctuation, and trim them."""
    one_line = sf.regexp_replace("artist_name", r"(?U)\s", " ")
    plain = sf.regexp_replace(one_line, _NOT_IN_A_NAME, "")
    return rows.withColumn("artist_name", trim(plain))
