"""The four steps of a read: look up, copy, then advance or discard.

Reserve, read, publish, advance: each step may be killed anywhere and run again. Until the bronze
file is published nothing has happened; between publishing and advancing the same rows are at worst
read again, under a later sequence, which silver merges to the same state.

Every value that goes in or out is plain JSON, so that a scheduler can pass it on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from tidemark.bronze import ParquetFile, ReadStamp, bronze_schema, stamp
from tidemark.digest import row_digests
from tidemark.digest_store import SeenDigests, digest_file, load_digests
from tidemark.errors import StateError
from tidemark.extract import watermark as strategy
from tidemark.extract.source import (
    SourceTable,
    cursor_kind,
    describe,
    fitting_lookback,
    open_source,
)
from tidemark.layout import Lake, sequence_of
from tidemark.metadata import Table
from tidemark.storage import Store
from tidemark.watermark import (
    Advance,
    TableState,
    advance,
    check_not_overtaken,
    check_same_cursor,
    load_state,
    place,
    reserve,
)
from tidemark.windows import (
    Interval,
    Kind,
    Window,
    earlier,
    interval_window,
    ordinal,
    plan_window,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableJob:
    """One table of one run.

    Attributes:
        store: The lake's storage.
        lake: The lake's layout.
        table: The table's metadata.
        run_id: The Dag run's id.
        url: The source as a SQLAlchemy URL; it may hold a password and is never shown.
    """

    store: Store
    lake: Lake
    table: Table
    run_id: str
    url: str = field(repr=False)


def lookup_watermark(job: TableJob) -> dict[str, Any]:
    """Read a table's watermark.

    Returns:
        ``table``; ``low``, the watermark or None; ``note``, what is worth telling, or None.

    Raises:
        StateError: ``cdc.json`` can't be read.
    """
    name = job.table.lake_name
    state = load_state(job.store, job.lake, name)
    note = None
    if state.foreign and state.cdc is not None:
        note = (
            f"table {name}: cdc.json was last written by another tool (ADF); going on from its "
            f"value {state.cdc}"
        )
        logger.warning(note)
    return {"table": name, "low": state.cdc, "note": note}


def copy_to_bronze(
    job: TableJob, lookup: dict[str, Any], interval: Interval | None = None
) -> dict[str, Any]:
    """Copy the rows of a window into one new bronze file.

    Args:
        job: The table.
        lookup: What `lookup_watermark` gave.
        interval: Replaces the watermark's window, for a backfill or a refresh of a date range.

    Returns:
        The facts of the read: ``rows`` published, ``read``, ``unchanged``, ``file``,
        ``temporary``, ``sequence``, ``low``, ``high``, ``kind``, ``window``, ``digests``,
        ``backfill``, ``not_seen``, ``note``.

    Raises:
        SourceError: The source refuses for good.
        ConfigError: The metadata does not go with the table.
        StateError: The watermark is no value of this cursor, or ahead of the source's clock.
        SourceUnavailable: The source does not answer now; retry.
        ReadOvertaken: A later read has begun; retry.
        LakeError: The lake refuses.
    """
    name = job.table.lake_name
    sequence = reserve(job.store, job.lake, name)
    state = load_state(job.store, job.lake, name)
    _remove_leftovers(job, state, sequence)
    with open_source(job.url, job.table) as connection:
        source = describe(connection, job.table)
        if interval is None:
            check_same_cursor(job.lake, name, state, job.table.cursor)
        kind = cursor_kind(job.table, source.columns)
        plan = _plan(connection, job.table, kind, lookup["low"], interval)
        facts = _Facts(job, state, sequence, source, kind, plan)
        counts = _read(connection, facts) if plan.window else _Counts()
    if counts.published:
        check_not_overtaken(job.store, job.lake, name, sequence)
        job.store.publish(facts.temporary, facts.file)
    result = _result(facts, counts, lookup)
    logger.info("table %s: %s rows published, %s", name, counts.published, result["window"])
    return result


def advance_watermark(job: TableJob, copied: dict[str, Any]) -> dict[str, Any]:
    """Move the watermark to the read's `high`, forward only; a backfill never moves it.

    Returns:
        ``watermark``, as it is stored now, and ``moved``.
    """
    name = job.table.lake_name
    before = load_state(job.store, job.lake, name)
    if copied["backfill"]:
        return {"watermark": before.cdc, "moved": False}
    step = Advance(
        sequence=datetime.fromisoformat(copied["sequence"]),
        high=copied["high"],
        digests=copied["digests"],
        cursor=job.table.cursor,
    )
    after = advance(job.store, job.lake, name, copied["kind"], step)
    if before.digests and after.digests != before.digests:
        job.store.remove(before.digests)
    return {"watermark": after.cdc, "moved": after.cdc != before.cdc}


def discard_empty(job: TableJob, copied: dict[str, Any]) -> None:
    """Remove what an empty read left behind; nothing of it was ever visible."""
    for path in (copied["temporary"], copied["digests"]):
        if path:
            job.store.remove(path)


@dataclass(frozen=True)
class _Plan:
    window: Window | None
    frontier: strategy.Frontier | None
    backfill: bool
    note: str | None = None


@dataclass(frozen=True)
class _Counts:
    read: int = 0
    published: int = 0


@dataclass(frozen=True)
class _Facts:
    job: TableJob
    state: TableState
    sequence: datetime
    source: SourceTable
    kind: Kind
    plan: _Plan

    @property
    def file(self) -> str:
        return self.job.lake.bronze_file(self.job.table.lake_name, self.sequence)

    @property
    def temporary(self) -> str:
        return self.job.lake.temporary_file(self.job.table.lake_name, self.sequence)

    @property
    def digests(self) -> str:
        return self.job.lake.digest_file(self.job.table.lake_name, self.sequence)

    @property
    def window(self) -> str:
        window = self.plan.window
        return window.describe(self.job.table.cursor) if window else "nothing to read"


def _plan(
    connection: sa.Connection, table: Table, kind: Kind, low: str | None, interval: Interval | None
) -> _Plan:
    if interval is not None:
        window = interval_window(kind, interval, table.cursor_timezone)
        note = None
        if window is None:
            note = (
                f"table {table.name}: left out, its cursor {table.cursor!r} is no time and a "
                "date range can't select by it"
            )
            logger.warning(note)
        return _Plan(window, None, backfill=True, note=note)
    if low is not None:
        place(table.lake_name, kind, low)
    frontier = strategy.find_frontier(connection, table, kind)
    if low is not None and frontier.now is not None:
        _check_not_ahead(table, kind, low, frontier.now)
    window = plan_window(kind, low, frontier.newest, fitting_lookback(table, kind))
    return _Plan(window, frontier, backfill=False)


def _check_not_ahead(table: Table, kind: Kind, low: str, now: str) -> None:
    if ordinal(kind, low) > ordinal(kind, now):
        name = table.lake_name
        message = (
            f"table {name}: the watermark {low} in bronze/{name}_cdc/cdc.json is ahead of the "
            f"source's clock, {now}: rows that change until then would be passed over. Set its "
            '"cdc" to a value from which to read on, or delete the file: then the whole table is '
            "read again. Say `future: take` in config/ if the cursor is no time of change"
        )
        raise StateError(message)


def _read(connection: sa.Connection, facts: _Facts) -> _Counts:
    job, window = facts.job, facts.plan.window
    if window is None:
        return _Counts()
    where = strategy.condition(job.table, facts.kind, window)
    strategy.check_key_is_unique(connection, job.table, facts.source, where)
    batches = strategy.read(connection, job.table, facts.source, where)
    path = job.store.local_path(facts.temporary)
    about = {"run_id": job.run_id, "window": facts.window}
    with ParquetFile(path, bronze_schema(facts.source.columns), about) as bronze:
        if facts.plan.backfill:
            return _write(batches, facts, bronze, seen=None, keep=None)
        seen = _seen_digests(facts)
        lookback = fitting_lookback(job.table, facts.kind)
        tail = earlier(facts.kind, window.high or "", lookback)
        with digest_file(job.store.local_path(facts.digests), job.table.cursor, tail) as keep:
            return _write(batches, facts, bronze, seen, keep)


def _write(
    batches: Iterator[pa.RecordBatch],
    facts: _Facts,
    bronze: ParquetFile,
    seen: SeenDigests | None,
    keep: Any,
) -> _Counts:
    names = facts.source.columns.names
    read = ReadStamp(facts.sequence, "upsert", facts.job.run_id)
    total = 0
    for batch in batches:
        total += batch.num_rows
        digests = row_digests(batch, names)
        if keep is not None:
            keep(batch, digests)
        fresh = pc.invert(seen.contains(digests)) if seen else None
        stamped = stamp(batch, digests, read)
        bronze.write(stamped.filter(fresh) if fresh is not None else stamped)
        logger.info("table %s: %s rows read", facts.job.table.lake_name, f"{total:,}")
    return _Counts(read=total, published=bronze.rows)


def _seen_digests(facts: _Facts) -> SeenDigests | None:
    """Load the digests of the last read, unless anything was published since.

    A later file (of a backfill, or of a read that was killed before it advanced) may hold another
    version of a row. Were the row now back at its old version, its old digest would hide it.
    """
    job, state = facts.job, facts.state
    names = job.store.names(job.lake.bronze_folder(job.table.lake_name))
    newest = max((s for s in map(sequence_of, names) if s), default=None)
    if state.digests is None or newest is None or state.advanced is None:
        return None
    if newest > state.advanced:
        return None
    return load_digests(job.store.local_path(state.digests))


def _remove_leftovers(job: TableJob, state: TableState, sequence: datetime) -> None:
    """Remove the temporary files of reads that were killed; ours is the only one under way."""
    name = job.table.lake_name
    for folder, prefix in (
        (job.lake.bronze_folder(name), f"_{name}_"),
        (job.lake.state_folder(name), "digests_"),
    ):
        for file in job.store.names(folder):
            begun = sequence_of(file.removeprefix("_"))
            path = f"{folder}/{file}"
            if file.startswith(prefix) and begun and begun < sequence and path != state.digests:
                job.store.remove(path)


def _result(facts: _Facts, counts: _Counts, lookup: dict[str, Any]) -> dict[str, Any]:
    window, frontier = facts.plan.window, facts.plan.frontier
    seen = {} if frontier is None else asdict(frontier)
    return {
        "table": facts.job.table.lake_name,
        "rows": counts.published,
        "read": counts.read,
        "unchanged": counts.read - counts.published,
        "file": facts.file if counts.published else None,
        "temporary": facts.temporary if window else None,
        "sequence": facts.sequence.astimezone(UTC).isoformat(),
        "low": lookup["low"],
        "high": window.high if window else None,
        "kind": facts.kind,
        "window": facts.window,
        "digests": facts.digests if window and not facts.plan.backfill else None,
        "backfill": facts.plan.backfill,
        "note": facts.plan.note or lookup.get("note"),
        "not_seen": {
            reason: {"count": seen[reason]["count"], "keys": list(seen[reason]["keys"])}
            for reason in ("future", "null_cursor")
            if seen and seen[reason]["count"]
        },
    }
