"""Gold's SCD1 and SCD2 tables: one for each table that has ``gold`` in the metadata.

Runs unchanged on Databricks and, by `tidemark.spark.pipeline`, on open-source Spark.
"""

from __future__ import annotations

from pyspark import pipelines as dp
from pyspark.sql import DataFrame

from tidemark.metadata import Gold, Table
from tidemark.spark.declare import (
    create_auto_cdc_flow,
    expect_all_or_drop,
    pipeline_source,
    read_changes,
)

DELETE = "_operation = 'delete'"
BOOKKEEPING = ["_operation", "_source_sequence", "_digest", "_run_id"]


def declare(table: Table, gold: Gold) -> None:
    """Declare a table's changes, what they must fulfil, and how they become history."""
    # A delete is judged by nobody: it carries a key, and at times nothing else.
    judged = {name: f"{DELETE} OR ({rule})" for name, rule in gold.expect_or_drop.items()}

    @dp.temporary_view(name=f"{gold.name}_changes")
    @expect_all_or_drop(judged)
    def changes() -> DataFrame:
        return read_changes(table.lake_name)

    dp.create_streaming_table(gold.name, comment=f"{table.lake_name}, SCD type {gold.scd}")
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


for each in pipeline_source().tables.values():
    if each.gold:
        declare(each, each.gold)
