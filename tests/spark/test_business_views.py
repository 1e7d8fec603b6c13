"""The metadata's views: rendered with quoted names, parsed as Databricks' SQL, and run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from sqlglot import exp

from tidemark.layout import Lake
from tidemark.metadata import Source, View, load_source
from tidemark.spark.business_views import view_sql
from tidemark.spark.pipeline import run_pipeline

PROJECT = Path(__file__).parents[2]
SAMPLE = load_source(PROJECT / "config" / "spotify.yaml")
CONFIG = """
source: {connection: c}
tables:
  DimUser: {key: id, gold: {scd: 2}}
  Stream: {key: id, gold: {scd: 1}}
views:
  played:
    tables:
      - {table: stream, alias: s, columns: {id: stream, "a`b`--": odd}}
      - {table: dim_user, alias: u, match: {id: s.user_id}, columns: [name]}
    where: s.seconds > 10 OR s.seconds IS NULL -- a remark
  names:
    tables:
      - {table: played, alias: p, columns: [stream]}
      - table: dim_user
        alias: u
        match: {name: p.name}
        history: true
        join: inner
        columns: [id]
  users:
    tables: [{table: dim_user, alias: order, columns: [name]}]
    where: order.id < 9
"""
META = (
    "TIMESTAMP '2026-01-{day:02}' _sequence, 'upsert' _operation, CAST(NULL AS STRING) "
    "_source_sequence, X'00' _digest, 'r' _run_id"
)


_NAMES = st.text("ab`.'\"-/*{}%é\n ", min_size=1) | st.text(min_size=1)
_NAMES = _NAMES.filter(str.strip)
_SHOWN = _NAMES.map(lambda name: re.sub(r"[ ,;{}()\n\t=]", "_", name))  # as Delta wants them


def _names(sql: str) -> set[str]:
    parsed = sqlglot.parse(sql, dialect="databricks")
    assert len(parsed) == 1
    tree = parsed[0]
    assert isinstance(tree, exp.Select)
    assert all(name.args["quoted"] for name in tree.find_all(exp.Identifier))
    assert not list(tree.find_all(exp.Subquery, exp.Anonymous, exp.AggFunc, exp.Command))
    return {name.name for name in tree.find_all(exp.Identifier)}


@pytest.mark.parametrize("name", SAMPLE.views)
def test_the_samples_views_are_databricks_sql_with_every_name_quoted(name: str) -> None:
    view = SAMPLE.views[name]
    sql = view_sql(view.model_copy(update={"where": None}), SAMPLE)
    tables = {each.table for each in view.tables}
    assert tables <= _names(sql)
    assert sql.count("`__END_AT` IS NULL") == len({"dim_user", "dim_track"} & tables)


@given(name=_NAMES, shown=_SHOWN)
def test_no_name_becomes_sql(name: str, shown: str) -> None:
    text, names = _lexed(view_sql(_view(name, shown), SAMPLE))
    plain, plain_names = _lexed(view_sql(_view("x", "y"), SAMPLE))
    assert text == plain
    assert names == [{"x": name, "y": shown}.get(each, each) for each in plain_names]


def _view(name: str, shown: str) -> View:
    tables = (
        {"table": "fact_stream", "alias": "s", "columns": {name: shown}},
        {"table": "dim_user", "alias": "u", "match": {name: f"s.{name}"}},
    )
    return View.model_validate({"tables": tables})


def _lexed(sql: str) -> tuple[str, list[str]]:
    """Read SQL from left to right: what stands outside of quoted names, and these."""
    quoted = r"`((?:[^`]|``)*)`"
    return re.sub(quoted, "`", sql), [n.replace("``", "`") for n in re.findall(quoted, sql)]


INJECTIONS = [
    "x` FROM secret; DROP TABLE gold; --",
    "x`.`y",
    "(SELECT max(password) FROM users)",
    "{{ 7 * 7 }}",
    "*",
]


@pytest.mark.parametrize("name", INJECTIONS)
def test_a_column_that_is_named_like_sql_is_a_column(spark: SparkSession, name: str) -> None:
    tables = ({"table": "fact_stream", "alias": "s", "columns": {name: "shown"}},)
    sql = view_sql(View.model_validate({"tables": tables}), SAMPLE)
    assert _names(sql) == {name, "shown", "s", "fact_stream"}
    rows = spark.createDataFrame([(7,)], "x INT").toDF(name)
    rows.createOrReplaceTempView("fact_stream")
    try:
        assert [row.asDict() for row in spark.sql(sql).collect()] == [{"shown": 7}]
    finally:
        spark.catalog.dropTempView("fact_stream")


def test_views_are_computed_from_current_rows_or_all_and_from_each_other(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "config" / "c.yaml"
    path.parent.mkdir()
    path.write_text(CONFIG)
    source, lake = load_source(path), Lake(str(tmp_path / "lake"))
    odd = "AS t(id, user_id, seconds, `a``b``--`)"
    _append(spark, lake, "DimUser", "(1, 'ann'), (2, 'bo') AS t(id, name)", 5)
    _append(spark, lake, "DimUser", "(1, 'anna'), (9, 'bo') AS t(id, name)", 6)
    _append(spark, lake, "Stream", f"(1, 1, 20, 'a'), (2, 2, 5, 'b'), (3, 7, NULL, 'c') {odd}", 5)
    report = run_pipeline(spark, lake, source, PROJECT / "dlt", ["DimUser", "Stream"])
    assert report.failure is None
    assert _rows(spark, lake, "played") == {(1, "a", "anna"), (3, "c", None)}
    assert _rows(spark, lake, "users") == {("anna",), ("bo",)}
    assert _rows(spark, lake, "names") == {(1, 1)}
    assert not spark.catalog.listTables()


def _append(spark: SparkSession, lake: Lake, table: str, values: str, day: int) -> None:
    rows = spark.sql(f"SELECT *, {META.format(day=day)} FROM VALUES {values}")
    rows.write.format("delta").mode("append").save(lake.url(lake.changes(table)))


def _rows(spark: SparkSession, lake: Lake, name: str) -> set[tuple[Any, ...]]:
    frame = spark.read.format("delta").load(lake.url(lake.gold(name)))
    return {tuple(row) for row in frame.collect()}


def test_a_file_without_views_declares_none(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("source: {connection: c}\ntables: {A: {key: k, cursor: c}}\n")
    assert isinstance(load_source(path), Source)
    assert load_source(path).views == {}
