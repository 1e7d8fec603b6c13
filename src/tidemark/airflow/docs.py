"""What the UI shows beside a Dag, its groups and its tasks: rendered from the metadata."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta

from tidemark.metadata import Source, Table
from tidemark.metadata.durations import format_duration
from tidemark.metadata.strategies import CANNOT_SEE, READS
from tidemark.settings import load_settings

_SILVER = (
    "Cleans and deduplicates the pending tables in {}: appends every change to "
    "`silver/<Table>_changes` and merges the present state into `silver/<Table>`."
)
_GOLD = "Brings the pending tables' changes into gold in {}: SCD 1 and 2, expectations, the views."
# By compute and layer.
JOBS = {
    "spark": {
        "silver": _SILVER.format("one Spark session"),
        "gold": _GOLD.format("one Spark session"),
    },
    "databricks": {
        "silver": _SILVER.format("one run of the bundle's job on Databricks"),
        "gold": _GOLD.format("one update of the bundle's pipeline on Databricks"),
    },
}


def dag_doc(source: Source) -> str:
    """Describe a source: where from, where to, its tables, and what its strategies don't see."""
    rows = "\n".join(_table_row(table) for table in source.tables.values())
    strategies = sorted({table.chosen_strategy for table in source.tables.values()})
    unseen = "\n".join(f"- `{n}`: {'; '.join(CANNOT_SEE[n]) or 'nothing'}" for n in strategies)
    lake = load_settings().lake.root
    return f"""Ingests the connection `{source.source.connection}` as `{source.path.name}` says,
into the lake `{lake}`: `bronze/<Table>`, `silver/<Table>`, `gold/<name>`.

| table | key | cursor | strategy | rows of a read | gold |
|---|---|---|---|---|---|
{rows}

**Not seen** by strategy:

{unseen}

**Params**: `tables` runs a part; `from_date` and `to_date` read a span of the cursor again and
leave the watermark where it is, as a backfill does with its data interval; `whole_tables` then
reads those whole that have no cursor of time. What a failed run left behind, the next one picks
up: nothing is lost or doubled.
"""


def reconcile_doc(source: Source) -> str:
    """Describe the Dag that compares a source with its lake."""
    after = "are read again, into bronze" if source.reconcile.repair else "are reported"
    return f"""Compares the connection `{source.source.connection}` with the lake
`{load_settings().lake.root}`, by key and digest, without Spark: every row of the source's tables is
read. Rows that are missing, stale, different or deleted at the source {after}; the run ends red if
any remain. The page of each run lies in `_tidemark/runs/{source.name}_reconcile/`.

**Params**: `tables` compares a part; `repair` reads the rows that differ again, into bronze, for
`{source.name}` to merge at its next run; `deep` trusts no digest that a row carries.
"""


def group_doc(table: Table) -> str:
    """Describe one table's group of tasks."""
    return f"`{table.schema_}.{table.name}` → `bronze/{table.lake_name}`: {window_rule(table)}"


def task_doc(function: Callable[..., object], table: Table | None = None) -> str:
    """Describe a task by what its function says of itself, and the table's facts."""
    # The sections on arguments and errors are for who reads the code.
    about = (inspect.getdoc(function) or "").partition("\n\nRaises:")[0]
    return f"{about}\n\n{group_doc(table)}" if table else about


def window_rule(table: Table) -> str:
    """Write which rows a scheduled run reads."""
    if table.chosen_strategy != "watermark":
        return READS[table.chosen_strategy]
    back = table.lookback
    amount = format_duration(back) if isinstance(back, timedelta) else str(back)
    lower = f"watermark - {amount}" if back else "watermark"
    lag = f", {format_duration(table.clock_lag)} behind its clock" if table.clock_lag else ""
    upper = "the newest" if table.future == "take" else f"the newest at the source{lag}"
    return f"`{lower} <= {table.cursor} <=` {upper}"


def broken_doc(message: str) -> str:
    """Describe a Dag whose file can't be used."""
    return f"**This source does not run.** Mend the file, then it will:\n\n```\n{message}\n```\n"


def _table_row(table: Table) -> str:
    gold = f"`{table.gold.name}` (SCD {table.gold.scd})" if table.gold else "-"
    key = ", ".join(f"`{column}`" for column in table.key)
    cursor = f"`{table.cursor}` ({table.cursor_timezone})" if table.cursor else "-"
    strategy = table.strategy or f"{table.chosen_strategy} (unless the database has better)"
    return (
        f"| `{table.schema_}.{table.name}` | {key} | {cursor} "
        f"| {strategy} | {window_rule(table)} | {gold} |"
    )
