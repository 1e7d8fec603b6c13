"""Whatever a source lives through: what the strategy cannot see, reconcile names, and repair mends.

The source itself is the oracle; silver is written from bronze as the silver job does, but in plain
Python.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from core_harness import FAST, SOAK, World, make_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from silver_harness import newest_rows, write_silver

from tidemark.reconcile import Options, TableResult, reconcile_table
from tidemark.windows import Interval

SCHEMA = pa.schema(
    [("user_id", pa.int64()), ("user_name", pa.string()), ("updated_at", pa.timestamp("us"))]
)
NOTE = pa.field("note", pa.string())  # a column that comes later
T0 = datetime(2026, 1, 1, tzinfo=UTC)
KEYS, NAMES = st.integers(1, 5), st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("newer"), KEYS, NAMES),
    st.tuples(st.just("tie"), KEYS, NAMES),
    st.tuples(st.just("late"), KEYS, NAMES),
    st.tuples(st.just("back-dated"), KEYS, NAMES),
    st.tuples(st.just("cursor kept"), KEYS, NAMES),
    st.tuples(st.just("no cursor"), KEYS, NAMES),
    st.tuples(st.just("future"), KEYS, NAMES),
    st.tuples(st.just("new column"), KEYS, NAMES),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("run")),
    st.tuples(st.just("backfill"), st.integers(0, 20)),
)
# Minutes from the newest row there has been; None: NULL.
MOVES: dict[str, int | None] = {
    "newer": 7, "tie": 0, "late": -30, "back-dated": -600, "no cursor": None,
}  # fmt: skip


def at(minute: int) -> str:
    return f"{(T0 + timedelta(minutes=minute)).replace(tzinfo=None)}"


# What `watermark` declares that it can't see; all else it must see.
BLIND = {"delete", "cursor kept", "back-dated", "future", "default"}


def live(world: World, steps: list[tuple[Any, ...]]) -> dict[int, str]:
    """Take the steps; give what happened to each key at last."""
    newest, last = 1000, {1: "newer", 2: "newer"}
    for what, *rest in steps:
        if what not in {"run", "backfill"} and (what != "new column" or rest[0] in source(world)):
            last[rest[0]] = what
        if what == "run":
            world.run()
        elif what == "backfill":
            begin = T0 + timedelta(minutes=rest[0] * 60)
            world.run(Interval(begin, begin + timedelta(hours=1)))
        elif what == "delete":
            world.sql(f"DELETE FROM DimUser WHERE user_id = {rest[0]}")
        elif what == "future":
            world.put((*rest, "2099-01-01 00:00:00"))
        elif what == "new column":
            newest += 7
            if len(world.columns()) == len(SCHEMA):
                last |= {key: "default" for key in source(world) if key != rest[0]}
                world.sql(f"ALTER TABLE DimUser ADD COLUMN {NOTE.name} TEXT DEFAULT 'd'")
            change = f"{NOTE.name} = '{rest[1]}', updated_at = '{at(newest)}'"
            world.sql(f"UPDATE DimUser SET {change} WHERE user_id = {rest[0]}")
        elif what == "cursor kept":
            world.sql(f"UPDATE DimUser SET user_name = '{rest[1]}' WHERE user_id = {rest[0]}")
        else:
            move = MOVES[what]
            newest = max(newest, newest + (move or 0))
            stamp = None if move is None else at(newest + min(move, 0))
            world.put((*rest, stamp))
    return last


def merged(world: World) -> dict[int, tuple[Any, ...]]:
    """Bring silver up to bronze; give its rows by key."""
    rows = newest_rows(world)
    write_silver(world, rows, SCHEMA.append(NOTE) if any(NOTE.name in r for r in rows) else SCHEMA)
    return {
        row["user_id"]: (row["user_name"], _text(row["updated_at"]), row.get(NOTE.name))
        for row in rows
    }


def source(world: World) -> dict[int, tuple[Any, ...]]:
    return {row[0]: (*row[1:], None)[:3] for row in world.rows()}


def _text(stamp: datetime | None) -> str | None:
    return None if stamp is None else f"{stamp.replace(tzinfo=None)}"


def named(result: TableResult) -> dict[int, str]:
    return {key["user_id"]: name for name, keys in result.keys.items() for key in keys}


@pytest.mark.parametrize("strategy", ["watermark", "snapshot"])
@settings(
    max_examples=500 if SOAK else 50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, min_size=4, max_size=14))
def test_what_is_not_seen_is_named_and_mended(strategy: str, steps: list[tuple[Any, ...]]) -> None:
    with TemporaryDirectory(dir=FAST) as folder:
        world = make_world(Path(folder), fields=f"strategy: {strategy}")
        world.put((1, "a", at(1000)), (2, "b", at(1000)))
        world.run()
        last = live(world, steps)
        world.run()
        lake, now = merged(world), source(world)
        lost = {key for key in lake | now if lake.get(key) != now.get(key)}
        result = reconcile_table(world.job(run_id="reconcile__1"), Options(repair=True))
        assert set(named(result)) == lost
        for key, name in named(result).items():
            assert (name == "missing") is (key not in lake)
            assert (name == "extra") is (key not in now)
        blind = {key for key, what in last.items() if what in BLIND}
        assert lost <= (set() if strategy == "snapshot" else blind)
        assert merged(world) == now
        assert not named(reconcile_table(world.job(run_id="reconcile__2"), Options()))
        world.run()
        assert merged(world) == now
