"""What the tasks of a comparison do: each a thin call of `tidemark.reconcile`.

It is imported by the tasks alone, as `tidemark.airflow.tasks` says.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.types import DagRunProtocol, RuntimeTaskInstanceProtocol

from tidemark import report as run_report
from tidemark.airflow.connections import mask_key, source_url
from tidemark.airflow.params import chosen_tables, reconcile_params
from tidemark.airflow.tasks import failure_message
from tidemark.errors import PipelineError
from tidemark.metadata import Source, Table
from tidemark.settings import load_settings
from tidemark.storage import open_store

if TYPE_CHECKING:
    from tidemark.reconcile import Options, TableResult

_log = logging.getLogger(__name__)


def compare(
    source: Source, table: Table, *, params: Mapping[str, Any], dag_run: DagRunProtocol
) -> dict[str, Any]:
    """Compare the table with its source, by key and digest, and repair what differs if asked."""
    from tidemark.landing import TableJob
    from tidemark.reconcile import reconcile_table, summary
    from tidemark.reconcile.keeping import keep_table

    if table not in _chosen(source, params, dag_run):
        raise AirflowSkipException(f"{table.lake_name} is not in this run")
    lake = load_settings().lake
    store = open_store(lake.root)
    run_id = dag_run.run_id
    key = mask_key(source) if table.columns.needs_key else None
    job = TableJob(store, lake, table, run_id, source_url(source), key)
    result = reconcile_table(job, _options(params))
    keep_table(store, lake, source.name, dag_run.run_id, result)
    _log.info("table %s: %s", table.lake_name, summary(result))
    return {"counts": dict(result.counts), "left_out": dict(result.left_out)}


def report(
    source: Source,
    *,
    params: Mapping[str, Any],
    dag_run: DagRunProtocol,
    ti: RuntimeTaskInstanceProtocol,
) -> None:
    """Log what differs, keep it as a page, and fail if anything does or could not be compared."""
    from tidemark.reconcile import exit_code
    from tidemark.reconcile.keeping import keep_page, kept_table
    from tidemark.reconcile.text import render_text

    lake = load_settings().lake
    run = (open_store(lake.root), lake, source.name, dag_run.run_id)
    kept = (kept_table(*run, t.lake_name) for t in _chosen(source, params, dag_run))
    results = [result for result in kept if result is not None]
    page = keep_page(*run, _options(params), results)
    _log.info("\n%s\nreport: %s", render_text(results), lake.url(page))
    states = ti.get_task_states(dag_id=dag_run.dag_id, run_ids=[dag_run.run_id])
    reasons = {f.task_id: f.exception for f in run_report.load(*run).failures}
    message = failure_message(source.name, states.get(dag_run.run_id, {}), reasons)
    found = _differences(source.name, results, page) if exit_code(results) else None
    if message or found:
        raise PipelineError("\n".join(filter(None, [found, message])))


def _differences(name: str, results: Sequence[TableResult], page: str) -> str:
    from tidemark.reconcile import summary

    keys = sum(result.differing for result in results)
    lines = [f"  {r.table}: {summary(r)}" for r in results if r.differing]
    how = '  to mend: trigger it with {"repair": true}, then run the source\'s Dag'
    return "\n".join([f"{name}: {keys:,} keys differ; they stand in {page}", *lines, how])


def _chosen(
    source: Source, params: Mapping[str, Any], dag_run: DagRunProtocol
) -> tuple[Table, ...]:
    return chosen_tables(source, params, dag_run.conf or (), reconcile_params(source))


def _options(params: Mapping[str, Any]) -> Options:
    from tidemark.reconcile import Options

    return Options(deep=params["deep"], repair=params["repair"])
