"""The gold pipeline on open-source Spark: the declarations of ``dlt/`` executed on Delta.

Databricks runs the same files itself. The day open-source pipelines write to Delta, with SCD type 2
and expectations, this runner goes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pyspark.sql import SparkSession

from tidemark.errors import PipelineError
from tidemark.layout import Lake
from tidemark.metadata import Source
from tidemark.spark.autocdc import Target
from tidemark.spark.begun import Judgement
from tidemark.spark.change_flow import ChangeFlow
from tidemark.spark.expectations import Expectations
from tidemark.spark.explain import explained
from tidemark.spark.flow import Flow, FlowCounts, run_flow
from tidemark.spark.graph import Graph, load_graph
from tidemark.spark.session import suit_to, tables_at_once
from tidemark.spark.views import ViewResult, compute_views
from tidemark.suggestions import did_you_mean


@dataclass(frozen=True)
class TableResult:
    """What gold did for a table.

    Attributes:
        rows_in: Changes read from silver.
        rows: Those that passed the expectations.
        seconds: Wall clock.
        status: ``done`` or ``failed``.
        error: Why it failed.
    """

    rows_in: int = 0
    rows: int = 0
    seconds: float = 0.0
    status: str = "done"
    error: str | None = None


@dataclass(frozen=True)
class PipelineReport:
    """What a run of the pipeline did.

    Attributes:
        tables: By lake name; a flow that is no table's own, by its target.
        dropped: By gold table or view: how many rows each expectation dropped. One that fails two
            counts for both.
        warned: The same of the expectations that keep such rows.
        quarantined: By gold table: how many changes its quarantine table got, if there is one.
        views: By view.
    """

    tables: Mapping[str, TableResult] = field(default_factory=dict)
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    warned: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    views: Mapping[str, ViewResult] = field(default_factory=dict)

    @property
    def done(self) -> list[str]:
        """The tables that need no further run: with a failed view there are none."""
        if any(view.status == "failed" for view in self.views.values()):
            return []
        return [name for name, result in self.tables.items() if result.status == "done"]

    @property
    def failure(self) -> PipelineError | None:
        """One error that names everything that failed; None if all is done."""
        every: list[TableResult | ViewResult] = [*self.tables.values(), *self.views.values()]
        reasons = [result.error for result in every if result.status == "failed" and result.error]
        if not reasons:
            return None
        head = f"gold: {len(reasons)} of {len(every)} tables and views failed, the others are done:"
        return PipelineError("\n  ".join([head, *reasons]))

    def write(self, path: Path) -> None:
        """Write everything, failures included, as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1))


def load_pipeline(spark: SparkSession, lake: Lake, source: Source, folder: Path) -> Graph:
    """Load what a source's pipeline declares; nothing of it is run.

    Args:
        spark: The session; the declarations read ``tidemark.*`` from its configuration.
        lake: The lake.
        source: The metadata.
        folder: The pipeline's files: ``scd.py``, ``business_views.py`` and ``views/<source>.py``.

    Raises:
        PipelineError: The declarations can't be loaded.
    """
    for name, value in {
        "lake": lake.root,
        "beside": lake.beside,
        "config": str(source.path.parent),
        "source": source.name,
    }.items():
        spark.conf.set(f"tidemark.{name}", value)
    own = folder / "views" / f"{source.name}.py"
    views = [path for path in (folder / "business_views.py", own) if path.is_file()]
    return load_graph([folder / "scd.py", *views])


def run_pipeline(
    spark: SparkSession, lake: Lake, source: Source, folder: Path, tables: Sequence[str]
) -> PipelineReport:
    """Bring the gold of tables up to their silver, several at a time, then compute the views.

    Args:
        spark: The session; the declarations read ``tidemark.*`` from its configuration.
        lake: The lake.
        source: The metadata.
        folder: The pipeline's files: ``scd.py``, ``business_views.py`` and ``views/<source>.py``.
        tables: Lake names of the tables whose changes are to be read.

    Raises:
        PipelineError: The declarations can't be loaded, or don't fit together.
    """
    return run_graph(spark, lake, source, load_pipeline(spark, lake, source, folder), tables)


def run_graph(
    spark: SparkSession, lake: Lake, source: Source, graph: Graph, tables: Sequence[str]
) -> PipelineReport:
    """Do what `run_pipeline` does, with declarations that are loaded already."""
    flows, unknown = _chosen(graph, source, tables)
    suit_to(spark, [lake.url(lake.changes(name)) for name in tables])
    with ThreadPoolExecutor(tables_at_once(spark)) as pool:
        done = list(pool.map(lambda flow: _run(_flow(graph, lake, flow)), flows.values()))
    outcome = dict(zip(flows, done, strict=True))
    computed = compute_views(spark, lake, graph)
    counts = {flows[name].target: count for name, (_, count) in outcome.items()}
    found = {name: count.found for name, count in counts.items()}
    found |= {name: view.found for name, view in computed.items()}
    return PipelineReport(
        tables=unknown | {name: result for name, (result, _) in outcome.items()},
        dropped={name: dict(each.dropped) for name, each in found.items() if each.dropped},
        warned={name: dict(each.warned) for name, each in found.items() if each.warned},
        quarantined={
            flow.target: counts[flow.target].rows_in - counts[flow.target].rows
            for flow in flows.values()
            if flow.source in graph.quarantines
        },
        views=computed,
    )


def _chosen(
    graph: Graph, source: Source, tables: Sequence[str]
) -> tuple[dict[str, ChangeFlow], dict[str, TableResult]]:
    """Pick the tables' flows, and those that belong to no table of the metadata."""
    gold = {t.lake_name: t.gold.name for t in source.tables.values() if t.gold}
    unknown = {
        name: TableResult(
            status="failed",
            error=f"{name}: not a table with gold in {source.path}{did_you_mean(name, gold)}",
        )
        for name in tables
        if name not in gold
    }
    flows = {name: graph.flows[gold[name]] for name in tables if name in gold}
    own = {name: f for name, f in graph.flows.items() if name not in gold.values()}
    return flows | own, unknown


def _flow(graph: Graph, lake: Lake, declared: ChangeFlow) -> Flow:
    name, query = declared.target, graph.queries[declared.source]
    kept = graph.quarantines.get(declared.source)
    return Flow(
        target=Target(declared, lake.url(lake.gold(name)), lake.url(lake.auxiliary(name))),
        query=query,
        lake=lake,
        judgement=Judgement(
            graph.expectations.get(query, Expectations()), lake.gold(kept) if kept else None
        ),
    )


def _run(flow: Flow) -> tuple[TableResult, FlowCounts]:
    begin = time.monotonic()
    try:
        counts = run_flow(flow)
        status, error = "done", None
    except Exception as caught:  # noqa: BLE001  one table's failure is never another's
        counts = FlowCounts()
        status, error = "failed", explained(flow.target.flow.target, caught)
    seconds = round(time.monotonic() - begin, 3)
    return TableResult(counts.rows_in, counts.rows, seconds, status, error), counts
