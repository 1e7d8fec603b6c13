"""The four steps of a read: look up, copy, then advance or discard.

Reserve, read, publish, advance: each step may be killed anywhere and run again. Until the bronze
file is published nothing has happened; between publishing and advancing the same rows are at worst
read again, under a later sequence, which silver merges to the same state.

Every value that goes in or out is plain JSON, so that a scheduler can pass it on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from tidemark.digest_store import SeenDigests, load_digests
from tidemark.extract import watermark
from tidemark.extract.choice import Choice, choose
from tidemark.extract.source import OpenSource, cursor_kind, describe, open_source
from tidemark.extract.strategy import Ask, ReadPlan
from tidemark.known_rows import (
    LakeTable,
    from_lake,
    from_snapshot,
    is_known,
    newest_columns,
)
from tidemark.landing import Counts, Landing, TableJob, deletion_moment, land, publish
from tidemark.layout import sequence_of
from tidemark.published import bronze_files
from tidemark.watermark import (
    Advance,
    TableState,
    advance,
    check_same_cursor,
    check_same_key,
    check_same_kind,
    load_state,
    reserve,
    reserve_up_to,
)
from tidemark.windows import Interval

__all__ = [
    "TableJob", "advance_watermark", "copy_to_bronze", "discard_empty", "lookup_watermark",
    "plan_read", "remove_leftovers",
]  # fmt: skip

logger = logging.getLogger(__name__)


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
    if state.foreign and state.cdc is not None and job.table.chosen_strategy == "watermark":
        note = (
            f"table {name}: cdc.json was last written by another tool (ADF); going on from its "
            f"value {state.cdc}"
        )
        logger.warning(note)
    return {"table": name, "low": state.cdc, "note": note}


def copy_to_bronze(
    job: TableJob, lookup: dict[str, Any], interval: Interval | None = None
) -> dict[str, Any]:
    """Copy what has changed into one new bronze file.

    Args:
        job: The table.
        lookup: What `lookup_watermark` gave.
        interval: Replaces the strategy's own window, for a backfill or a refresh of a date range.

    Returns:
        The facts of the read: ``rows`` published, of these ``deleted``, ``read``, ``unchanged``,
        ``file``, ``temporary``, ``sequence``, ``low``, ``high``, ``kind``, ``window``,
        ``strategy``, ``position``, ``anew``, ``digests``, ``backfill``, ``not_seen``, ``note``.

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
    remove_leftovers(job, state, sequence)
    with open_source(job.url, job.table, job.mask_key) as source:
        read = plan_read(job, state, source, lookup["low"], interval)
        landing = _landing(job, state, source, sequence, read)
        counts = land(landing)
    if counts.published:
        last = sequence + timedelta(microseconds=counts.versions)
        if counts.versions:
            reserve_up_to(job.store, job.lake, name, sequence, last)
        publish(job, last, landing.temporary, landing.file)
    result = _result(landing, read, counts, lookup)
    logger.info("table %s: %s rows published, %s", name, counts.published, result["window"])
    return result


def advance_watermark(job: TableJob, copied: dict[str, Any]) -> dict[str, Any]:
    """Store what the read left behind; the watermark moves forward only, and by no backfill.

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
        # By what it was read: the metadata may have changed since.
        cursor=copied.get("cursor", job.table.cursor),
        strategy=copied["strategy"],
        position=copied["position"],
        key=tuple(copied.get("key", job.table.key)),
        anew=copied["anew"],
    )
    after = advance(job.store, job.lake, name, copied["kind"], step)
    if after.advanced is not None:
        remove_leftovers(job, after, after.advanced + timedelta(microseconds=1))
    return {"watermark": after.cdc, "moved": after.cdc != before.cdc}


def discard_empty(job: TableJob, copied: dict[str, Any]) -> None:
    """Remove what an empty read left behind; nothing of it was ever visible.

    How far a change log was read is stored all the same: the log forgets what is old, and a quiet
    table would one day have to be read whole again.
    """
    if copied["temporary"]:
        job.store.remove(copied["temporary"])
    state = load_state(job.store, job.lake, job.table.lake_name)
    if copied["position"] != dict(state.position) and not copied["backfill"]:
        advance_watermark(job, copied)
    elif copied["digests"]:
        job.store.remove(copied["digests"])


@dataclass(frozen=True)
class PlannedRead:
    """A read that has been planned at the source.

    Attributes:
        choice: The strategy.
        ask: What it was asked.
        plan: What it wants to read.
        anew: Why the whole table is read and nothing that was stored counts; None: it is not.
    """

    choice: Choice
    ask: Ask
    plan: ReadPlan
    anew: str | None


def plan_read(
    job: TableJob,
    state: TableState,
    source: OpenSource,
    low: str | None,
    interval: Interval | None,
    *,
    is_range: bool = False,
) -> PlannedRead:
    """Plan a table's next read; nothing is written.

    Args:
        job: The table.
        state: What is stored about its reads.
        source: The open source.
        low: The watermark, as it was looked up.
        interval: Replaces the strategy's own window.
        is_range: A range of an initial load is read: the key was found to be unique when the load
            was planned, and what other ranges have brought does not count.

    Raises:
        TidemarkError: As in `copy_to_bronze`.
    """
    table = job.table
    described = describe(source, table)
    check_same_key(job.lake, table.lake_name, state, table.key)
    choice = choose(source, table)
    kind = cursor_kind(table, described.columns)
    ask = Ask(source, described, table, kind, key_is_checked=is_range)
    if interval is not None:
        return PlannedRead(choice, ask, watermark.plan_interval(ask, interval), None)
    known = not is_range and is_known(_lake_table(job, described.columns))
    anew = _reason_to_begin_anew(job, state, choice)
    goes_on = anew is None or not known
    if goes_on and choice.name == "watermark":
        check_same_cursor(job.lake, table.lake_name, state, table.cursor or "")
    elif goes_on:
        check_same_kind(job.lake, table.lake_name, state, table.cursor, ask.kind)
    ask = replace(ask, known=known)
    if anew is None:
        ask = replace(ask, low=low, position=state.position, goes_on=True)
    plan = choice.strategy.plan(ask)
    if plan.whole and not plan.compared and anew is None:
        anew = plan.note or "the strategy has nothing to go on from"
    if anew is None and known:
        plan = _noting_new_columns(_lake_table(job, described.columns), ask, choice, plan)
    return PlannedRead(choice, ask, plan, anew if known else None)


def _noting_new_columns(table: LakeTable, ask: Ask, choice: Choice, plan: ReadPlan) -> ReadPlan:
    """Say which columns are new, where only rows that change are read: others may hold a default.

    It is said until a file has them.
    """
    if choice.name in {"snapshot", "cdc"} or not (before := newest_columns(table)):
        return plan
    new = [name for name in ask.described.columns.names if name.lower() not in before]
    if not new:
        return plan
    note = (
        f"table {ask.table.name}: columns that are new: {', '.join(new)}; a row gets them when it "
        "changes, and is NULL there until then; if the source filled them (a DEFAULT), run "
        f"`tidemark reconcile … --table {table.name} --repair`"
    )
    return replace(plan, note=f"{plan.note}; {note}" if plan.note else note)


def _reason_to_begin_anew(job: TableJob, state: TableState, choice: Choice) -> str | None:
    # Whatever reads by the cursor goes on from where ADF, or an older release, came to.
    before = state.strategy or ("watermark" if state.cdc is not None else None)
    if before is None:
        return "there is no state of an earlier read"
    if state.strategy is None and choice.name != "watermark":
        # Not `foreign`: this read's reservation has been written into the file since.
        return "cdc.json was last written by another tool (ADF)"
    if before != choice.name:
        return f"the strategy was {before} and is {choice.name} now"
    if choice.name == "snapshot" and not _exists(job, state.digests):
        return "what the last snapshot left is gone"
    return None


def _landing(
    job: TableJob, state: TableState, source: OpenSource, sequence: datetime, read: PlannedRead
) -> Landing:
    plan, columns = read.plan, read.ask.described.columns
    dated = deletion_moment(job.table, source, columns)
    landing = Landing(job, source, read.ask.described, plan, sequence, deleted_at=dated)
    lake_table = _lake_table(job, columns)
    if plan.compared and read.anew is None and state.digests and read.ask.known:
        known: Iterable[pa.RecordBatch] = from_snapshot(lake_table, state.digests, state.advanced)
        return replace(landing, known=known, has_baseline=True)
    if plan.whole and read.ask.known:
        return replace(landing, known=from_lake(lake_table))
    seen = _seen_digests(job, state) if plan.remembers and read.anew is None else None
    return replace(landing, seen=seen)


def _lake_table(job: TableJob, columns: pa.Schema) -> LakeTable:
    key = pa.schema([columns.field(name) for name in job.table.key])
    return LakeTable(job.store, job.lake, job.table.lake_name, key)


def _seen_digests(job: TableJob, state: TableState) -> SeenDigests | None:
    """Load the digests of the last read, unless anything was published since.

    A later file (of a backfill, or of a read that was killed before it advanced) may hold another
    version of a row. Were the row now back at its old version, its old digest would hide it.
    """
    files = bronze_files(job.store, job.lake, job.table.lake_name)
    newest = max((sequence for _, sequence in files), default=None)
    if state.digests is None or newest is None or state.advanced is None:
        return None
    if newest > state.advanced:
        return None
    return load_digests(job.store, state.digests)


def _exists(job: TableJob, file: str | None) -> bool:
    folder, _, name = (file or "").rpartition("/")
    return name in job.store.names(folder) if name else False


def remove_leftovers(job: TableJob, state: TableState, before: datetime) -> None:
    """Remove what reads begun before a moment left behind, but for what `state` goes on from.

    None of them is under way: a later one has begun or ended. What a read has published, it may
    still be about to store.
    """
    store, lake, name = job.store, job.lake, job.table.lake_name
    published = {sequence for _, sequence in bronze_files(store, lake, name)}
    kept = {s for s in published if state.advanced is None or s > state.advanced}
    for folder, prefix in (
        (lake.bronze_folder(name), f"_{name}_"),
        (lake.state_folder(name), "digests_"),
    ):
        for file in store.names(folder):
            begun, path = sequence_of(file.removeprefix("_")), f"{folder}/{file}"
            ours = file.startswith(prefix) and path != state.digests and begun not in kept
            if begun and state.load and state.load.holds(begun):
                continue  # a range, which no later read overtakes
            if ours and begun and begun < before:
                store.remove(path)


def what_is_cut(read: PlannedRead) -> str | None:
    """Say what the lake's types do not hold of this table; once, with its first row."""
    cuts = read.ask.described.cuts
    if not cuts:
        return None
    words = "; ".join(
        f"{name} ({read.ask.described.declared[name]}): {why}" for name, why in cuts.items()
    )
    return f"table {read.ask.table.name}: the lake does not hold everything: {words}"


def _notes(read: PlannedRead) -> Iterator[str | None]:
    if read.anew:
        yield f"read whole: {read.anew}"
    if read.plan.note != read.anew:
        yield read.plan.note
    if read.anew or not read.ask.known:
        yield what_is_cut(read)


def _result(
    landing: Landing, read: PlannedRead, counts: Counts, lookup: dict[str, Any]
) -> dict[str, Any]:
    plan, written = read.plan, read.plan.statement is not None
    notes = [note for note in (lookup.get("note"), *_notes(read)) if note]
    return {
        "table": landing.job.table.lake_name,
        "rows": counts.published,
        "deleted": counts.deleted,
        "read": counts.read,
        "unchanged": counts.read + counts.deleted - counts.published,
        "file": landing.file if counts.published else None,
        "temporary": landing.temporary if written else None,
        "sequence": landing.sequence.astimezone(UTC).isoformat(),
        "low": lookup["low"],
        "high": plan.high,
        "kind": read.ask.kind,
        "cursor": read.ask.table.cursor,
        "key": list(read.ask.table.key),
        "window": plan.window,
        "strategy": read.choice.name,
        "position": dict(plan.position),
        "anew": read.anew is not None,
        "digests": landing.digests if written else None,
        "backfill": plan.backfill,
        "note": "; ".join(dict.fromkeys(notes)) or None,
        "not_seen": {
            reason: {"count": found.count, "keys": list(found.keys)}
            for reason, found in plan.not_seen.items()
        },
    }
