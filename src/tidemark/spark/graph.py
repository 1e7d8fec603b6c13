"""What a pipeline's files declare: collected while they load, checked before anything runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

from pyspark.pipelines.flow import AutoCdcFlow, Flow
from pyspark.pipelines.graph_element_registry import (
    GraphElementRegistry,
    graph_element_registration_context,
)
from pyspark.pipelines.output import MaterializedView, Output, StreamingTable, TemporaryView
from pyspark.sql import DataFrame

from tidemark.errors import PipelineError, TidemarkError
from tidemark.suggestions import did_you_mean

Query = Callable[[], DataFrame]


@dataclass(frozen=True)
class ChangeFlow:
    """A declared AUTO CDC flow; the fields are `tidemark.spark.declare.create_auto_cdc_flow`'s.

    Expressions stay SQL text until there is a batch to evaluate them on.
    """

    target: str
    source: str
    keys: tuple[str, ...]
    sequence_by: str
    apply_as_deletes: str | None = None
    except_columns: tuple[str, ...] = ()
    scd_type: Literal[1, 2] = 1
    track: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph(GraphElementRegistry):
    """A pipeline's declarations, by name.

    Attributes:
        outputs: Tables and views.
        queries: The function behind each view.
        flows: The AUTO CDC flows, by target.
        expectations: What a function's rows must fulfil, by function.
    """

    outputs: dict[str, Output] = field(default_factory=dict)
    queries: dict[str, Query] = field(default_factory=dict)
    flows: dict[str, ChangeFlow] = field(default_factory=dict)
    expectations: dict[Query, dict[str, str]] = field(default_factory=dict)

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

    def register_expectations(self, query: Query, expectations: Mapping[str, str]) -> None:
        """Take what a query's rows must fulfil, in addition to what is known already."""
        if not callable(query):
            _refuse(str(next(iter(expectations))), "an expectation stands under @dp.…, not above")
        self.expectations[query] = {**self.expectations.get(query, {}), **expectations}

    def register_auto_cdc_flow(self, flow: AutoCdcFlow) -> None:
        """Refuse open-source Spark's own form: it can't write to Delta."""
        _refuse(flow.target, "declare it with tidemark.spark.declare.create_auto_cdc_flow")

    def register_sql(self, sql_text: str, file_path: Path) -> None:
        """Refuse SQL files."""
        _refuse(file_path.name, f"SQL ({sql_text[:20]!r}…) is not run here; declare it in Python")

    def check(self) -> None:
        """Find a flow whose end does not exist, before anything runs.

        Raises:
            PipelineError: It names the flow and the nearest name there is.
        """
        tables = [n for n, output in self.outputs.items() if isinstance(output, StreamingTable)]
        for flow in self.flows.values():
            for end, name, names in (
                ("target", flow.target, tables),
                ("source", flow.source, list(self.queries)),
            ):
                if name not in names:
                    near = did_you_mean(name, names)
                    _refuse(flow.target, f"its flow's {end} {name!r} is not declared{near}")

    @property
    def views(self) -> dict[str, Query]:
        """The views to compute: all but those that flows stream from."""
        streamed = {flow.source for flow in self.flows.values()}
        return {name: query for name, query in self.queries.items() if name not in streamed}


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


def _refuse(name: str, reason: str) -> NoReturn:
    raise PipelineError(f"pipeline: {name!r}: {reason}")
