"""What a run may be asked for: the Dag's params, and what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from airflow.sdk import Param
from airflow.sdk.types import DagRunProtocol

from tidemark.errors import ConfigError
from tidemark.metadata import Source, Table
from tidemark.suggestions import did_you_mean
from tidemark.windows import Interval

_BACKFILL = "backfill"
_MOMENT = "2026-01-31 or 2026-01-31T10:00:00 (UTC unless it carries an offset)"

_DATABRICKS = {
    "full_refresh": Param(
        default=False,
        title="Full refresh of gold",
        type="boolean",
        description="Let Databricks empty gold's tables and build them again from silver's "
        "changes, all of them.",
    ),
}


def dag_params(source: Source) -> dict[str, Param]:
    """Give the params of a source's Dag, as the trigger form in the UI shows them.

    Their schemas check the kind of a value only: what a value means is checked in the run's first
    tasks, so that the message can name the nearest table.
    """
    params = {
        "tables": _tables_param(source),
        "from_date": Param(
            None,
            title="From",
            type=["null", "string"],
            description="Read the rows whose cursor is at or after this moment, instead of those "
            f"above the watermark, which stays where it is: {_MOMENT}.",
        ),
        "to_date": Param(
            None,
            title="To",
            type=["null", "string"],
            description="… and before this moment; a plain date includes its whole day: "
            f"{_MOMENT}.",
        ),
        "whole_tables": Param(
            default=False,
            title="Whole tables",
            type="boolean",
            description="With a date range, or in a backfill: read the tables whole that have no "
            "cursor of time to select by, instead of leaving them out. Every row is taken as it is "
            "now; nothing is deleted.",
        ),
    }
    return params | (_DATABRICKS if source.compute == "databricks" else {})


def _tables_param(source: Source) -> Param:
    return Param(
        [],
        title="Tables",
        type="array",
        items={"type": "string"},
        examples=list(source.tables),
        # No keyword of JSON Schema: passed over, but for `airflow dags backfill`, which knows
        # a Dag from Airflow's database alone.
        lake_names=[table.lake_name for table in source.tables.values()],
        description="The tables to run; none chosen: all of them.",
    )


def reconcile_params(source: Source) -> dict[str, Param]:
    """Give the params of the Dag that compares a source with its lake."""
    return {
        "tables": _tables_param(source),
        "repair": Param(
            source.reconcile.repair,
            title="Repair",
            type="boolean",
            description="Read the rows that differ again, into bronze.",
        ),
        "deep": Param(
            default=False,
            title="Deep",
            type="boolean",
            description="Trust no digest that a row carries: digest bronze's newest rows anew.",
        ),
    }


def chosen_tables(
    source: Source,
    params: Mapping[str, Any],
    conf: Iterable[str],
    allowed: Mapping[str, Param] | None = None,
) -> tuple[Table, ...]:
    """Give the tables that a run is to handle, in the metadata's order.

    Args:
        source: The run's source.
        params: The run's params.
        conf: The names that the run's configuration holds: a misspelt one must not silently run
            everything.
        allowed: The Dag's params; by default those of the source's own.

    Raises:
        ConfigError: A table or a name in `conf` is unknown; the message names the nearest.
    """
    allowed = dag_params(source) if allowed is None else allowed
    for name in conf:
        if name not in allowed:
            hint = did_you_mean(name, allowed)
            message = (
                f"{source.name}: the run's configuration holds {name!r}, which is no param{hint} "
                f"(allowed: {', '.join(allowed)})"
            )
            raise ConfigError(message)
    return source.tables_named(params["tables"] or ())


def chosen_interval(params: Mapping[str, Any], dag_run: DagRunProtocol) -> Interval | None:
    """Give the span of time that replaces the watermark's window.

    Returns:
        ``from_date`` and ``to_date`` if either is given, else a backfill's data interval (UTC);
        None for every other run, which reads from the watermark on.

    Raises:
        ConfigError: A value is no date, the span is empty, or `whole_tables` stands alone.
    """
    whole = bool(params["whole_tables"])
    if params["from_date"] or params["to_date"]:
        return _asked_interval(params["from_date"], params["to_date"], whole_tables=whole)
    if dag_run.run_type == _BACKFILL:
        return Interval(dag_run.data_interval_start, dag_run.data_interval_end, whole)
    if whole:
        message = (
            "whole_tables says what a date range does with tables that have no cursor of time, and "
            "this run has none: give from_date or to_date too"
        )
        raise ConfigError(message)
    return None


def _asked_interval(from_date: str | None, to_date: str | None, *, whole_tables: bool) -> Interval:
    start = _moment("from_date", from_date, whole_day=False) if from_date else None
    end = _moment("to_date", to_date, whole_day=True) if to_date else None
    if start and end and start >= end:
        message = f"from_date {from_date!r} is not before to_date {to_date!r}: no row lies between"
        raise ConfigError(message)
    return Interval(start, end, whole_tables)


def _moment(name: str, text: str, *, whole_day: bool) -> datetime:
    """Read a date or timestamp; `whole_day` moves a plain date to the end of its day."""
    try:
        moment = datetime.fromisoformat(text.strip())
        if whole_day and _is_plain_date(text.strip()):
            moment += timedelta(days=1)
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        message = f"{name} {text!r} is no date ({error}); write {_MOMENT}"
        raise ConfigError(message) from error


def _is_plain_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
