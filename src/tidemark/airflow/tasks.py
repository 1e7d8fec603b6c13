"""What the tasks do: each a thin call of the library, and what it did put into the run's report.

Every value that a task returns is JSON: it travels to the next task as an XCom. `tidemark.ingest`
is imported by the tasks alone: it brings pyarrow, which would slow down every parse of the Dags.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.types import DagRunProtocol, RuntimeTaskInstanceProtocol

from tidemark import pending
from tidemark import report as run_report
from tidemark.airflow.compute import Layer, require_compute
from tidemark.airflow.connections import mask_key, source_url
from tidemark.airflow.params import chosen_interval, chosen_tables
from tidemark.azure_url import is_azure
from tidemark.errors import PipelineError
from tidemark.layers_lock import as_a_run, streamed_by
from tidemark.metadata import Source, Table
from tidemark.settings import load_settings
from tidemark.storage import open_store

if TYPE_CHECKING:
    from tidemark.ingest import TableJob

_log = logging.getLogger(__name__)


def missing_ranges(
    source: Source, table: Table, *, params: Mapping[str, Any], dag_run: DagRunProtocol
) -> list[dict[str, Any]]:
    """Name the key ranges of the initial load that are still to be read; none after it.

    The first time, the ranges are planned: they hold about as many rows each.
    """
    from tidemark import initial_load

    _check_chosen(source, table, params, dag_run)
    if chosen_interval(params, dag_run):
        return []  # a backfill stands beside the ordinary reads
    missing = initial_load.missing_ranges(_job(source, table, dag_run))
    return [{"number": number, "name": name} for number, name in missing.items()]


def copy_range(
    source: Source, table: Table, *, number: int, name: str, dag_run: DagRunProtocol
) -> dict[str, Any]:
    """Copy one key range of the initial load into a bronze file of its own.

    A range that is there already is not read again, so that a failed load goes on with the rest.
    """
    from tidemark import initial_load

    _log.info("table %s: %s", table.lake_name, name)
    copied = initial_load.copy_range(_job(source, table, dag_run), number)
    _record(source, dag_run, f"range.{table.lake_name}.{number}", copied)
    return copied


def finish_initial_load(
    source: Source, table: Table, *, params: Mapping[str, Any], dag_run: DagRunProtocol
) -> dict[str, Any] | None:
    """Set the watermark, now that every key range is in bronze: the next read goes on from it."""
    from tidemark import initial_load

    if chosen_interval(params, dag_run):
        return None  # a backfill leaves a load that is not whole as it is
    return initial_load.finish(_job(source, table, dag_run))


def lookup_watermark(
    source: Source, table: Table, *, params: Mapping[str, Any], dag_run: DagRunProtocol
) -> dict[str, Any]:
    """Look up how far the table was read: its watermark in `cdc.json`."""
    from tidemark import ingest

    _check_chosen(source, table, params, dag_run)
    chosen_interval(params, dag_run)
    return ingest.lookup_watermark(_job(source, table, dag_run))


def copy_to_bronze(
    source: Source,
    table: Table,
    *,
    params: Mapping[str, Any],
    dag_run: DagRunProtocol,
    ti: RuntimeTaskInstanceProtocol,
) -> dict[str, Any]:
    """Copy the rows of the window into one immutable Parquet file in bronze.

    One read of a table at a time, across runs and backfills. A retry is a new read.
    """
    from tidemark import ingest

    job, lookup = _job(source, table, dag_run), _result(ti, table, lookup_watermark)
    copied = ingest.copy_to_bronze(job, lookup, chosen_interval(params, dag_run))
    _record(source, dag_run, f"copy.{table.lake_name}", copied)
    return copied


def has_rows(table: Table, *, ti: RuntimeTaskInstanceProtocol) -> str:
    """Go on to `advance_watermark` if rows were published, else to `discard_empty`."""
    copied = _result(ti, table, copy_to_bronze)
    step = advance_watermark if copied["rows"] else discard_empty
    return f"{table.lake_name}.{step.__name__}"


def advance_watermark(
    source: Source, table: Table, *, dag_run: DagRunProtocol, ti: RuntimeTaskInstanceProtocol
) -> dict[str, Any]:
    """Move the watermark forward to the window's end, now that its rows are durable in bronze.

    It never moves backwards, and a backfill does not move it at all.
    """
    from tidemark import ingest

    copied = _result(ti, table, copy_to_bronze)
    advanced = ingest.advance_watermark(_job(source, table, dag_run), copied)
    _record(source, dag_run, f"watermark.{table.lake_name}", advanced)
    return advanced


def discard_empty(
    source: Source, table: Table, *, dag_run: DagRunProtocol, ti: RuntimeTaskInstanceProtocol
) -> None:
    """Remove the temporary file of a read that brought no new row: nothing is published."""
    from tidemark import ingest

    ingest.discard_empty(_job(source, table, dag_run), _result(ti, table, copy_to_bronze))


def pending_for_silver(
    source: Source, *, params: Mapping[str, Any], dag_run: DagRunProtocol
) -> list[str]:
    """Name the tables whose bronze holds what silver has not, also from earlier runs.

    If there is none the task is skipped, and so is silver: nothing is started.
    """
    chosen = chosen_tables(source, params, dag_run.conf or ())
    return _waiting("silver", source, [t.lake_name for t in chosen if not _is_streamed(source, t)])


def pending_for_gold(
    source: Source, *, params: Mapping[str, Any], dag_run: DagRunProtocol
) -> list[str]:
    """Name the tables whose silver holds what gold has not, also from earlier runs.

    If there is none the task is skipped, and so is gold: nothing is started. A full refresh that
    was asked for is not skipped.
    """
    chosen = chosen_tables(source, params, dag_run.conf or ())
    names = [t.lake_name for t in chosen if t.gold]
    if params.get("full_refresh"):
        require_compute(source)
        return names
    return _waiting("gold", source, names)


def report(source: Source, *, dag_run: DagRunProtocol, ti: RuntimeTaskInstanceProtocol) -> None:
    """Log what the run did, table by table, and fail if any of its tasks failed.

    A failed table does not hold up the others, but the run ends red and says what was left out.
    """
    lake = load_settings().lake
    done = run_report.load(open_store(lake.root), lake, source.name, dag_run.run_id)
    _log.info("\n%s", run_report.render_text(done))
    # The report's failures are those of every attempt; the states are what holds now.
    states = ti.get_task_states(dag_id=dag_run.dag_id, run_ids=[dag_run.run_id])
    reasons = {failure.task_id: failure.exception for failure in done.failures}
    message = failure_message(source.name, states.get(dag_run.run_id, {}), reasons)
    if message:
        raise PipelineError(message)


def failure_message(
    source: str, states: Mapping[str, str | None], reasons: Mapping[str, str]
) -> str | None:
    """Say which tasks failed, why, and what was left out; None if nothing failed."""
    failed = sorted(task for task, state in states.items() if state == "failed")
    left_out = sorted(task for task, state in states.items() if state == "upstream_failed")
    if not failed and not left_out:
        return None
    lines = [f"{source}: failed: {', '.join(failed)}"]
    lines += [f"  {task}: {reasons.get(task, 'see its log')}" for task in failed]
    if left_out:
        lines.append(f"  left out because of that: {', '.join(left_out)}")
    lines.append("  mend it and run again, or clear the failed tasks: nothing is lost or doubled")
    return "\n".join(lines)


def _check_chosen(
    source: Source, table: Table, params: Mapping[str, Any], dag_run: DagRunProtocol
) -> None:
    chosen = chosen_tables(source, params, dag_run.conf or ())
    if table not in chosen:
        names = ", ".join(t.lake_name for t in chosen)
        raise AirflowSkipException(f"{table.lake_name} is not in this run, which is for {names}")


def _is_streamed(source: Source, table: Table) -> bool:
    """Tell whether a continuous stream takes a table's bronze."""
    lake = load_settings().lake
    # There no lock shows whether one runs.
    if source.compute != "spark" or is_azure(lake.root):
        return table.processing == "continuous"
    return streamed_by(lake, table.lake_name) is not None


def _waiting(layer: Layer, source: Source, names: list[str]) -> list[str]:
    lake = load_settings().lake
    find = {"silver": pending.silver_pending, "gold": pending.gold_pending}[layer]
    # While a rebuild exchanges them, the markers say nothing. The job looks too, but it takes
    # seconds to start, and its words are in its log.
    with as_a_run(lake, source.name):
        tables = find(open_store(lake.root), lake, names)
    if not tables:
        raise AirflowSkipException(f"no table waits for {layer}: nothing is started")
    require_compute(source)
    return tables


def _job(source: Source, table: Table, dag_run: DagRunProtocol) -> TableJob:
    from tidemark import ingest

    lake = load_settings().lake
    return ingest.TableJob(
        store=open_store(lake.root),
        lake=lake,
        table=table,
        run_id=dag_run.run_id,
        url=source_url(source),
        mask_key=mask_key(source) if table.columns.needs_key else None,
    )


def _result(
    ti: RuntimeTaskInstanceProtocol, table: Table, step: Callable[..., Any]
) -> dict[str, Any]:
    """Give what an earlier step of the table returned in this run."""
    result: dict[str, Any] = ti.xcom_pull(task_ids=f"{table.lake_name}.{step.__name__}")
    return result


def _record(source: Source, dag_run: DagRunProtocol, part: str, value: dict[str, Any]) -> None:
    lake = load_settings().lake
    run_report.record(open_store(lake.root), lake, source.name, dag_run.run_id, part, value)
