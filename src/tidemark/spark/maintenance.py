"""Maintenance: a table's small files put together, and what no longer counts removed.

The same SQL on open-source Delta and on Databricks. Rows stay the same, and what streams from a
table passes over what is only put together. Nothing here is needed for a result to be right.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from tidemark.errors import PipelineError
from tidemark.layers_lock import as_maintenance, as_the_writer
from tidemark.layout import Lake
from tidemark.metadata import Source, Table
from tidemark.pending import gold_pending
from tidemark.spark.engine import is_databricks
from tidemark.spark.explain import explained
from tidemark.spark.rules import quoted
from tidemark.storage import Store, open_store

VIEWS = "gold's views"  # no table's name: it has a blank
_RETENTION = "delta.deletedFileRetentionDuration"
_LOG = "delta.logRetentionDuration"
# Delta's own.
_DEFAULT_RETENTION, _DEFAULT_LOG = timedelta(days=7), timedelta(days=30)
_OURS = re.compile(r"interval \d+ hours")
# They change no row: what was put together before them still is.
_TIDYING = {"VACUUM START", "VACUUM END", "SET TBLPROPERTIES"}
_LOOK_BACK = 50  # commits


@dataclass(frozen=True)
class Place:
    """A Delta table and what is to be done with it.

    Attributes:
        path: Relative to the lake.
        z_order: Columns to put rows together by.
        cluster_by: The same, by liquid clustering.
        vacuum: How long to keep what no longer counts; None: for ever.
        note: Why something is left out.
    """

    path: str
    z_order: tuple[str, ...] = ()
    cluster_by: tuple[str, ...] = ()
    vacuum: timedelta | None = None
    note: str = ""


@dataclass(frozen=True)
class PlaceResult:
    """What was done with a Delta table; in a dry run: what it is, and what would be done.

    Attributes:
        files: How many files it has, before.
        bytes: How large they are.
        removed: Files that were put together.
        added: Files that came of it.
        done: The statements, in order.
        note: What was left out, and why.
    """

    files: int = 0
    bytes: int = 0
    removed: int = 0
    added: int = 0
    done: tuple[str, ...] = ()
    note: str = ""

    def line(self, path: str, *, dry_run: bool) -> str:
        """Write it as a line for a person."""
        what = "; ".join(self.done) or "nothing to do"
        if dry_run:
            counts = f"{self.files} files, {self.bytes:,} bytes; would do: {what}"
        else:
            counts = f"{self.files} files, {self.removed} of them now {self.added}; {what}"
        return f"{path}: {counts}" + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True)
class TableResult:
    """What maintenance did for a table.

    Attributes:
        places: By the Delta table's path in the lake.
        seconds: Wall clock.
        status: ``done`` or ``failed``.
        error: Why it failed.
    """

    places: Mapping[str, PlaceResult] = field(default_factory=dict)
    seconds: float = 0.0
    status: str = "done"
    error: str | None = None


def run_maintenance(
    spark: SparkSession,
    lake_root: str,
    source: Source,
    tables: Sequence[str],
    *,
    pipeline: Path | None = None,
    dry_run: bool = False,
) -> dict[str, TableResult]:
    """Maintain tables one after the other; each fails alone.

    Args:
        spark: The session.
        lake_root: The lake's folder or URL.
        source: The metadata.
        tables: Lake names; all if empty.
        pipeline: The folder of the declarations, ``dlt/``; with it also gold's views, where they
            are ours to maintain. They are under `VIEWS` in the result.
        dry_run: Look only.

    Returns:
        A result for each table.

    Raises:
        LakeError: A run's job or a rebuild is at work; nothing was done.
        ConfigError: A name is no table of the source.
    """
    lake, store = Lake(lake_root), open_store(lake_root)
    chosen = source.tables_named(tables)
    jobs: dict[str, Callable[[], Iterable[Place]]]
    jobs = {t.lake_name: partial(_places, store, lake, t) for t in chosen}
    if pipeline is not None and not is_databricks():
        jobs[VIEWS] = partial(_views, spark, lake, source, pipeline)
    with as_maintenance(lake, source.name):
        work = _Work(spark, store, lake, dry_run)
        return {name: work.maintained(name, job) for name, job in jobs.items()}


def places(lake: Lake, table: Table, *, gold_is_behind: bool, databricks: bool) -> Iterator[Place]:
    """Say which Delta tables a table has, and what is to be done with each.

    The changes, and gold's own log of events, are written in the order in which they are looked
    through, and stay in it: they are compacted alone. On Databricks gold is the pipeline's, which
    maintains its tables itself.

    Args:
        lake: The lake.
        table: The metadata.
        gold_is_behind: Gold has not read all changes yet, and may need each of their files.
        databricks: Whether that is where this runs.
    """
    wish = table.maintenance
    current = Place(lake.silver(table.lake_name), wish.z_order, wish.cluster_by, wish.vacuum)
    yield current
    changes = Place(lake.changes(table.lake_name), vacuum=wish.vacuum)
    if gold_is_behind:
        note = "not vacuumed: gold has not read all of it; run the source's Dag, then this again"
        changes = replace(changes, vacuum=None, note=note)
    yield changes
    if table.gold and not databricks:
        yield replace(current, path=lake.gold(table.gold.name))
        for path in (lake.auxiliary(table.gold.name), lake.gold_quarantine(table.gold.name)):
            yield Place(path, vacuum=wish.vacuum)


def is_tidy(history: Sequence[Mapping[str, Any]], z_order: Sequence[str]) -> bool:
    """Tell whether nothing was written since rows were put together by these columns.

    Args:
        history: Delta's, newest first: ``operation`` and ``operationParameters``.
        z_order: The columns.
    """
    for commit in history:
        if commit["operation"] not in _TIDYING:
            by = json.loads((commit["operationParameters"] or {}).get("zOrderBy") or "[]")
            return bool(commit["operation"] == "OPTIMIZE" and by == list(z_order))
    return False


def settings(
    place: Place, properties: Mapping[str, str], clustered_by: Sequence[str]
) -> Iterator[str]:
    """Say what is to be set at a table, each as ``ALTER TABLE`` takes it.

    A retention that somebody else has set, in words of their own, is left as it is.

    Args:
        place: What is wanted.
        properties: The table's own.
        clustered_by: What it is clustered by now.
    """
    if place.cluster_by and list(place.cluster_by) != list(clustered_by):
        yield f"CLUSTER BY ({_names(place.cluster_by)})"
    if place.z_order and clustered_by:
        yield "CLUSTER BY NONE"
    if place.vacuum is None:
        return
    there, hours = properties.get(_RETENTION), int(place.vacuum.total_seconds() // 3600)
    wanted = f"interval {hours} hours"
    ours = _OURS.fullmatch(there) if there else place.vacuum != _DEFAULT_RETENTION
    if ours and there != wanted:
        names = [_RETENTION, *([_LOG] if place.vacuum > _DEFAULT_LOG else [])]
        pairs = ", ".join(f"'{name}' = '{wanted}'" for name in names)
        yield f"SET TBLPROPERTIES ({pairs})"


def write_report(results: Mapping[str, TableResult], lake_root: str, to: str) -> None:
    """Write what was done as JSON.

    Args:
        results: By table.
        lake_root: The lake.
        to: A file of this machine, or ``lake:`` and a path within the lake.
    """
    text = json.dumps({"tables": {n: asdict(r) for n, r in results.items()}}, indent=1)
    if to.startswith("lake:"):
        store = open_store(lake_root)
        store.write(to.removeprefix("lake:"), text.encode())
        return
    with open(to, "w", encoding="utf-8") as file:  # noqa: PTH123  # as it was given
        file.write(text)


def failure(results: Mapping[str, TableResult]) -> PipelineError | None:
    """Give one error that names every table that failed; None if all are done."""
    reasons = [result.error for result in results.values() if result.error is not None]
    if not reasons:
        return None
    head = f"maintenance: {len(reasons)} of {len(results)} tables failed, the others are done:"
    return PipelineError("\n  ".join([head, *reasons]))


def _places(store: Store, lake: Lake, table: Table) -> Iterable[Place]:
    behind = bool(table.gold and gold_pending(store, lake, [table.lake_name]))
    return places(lake, table, gold_is_behind=behind, databricks=is_databricks())


def _views(spark: SparkSession, lake: Lake, source: Source, pipeline: Path) -> Iterable[Place]:
    from tidemark.spark.pipeline import load_pipeline  # noqa: PLC0415  Databricks lacks what it imports

    views = load_pipeline(spark, lake, source, pipeline).views
    return [Place(lake.gold(name), vacuum=_DEFAULT_RETENTION) for name in views]


@dataclass(frozen=True)
class _Work:
    session: SparkSession
    store: Store
    lake: Lake
    dry_run: bool

    def maintained(self, name: str, wanted: Callable[[], Iterable[Place]]) -> TableResult:
        """Do a table's places; any error becomes its result."""
        begin, found = time.monotonic(), dict[str, PlaceResult]()
        status, error = "done", None
        # A table that is followed without end is written beside the runs.
        alone = nullcontext() if self.dry_run or name == VIEWS else as_the_writer(self.lake, name)
        try:
            with alone:
                for place in wanted():
                    if self.store.names(f"{place.path}/_delta_log"):
                        found[place.path] = self._done(place)
        except Exception as caught:  # noqa: BLE001  one table's failure is never another's
            status, error = "failed", explained(name, caught)
        return TableResult(found, round(time.monotonic() - begin, 3), status, error)

    def _done(self, place: Place) -> PlaceResult:
        table = f"delta.{quoted(self.lake.url(place.path))}"
        job = _Job(self.session, table, place)
        return job.look() if self.dry_run else job.run()


@dataclass(frozen=True)
class _Job:
    session: SparkSession
    table: str
    place: Place

    def look(self) -> PlaceResult:
        """Say what would be done."""
        detail = self._detail()
        return self._result(detail, [*self._settings(detail), *self._optimize(), *self._vacuum()])

    def run(self) -> PlaceResult:
        """Do it."""
        detail = self._detail()
        settings, optimize, vacuum = self._settings(detail), self._optimize(), self._vacuum()
        for statement in settings:
            self._sql(statement)
        metrics = [self._sql(s).select("metrics.*").collect()[0] for s in optimize]
        for statement in vacuum:
            self._sql(statement)
        return replace(
            self._result(detail, [*settings, *optimize, *vacuum]),
            removed=sum(m["numFilesRemoved"] for m in metrics),
            added=sum(m["numFilesAdded"] for m in metrics),
        )

    def _settings(self, detail: Mapping[str, Any]) -> list[str]:
        set_to = settings(self.place, detail["properties"], detail["clusteringColumns"])
        return [f"ALTER TABLE {self.table} {setting}" for setting in set_to]

    def _optimize(self) -> list[str]:
        by = self.place.z_order
        if not by:
            return [f"OPTIMIZE {self.table}"]
        history = self._sql(f"DESCRIBE HISTORY {self.table} LIMIT {_LOOK_BACK}").collect()
        if is_tidy([commit.asDict() for commit in history], by):
            return []
        return [f"OPTIMIZE {self.table} ZORDER BY ({_names(by)})"]

    def _vacuum(self) -> list[str]:
        # Without RETAIN: the table's property counts, and newer Databricks knows nothing else.
        return [] if self.place.vacuum is None else [f"VACUUM {self.table}"]

    def _detail(self) -> Mapping[str, Any]:
        found: dict[str, Any] = self._sql(f"DESCRIBE DETAIL {self.table}").collect()[0].asDict()
        return found

    def _sql(self, statement: str) -> DataFrame:
        return self.session.sql(statement)

    def _result(self, detail: Mapping[str, Any], statements: Sequence[str]) -> PlaceResult:
        short = tuple(statement.replace(f" {self.table}", "") for statement in statements)
        return PlaceResult(
            files=detail["numFiles"],
            bytes=detail["sizeInBytes"],
            done=short,
            note=self.place.note,
        )


def _names(columns: Sequence[str]) -> str:
    return ", ".join(map(quoted, columns))
