"""From the metadata to Dags: one per file of ``config/``, whatever state the file is in."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
from airflow.sdk import (
    DAG,
    BaseOperator,
    CronDataIntervalTimetable,
    ExceptionRetryPolicy,
    Label,
    Param,
    RetryAction,
    RetryRule,
    TaskGroup,
    TriggerRule,
    chain,
)
from airflow.sdk.definitions.param import ParamsDict

from tidemark.airflow import alerts, docs, reconcile, tasks
from tidemark.airflow.compute import Layer, SparkJob
from tidemark.airflow.params import dag_params, reconcile_params
from tidemark.errors import (
    ConfigError,
    LakeUnavailable,
    ReadOvertaken,
    SourceUnavailable,
    TidemarkError,
)
from tidemark.metadata import Source, Table, load_all
from tidemark.settings import load_settings

MAX_RETRY_DELAY = timedelta(minutes=15)
BROKEN, RECONCILE = "broken", "_reconcile"

_TRANSIENT = (SourceUnavailable, LakeUnavailable, ReadOvertaken)
# Our own errors that are not transient, and faults in the code.
_FINAL = (
    TidemarkError, ArithmeticError, AssertionError, AttributeError, ImportError, LookupError,
    NameError, TypeError, ValueError,
)  # fmt: skip
# The first rule that matches decides. What is in none of them comes from outside (a killed
# process, a timeout, Airflow's own API) and is retried, as a step may be run again at any time.
RETRY_POLICY = ExceptionRetryPolicy(
    [
        *(RetryRule(error, RetryAction.RETRY, reason="transient") for error in _TRANSIENT),
        *(RetryRule(error, RetryAction.FAIL, reason="it would fail again") for error in _FINAL),
    ]
)

_BROKEN_ARGS = {
    "owner": "data-engineering",
    "retries": 0,
    "retry_policy": RETRY_POLICY,
    "execution_timeout": timedelta(minutes=1),
    "on_failure_callback": alerts.record_failure,
}


def build_dags(folder: Path | None = None) -> dict[str, DAG]:
    """Build the Dag of every file in the metadata's folder.

    Args:
        folder: The folder; by default that of the settings (``TIDEMARK_CONFIG``).

    Returns:
        The Dags by id: the file's stem, and for the comparison with the lake `_reconcile` behind
        it. A file that can't be used becomes a Dag whose only task fails with the reason: it
        neither vanishes nor takes the others along.
    """
    settings = load_settings()
    folder = folder or settings.config
    try:
        sources = load_all(folder, settings.rules_folder)
    except ConfigError as error:
        sources = {"tidemark_config": error}
    if not sources:
        message = f"{folder}: no metadata here; write <source>.yaml, or set TIDEMARK_CONFIG"
        sources = {"tidemark_config": ConfigError(message)}
    dags = [dag for name, source in sources.items() for dag in _dags(name, source, set(sources))]
    return {dag.dag_id: dag for dag in dags}


def build_dag(source: Source) -> DAG:
    """Build one source's Dag: a group per table, then silver, gold and the report.

    Raises:
        Exception: Whatever Airflow refuses, such as a schedule that never comes.
    """
    callbacks = alerts.dag_callbacks(source)
    with DAG(
        source.name,
        catchup=False,
        max_active_runs=1,
        schedule=_timetable(source.schedule),
        start_date=datetime.combine(source.start_date, time(), UTC),
        tags={"tidemark", *source.tags},
        doc_md=docs.dag_doc(source),
        default_args=_default_args(source),
        on_failure_callback=callbacks["on_failure_callback"],
        on_success_callback=callbacks["on_success_callback"],
    ) as dag:
        groups = [_table_group(source, table) for table in source.tables.values()]
        chain(
            groups,
            _step(tasks.pending_for_silver, source, trigger_rule=TriggerRule.ALL_DONE),
            _job(source, "silver"),
            _step(tasks.pending_for_gold, source, trigger_rule=TriggerRule.ALL_DONE),
            _job(source, "gold"),
            _step(tasks.report, source, trigger_rule=TriggerRule.ALL_DONE),
        )
    return _with_params(dag, dag_params(source))


def build_reconcile_dag(source: Source) -> DAG:
    """Build the Dag that compares a source with its lake: a task per table, then the report.

    Raises:
        Exception: Whatever Airflow refuses.
    """
    # What a run leaves, and who is told, goes by the Dag's own name.
    named = source.model_copy(update={"name": f"{source.name}{RECONCILE}"})
    callbacks = alerts.dag_callbacks(named)
    with DAG(
        named.name,
        catchup=False,
        max_active_runs=1,
        schedule=_timetable(source.reconcile.schedule),
        start_date=datetime.combine(source.start_date, time(), UTC),
        tags={"tidemark", "reconcile", *source.tags},
        doc_md=docs.reconcile_doc(source),
        default_args=_default_args(source),
        on_failure_callback=callbacks["on_failure_callback"],
        on_success_callback=callbacks["on_success_callback"],
    ) as dag:
        compared = [
            _step(reconcile.compare, named, table, task_id=table.lake_name)
            for table in source.tables.values()
        ]
        chain(compared, _step(reconcile.report, named, trigger_rule=TriggerRule.ALL_DONE))
    return _with_params(dag, reconcile_params(source))


def _with_params(dag: DAG, params: dict[str, Param]) -> DAG:
    """Give a Dag its params when it has its tasks: each task would begin with a copy of them.

    A copy holds the names of all tables: the parse of a thousand took 97 s, and Airflow's database
    150 MB. A run's tasks get their params from the Dag all the same.
    """
    dag.params = ParamsDict(params)
    return dag


def placeholder(name: str, message: str) -> DAG:
    """Build the Dag of a file that can't be used: its only task fails with the message."""
    doc = docs.broken_doc(message)
    dag_id = re.sub(r"[^\w.-]", "_", name)[:250]  # all that Airflow takes
    with DAG(
        dag_id,
        catchup=False,
        max_active_runs=1,
        schedule=None,
        tags={"tidemark", BROKEN},
        doc_md=doc,
        default_args=_BROKEN_ARGS,
    ) as dag:
        PythonOperator(task_id="configuration", doc_md=doc, python_callable=partial(_fail, message))
    return dag


def _fail(message: str) -> None:
    raise ConfigError(message)


def _dags(name: str, source: Source | ConfigError, names: set[str]) -> list[DAG]:
    """Build a file's Dags, or one that tells why it can't be used."""
    if isinstance(source, ConfigError):
        return [placeholder(name, str(source))]
    try:
        dags = [build_dag(source)]
        # A file of that name has the older right to it.
        if f"{name}{RECONCILE}" not in names:
            dags.append(build_reconcile_dag(source))
    except Exception as error:  # noqa: BLE001  Airflow raises anything; the other files go on.
        return [placeholder(name, f"{source.path}: Airflow refuses this Dag: {error}")]
    return dags


def _timetable(schedule: str | None) -> CronDataIntervalTimetable | None:
    # A plain "@daily" would give runs an empty data interval.
    return CronDataIntervalTimetable(schedule, timezone="UTC") if schedule else None


def _default_args(source: Source) -> dict[str, Any]:
    policy = source.tasks
    return {
        "owner": source.owner,
        "retries": policy.retries,
        "retry_delay": policy.retry_delay,
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": max(MAX_RETRY_DELAY, policy.retry_delay),
        "retry_policy": RETRY_POLICY,
        "execution_timeout": policy.timeout,
        "pool": policy.pool,
        "on_failure_callback": alerts.record_failure,
    }


def _table_group(source: Source, table: Table) -> TaskGroup:
    """Build ADF's sequence for one table: look up, copy, branch, advance or discard."""
    doc = docs.group_doc(table)
    with TaskGroup(table.lake_name, tooltip=f"{table.schema_}.{table.name}", doc_md=doc) as group:
        lookup = _step(tasks.lookup_watermark, source, table)
        if table.initial_ranges:
            _initial_load(source, table) >> lookup
        # One read of a table at a time: a backfill does not count against max_active_runs.
        copy = _step(tasks.copy_to_bronze, source, table, max_active_tis_per_dag=1)
        has_rows = BranchPythonOperator(
            task_id="has_rows",
            python_callable=partial(tasks.has_rows, table),
            doc_md=docs.task_doc(tasks.has_rows, table),
        )
        advance = _step(tasks.advance_watermark, source, table)
        discard = _step(tasks.discard_empty, source, table)
        chain(lookup, copy, has_rows, [Label("rows"), Label("no rows")], [advance, discard])
    return group


def _initial_load(source: Source, table: Table) -> PythonOperator:
    """Build what reads a large table for the first time: its ranges side by side, in the pool."""
    missing = _step(tasks.missing_ranges, source, table)
    copies = PythonOperator.partial(
        task_id=tasks.copy_range.__name__,
        python_callable=partial(tasks.copy_range, source, table),
        map_index_template="{{ task.op_kwargs['name'] }}",
        doc_md=docs.task_doc(tasks.copy_range, table),
    ).expand(op_kwargs=missing.output)
    # Nothing is missing as a rule: then no range is copied, and this is no failure.
    some = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
    finish = _step(tasks.finish_initial_load, source, table, trigger_rule=some)
    chain(missing, copies, finish)
    missing >> finish
    return finish


def _job(source: Source, layer: Layer) -> BaseOperator:
    """Build a layer's job: one at a time for a source, across runs and backfills."""
    doc = docs.JOBS[source.compute][layer]
    if source.compute == "spark":
        return SparkJob(
            task_id=layer, layer=layer, source=source, max_active_tis_per_dag=1, doc_md=doc
        )
    # Imported where a source uses it: the provider takes long to import.
    from tidemark.airflow.databricks_gold import GoldUpdate  # noqa: PLC0415  see above
    from tidemark.airflow.databricks_silver import SilverRun  # noqa: PLC0415  see above

    job = {"silver": SilverRun, "gold": GoldUpdate}[layer]
    return job(task_id=layer, source=source, max_active_tis_per_dag=1, doc_md=doc)


def _step(
    function: Callable[..., Any], source: Source, table: Table | None = None, **options: Any
) -> PythonOperator:
    """Build the task that calls `function`, and is named like it unless `options` say otherwise."""
    named = {"task_id": function.__name__} | options
    return PythonOperator(
        python_callable=partial(function, *filter(None, (source, table))),
        doc_md=docs.task_doc(function, table),
        **named,
    )
