"""The views that the metadata declares under ``views``: gold tables, joined.

Runs unchanged on Databricks and, by `tidemark.spark.pipeline`, on open-source Spark.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from tidemark.metadata import View
from tidemark.spark.business_views import view_sql
from tidemark.spark.declare import materialized_view, pipeline_source

SOURCE = pipeline_source()


def declare(name: str, view: View) -> None:
    """Declare a view, kept as a table."""

    @materialized_view(
        name=name,
        comment=view.comment or f"View of {SOURCE.name}'s gold tables",
        reads=[each.table for each in view.tables],
    )
    def rows() -> DataFrame:
        return SparkSession.active().sql(view_sql(view, SOURCE))


for each, view in SOURCE.views.items():
    declare(each, view)
