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
from tidemark.layers_lock import (
    PATIENCE_SECONDS,
    OccupiedError,
    as_a_run,
    as_the_writer,
    streamed_by,
)
from tidemark.layout import Lake, sequence_of
from tidemark.metadata import Source, Table
from tidemark.pending import bronze_snapshot, mark_silver_done, silver_version
from tidemark.published import file_name, names_in_bronze
from tidemark.quarantine import change, held_files, hold, told, waiting
from tidemark.spark.bronze_stream import (
    FILE,
    META,
    StreamSchema,
    allow_adfs_names,
    broken_files,
    bronze_stream,
    stream_schema,
)
from tidemark.spark.databricks import RESCUED
from tidemark.spark.explain import explained
from tidemark.spark.moved import where_it_lies
from tidemark.spark.rules import TableRule, cleaned, find_rule
from tidemark.spark.session import suit_to, tables_at_once
from tidemark.spark.silver_merge import Batch, BatchFacts, ranked, silver_table, write_batch
from tidemark.spark.stream import drain, stream_id
from tidemark.storage import Store, open_store

_IN_LAKE = "lake:"
_PATIENCE = 60.0  # seconds, for a replay or a stream that is just ending
_TIMES = 3  # that new files may come between finding the schema and reading


@dataclass(frozen=True)
class TableResult:
    """What silver did for a table.

    Attributes:
        rows_in: Rows read from bronze.
        rows: Distinct changes appended.
        batches: Batches of the stream.
        version: The changes' newest Delta version; None before the first.
        seconds: Wall clock.
        status: ``done``, ``failed`` or ``streamed``, if it was left to the continuous stream that
            follows the table; failed too while a file is in quarantine. Of a stream itself also
            ``occupied``: another one is writing the table.
        error: Why it failed; of a table that is occupied, by whom.
        rescued: Rows with values that do not fit the schema, kept in ``_rescued_data``.
        quarantined: Names of the bronze files that wait in quarantine.
    """

    rows_in: int = 0
    rows: int = 0
    batches: int = 0
    version: int | None = None
    seconds: float = 0.0
    status: str = "done"
    error: str | None = None
    rescued: int = 0
    quarantined: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchCounts:
    """What was done of one batch: rows read, distinct changes appended, rows rescued."""

    rows_in: int
    rows: int
    rescued: int


def run_silver(
    spark: SparkSession,
    lake_root: str,
    source: Source,
    tables: Sequence[str],
    rules: Path,
    *,
    beside: str = "",
    streaming: bool = False,
) -> dict[str, TableResult]:
    """Bring tables' silver up to their bronze, several at a time; each fails alone.

    Args:
        spark: The session.
        lake_root: The lake's folder or URL.
        source: The metadata.
        tables: Lake names.
        rules: The folder of the rules files.
        beside: A folder of the lake to build in, instead of the lake itself.
        streaming: Whether this is the continuous stream, to which a run leaves its tables. It
            waits for nobody here: it looks again.

    Returns:
        A result for each table, in the given order. A table that failed is not marked as done,
        and so stays pending.

    Raises:
        OccupiedError: A rebuild is at work, or, of a stream, a maintenance; nothing was run.
        PipelineError: A rebuild was killed in the middle of its swap.
    """
    lake = Lake(lake_root, beside)
    by_name = {table.lake_name: table for table in source.tables.values()}
    path, store = rules / f"{source.name}.py", open_store(lake_root)

    def one(name: str) -> TableResult:
        if name not in by_name:
            message = f"{name}: not a table of {source.path}; it has {', '.join(sorted(by_name))}"
            return TableResult(status="failed", error=message)
        if not streaming and not beside and streamed_by(lake, name):
            return TableResult(status="streamed")
        table = by_name[name]
        return TableJob(spark, store, lake, source.name, table, path, streaming).run()

    allow_adfs_names(spark, store, lake, tables)
    suit_to(spark, [lake.url(lake.bronze_folder(name)) for name in tables])
    allowed = as_a_run(lake, source.name, patience=0 if streaming else PATIENCE_SECONDS)
    with allowed, ThreadPoolExecutor(tables_at_once(spark)) as pool:
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
        store = open_store(lake_root)
        store.write(where.removeprefix(_IN_LAKE), text.encode())
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
class TableJob:
    """A table whose silver is to be brought up to its bronze.

    Attributes:
        spark: The session.
        store: The lake's storage.
        lake: The lake.
        source: The source's name.
        table: The metadata.
        rules: The source's rules file.
        streaming: Whether the continuous stream does it.
    """

    spark: SparkSession
    store: Store
    lake: Lake
    source: str
    table: Table
    rules: Path
    streaming: bool = False

    @property
    def rule(self) -> TableRule | None:
        """The table's cleaning rule, if it has one."""
        rule = self.table.rule
        return find_rule(self.rules, rule, self.table.lake_name) if rule else None

    def run(self) -> TableResult:
        """Do the table; any error becomes its result."""
        begin = time.monotonic()
        patience = 0 if self.streaming else _PATIENCE
        try:
            with as_the_writer(self.lake, self.table.lake_name, patience=patience):
                result = self._drain()
        except OccupiedError as error:
            occupied = TableResult(status="occupied", error=error.who)
            result = occupied if self.streaming else TableResult(status="failed", error=str(error))
        except Exception as error:  # noqa: BLE001  one table's failure is never another's
            result = TableResult(status="failed", error=explained(self.table.lake_name, error))
        return replace(result, seconds=round(time.monotonic() - begin, 3))

    def result(self, counts: Sequence[BatchCounts]) -> TableResult:
        """Add up what was done, and see whether a file still waits in quarantine."""
        name = self.table.lake_name
        held = waiting(held_files(self.store, self.lake, name))
        return TableResult(
            rows_in=sum(c.rows_in for c in counts),
            rows=sum(c.rows for c in counts),
            batches=len(counts),
            version=self.version(),
            status="failed" if held else "done",
            error=told(self.source, name, held) if held else None,
            rescued=sum(c.rescued for c in counts),
            quarantined=tuple(held),
        )

    def merge(self, batch: Batch, rule: TableRule | None, met: StreamSchema | None) -> BatchCounts:
        """Clean a batch of bronze rows and write it to silver, both safe to repeat.

        Args:
            batch: The rows, and what identifies them.
            rule: Cleans them.
            met: What the stream is open under; None for rows of no stream.

        Raises:
            PipelineError: A rule or a file does not fit; nothing was written.
        """
        table = silver_table(self.lake, self.table)
        if rule is not None:
            meta = [*META.names, FILE, *({RESCUED} & set(batch.rows.columns))]
            batch = replace(batch, rows=cleaned(batch.rows, rule, table.key, meta))
        with ranked(batch, table) as (ordered, facts):
            if met is not None:
                self._require_met(facts, met)
            if batch.number and not facts.rows_in:
                return BatchCounts(0, 0, 0)  # files in quarantine, or a rule that left no row
            before = self.version()
            in_order = met is not None and _in_order(facts, met)
            rows_out = write_batch(batch, ordered, facts, table, in_order=in_order)
            written = rows_out if self.version() != before else 0
            return BatchCounts(facts.rows_in, written, facts.rescued)

    def version(self) -> int | None:
        """Give the newest version of the table's changes; None before the first."""
        return silver_version(self.store, self.lake, self.table.lake_name)

    def _drain(self) -> TableResult:
        snapshot = bronze_snapshot(self.store, self.lake, self.table.lake_name)
        rule = self.rule
        counts: list[BatchCounts] = []
        if snapshot.count:
            self._stream_all(rule, counts)
        result = self.result(counts)
        if snapshot.count and not result.quarantined:
            mark_silver_done(self.store, self.lake, self.table.lake_name, snapshot)
        return result

    def _stream_all(self, rule: TableRule | None, counts: list[BatchCounts]) -> None:
        name, behind = self.table.lake_name, 0
        while True:
            schema = stream_schema(self.spark, self.store, self.lake, name)
            if schema.files <= schema.held:
                return
            try:
                self._stream(schema, rule, counts)
            except Exception as error:
                if self._put_aside(error, schema):
                    continue  # each time another file
                behind += 1
                if behind == _TIMES or not self._is_behind(error, schema):
                    raise
            else:
                return

    def _is_behind(self, error: Exception, schema: StreamSchema) -> bool:
        if isinstance(error, _SchemaBehindError):
            return True
        there = names_in_bronze(self.store, self.lake, self.table.lake_name)
        return not schema.files.issuperset(map(file_name, there))

    def _put_aside(self, error: Exception, schema: StreamSchema) -> bool:
        name, said = self.table.lake_name, str(getattr(error, "java_exception", None) or error)
        broken = broken_files(self.spark, self.store, self.lake, name, said)
        new = {file: why for file, why in broken.items() if file not in schema.held}
        if new:
            # One that another process has put aside meanwhile stays as it says.
            change(self.store, self.lake, name, lambda now: {**hold({}, new), **now})
        return bool(new)

    def _stream(
        self, schema: StreamSchema, rule: TableRule | None, counts: list[BatchCounts]
    ) -> None:
        def on_batch(rows: DataFrame, number: int) -> None:
            counts.append(self.merge(Batch(rows, stream_id(rows), number), rule, schema))

        name = self.table.lake_name
        rows = bronze_stream(self.spark, self.lake, name, schema)
        with where_it_lies(self.store, self.lake, name):
            drain(rows, self.lake.url(self.lake.checkpoint("silver", name)), on_batch)

    def _require_met(self, facts: BatchFacts, schema: StreamSchema) -> None:
        if strange := facts.files - schema.files:
            message = (
                f"{self.table.lake_name}: bronze files {', '.join(sorted(strange))} are not "
                "where bronze files are published; move them away and run again"
            )
            raise _SchemaBehindError(message)


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
