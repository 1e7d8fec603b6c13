"""What the next read will judge by itself: changed at the source since the last one, not lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tidemark.bronze import META_COLUMNS
from tidemark.extract.choice import choose
from tidemark.extract.source import OpenSource, SourceTable
from tidemark.extract.strategy import PRESENT, ReadPlan, read_changes
from tidemark.ingest import plan_read
from tidemark.known_rows import LakeTable, from_snapshot, newest_columns
from tidemark.landing import TableJob
from tidemark.watermark import TableState
from tidemark.whole_table import known_keys


@dataclass(frozen=True)
class Unread:
    """What the strategy keeps of its last read.

    Attributes:
        rows: Keys with the digests that the last read left; or with NULL: the next read reads
            the key, whatever it was.
        has_baseline: Whether every key that the last read left is among them.
    """

    rows: Iterable[pa.RecordBatch] = ()
    has_baseline: bool = False


def unread(
    job: TableJob, state: TableState, source: OpenSource, described: SourceTable, table: LakeTable
) -> Unread:
    """Ask a table's strategy what it has not read yet; nothing is written.

    Strategy `watermark` keeps nothing but the bound of its cursor.
    """
    strategy = choose(source, job.table).name
    if state.foreign or strategy == "watermark" or state.strategy != strategy:
        return Unread()
    if strategy == "snapshot":
        folder, _, file = (state.digests or "").rpartition("/")
        if state.digests is None or file not in job.store.names(folder):
            return Unread()
        rows = from_snapshot(table, state.digests, state.advanced)
        if newest_columns(table) != {n.lower() for n in (*described.columns.names, *META_COLUMNS)}:
            # Of other columns no digest is equal: the next read reads each row anew.
            rows = (known_keys(batch, job.table.key, None) for batch in rows)
        return Unread(rows, has_baseline=True)
    read = plan_read(job, state, source, state.cdc, None)
    if read.anew is not None or read.plan.whole:
        return Unread()
    return Unread(_changed(job, source, described, read.plan))


def _changed(
    job: TableJob, source: OpenSource, described: SourceTable, plan: ReadPlan
) -> Iterator[pa.RecordBatch]:
    if plan.statement is None:
        return
    for changes in read_changes(source, described, plan.statement, job.table.name):
        rows = changes.rows.filter(pc.not_equal(changes.operations, PRESENT))
        yield known_keys(rows, job.table.key, None)
