"""The views that the metadata declares under ``views``: gold tables, joined.

Runs unchanged on Databricks and, by `tidemark.spark.pipeline`, on open-source Spark.
"""

from __future__ import annotations

from pyspark import pipelines as dp
from pyspark.sql import DataFrame, SparkSession

from tidemark.metadata import View
from tidemark.spark.business_views import view_sql
from tidemark.spark.declare import has_changes, pipeline_source

SOURCE = pipeline_source()


def declare(name: str, view: View) -> None:
    """Declare a view, kept as a table."""

    @dp.materialized_view(name=name, comment=view.comment or f"View of {SOURCE.name}'s gold tables")
    def rows() -> DataFrame:
        return SparkSession.active().sql(view_sql(view, SOURCE))


there = {t.gold.name for t in SOURCE.tables.values() if t.gold and has_changes(t.lake_name)}
for each, view in SOURCE.views.items():
    if all(table.table in there for table in view.tables):
        declare(each, view)
        there.add(each)
