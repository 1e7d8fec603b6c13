"""Random lives of a source: replaying bronze gives the source, for all that the strategy sees.

The oracle knows the source's rows, the documented window and nothing else: no digest, no file.
"""

# ruff: noqa: DTZ001 - wall clocks, as sources hold them

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from core_harness import DIM_USER, FAST, SOAK, InterruptedStore, World, make_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemark.errors import LakeError
from tidemark.layout import sequence_of
from tidemark.windows import Interval

T0 = datetime(2026, 1, 1)
LOOKBACK = 60
KEYS = st.integers(1, 4)
NAMES = st.sampled_from(["a", "b"])


@dataclass(frozen=True)
class Clock:
    """A cursor's type: how the oracle's minutes stand in the source."""

    ddl: str
    fields: str
    stored: Callable[[int], Any]
    far: Any
    takes_null: bool = False


def _stamp(minute: int) -> str:
    moment = T0 + timedelta(minutes=minute)
    # The same instants in many forms, as SQLite lets applications write them.
    return moment.isoformat(sep="T" if minute % 2 else " ") + (".000" if minute % 3 else "")


CLOCKS = st.sampled_from(
    [
        Clock(DIM_USER, "lookback: 60m, null_cursor: exclude", _stamp, "2099-01-01 00:00:00"),
        Clock(DIM_USER, "lookback: 60m", _stamp, "2099-01-01 00:00:00", takes_null=True),
        Clock(
            DIM_USER.replace("TIMESTAMP", "INTEGER"),
            f"lookback: {LOOKBACK}, null_cursor: exclude",
            lambda n: n + 500,
            None,
        ),
    ]
)


@dataclass
class Life:
    """One source's life beside the oracle's view of it."""

    world: World
    clock: Clock
    source: dict[int, tuple[str, int | None]] = field(default_factory=dict)  # name, minute
    lake: dict[int, tuple[str, int | None]] = field(default_factory=dict)  # what was read last
    seeable: set[int] = field(default_factory=set)  # changed within the strategy's sight
    low: int | None = None
    newest: int = 0
    quiet: bool = False  # nothing happened since the last whole run
    begun: bool = False  # a read has left a state; until then each is a full reload

    def change(self, key: int, name: str, minute: int | None) -> None:
        self.quiet = False
        self.source[key] = (name, minute)
        cursor = None if minute is None else self.clock.stored(minute)
        self.world.put((key, name, cursor))
        sight = self.clock.takes_null
        if minute is not None:
            sight = self.low is None or minute >= self.low - LOOKBACK
        (self.seeable.add if sight else self.seeable.discard)(key)
        self.newest = max(self.newest, minute or 0)

    def foresee(self, key: int, name: str) -> None:
        """Date a row in the far future: the strategy holds it back, and names it."""
        if self.clock.far is not None:
            self.quiet = False
            self.source[key] = (name, 10**9)
            self.world.put((key, name, self.clock.far))
            self.seeable.discard(key)

    def delete(self, key: int) -> None:
        self.quiet = False
        self.source.pop(key, None)
        self.seeable.discard(key)
        self.world.sql(f"DELETE FROM DimUser WHERE user_id = {key}")

    def window(self) -> tuple[int | None, int | None]:
        present = [m for _, m in self.source.values() if m is not None and m < 10**9]
        known = [*present, *([] if self.low is None else [self.low])]
        return None if self.low is None else self.low - LOOKBACK, max(known, default=None)

    def read(self, low: int | None, high: int | None, *, inclusive: bool = True) -> int:
        """Copy a window of the source into the oracle's lake."""
        count = 0
        for key, (name, minute) in self.source.items():
            if minute is None:
                sees = self.clock.takes_null and inclusive
            elif high is None or (low is not None and minute < low):
                sees = False
            else:
                sees = minute < high or (inclusive and minute == high)
            if sees:
                self.lake[key] = (name, minute)
                count += 1
        return count

    def forget(self) -> None:
        """Take out what a full reload finds gone."""
        if not self.begun:
            self.lake = {key: row for key, row in self.lake.items() if key in self.source}

    def run(self) -> None:
        low, high = self.window()
        expected = self.read(low, high)
        self.forget()
        copied = self.world.run()
        self.begun |= copied["rows"] > 0
        assert copied["read"] == expected
        assert copied["rows"] + copied["unchanged"] == copied["read"] + copied["deleted"]
        if self.quiet:
            assert (copied["rows"], copied["file"]) == (0, None)
        self.low, self.quiet = high, True
        self.check()
        # What a killed read has published, it may still be about to store.
        advanced = self.world.state.advanced
        times = {sequence_of(name) for name in self.world.published}
        waiting = {time for time in times if time and (advanced is None or time > advanced)}
        assert {sequence_of(name) for name in self.world.hidden} <= waiting
        for key in self.seeable:
            assert self.lake[key] == self.source[key]

    def killed_after_publishing(self) -> None:
        low, high = self.window()
        copied = self.world.copy()
        self.read(low, high)
        self.forget()
        self.quiet &= not copied["rows"]
        self.check()

    def killed_before_publishing(self) -> None:
        try:
            copied = self.world.copy(store=InterruptedStore(self.world.store.root))
        except LakeError:
            pass
        else:
            assert copied["rows"] == 0
        self.check()

    def backfill(self, start: int, length: int) -> None:
        begin = (T0 + timedelta(minutes=start)).replace(tzinfo=UTC)
        before = self.world.state
        copied = self.world.run(Interval(begin, begin + timedelta(minutes=length)))
        if self.clock.far is None:  # an integer: no span of time selects it
            assert copied["read"] == 0
        else:
            assert copied["read"] == self.read(start, start + length, inclusive=False)
        assert (copied["unchanged"], copied["rows"]) == (0, copied["read"])
        after = self.world.state
        assert (after.cdc, after.digests) == (before.cdc, before.digests)
        self.quiet &= not copied["rows"]
        self.check()

    def check(self) -> None:
        found = {
            key: (row["user_name"], row["updated_at"])
            for (key,), row in self.world.replay().items()
        }
        assert found == {k: (n, self.arrow(m)) for k, (n, m) in self.lake.items()}
        cdc = self.world.state.cdc
        stored = None if cdc is None else self.place(cdc)
        assert stored == self.low
        sequences = [row["_sequence"] for row in self.world.bronze()]
        assert len(set(sequences)) == len(self.world.published)

    def arrow(self, minute: int | None) -> Any:
        if minute is None:
            return None
        return minute + 500 if self.clock.far is None else T0 + timedelta(minutes=minute)

    def place(self, cdc: str) -> int:
        if self.clock.far is None:
            return int(cdc) - 500
        return int((datetime.fromisoformat(cdc) - T0) / timedelta(minutes=1))


STEPS = st.one_of(
    st.tuples(st.just("newer"), KEYS, NAMES, st.integers(1, 90)),
    st.tuples(st.just("tie"), KEYS, NAMES),
    st.tuples(st.just("late"), KEYS, NAMES, st.integers(1, LOOKBACK)),
    st.tuples(st.just("too late"), KEYS, NAMES, st.integers(LOOKBACK + 1, 300)),
    st.tuples(st.just("same cursor"), KEYS, NAMES),
    st.tuples(st.just("null"), KEYS, NAMES),
    st.tuples(st.just("future"), KEYS, NAMES),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("run")),
    st.tuples(st.just("run twice")),
    st.tuples(st.just("published, killed")),
    st.tuples(st.just("killed")),
    st.tuples(st.just("backfill"), st.integers(-300, 300), st.integers(1, 400)),
    st.tuples(st.just("layout"), st.sampled_from(["flat", "dated"])),
)


def live(life: Life, step: tuple[Any, ...]) -> None:
    """Take one step."""
    what, *rest = step
    changes: dict[str, Callable[[], int | None]] = {
        "newer": lambda: life.newest + rest[2],
        "tie": lambda: life.newest,
        "late": lambda: life.newest - rest[2],
        "too late": lambda: life.newest - rest[2],
        "same cursor": lambda: min(life.source.get(rest[0], ("", 0))[1] or 0, life.newest),
        "null": lambda: None,
    }
    actions: dict[str, Callable[..., None]] = {
        "future": life.foresee,
        "delete": life.delete,
        "run": life.run,
        "run twice": lambda: (life.run(), life.run())[1],  # type: ignore[func-returns-value]
        "published, killed": life.killed_after_publishing,
        "killed": life.killed_before_publishing,
        "backfill": life.backfill,
        "layout": life.world.switch,
    }
    if what in changes:
        life.change(rest[0], rest[1], changes[what]())
    else:
        actions[what](*rest)


@settings(
    max_examples=2000 if SOAK else 100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(CLOCKS, st.lists(STEPS, min_size=4, max_size=16))
def test_replaying_bronze_gives_the_source(clock: Clock, steps: list[tuple[Any, ...]]) -> None:
    with TemporaryDirectory(dir=FAST) as folder:
        life = Life(make_world(Path(folder), clock.ddl, clock.fields), clock)
        for step in steps:
            live(life, step)
        life.run()
        life.run()
