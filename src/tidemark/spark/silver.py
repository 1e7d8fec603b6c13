"""Silver: every pending table's bronze into its changes and its current state, in one session."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from tidemark.errors import PipelineError
from tidemark.layers_lock import as_a_run
from tidemark.layout import Lake, sequence_of
from tidemark.metadata import Source, Table
from tidemark.pending import bronze_snapshot, mark_silver_done, silver_version
from tidemark.spark.bronze_stream import (
    FILE,
    META,
    StreamSchema,
    allow_adfs_names,
    bronze_stream,
    stream_schema,
)
from tidemark.spark.explain import explained
from tidemark.spark.rules import TableRule, cleaned, find_rule
from tidemark.spark.session import suit_to, tables_at_once
from tidemark.spark.silver_merge import Batch, BatchFacts, SilverTable, ranked, write_batch
from tidemark.spark.stream import drain, stream_id
from tidemark.storage import Store, open_store

_IN_LAKE = "lake:"


@dataclass(frozen=True)
class TableResult:
    """What silver did for a table.

    Attributes:
        rows_in: Rows read from bronze.
        rows: Distinct changes appended.
        batches: Batches of the stream.
        version: The changes' newest Delta version; None before the first.
        seconds: Wall clock.
        status: ``done`` or ``failed``.
        error: Why it failed.
    """

    rows_in: int = 0
    rows: int = 0
    batches: int = 0
    version: int | None = None
    seconds: float = 0.0
    status: str = "done"
    error: str | None = None


def run_silver(
    spark: SparkSession,
    lake_root: str,
    source: Source,
    tables: Sequence[str],
    rules: Path,
    *,
    beside: str = "",
) -> dict[str, TableResult]:
    """Bring tables' silver up to their bronze, several at a time; each fails alone.

    Args:
        spark: The session.
        lake_root: The lake's folder or URL.
        source: The metadata.
        tables: Lake names.
        rules: The folder of the rules files.
        beside: A folder of the lake to build in, instead of the lake itself.

    Returns:
        A result for each table, in the given order. A table that failed is not marked as done,
        and so stays pending.

    Raises:
        PipelineError: A rebuild is at work; nothing was run.
    """
    lake = Lake(lake_root, beside)
    by_name = {table.lake_name: table for table in source.tables.values()}
    path = rules / f"{source.name}.py"

    def one(name: str) -> TableResult:
        if name not in by_name:
            message = f"{name}: not a table of {source.path}; it has {', '.join(sorted(by_name))}"
            return TableResult(status="failed", error=message)
        return _Job(spark, open_store(lake_root), lake, by_name[name], path).run()

    allow_adfs_names(spark, open_store(lake_root), lake, tables)
    suit_to(spark, [lake.url(lake.bronze_folder(name)) for name in tables])
    with as_a_run(lake, source.name), ThreadPoolExecutor(tables_at_once(spark)) as pool:
        return dict(zip(tables, pool.map(one, tables), strict=True))


def write_report(results: dict[str, TableResult], where: str, lake_root: str) -> None:
    """Write what was done, failed tables included, as JSON.

    Args:
        results: From `run_silver`.
        where: A path on this machine; or, behind ``lake:``, one within the lake, for a job that
            has no disk in common with who asks. Empty: nowhere.
        lake_root: The lake's folder or URL.
    """
    if not where:
        return
    tables = {name: asdict(result) for name, result in results.items()}
    text = json.dumps({"tables": tables}, indent=1)
    if where.startswith(_IN_LAKE):
        open_store(lake_root).write(where.removeprefix(_IN_LAKE), text.encode())
        return
    path = Path(where)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def failure(results: dict[str, TableResult]) -> PipelineError | None:
    """Give one error that names every table that failed; None if all are done."""
    reasons = [result.error for result in results.values() if result.error is not None]
    if not reasons:
        return None
    head = f"silver: {len(reasons)} of {len(results)} tables failed, the others are done:"
    return PipelineError("\n  ".join([head, *reasons]))


class _SchemaBehindError(PipelineError):
    """Files were published after the schema had been found: new columns of theirs would be lost."""


@dataclass(frozen=True)
class _Job:
    spark: SparkSession
    store: Store
    lake: Lake
    table: Table
    rules: Path

    def run(self) -> TableResult:
        """Do the table; any error becomes its result."""
        begin = time.monotonic()
        try:
            result = self._drain()
        except Exception as error:  # noqa: BLE001  one table's failure is never another's
            result = TableResult(status="failed", error=explained(self.table.lake_name, error))
        return replace(result, seconds=round(time.monotonic() - begin, 3))

    def _drain(self) -> TableResult:
        name = self.table.lake_name
        snapshot = bronze_snapshot(self.store, self.lake, name)
        rule = find_rule(self.rules, self.table.rule, name) if self.table.rule else None
        counts: list[tuple[int, int]] = []
        if snapshot.count:
            self._stream_all(rule, counts)
            mark_silver_done(self.store, self.lake, name, snapshot)
        return TableResult(
            rows_in=sum(rows_in for rows_in, _ in counts),
            rows=sum(rows for _, rows in counts),
            batches=len(counts),
            version=self._version(),
        )

    def _stream_all(self, rule: TableRule | None, counts: list[tuple[int, int]]) -> None:
        for attempts_left in (2, 1, 0):
            schema = stream_schema(self.spark, self.store, self.lake, self.table.lake_name)
            try:
                self._stream(schema, rule, counts)
            except _SchemaBehindError:
                if not attempts_left:
                    raise
            else:
                return

    def _stream(
        self, schema: StreamSchema, rule: TableRule | None, counts: list[tuple[int, int]]
    ) -> None:
        name = self.table.lake_name
        drain(
            bronze_stream(self.spark, self.lake, name, schema.columns),
            self._url(self.lake.checkpoint("silver", name)),
            lambda rows, number: counts.append(self._batch(rows, number, schema, rule)),
        )

    def _batch(
        self, rows: DataFrame, number: int, schema: StreamSchema, rule: TableRule | None
    ) -> tuple[int, int]:
        table = self._silver()
        if rule is not None:
            rows = cleaned(rows, rule, table.key, [*META.names, FILE])
        batch = Batch(rows, stream_id(rows), number)
        with ranked(batch, table) as (ordered, facts):
            if strange := facts.files - schema.files:
                message = (
                    f"{self.table.lake_name}: bronze files {', '.join(sorted(strange))} are not "
                    "where bronze files are published; move them away and run again"
                )
                raise _SchemaBehindError(message)
            before = self._version()
            in_order = _in_order(facts, schema)
            rows_out = write_batch(batch, ordered, facts, table, in_order=in_order)
            return facts.rows_in, rows_out if self._version() != before else 0

    def _silver(self) -> SilverTable:
        name = self.table.lake_name
        return SilverTable(
            key=self.table.key,
            cursor=self.table.cursor,
            changes=self._url(self.lake.changes(name)),
            current=self._url(self.lake.silver(name)),
        )

    def _version(self) -> int | None:
        return silver_version(self.store, self.lake, self.table.lake_name)

    def _url(self, relative: str) -> str:
        return self.lake.url(relative)


def _in_order(facts: BatchFacts, schema: StreamSchema) -> bool:
    """Tell, from file names alone, whether all that the stream brought earlier is older.

    Of a new checkpoint's first batch that can't be told, nor of a file that was met before and
    comes again: its batch has failed, or somebody has moved it to another folder.
    """
    if not facts.files <= schema.new:
        return False
    earlier = [sequence_of(name) for name in schema.files - facts.files]
    newest = max((time for time in earlier if time is not None), default=None)
    return newest is not None and newest < facts.oldest
