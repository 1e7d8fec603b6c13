"""The initial load of a large table in ranges of its key, read side by side.

Plan, copy each range, finish: each step may be killed anywhere and run again, and a range that is
in bronze is never read again. The ranges are read at different moments, and nothing is lost by
that: where the next read goes on from is fixed before any of them, so that whatever changes at the
source meanwhile is read by it, under a later sequence.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tidemark.buckets import DIGEST
from tidemark.digest_store import digest_file
from tidemark.errors import ReadOvertaken, StateError
from tidemark.extract.key_ranges import find_bounds, why_whole, within
from tidemark.extract.source import open_source
from tidemark.extract.strategy import ReadPlan
from tidemark.ingest import PlannedRead, plan_read, remove_leftovers, what_is_cut
from tidemark.known_rows import bronze_batches
from tidemark.landing import Counts, Landing, TableJob, deletion_moment, land
from tidemark.load_progress import InitialLoad, KeyRange
from tidemark.load_state import begin_load, check_same_load, forget_load, note_empty_range
from tidemark.published import bronze_files
from tidemark.watermark import Advance, TableState, advance, load_state

logger = logging.getLogger(__name__)


def missing_ranges(job: TableJob) -> dict[int, str]:
    """Number and describe the ranges of a table's initial load that are still to be read.

    The load is planned, and noted in ``cdc.json``, if the lake knows nothing of the table yet. A
    load that has begun goes on as it was planned, whatever number of ranges the metadata says now.

    Returns:
        The ranges by number, from 0; none if the load is whole or the table is not split.

    Raises:
        TidemarkError: As in `tidemark.ingest.copy_to_bronze`.
    """
    name = job.table.lake_name
    state = load_state(job.store, job.lake, name)
    load = state.load
    if load is not None and not _goes_with(load, job):
        logger.warning(
            "table %s: the metadata has changed since its initial load was planned: the ranges "
            "that are missing are given up, and the whole table is read at once",
            name,
        )
        forget_load(job.store, job.lake, name)
        return {}
    if load is None and not state.was_read:
        load = _begin(job, state)
    if load is None:
        return {}
    missing, ranges = still_missing(job, load), load.ranges
    logger.info("table %s: %s of %s ranges to read", name, len(missing), len(ranges))
    return {n: f"{n + 1} of {len(ranges)}: {ranges[n].describe()}" for n in missing}


def copy_range(job: TableJob, number: int) -> dict[str, Any]:
    """Copy one range of the initial load into a bronze file of its own.

    Returns:
        ``rows`` published and ``read``, ``window``, ``file``, ``note``.

    Raises:
        ReadOvertaken: The load is over or was begun anew, or another attempt was faster; retry.
        StateError: The metadata has changed since the load was planned.
        TidemarkError: As in `tidemark.ingest.copy_to_bronze`.
    """
    name = job.table.lake_name
    state = load_state(job.store, job.lake, name)
    load = state.load
    if load is None or number not in still_missing(job, load):
        logger.info("table %s: range %s is in the lake already", name, number + 1)
        return {"rows": 0, "read": 0, "window": None, "file": None, "note": None}
    _check_goes_with(load, job)
    # Not where the metadata says now: another attempt may be under way.
    job = replace(job, table=job.table.model_copy(update={"bronze_layout": load.layout}))
    with open_source(job.url, job.table, job.mask_key) as source:
        read = plan_read(job, TableState(), source, None, None, is_range=True)
        plan = _narrowed(read, load.ranges[number])
        columns = read.ask.described.columns
        landing = Landing(
            job, source, read.ask.described, plan, load.sequence_of(number),
            deleted_at=deletion_moment(job.table, source, columns), attempt=secrets.token_hex(4),
        )  # fmt: skip
        counts = land(landing)
    _publish(landing, load, number, counts)
    logger.info("table %s: %s rows published, %s", name, counts.published, plan.window)
    file = landing.file if counts.published else None
    return {
        "rows": counts.published,
        "read": counts.read,
        "window": plan.window,
        "file": file,
        "note": what_is_cut(read) if number == 0 else None,
    }


def finish(job: TableJob) -> dict[str, Any]:
    """Set the watermark where the plan of the load says, once every range is in bronze.

    Returns:
        ``watermark``, as it is stored now, and ``ranges``, how many there were; 0 if there was no
        load to finish.

    Raises:
        StateError: A range is missing, or the metadata has changed since.
    """
    name = job.table.lake_name
    state = load_state(job.store, job.lake, name)
    load = state.load
    if load is None:
        return {"watermark": state.cdc, "ranges": 0}
    _check_goes_with(load, job)
    if missing := still_missing(job, load):
        numbers = ", ".join(str(number + 1) for number in missing)
        message = (
            f"table {name}: of the initial load's {len(load.ranges)} ranges these are missing: "
            f"{numbers}; run again, or clear missing_ranges: what is there is not read again"
        )
        raise StateError(message)
    step = Advance(
        sequence=load.last,
        high=load.high,
        digests=_kept_digests(job, load),
        cursor=load.cursor,
        strategy=load.strategy,
        position=load.position,
        key=load.key,
        anew=True,
    )
    after = advance(job.store, job.lake, name, load.kind, step)
    remove_leftovers(job, after, load.last + timedelta(microseconds=1))
    return {"watermark": after.cdc, "ranges": len(load.ranges)}


def cut(read: PlannedRead, count: int) -> tuple[tuple[str, ...], str | None]:
    """Find the bounds between the ranges of a planned initial load, or why it is not split.

    Args:
        read: The plan; its source is still open.
        count: How many ranges are wanted.
    """
    reason = why_whole(read.ask, read.plan)
    bounds = () if reason else find_bounds(read.ask, count)
    if not bounds and not reason:
        reason = f"{read.ask.table.key[0]!r} has too few values"
    return bounds, reason


def still_missing(job: TableJob, load: InitialLoad) -> list[int]:
    """Number the ranges of a load that are not in bronze yet."""
    files = bronze_files(job.store, job.lake, job.table.lake_name)
    return load.missing({sequence for _, sequence in files})


def _begin(job: TableJob, state: TableState) -> InitialLoad | None:
    """Plan the load at the source and note it; None: the table is read in one."""
    table = job.table
    with open_source(job.url, table, job.mask_key) as source:
        # First where the next read goes on from, then the bounds, then the rows.
        read = plan_read(job, state, source, None, None)
        if read.ask.known:
            return None
        bounds, reason = cut(read, table.initial_ranges or 1)
    if reason:
        logger.info("table %s: the initial load is not split: %s", table.lake_name, reason)
        return None
    load = InitialLoad(
        sequence=datetime.now(UTC),  # until it is noted
        bounds=bounds,
        strategy=read.choice.name,
        position=dict(read.plan.position),
        high=read.plan.high,
        tail=read.plan.tail,
        cursor=table.cursor,
        kind=read.ask.kind,
        key=table.key,
        layout=table.bronze_layout,
    )
    return begin_load(job.store, job.lake, table.lake_name, load)


def _kept_digests(job: TableJob, load: InitialLoad) -> str | None:
    """Keep the digests of the rows that the next read reads again, from the ranges' own files."""
    if load.strategy != "watermark" or load.cursor is None:
        return None
    store, lake, name = job.store, job.lake, job.table.lake_name
    path = lake.digest_file(name, load.last, secrets.token_hex(4))
    ours = [file for file, sequence in bronze_files(store, lake, name) if load.holds(sequence)]
    with digest_file(store.local_path(path), load.cursor, load.tail) as keep:
        for file in ours:
            for batch in bronze_batches(store, name, file, [load.cursor, DIGEST]):
                keep(batch, batch.column(DIGEST))
    store.upload(path)
    return path


def _check_goes_with(load: InitialLoad, job: TableJob) -> None:
    """Refuse to go on by other metadata: the bounds are values of the key that was."""
    if not _goes_with(load, job):
        message = (
            f"table {job.table.lake_name}: its initial load was planned with key "
            f"({', '.join(load.key)}), cursor {load.cursor!r} and strategy {load.strategy}, and "
            "config/ says otherwise now; clear missing_ranges, or run again: the table is then "
            "read in one, and compared by key with what is there"
        )
        raise StateError(message)


def _goes_with(load: InitialLoad, job: TableJob) -> bool:
    table = job.table
    named = table.strategy in {None, load.strategy}
    return named and load.key == table.key and load.cursor == table.cursor


def _narrowed(read: PlannedRead, part: KeyRange) -> ReadPlan:
    """Narrow the plan of a whole table to a range; what it says of the state does not count."""
    plan, statement = read.plan, read.plan.statement
    if isinstance(statement, sa.Select):
        statement = statement.where(within(read.ask, part))
    return replace(
        plan,
        statement=statement,
        window=part.describe(),
        whole=False,
        compared=False,
        remembers=False,
    )


def _publish(landing: Landing, load: InitialLoad, number: int, counts: Counts) -> None:
    job, name = landing.job, landing.job.table.lake_name
    try:
        if counts.published:
            check_same_load(name, load_state(job.store, job.lake, name), load)
            job.store.publish(landing.temporary, landing.file)
            return
        note_empty_range(job.store, job.lake, name, load, number)
    except ReadOvertaken:
        job.store.remove(landing.temporary)
        raise
    job.store.remove(landing.temporary)
