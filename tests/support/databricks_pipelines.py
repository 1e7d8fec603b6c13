"""A stand-in for Databricks' ``pyspark.pipelines``: its documented names and arguments, no others.

Open-source Spark has a module of the same name with other names and arguments, so what a ``dlt/``
file may use on Databricks is written down here, each with the page that says so. A call with
anything else fails as it would there; the others are recorded.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from pyspark.sql import Column

DOCS = "https://learn.microsoft.com/en-us/azure/databricks/ldp/developer/ldp-python-ref-"
# What Databricks' module holds: https://docs.databricks.com/aws/en/ldp/developer/python-ref
NAMES = {
    "append_flow",
    "create_auto_cdc_flow",
    "create_auto_cdc_from_snapshot_flow",
    "create_sink",
    "create_streaming_table",
    "expect",
    "expect_all",
    "expect_all_or_drop",
    "expect_all_or_fail",
    "expect_or_drop",
    "expect_or_fail",
    "materialized_view",
    "table",
    "temporary_view",
}


@dataclass(frozen=True)
class Call:
    """A call, with the arguments that were given."""

    name: str
    given: dict[str, Any]


@dataclass
class Dataset:
    """What the decorators over one function declare, from the innermost on."""

    function: Callable[[], Any]
    expectations: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass
class Recorder:
    """The calls of a pipeline's files, in their order."""

    calls: list[Call] = field(default_factory=list)
    queries: dict[str, Callable[[], Any]] = field(default_factory=dict)
    expectations: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    _waiting: dict[Callable[[], Any], Dataset] = field(default_factory=dict)

    def named(self, name: str) -> list[dict[str, Any]]:
        """Give the arguments of each call of a function."""
        return [call.given for call in self.calls if call.name == name]

    def record(self, given: dict[str, Any]) -> dict[str, Any]:
        """Note a call of the function that calls this, without what it left out."""
        name = inspect.stack()[1].function
        kept = {k: v for k, v in given.items() if v is not None and k not in {"self", "function"}}
        self.calls.append(Call(name, kept))
        return kept

    def dataset(self, given: dict[str, Any], function: Callable[[], Any] | None) -> Any:
        """Take the query of a dataset, be its decorator called with arguments or without."""

        def take(query: Callable[[], Any]) -> Callable[[], Any]:
            name = given.get("name", query.__name__)
            assert name not in self.queries, f"{name}: declared twice"
            self.queries[name] = query
            waiting = self._waiting.pop(query, None)
            self.expectations[name] = waiting.expectations if waiting else {}
            return query

        return take if function is None else take(function)

    def expected(self, kind: str, rules: dict[str, str]) -> Any:
        """Take expectations; they stand between the dataset's decorator and its function."""
        assert type(rules) is dict, f"{kind}: {rules!r} is no dict"
        for name, rule in rules.items():
            assert isinstance(name, str), (kind, name)
            assert isinstance(rule, str), (kind, rule)

        def take(query: Callable[[], Any]) -> Callable[[], Any]:
            assert inspect.isfunction(query), f"{kind} stands above its dataset's decorator"
            found = self._waiting.setdefault(query, Dataset(query)).expectations
            twice = set(rules) & {name for known in found.values() for name in known}
            # "An expectation name must be unique for a given dataset."
            assert not twice, f"{kind}: {twice} stands twice at {query.__name__}"
            found.setdefault(kind, {}).update(rules)
            return query

        return take

    # The signatures: only what the page beside each one lists; `=...` is optional there.

    def create_auto_cdc_flow(  # noqa: PLR0917  DOCS + apply-changes
        self,
        target: str,
        source: str,
        keys: list[str] | list[Column],
        sequence_by: str | Column,
        ignore_null_updates: bool | None = None,
        apply_as_deletes: str | Column | None = None,
        apply_as_truncates: str | Column | None = None,
        column_list: list[str] | None = None,
        except_column_list: list[str] | None = None,
        stored_as_scd_type: str | int | None = None,
        track_history_column_list: list[str] | None = None,
        track_history_except_column_list: list[str] | None = None,
        name: str | None = None,
        once: bool | None = None,
    ) -> None:
        given = self.record(locals())
        assert _all_text(target, source), given
        assert type(keys) is list, given
        assert keys, given
        for each in ("column_list", "except_column_list", "track_history_column_list"):
            assert type(given.get(each, [])) is list, given
        assert isinstance(sequence_by, str | Column), given
        assert isinstance(given.get("apply_as_deletes", ""), str | Column), given
        assert not (column_list and except_column_list), "either of the two"
        assert given.get("stored_as_scd_type", 1) in {1, 2, "1", "2"}, given
        history = track_history_column_list or track_history_except_column_list
        assert not history or stored_as_scd_type in {2, "2"}, "history is of type 2 alone"

    def create_streaming_table(  # noqa: PLR0917  DOCS + streaming-table
        self,
        name: str,
        comment: str | None = None,
        spark_conf: dict[str, str] | None = None,
        table_properties: dict[str, str] | None = None,
        path: str | None = None,
        partition_cols: list[str] | None = None,
        cluster_by_auto: bool | None = None,
        cluster_by: list[str] | None = None,
        schema: Any = None,
        expect_all: dict[str, str] | None = None,
        expect_all_or_drop: dict[str, str] | None = None,
        expect_all_or_fail: dict[str, str] | None = None,
        row_filter: str | None = None,
    ) -> None:
        given = self.record(locals())
        assert _all_text(name, given.get("comment", "")), given

    def append_flow(  # DOCS + append-flow
        self,
        *,
        target: str,
        name: str | None = None,
        once: bool | None = None,
        spark_conf: dict[str, str] | None = None,
        comment: str | None = None,
    ) -> Any:
        given = self.record(locals())
        assert _all_text(target), given
        return self.dataset({"name": name or target}, None)

    def temporary_view(  # DOCS + view
        self,
        function: Callable[[], Any] | None = None,
        *,
        name: str | None = None,
        comment: str | None = None,
    ) -> Any:
        return self.dataset(self.record(locals()), function)

    def materialized_view(  # DOCS + materialized-view
        self,
        function: Callable[[], Any] | None = None,
        *,
        name: str | None = None,
        comment: str | None = None,
        spark_conf: dict[str, str] | None = None,
        table_properties: dict[str, str] | None = None,
        path: str | None = None,
        partition_cols: list[str] | None = None,
        cluster_by_auto: bool | None = None,
        cluster_by: list[str] | None = None,
        schema: Any = None,
        refresh_policy: str | None = None,
        row_filter: str | None = None,
        private: bool | None = None,
    ) -> Any:
        return self.dataset(self.record(locals()), function)

    def table(  # DOCS + table
        self,
        function: Callable[[], Any] | None = None,
        *,
        name: str | None = None,
        comment: str | None = None,
        spark_conf: dict[str, str] | None = None,
        table_properties: dict[str, str] | None = None,
        path: str | None = None,
        partition_cols: list[str] | None = None,
        cluster_by_auto: bool | None = None,
        cluster_by: list[str] | None = None,
        schema: Any = None,
        row_filter: str | None = None,
        private: bool | None = None,
    ) -> Any:
        return self.dataset(self.record(locals()), function)

    # DOCS + expectations

    def expect(self, description: str, constraint: str) -> Any:
        return self.expected("expect", {description: constraint})

    def expect_or_drop(self, description: str, constraint: str) -> Any:
        return self.expected("expect_or_drop", {description: constraint})

    def expect_or_fail(self, description: str, constraint: str) -> Any:
        return self.expected("expect_or_fail", {description: constraint})

    def expect_all(self, expectations: dict[str, str], /) -> Any:
        return self.expected("expect", expectations)

    def expect_all_or_drop(self, expectations: dict[str, str], /) -> Any:
        return self.expected("expect_or_drop", expectations)

    def expect_all_or_fail(self, expectations: dict[str, str], /) -> Any:
        return self.expected("expect_or_fail", expectations)


@contextmanager
def databricks_pipelines() -> Iterator[Recorder]:
    """Put the stand-in in the place of ``pyspark.pipelines``, without what only open source has."""
    import pyspark  # noqa: PLC0415  its attribute is exchanged

    recorder = Recorder()
    module = ModuleType("pyspark.pipelines")  # no package: nothing below it can be imported
    for name in NAMES:
        function = getattr(recorder, name, None)
        if function is not None:
            setattr(module, name, function)
    ours = ("pyspark.pipelines", "tidemark.spark.declare", "tidemark.spark.graph")
    before = {n: m for n, m in sys.modules.items() if n.startswith(ours)}
    open_source, declare = pyspark.pipelines, _attribute("tidemark.spark", "declare")
    for name in before:
        del sys.modules[name]
    sys.modules["pyspark.pipelines"] = pyspark.pipelines = module  # type: ignore[assignment]
    try:
        yield recorder
    finally:
        for name in [n for n in sys.modules if n.startswith(ours)]:
            del sys.modules[name]
        sys.modules |= before
        pyspark.pipelines = open_source
        if declare is not None:
            sys.modules["tidemark.spark"].declare = declare  # type: ignore[attr-defined]


def execute(path: Path) -> None:
    """Run a pipeline's file, as its engine does."""
    exec(compile(path.read_text(), str(path), "exec"), {"__name__": path.stem})  # noqa: S102


def _attribute(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, None)


def _all_text(*values: object) -> bool:
    return all(isinstance(value, str) and value for value in values)
