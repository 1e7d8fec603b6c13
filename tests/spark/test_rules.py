"""The rules of `spotify`, and what keeps any rule from harming a row's identity."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.errors import SparkRuntimeException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from tidemark.errors import PipelineError
from tidemark.spark.rules import Rule, TableRule, cleaned, drop_columns, find_rule

SPOTIFY = Path(__file__).parents[2] / "spark_jobs" / "rules" / "spotify.py"


def pairs_of(rows: DataFrame, rule: str, table: str, *columns: str) -> dict[object, object]:
    """Apply a spotify rule; give the two columns, before and after, as a mapping."""
    function = find_rule(SPOTIFY, rule, table).apply
    return {row[0]: row[1] for row in function(rows).select(*columns).collect()}


def test_user_names_are_trimmed_and_in_capitals(spark: SparkSession) -> None:
    names = {" Ann \u00a0": "ANN", "\tjosé da silva": "JOSÉ DA SILVA", "": "", None: None}
    rows = spark.createDataFrame([(n, n) for n in names], "was string, user_name string")
    assert pairs_of(rows, "dim_user", "DimUser", "was", "user_name") == names


def test_artist_names_keep_letters_digits_spaces_and_common_punctuation(
    spark: SparkSession,
) -> None:
    names = {
        "Tyler, The Creator!": "Tyler, The Creator!",
        "Guns N\u2019 Roses (live) [x]": "Guns N\u2019 Roses (live) x",
        'AC/DC & blink-182; \'n: "q"+?.': 'AC/DC & blink-182; \'n: "q"+?.',
        " \u266bBj\u00f6rk\u2122\n\u5b87\u591a\u7530 ": "Bj\u00f6rk \u5b87\u591a\u7530",
        "e\u0301 \u0939\u093f\u0902": "e\u0301 \u0939\u093f\u0902",  # marks are parts of letters
        "<b>@#$%^*_=|~`\\{}": "b",
        None: None,
    }
    rows = spark.createDataFrame([(n, n) for n in names], "was string, artist_name string")
    assert pairs_of(rows, "dim_artist", "DimArtist", "was", "artist_name") == names


def test_tracks_lose_hyphens_and_get_a_duration_flag(spark: SparkSession) -> None:
    flags = {None: None, -1: "low", 149: "low", 150: "medium", 299: "medium", 300: "high"}
    names = {"Stand-alone--x": "Stand alone  x", "-a\u2011b ": "a b", "c": "c", None: None}
    rows = spark.createDataFrame(
        [(n, n, " album-1 ", seconds) for n in names for seconds in flags],
        "was string, track_name string, album_name string, duration_sec int",
    )
    assert pairs_of(rows, "dim_track", "DimTrack", "duration_sec", "duration_flag") == flags
    assert pairs_of(rows, "dim_track", "DimTrack", "was", "track_name") == names
    assert set(pairs_of(rows, "dim_track", "DimTrack", "was", "album_name").values()) == {"album-1"}


# --- what a rule may and may not do --------------------------------------------------------------

KEY, META = ("user id", "part"), ["_sequence"]


@pytest.fixture(scope="module")
def users(spark: SparkSession) -> DataFrame:
    # A key of an awkward name, and one part of it NULL.
    rows = [(1, None, "Ann", 5), (2, "b", "Ben", 5)]
    return spark.createDataFrame(rows, "`user id` int, part string, name string, _sequence int")


def ruled(users: DataFrame, rule: Rule) -> DataFrame:
    return cleaned(users, TableRule("DimUser", "dim_user", rule), KEY, META)


def test_a_rule_may_change_add_and_drop_columns(users: DataFrame) -> None:
    added = ruled(users, lambda rows: drop_columns(rows.withColumn("n", sf.length("name")), "name"))
    assert added.columns == ["user id", "part", "_sequence", "n"]
    assert added.collect() == [(1, None, 5, 3), (2, "b", 5, 3)]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda rows: rows.drop("part"), "dim_user dropped column part"),
        (lambda rows: rows.select("user id", "part", "_sequence"), "dropped column _raw"),
        (lambda rows: rows.withColumn("user id", rows["user id"].cast("string")),
         "changed the type of column user id from int to string"),
        (lambda rows: drop_columns(rows, "nam"), "no column 'nam' to drop; did you mean 'name'?"),
        (lambda rows: rows.withColumn("x", sf.upper("nome")), "AnalysisException.*nome"),
        (lambda rows: rows.count(), "dim_user returned 2; return the rows"),
    ],
)  # fmt: skip
def test_a_rule_that_breaks_the_plan_is_named(users: DataFrame, rule: Rule, message: str) -> None:
    with pytest.raises(PipelineError, match=rf"^DimUser: rule .*{message}"):
        ruled(users, rule)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("user id", "2", 'column user id of the row {"user id":1,"part":null} (its key is now'),
        ("part", "coalesce(part, '')", 'column part of the row {"user id":1,"part":null} ('),
        ("_sequence", "6", "column _sequence of the row"),
    ],
)
def test_a_changed_identity_is_raised_with_the_row(
    users: DataFrame, column: str, value: str, message: str
) -> None:
    rows = ruled(users, lambda rows: rows.withColumn(column, sf.expr(value)))
    with pytest.raises(SparkRuntimeException) as raised:
        rows.collect()
    assert message in str(raised.value)


def test_a_rules_file_needs_no_package_and_may_hold_udfs(users: DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    file.write_text(
        "from pyspark.sql.functions import udf\n"
        "def _twice(text): return text * 2\n"
        "def dim_user(rows): return rows.withColumn('name', udf(_twice)('name'))\n"
    )
    rows = find_rule(file, "dim_user", "DimUser").apply(users)
    assert [row.name for row in rows.collect()] == ["AnnAnn", "BenBen"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def other(rows): ...", r"no rule 'dim_user' in .*shop\.py; write `def dim_user\(rows\)`"),
        ("import nowhere_at_all", r"can't be loaded: ModuleNotFoundError: .*nowhere_at_all"),
        (None, r"can't be loaded: FileNotFoundError"),
    ],
)
def test_a_rule_that_is_not_there_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "shop.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(PipelineError, match=f"^DimUser: .*{message}"):
        find_rule(file, "dim_user", "DimUser")
