"""Materialized views, computed anew from the gold tables that are there.

A view names its inputs only by reading them. So its function is tried, and each name that Spark
does not find is brought in, a table by its path and another view by computing it first, until the
function succeeds or a name can't be had.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.pipelines.output import MaterializedView
from pyspark.sql import DataFrame, SparkSession

from tidemark.errors import PipelineError
from tidemark.layout import Lake
from tidemark.spark.expectations import (
    FAILED,
    Violations,
    findings,
    judged,
    passed,
    refuse,
    violations,
)
from tidemark.spark.explain import explained
from tidemark.spark.graph import Graph
from tidemark.suggestions import did_you_mean

_VIEW_READ = re.compile(r"View \(`([^`]+)`")


@dataclass(frozen=True)
class ViewResult:
    """What became of a view.

    Attributes:
        status: ``done``, ``failed``, or ``skipped`` if an input does not exist yet.
        error: Why it failed or was skipped.
        found: What its expectations found.
    """

    status: str = "done"
    error: str | None = None
    found: Violations = field(default_factory=Violations)


def compute_views(spark: SparkSession, lake: Lake, graph: Graph) -> Mapping[str, ViewResult]:
    """Compute all views of a pipeline; each fails alone.

    A view over one that failed, or over a table whose flow failed, is computed from what stands.

    Returns:
        By view, in the order of declaration.
    """
    with _inputs(_Run(spark, lake, graph)) as run:
        for name in graph.views:
            run.compute(name)
        return {name: run.results[name] for name in graph.views}


class _NotThereYetError(PipelineError):
    """An input is declared, but nothing has been written to it."""


@dataclass
class _Run:
    spark: SparkSession
    lake: Lake
    graph: Graph
    results: dict[str, ViewResult] = field(default_factory=dict)
    readable: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)

    def compute(self, name: str) -> None:
        if name in self.begun:
            return
        self.begun.add(name)
        try:
            with self._judged(name, self._query(name)) as (rows, found):
                self._write(name, rows)
            self.results[name] = ViewResult(found=found)
        except _NotThereYetError as reason:
            self.results[name] = ViewResult("skipped", str(reason))
        except Exception as error:  # noqa: BLE001  one view's failure is never another's
            self.results[name] = ViewResult("failed", explained(name, error))

    def _query(self, name: str) -> DataFrame:
        while True:
            try:
                rows = self.graph.views[name]()
            except AnalysisException as error:
                missing = _missing(error)
                if missing is None or missing in self.readable:
                    raise
                self._bring(missing, name)
            else:
                self._check_reads(name, rows)
                return rows

    def _check_reads(self, name: str, rows: DataFrame) -> None:
        """Refuse a view that reads more than it says: Databricks could not leave it out."""
        if name not in self.graph.reads:
            return
        # A view is named in the plan as its columns are: "View (`name`, [column#1, ...])".
        plan = rows._jdf.queryExecution().analyzed().toString()  # noqa: SLF001  no other way to it
        silent = set(_VIEW_READ.findall(plan)) & set(self.graph.outputs)
        if more := sorted(silent - set(self.graph.reads[name])):
            message = (
                f"{name}: it reads {', '.join(more)} and does not say so: Databricks fails the "
                "whole update where such a table is not there yet; name it in `reads`"
            )
            raise PipelineError(message)

    def _bring(self, missing: str, view: str) -> None:
        if missing in self.graph.views:
            self.compute(missing)
            if missing in self.readable:
                return
        if missing not in self.graph.outputs:
            # A misspelt name is an error. One that resembles nothing is of a table that this
            # metadata does not have: a view for all of a source must not fail for a part of it.
            near = did_you_mean(missing, self.graph.outputs)
            reason = f"{view}: reads {missing!r}, which is not declared{near}"
            raise PipelineError(reason) if near else _NotThereYetError(reason)
        path = self.lake.url(self.lake.gold(missing))
        if not DeltaTable.isDeltaTable(self.spark, path):
            raise _NotThereYetError(f"{view}: {missing} holds nothing yet; computed once it does")
        self._offer(missing, self.spark.read.format("delta").load(path))

    @contextmanager
    def _judged(self, name: str, rows: DataFrame) -> Iterator[tuple[DataFrame, Violations]]:
        """Leave out what the view's expectations drop."""
        expected = self.graph.expectations.get(self.graph.views[name])
        if expected is None:
            yield rows, Violations()
            return
        with_verdict = judged(rows, expected.every).persist()
        try:
            # The first column names a row: the others may hold more than an error should tell.
            facts = with_verdict.agg(*findings(expected, rows.columns[:1])).collect()[0]
            refuse(name, facts, expected)
            kept = with_verdict.where(passed(expected.drop)).drop(FAILED)
            yield kept, violations(facts, expected)
        finally:
            with_verdict.unpersist()

    def _write(self, name: str, rows: DataFrame) -> None:
        if isinstance(self.graph.outputs[name], MaterializedView):
            path = self.lake.url(self.lake.gold(name))
            writer = rows.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
            writer.save(path)
            rows = self.spark.read.format("delta").load(path)
        self._offer(name, rows)

    def _offer(self, name: str, rows: DataFrame) -> None:
        rows.createOrReplaceTempView(name)
        self.readable.add(name)


@contextmanager
def _inputs(run: _Run) -> Iterator[_Run]:
    try:
        yield run
    finally:
        for name in run.readable:
            run.spark.catalog.dropTempView(name)


def _missing(error: AnalysisException) -> str | None:
    if error.getCondition() != "TABLE_OR_VIEW_NOT_FOUND":
        return None
    return (error.getMessageParameters() or {}).get("relationName", "").strip("`")
