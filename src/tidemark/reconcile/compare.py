"""Compare a table with its source: both sides in hash buckets, then only what differs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from tidemark.buckets import KEY, load, no_sums, scratch, spread, summed, within
from tidemark.extract.source import OpenSource, open_source
from tidemark.landing import TableJob
from tidemark.pending import silver_pending
from tidemark.reconcile.judge import VERDICT, judge, side, suspects
from tidemark.reconcile.lake import LakeBuckets, LakeSide, spread_again, spread_lake
from tidemark.reconcile.model import CLASSES, LEFT_OUT, Options, Repair, TableResult
from tidemark.reconcile.repair import repair
from tidemark.reconcile.sides import (
    Comparison,
    begin,
    clock_place,
    keep,
    read_again,
    source_rows,
    waiting_keys,
)
from tidemark.reconcile.unread import unread
from tidemark.watermark import load_state

KEPT_KEYS = 10_000


@dataclass
class Found:
    """What is known so far."""

    source_rows: int = 0
    lake_rows: int = 0
    differing: set[int] = field(default_factory=set)
    settled: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))
    left_out: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LEFT_OUT, 0))
    keys: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {name: [] for name in CLASSES}
    )
    repair: Repair | None = None


def reconcile_table(job: TableJob, options: Options) -> TableResult:
    """Compare one table with its source, and mend it if asked.

    Memory holds a few hash buckets, whatever the size of the table; this machine's disk holds
    every key with its digest.

    Raises:
        TidemarkError: The source or the lake refuses, or a later read has overtaken a repair.
    """
    began, name = time.monotonic(), job.table.lake_name
    with scratch("nothing was written") as folder:
        comparison = begin(job, folder, options)
        found = Found()
        lake = _first_pass(comparison, found)
        if found.differing:
            _second_pass(comparison, lake, found, options)
    return TableResult(
        table=name,
        against=comparison.lake.against,
        source_rows=found.source_rows,
        lake_rows=found.lake_rows,
        counts=found.counts,
        keys={c: _sorted(keys) for c, keys in found.keys.items()},
        left_out=found.left_out,
        settled=found.settled,
        bound=comparison.bound,
        pending=bool(silver_pending(job.store, job.lake, [name])),
        buckets=comparison.buckets,
        buckets_differing=len(found.differing),
        seconds=round(time.monotonic() - began, 3),
        repair=found.repair,
        note=_note(comparison.lake),
    )


def _first_pass(comparison: Comparison, found: Found) -> LakeBuckets:
    """Spread both sides, and keep on disk the keys of each bucket that seem to differ."""
    job, folder, buckets = comparison.job, comparison.folder, comparison.buckets
    theirs, ours = no_sums(buckets), no_sums(buckets)
    lake = spread_lake(comparison.lake, folder / "lake", buckets, theirs)
    with open_source(job.url, job.table, job.mask_key) as source:
        rows = summed(source_rows(comparison, source), ours, buckets)
        now = spread(rows, folder / "now", buckets)
    found.source_rows = int(ours[:, 1].sum())
    found.lake_rows = int(theirs[:, 1].sum())
    comparable = comparison.lake.against == "silver" and not comparison.lake.to_digest
    (folder / "suspects").mkdir()
    for number in range(buckets):
        if comparable and np.array_equal(ours[number], theirs[number]):
            continue
        rows_now = load(now.get(number))
        rows_lake, frame = lake.rows(number)
        if comparison.lake.against == "bronze":
            found.lake_rows += frame.height
        chosen = _suspects(comparison, rows_now, rows_lake, frame)
        if chosen.num_rows:
            found.differing.add(number)
            keep(folder / "suspects" / str(number), chosen)
    return lake


def _suspects(
    comparison: Comparison, now: pa.Table | None, lake: pa.Table | None, frame: pl.DataFrame
) -> pa.Table:
    here, only = suspects(side(now), frame)
    columns = [*comparison.job.table.key, KEY]
    parts = [
        rows.select(columns).take(chosen.to_arrow())
        for rows, chosen in ((now, here), (lake, only))
        if rows is not None and len(chosen)
    ]
    return pa.concat_tables(parts) if parts else pa.table({})


def _second_pass(comparison: Comparison, lake: LakeBuckets, found: Found, options: Options) -> None:
    """Read the keys that seem to differ again, on both sides, judge them, and mend what is left."""
    job, folder, buckets = comparison.job, comparison.folder, comparison.buckets
    with open_source(job.url, job.table, job.mask_key) as source:
        again = spread(read_again(comparison, source, found.differing), folder / "again", buckets)
        # Asked after the rows were read: what is dated later than that is dated in the future.
        clock = clock_place(comparison, source)
        lake = spread_again(comparison.lake, lake, folder / "lake again", buckets, found.differing)
        state = load_state(job.store, job.lake, job.table.lake_name)
        left = unread(job, state, source, comparison.described, comparison.lake.table)
        rows = within(left.rows, found.differing, buckets)
        unread_rows = spread(rows, folder / "unread", buckets)
        waiting = spread(waiting_keys(comparison, found.differing), folder / "waiting", buckets)
        (folder / "differ").mkdir()
        for number in sorted(found.differing):
            asked = load(folder / "suspects" / str(number))
            verdicts = judge(
                side(asked),
                side(load(again.get(number))),
                lake.rows(number)[1],
                side(load(waiting.get(number))),
                side(load(unread_rows.get(number))),
                comparison.place,
                clock=clock,
                has_baseline=left.has_baseline,
            )
            _count(comparison, found, number, asked, verdicts)
        if options.repair:
            found.repair = _mended(comparison, source, found, options)


def _count(
    comparison: Comparison, found: Found, number: int, asked: pa.Table, verdicts: pl.DataFrame
) -> None:
    """Count a bucket's verdicts, note the keys, and keep those that differ for the repair."""
    key = list(comparison.job.table.key)
    for verdict, count in verdicts[VERDICT].value_counts().iter_rows():
        if verdict in found.left_out:
            found.left_out[verdict] += count
        elif verdict in found.counts:
            found.counts[verdict] += count
            room = KEPT_KEYS - len(found.keys[verdict])
            chosen = verdicts.filter(pl.col(VERDICT) == verdict)["place"].head(max(0, room))
            found.keys[verdict] += asked.select(key).take(chosen.to_arrow()).to_pylist()
        else:
            found.settled += count
    differ = verdicts.filter(pl.col(VERDICT).is_in(list(CLASSES)))["place"]
    if len(differ):
        keep(comparison.folder / "differ" / str(number), asked.select(key).take(differ.to_arrow()))


def _mended(
    comparison: Comparison, source: OpenSource, found: Found, options: Options
) -> Repair | None:
    differing = sum(found.counts.values())
    if not differing or options.dry_run:
        return Repair(differing, found.counts["extra"]) if differing else None
    files = sorted((comparison.folder / "differ").iterdir())
    keys = (table for table in map(load, files) if table is not None)
    return repair(comparison.job, source, comparison.described, keys)


def _note(lake: LakeSide) -> str | None:
    if lake.is_empty:
        return "no read has taken a row of the table: there is nothing of it in the lake"
    if lake.against == "bronze":
        return "there is no silver: the newest bronze row of each key was compared"
    if lake.deep:
        return "deep: the newest bronze row of each key was digested anew"
    if lake.to_digest:
        return (
            f"{len(lake.to_digest)} bronze files carry no digests of the source's columns as they "
            "are now (ADF's files, or a column that came or left): they were digested anew"
        )
    return None


def _sorted(keys: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    def order(key: dict[str, Any]) -> list[tuple[bool, str, Any]]:
        return [(v is not None, str(type(v)), v) for v in key.values()]

    return tuple({n: _plain(v) for n, v in key.items()} for key in sorted(keys, key=order))


def _plain(value: Any) -> Any:
    """Give a value the form that it has in JSON."""
    if value is None or isinstance(value, bool | int | str):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)
