"""What a pipeline's files declare: collected while they load, checked before anything runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from pyspark.pipelines.flow import AutoCdcFlow, Flow
from pyspark.pipelines.graph_element_registry import (
    GraphElementRegistry,
    get_active_graph_element_registry,
    graph_element_registration_context,
)
from pyspark.pipelines.output import MaterializedView, Output, StreamingTable, TemporaryView
from pyspark.sql import DataFrame

from tidemark.errors import PipelineError, TidemarkError
from tidemark.spark.change_flow import ChangeFlow
from tidemark.spark.expectations import Expectations, Kind
from tidemark.suggestions import did_you_mean

Query = Callable[[], DataFrame]


@dataclass(frozen=True)
class Graph(GraphElementRegistry):
    """A pipeline's declarations, by name.

    Attributes:
        outputs: Tables and views.
        queries: The function behind each view.
        flows: The AUTO CDC flows, by target.
        expectations: What a function's rows must fulfil, by function.
        quarantines: The streaming table that keeps what expectations drop, by the view they stand
            at.
        reads: What a view says that it reads, by view.
    """

    outputs: dict[str, Output] = field(default_factory=dict)
    queries: dict[str, Query] = field(default_factory=dict)
    flows: dict[str, ChangeFlow] = field(default_factory=dict)
    expectations: dict[Query, Expectations] = field(default_factory=dict)
    quarantines: dict[str, str] = field(default_factory=dict)
    reads: dict[str, Sequence[str]] = field(default_factory=dict)

    def register_output(self, output: Output) -> None:
        """Take a table or view."""
        supported = isinstance(output, StreamingTable | MaterializedView | TemporaryView)
        if not supported:
            _refuse(output.name, f"a {type(output).__name__} can't be run here")
        if output.name in self.outputs:
            _refuse(output.name, "declared twice; give one of them another name")
        self.outputs[output.name] = output

    def register_flow(self, flow: Flow) -> None:
        """Take the query of a view."""
        if not isinstance(self.outputs.get(flow.target), MaterializedView | TemporaryView):
            _refuse(flow.target, "only views have a query here; declare a materialized view")
        self.queries[flow.target] = flow.func

    def register_change_flow(self, flow: ChangeFlow) -> None:
        """Take an AUTO CDC flow."""
        if flow.target in self.flows:
            _refuse(flow.target, "two AUTO CDC flows write to it; declare one")
        self.flows[flow.target] = flow

    def register_expectations(self, query: Query, kind: Kind, more: Mapping[str, str]) -> None:
        """Take what a query's rows must fulfil, in addition to what is known already."""
        if not callable(query):
            _refuse(str(next(iter(more))), "an expectation stands under @dp.…, not above")
        known = self.expectations.get(query, Expectations())
        for name in more:
            if name in known.every:
                _refuse(name, f"two expectations of {query.__name__} have this name; rename one")
        self.expectations[query] = known.with_more(kind, more)

    def register_quarantine(self, source: str, target: str) -> None:
        """Take the streaming table that is to keep what a view's expectations drop."""
        self.quarantines[source] = target

    def register_reads(self, view: str, names: Sequence[str]) -> None:
        """Take what a view says that it reads."""
        self.reads[view] = names

    def register_auto_cdc_flow(self, flow: AutoCdcFlow) -> None:
        """Refuse open-source Spark's own form: it can't write to Delta."""
        _refuse(flow.target, "declare it with tidemark.spark.declare.create_auto_cdc_flow")

    def register_sql(self, sql_text: str, file_path: Path) -> None:
        """Refuse SQL files."""
        _refuse(file_path.name, f"SQL ({sql_text[:20]!r}…) is not run here; declare it in Python")

    def check(self) -> None:
        """Find a flow whose end, or a view whose input, does not exist, before anything runs.

        Raises:
            PipelineError: It names the flow or view, and the nearest name there is.
        """
        tables = [n for n, output in self.outputs.items() if isinstance(output, StreamingTable)]
        flows = [(flow.target, flow.source) for flow in self.flows.values()]
        streamed = [source for _, source in flows]
        kept = [(target, source) for source, target in self.quarantines.items()]
        for ends, sources in ((flows, list(self.queries)), (kept, streamed)):
            for target, source in ends:
                _require("target", target, tables, target)
                _require("source", source, sources, target)
        above = list(tables)
        for view, names in self.reads.items():
            for name in names:
                self._require_readable(view, name, above)
            above.append(view)

    def _require_readable(self, view: str, name: str, above: list[str]) -> None:
        """Let a view read what Databricks has been told of by then, and so can leave out with it.

        A name that is not declared and resembles none is of a table that this metadata lacks.
        """
        if name in above:
            return
        if name in self.reads:
            _refuse(view, f"it reads {name!r}, which is declared below it; put it above")
        if name in self.outputs:
            reason = "declare that one with tidemark.spark.declare.materialized_view too"
            _refuse(view, f"it reads the view {name!r}, which does not say what it reads; {reason}")
        if near := did_you_mean(name, above):
            _refuse(view, f"it says that it reads {name!r}, which is not declared{near}")

    @property
    def views(self) -> dict[str, Query]:
        """The views to compute: all but those that flows stream from."""
        streamed = {flow.source for flow in self.flows.values()}
        return {name: query for name, query in self.queries.items() if name not in streamed}


def active_graph() -> Graph:
    """Give the graph that the file being loaded declares into.

    Raises:
        PipelineError: Another runner than ours loads it.
    """
    registry = get_active_graph_element_registry()
    if not isinstance(registry, Graph):
        message = (
            f"pipeline: declared under {type(registry).__name__}, which knows no expectations and "
            "no SCD type 2; run it by spark_jobs/gold.py, or on Databricks"
        )
        raise PipelineError(message)
    return registry


def load_graph(files: list[Path]) -> Graph:
    """Run a pipeline's files and check what they declared.

    Raises:
        PipelineError: A file fails, or the declarations don't fit together.
    """
    graph = Graph()
    with graph_element_registration_context(graph):
        for path in files:
            _execute(path)
    graph.check()
    return graph


def _execute(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(f"_pipeline_{path.stem}", path)
    assert spec is not None  # noqa: S101  a .py file always has one
    assert spec.loader is not None  # noqa: S101
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except TidemarkError:
        raise
    except Exception as error:
        message = f"{path}: can't be loaded: {type(error).__name__}: {error}"
        raise PipelineError(message) from error


def _require(end: str, name: str, names: list[str], flow: str) -> None:
    if name not in names:
        near = did_you_mean(name, names)
        _refuse(flow, f"its flow's {end} {name!r} is not declared{near}")


def _refuse(name: str, reason: str) -> NoReturn:
    raise PipelineError(f"pipeline: {name!r}: {reason}")
