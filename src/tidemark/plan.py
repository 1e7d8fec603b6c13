"""``tidemark plan``: what the next run would read of each table, and how; nothing is written."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from tidemark.connection import mask_key, source_url
from tidemark.errors import TidemarkError
from tidemark.extract.row_count import row_count
from tidemark.extract.source import OpenSource, open_source
from tidemark.extract.strategy import ReadPlan
from tidemark.ingest import PlannedRead, plan_read
from tidemark.initial_load import cut, still_missing
from tidemark.landing import TableJob, table_size
from tidemark.metadata import SIDE, Table, load_source, source_file
from tidemark.metadata.strategies import CANNOT_SEE
from tidemark.settings import Settings
from tidemark.storage import open_store
from tidemark.watermark import TableState, load_state

_WIDTH = 100
_INDENT = " " * 14


@dataclass(frozen=True)
class TablePlan:
    """What the next run would do with one table.

    Attributes:
        table: Its name in the lake.
        strategy: How changes are found.
        why: Why in this way.
        window: What is read, in words.
        low: The stored watermark.
        high: What it will be.
        anew: Why the whole table is read, and nothing that was stored counts.
        sql: The statement, in the source's dialect; None: nothing to read.
        bound: The values bound in it.
        rows: How many rows the statement gives now.
        table_rows: How many rows the table has now.
        cannot_see: What the strategy never sees.
        not_seen: How many rows this read leaves out, by reason.
        loses: The columns whose type loses something on the way, and what.
        altered: The columns that the metadata leaves out, masks or takes as text, and how.
        ranges: How the initial load is split, or why it is not; None: it is over or one read.
        note: What else is worth telling.
        error: Why the table could not be planned.
    """

    table: str
    strategy: str | None = None
    why: str | None = None
    window: str | None = None
    low: str | None = None
    high: str | None = None
    anew: str | None = None
    sql: str | None = None
    bound: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 0
    table_rows: int = 0
    cannot_see: tuple[str, ...] = ()
    not_seen: Mapping[str, int] = field(default_factory=dict)
    loses: Mapping[str, str] = field(default_factory=dict)
    altered: Mapping[str, str] = field(default_factory=dict)
    ranges: str | None = None
    note: str | None = None
    error: str | None = None


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Show the plan of each table.

    Returns:
        The exit code: 1 if a table could not be planned.

    Raises:
        TidemarkError: The metadata is wrong, or there is no connection.
    """
    source = load_source(source_file(settings.config, arguments.source), settings.rules_folder)
    tables = source.tables_named(arguments.table)
    url, store, lake = source_url(source, settings), open_store(settings.lake.root), settings.lake
    key = mask_key(source, settings)
    plans = [_one(TableJob(store, lake, table, "plan", url, key)) for table in tables]
    if arguments.json:
        value = {"source": source.name, "tables": [asdict(plan) for plan in plans]}
        sys.stdout.write(f"{json.dumps(value, indent=1, ensure_ascii=False, default=str)}\n")
    else:
        sys.stdout.write("\n\n".join(render(plan) for plan in plans) + "\n")
    return 1 if any(plan.error is not None for plan in plans) else 0


def plan_table(job: TableJob) -> TablePlan:
    """Plan a table's next read at the source; neither lake nor source is written to.

    Raises:
        TidemarkError: It can't be planned.
    """
    state = load_state(job.store, job.lake, job.table.lake_name)
    with open_source(job.url, job.table, job.mask_key) as source:
        read = plan_read(job, state, source, state.cdc, None)
        sql, bound = _compiled(source, read.plan)
        whole = table_size(source, job.table)
        return TablePlan(
            table=job.table.lake_name,
            strategy=read.choice.name,
            why=read.choice.reason,
            window=read.plan.window,
            low=state.cdc,
            high=read.plan.high,
            anew=read.anew,
            sql=sql,
            bound=bound,
            rows=_count(source, read.plan, whole),
            table_rows=whole,
            cannot_see=CANNOT_SEE[read.choice.name],
            not_seen={reason: found.count for reason, found in read.plan.not_seen.items()},
            loses=read.ask.described.cuts,
            altered=_altered(job.table),
            ranges=_ranges(job, state, read),
            note=read.plan.note,
        )


def render(plan: TablePlan) -> str:
    """Lay a plan out for the terminal."""
    if plan.error is not None:
        return f"{plan.table}: FAILED\n  {plan.error}"
    return "\n".join([f"{plan.table}: {plan.strategy}: {plan.why}", *_lines(plan)])


def _lines(plan: TablePlan) -> Iterator[str]:
    yield from _line("reads", plan.window or "nothing")
    if plan.anew:
        yield from _line("whole", f"nothing that was stored counts: {plan.anew}")
    yield from _line("rows", f"{plan.rows:,} now, of {plan.table_rows:,} in the table")
    if plan.high != plan.low:
        yield from _line("watermark", f"{plan.low or 'none'} → {plan.high or plan.low or 'none'}")
    if plan.sql:
        yield from _line("SQL", plan.sql)
        for name, value in plan.bound.items():
            yield f"{_INDENT}  :{name} = {value!r}"
    yield from _line("cannot see", "; ".join(plan.cannot_see) or "nothing is hidden from it")
    for reason, count in plan.not_seen.items():
        yield from _line("left out", f"{reason}: {count:,} rows")
    for column, loss in plan.loses.items():
        yield from _line("loses", f"{column}: {loss}")
    for column, wish in plan.altered.items():
        yield from _line("columns", f"{column}: {wish}")
    if plan.ranges:
        yield from _line("ranges", plan.ranges)
    if plan.note:
        yield from _line("note", plan.note)


def _ranges(job: TableJob, state: TableState, read: PlannedRead) -> str | None:
    wanted = job.table.initial_ranges
    if wanted is None or state.was_read:
        return None
    if state.load is not None:
        all_of_them, missing = state.load.ranges, still_missing(job, state.load)
        words = "; ".join(all_of_them[number].describe() for number in missing)
        return f"of {len(all_of_them)}, {len(missing)} are missing: {words or 'none'}"
    if read.ask.known:
        return None
    bounds, reason = cut(read, wanted)
    if reason:
        return f"the initial load is one read: {reason}"
    return f"{len(bounds) + 1}, read side by side, cut at {job.table.key[0]} = {', '.join(bounds)}"


def _altered(table: Table) -> dict[str, str]:
    wishes = table.columns
    masks = {"redact": "redacted", "hmac": "masked by HMAC"}
    altered = dict.fromkeys(wishes.exclude, "left out")
    altered |= {name: masks[mask] for name, mask in wishes.mask.items()}
    for name in wishes.as_text:
        altered[name] = ", and ".join(filter(None, [altered.get(name), f"as text in {name}{SIDE}"]))
    return altered


def _line(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"  {name:<{len(_INDENT) - 2}}",
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _one(job: TableJob) -> TablePlan:
    # One table's failure is never another's.
    try:
        return plan_table(job)
    except TidemarkError as error:
        return TablePlan(job.table.lake_name, error=str(error))


def _compiled(source: OpenSource, plan: ReadPlan) -> tuple[str | None, dict[str, Any]]:
    """Write the statement as the source gets it, but for names in the place of its marks."""
    if not isinstance(plan.statement, sa.ClauseElement):
        return None, {}
    dialect = type(source.connection.dialect)(paramstyle="named")
    compiled = plan.statement.compile(dialect=dialect)
    return " ".join(str(compiled).split()), dict(compiled.params)


def _count(source: OpenSource, plan: ReadPlan, whole: int) -> int:
    if plan.statement is None or plan.whole:
        return whole if plan.whole else 0
    if not isinstance(plan.statement, sa.SelectBase):
        return whole
    rows = plan.statement.subquery("planned")
    found = source.connection.execute(sa.select(row_count()).select_from(rows))
    return int(found.scalar_one())
