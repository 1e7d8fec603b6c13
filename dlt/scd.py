"""Gold's SCD1 and SCD2 tables: one for each table that has ``gold`` in the metadata.

Runs unchanged on Databricks and, by `tidemark.spark.pipeline`, on open-source Spark.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark import pipelines as dp
from pyspark.sql import DataFrame

from tidemark.metadata import Gold, Table
from tidemark.spark.declare import (
    create_auto_cdc_flow,
    expect_all,
    expect_all_or_drop,
    expect_all_or_fail,
    keep_dropped,
    pipeline_source,
    read_changes,
    tables_there,
)

DELETE = "_operation = 'delete'"
# Databricks forgets deletes after two days; a file replayed later would bring their rows back.
REMEMBER_DELETES = {"pipelines.cdc.tombstoneGCThresholdInSeconds": str(10 * 365 * 86_400)}
BOOKKEEPING = ["_operation", "_source_sequence", "_digest", "_run_id"]


def of_upserts(expectations: Mapping[str, str]) -> dict[str, str]:
    """Let nobody judge a delete: it carries a key, and at times nothing else."""
    return {name: f"{DELETE} OR ({rule})" for name, rule in expectations.items()}


def declare_changes(table: Table, gold: Gold) -> None:
    """Declare a table's changes, what they must fulfil, and where those go that are dropped."""
    dropping = of_upserts(gold.expect_or_drop)

    def every_change() -> DataFrame:
        return read_changes(table.lake_name)

    @dp.temporary_view(name=f"{gold.name}_changes")
    @expect_all(of_upserts(gold.expect))
    @expect_all_or_drop(dropping)
    @expect_all_or_fail(of_upserts(gold.expect_or_fail))
    def changes() -> DataFrame:
        return every_change()

    if dropping:
        kept = f"{gold.name}_quarantine"
        dp.create_streaming_table(kept, comment=f"What the expectations of {gold.name} dropped")
        keep_dropped(
            target=kept,
            source=f"{gold.name}_changes",
            expectations=dropping,
            query=every_change,
        )


def declare_history(table: Table, gold: Gold) -> None:
    """Declare how a table's changes become its rows, or its history."""
    dp.create_streaming_table(
        gold.name,
        comment=f"{table.lake_name}, SCD type {gold.scd}",
        table_properties=REMEMBER_DELETES if gold.scd == 1 else None,
    )
    own = f"`{gold.sequence_by}`"
    create_auto_cdc_flow(
        target=gold.name,
        source=f"{gold.name}_changes",
        keys=table.key,
        # What is read later is newer: it also breaks the ties of a business column. A struct is
        # never NULL, and would hide that the column is.
        sequence_by=f"CASE WHEN {own} IS NOT NULL THEN struct({own}, _sequence) END"
        if gold.sequence_by
        else "_sequence",
        apply_as_deletes=DELETE,
        # SCD type 1 keeps its order as a column, SCD type 2 as __START_AT.
        except_column_list=BOOKKEEPING if gold.scd == 1 else [*BOOKKEEPING, "_sequence"],
        stored_as_scd_type=gold.scd,
        track_history_column_list=gold.track,
    )


SOURCE = pipeline_source()
there = tables_there(SOURCE)
for each in SOURCE.tables.values():
    if each.gold and each.gold.name in there:
        declare_changes(each, each.gold)
        declare_history(each, each.gold)
