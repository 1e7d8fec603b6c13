"""What happens at the sample source between two runs, each kind of change on purpose.

Times are relative to a table's MAX(cursor) before the step, ``high``: what a read with the window
(high - 1 hour, ...] sees and what it cannot see is decided here, by kind.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Literal, cast

from tidemark.errors import SourceError
from tidemark.sample.data import (
    GENRES,
    MAKERS,
    SUBSCRIPTIONS,
    between,
    calendar_day,
    create,
    generator,
    initial_rows,
)
from tidemark.sample.schema import SCHEMA, Row, SampleTable, Value, set_step, step_of, transaction

Kind = Literal["inserts", "updates", "ties", "late", "back_dated", "deletes"]
KINDS: Mapping[Kind, str] = {
    "inserts": "new",
    "updates": "updates",
    "ties": "ties",
    "late": "late",
    "back_dated": "back-dated",
    "deletes": "deletes",
}
"""The kinds of change and how they are shown."""

OLD = timedelta(days=2)
"""What lies this far below ``high`` is outside any lookback of hours."""

Keys = Mapping[Kind, tuple[int, ...]]


@dataclass(frozen=True)
class Changes:
    """What one step changed.

    Attributes:
        step: the step that was applied.
        keys: the keys of each kind, by table; every table and kind is there. A key occurs once.
            Of ``late``, those inside a lookback of one hour come first.
    """

    step: int
    keys: Mapping[str, Keys]

    @property
    def per_table(self) -> dict[str, dict[Kind, int]]:
        """Counts of each kind, by table."""
        return {name: {kind: len(keys[kind]) for kind in KINDS} for name, keys in self.keys.items()}

    @property
    def total(self) -> dict[Kind, int]:
        """Counts of each kind over all tables."""
        return {kind: sum(len(keys[kind]) for keys in self.keys.values()) for kind in KINDS}

    def summary(self) -> str:
        """Return one line such as ``35 new, 100 updates, 14 ties, 31 late, ...``."""
        return ", ".join(f"{self.total[kind]} {shown}" for kind, shown in KINDS.items())


@dataclass(frozen=True)
class _Plan:
    inserts: int
    updates: int = 0
    ties: int = 0
    late_inside: int = 0  # within the hour below high, 60 minutes included
    late_outside: int = 0
    back_dated: int = 0
    deletes: int = 0


_PLANS = {
    "DimUser": _Plan(5, 38, 3, 3, 3, 2, 1),
    "DimArtist": _Plan(3, 22, 2, 2, 2, 1),
    "DimTrack": _Plan(4, 28, 3, 3, 2, 1),
    "DimDate": _Plan(7),
    "FactStream": _Plan(16, 12, 6, 8, 8, 2, 3),
}


def advance(path: Path, step: int, *, dry_run: bool = False) -> Changes:
    """Change the sample source from the step before to this one, in one transaction.

    Args:
        path: the SQLite file.
        step: 1 creates the source anew; 2 and on follow each other, each the same every time.
        dry_run: tell what would change, write nothing.

    Returns:
        What was changed.

    Raises:
        SourceError: no source there, the step is applied already, or the one before is not.
        SourceUnavailable: another process holds the file.
    """
    if step == 1:
        create(path, dry_run=dry_run)
        return Changes(1, {name: _nothing() | {"inserts": _initial(name)} for name in SCHEMA})
    if not path.is_file():
        raise SourceError(f"{path}: no sample source there; make it with `tidemark sample`")
    with transaction(path, dry_run=dry_run) as connection:
        _check_step(path, step_of(connection), step)
        keys = {
            name: _calendar(connection, table)
            if name == "DimDate"
            else _change(connection, table, generator(step, name))
            for name, table in SCHEMA.items()
        }
        set_step(connection, step)
    return Changes(step, keys)


def _nothing() -> dict[Kind, tuple[int, ...]]:
    return dict.fromkeys(KINDS, ())


def _initial(name: str) -> tuple[int, ...]:
    return tuple(_key(row) for row in initial_rows(name))


def _check_step(path: Path, current: int, step: int) -> None:
    if current == 0:
        raise SourceError(f"{path}: is no sample source; make one with `tidemark sample`")
    if step <= current:
        raise SourceError(
            f"{path}: step {step} is already applied (the source is at step {current}); go on "
            f"with `tidemark sample --step {current + 1}`, or begin anew with `tidemark sample`"
        )
    if step > current + 1:
        raise SourceError(
            f"{path}: step {step} follows step {step - 1}, but the source is at step {current}; "
            f"run `tidemark sample --step {current + 1}` first"
        )


def _rows(connection: sqlite3.Connection, table: SampleTable) -> dict[int, Row]:
    query = f"SELECT {', '.join(table.columns)} FROM {table.name} ORDER BY {table.key}"
    return {row[0]: row for row in connection.execute(query)}


def _key(row: Row) -> int:
    return cast("int", row[0])  # SQLite lets nothing else into an INTEGER PRIMARY KEY


def _cursors(table: SampleTable, rows: Mapping[int, Row]) -> dict[int, str]:
    """Return the cursor value by key, leaving out NULLs.

    Raises:
        SourceError: there is none, so nothing that a step could relate to.
    """
    at = table.index(table.cursor)
    cursors = {key: str(row[at]) for key, row in rows.items() if row[at] is not None}
    if not cursors:
        raise SourceError(
            f"{table.name}: no row with a {table.cursor}, so there is nothing to change; load rows "
            "with `tidemark sample --from DIR`, or begin anew with `tidemark sample`"
        )
    return cursors


def _calendar(connection: sqlite3.Connection, table: SampleTable) -> Keys:
    last = date.fromisoformat(max(_cursors(table, _rows(connection, table)).values()))
    days = range(1, _PLANS[table.name].inserts + 1)
    rows = [calendar_day(last + timedelta(days=i)) for i in days]
    connection.executemany(table.insert(list(table.columns)), rows)
    return _nothing() | {"inserts": tuple(_key(row) for row in rows)}


def _change(connection: sqlite3.Connection, table: SampleTable, rng: Random) -> Keys:
    plan, rows = _PLANS[table.name], _rows(connection, table)
    high = datetime.fromisoformat(max(_cursors(table, rows).values()))
    chosen = _choose(table, plan, rows, high, rng)
    written: dict[Kind, list[Row]] = {
        "updates": [_revise(table, rows[k], _after(rng, high), rng) for k in chosen["updates"]],
        "back_dated": [
            _revise(table, rows[k], _earlier(table, rows[k], i), rng)
            for i, k in enumerate(chosen["back_dated"])
        ],
    }
    keys = iter(range(max(rows) + 1, 1 << 62))
    for kind, moments in _arrivals(plan, high, rng).items():
        written[kind] = [MAKERS[table.name](rng, next(keys), str(at)) for at in moments]
    for of_kind in written.values():
        connection.executemany(table.insert(list(table.columns)), of_kind)
    connection.executemany(
        f"DELETE FROM {table.name} WHERE {table.key} = ?", [(k,) for k in chosen["deletes"]]
    )
    return chosen | {kind: tuple(map(_key, of_kind)) for kind, of_kind in written.items()}


def _choose(
    table: SampleTable, plan: _Plan, rows: Mapping[int, Row], high: datetime, rng: Random
) -> dict[Kind, tuple[int, ...]]:
    """Choose the rows to change: what shall stay invisible to a watermark from the old ones."""
    drawn = sorted(rows, key=lambda _: rng.random())
    cursors = _cursors(table, rows)
    old = [k for k in drawn if k in cursors and datetime.fromisoformat(cursors[k]) <= high - OLD]
    hidden = old[: plan.back_dated + plan.deletes]
    updates = [key for key in drawn if key not in hidden][: plan.updates]
    if len(hidden) < plan.back_dated + plan.deletes or len(updates) < plan.updates:
        raise SourceError(
            f"{table.name}: {len(rows)} rows, {len(old)} of them older than {high - OLD}, are too "
            "few for a step; load more with `tidemark sample --from DIR`, or begin anew with "
            "`tidemark sample`"
        )
    return _nothing() | {
        "updates": tuple(updates),
        "back_dated": tuple(hidden[: plan.back_dated]),
        "deletes": tuple(hidden[plan.back_dated :]),
    }


def _arrivals(plan: _Plan, high: datetime, rng: Random) -> dict[Kind, list[datetime]]:
    """Return when the new rows of each kind say that they changed."""
    inside = [high - timedelta(minutes=60 - 7 * i) for i in range(plan.late_inside)]
    outside = [
        high - timedelta(days=between(rng, 2, 20), minutes=between(rng, 1, 1_000))
        for _ in range(plan.late_outside)
    ]
    inserts = [high + timedelta(days=1)]  # each step moves MAX(cursor) by one day
    inserts += [_after(rng, high) for _ in range(plan.inserts - 1)]
    return {"inserts": inserts, "ties": [high] * plan.ties, "late": inside + outside}


def _after(rng: Random, high: datetime) -> datetime:
    return high + timedelta(minutes=15 * between(rng, 1, 96))


def _earlier(table: SampleTable, row: Row, number: int) -> datetime:
    """Leave the cursor of every other back-dated row, move it a day back for the rest."""
    stored = datetime.fromisoformat(str(row[table.index(table.cursor)]))
    return stored - timedelta(days=number % 2)


def _revise(table: SampleTable, row: Row, moment: datetime, rng: Random) -> Row:
    values: dict[str, Value] = dict(zip(table.columns, row, strict=True))
    values |= _REVISIONS[table.name](values, moment, rng)
    return tuple((values | {table.cursor: str(moment)}).values())


def _next(options: tuple[str, ...], value: Value) -> str:
    return options[(options.index(str(value)) + 1) % len(options) if value in options else 0]


def _longer(value: Value, seconds: int) -> int:
    return int(value or 0) + seconds


def _user(values: Mapping[str, Value], moment: datetime, rng: Random) -> dict[str, Value]:
    ended = str(moment.date()) if rng.random() < 0.25 else values["end_date"]
    subscription = _next(SUBSCRIPTIONS, values["subscription_type"])
    return {"subscription_type": subscription, "end_date": ended}


_REVISIONS: Mapping[str, Callable[[Mapping[str, Value], datetime, Random], dict[str, Value]]] = {
    "DimUser": _user,
    "DimArtist": lambda values, _, __: {"genre": _next(GENRES, values["genre"])},
    "DimTrack": lambda values, _, rng: {
        "duration_sec": _longer(values["duration_sec"], between(rng, 1, 90))
    },
    "FactStream": lambda values, _, rng: {
        "listen_duration": _longer(values["listen_duration"], between(rng, 1, 60))
    },
}
"""What a later version of a row says otherwise: at least one value differs from the stored one."""
