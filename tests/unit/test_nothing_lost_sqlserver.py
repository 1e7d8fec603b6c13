"""Whatever a table of SQL Server lives through, by each strategy and by changes between them.

The server is a stand-in that runs Tidemark's own T-SQL (`tests/support/tsql_server.py`): it keeps
rowversions, change tracking and capture instances as SQL Server's documentation has them, and it
is itself the oracle. Others write between the statements of a read, and have transactions open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from core_harness import FAST, SOAK
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from silver_harness import newest_rows, write_silver
from tsql_server import TsqlServer, moment
from tsql_world import TsqlWorld, tsql_world

from tidemark.errors import SourceUnavailable
from tidemark.reconcile import Options, TableResult, reconcile_table
from tidemark.windows import Interval

COLUMNS = {
    "user_id": pa.int32(),
    "user_name": pa.string(),
    "updated_at": pa.timestamp("us"),
    "row_version": pa.binary(),
    "note": pa.string(),  # it comes later
}
STRATEGIES = ("rowversion", "change_tracking", "cdc", "snapshot", "watermark")
# What a strategy declares that it can't see, by the last thing that happened to a row.
BLIND: dict[str, set[str]] = {
    "rowversion": {"delete", "default"},
    "change_tracking": {"default"},
    "cdc": set(),
    "snapshot": set(),
    "watermark": {"delete", "kept", "back-dated", "future", "restore", "default"},
}
T0 = datetime(2026, 1, 1, tzinfo=UTC)
KEYS, NAMES = st.integers(1, 5), st.sampled_from(["a", "b", "c"])
# Minutes from the newest row there has been; None: NULL. "kept": the row's cursor stays.
MOVES: dict[str, int | None] = {
    "newer": 7, "tie": 0, "late": -30, "back-dated": -600, "no cursor": None,
    "future": 60 * 24 * 365,
}  # fmt: skip
WRITES = st.one_of(
    st.tuples(st.sampled_from([*MOVES, "kept"]), KEYS, NAMES),
    st.tuples(st.just("delete"), KEYS),
)
EVENTS = st.one_of(
    WRITES,
    WRITES,
    st.tuples(st.just("open"), st.lists(WRITES, min_size=1, max_size=3)),
    st.tuples(st.sampled_from(["commit", "roll back"]), st.integers(0, 2)),
    st.tuples(st.just("capture"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["cleaned up", "untracked"]), st.lists(WRITES, max_size=2)),
)
STEPS = st.one_of(
    EVENTS,
    EVENTS,
    st.tuples(st.sampled_from(["run", "caught up"])),
    st.tuples(st.just("run while"), st.integers(1, 30), EVENTS),
    st.tuples(st.just("backfill"), st.integers(0, 20)),
    st.tuples(st.sampled_from(["new column", "new instance", "back up", "restore"])),
    st.tuples(st.just("strategy"), st.sampled_from(STRATEGIES)),
)
# What may happen before any statement of a read.
MEANWHILE: list[tuple[Any, ...]] = [
    ("newer", 1, "c"),
    ("delete", 1),
    ("open", [("newer", 5, "c")]),
    ("commit", 0),
    ("roll back", 0),
    ("capture", 9),
    ("cleaned up", []),
    ("cleaned up", [("newer", 1, "c")]),
    ("untracked", [("newer", 1, "c")]),
    ("new instance",),
]


class Life:
    """What happens to a table."""

    def __init__(self, world: TsqlWorld) -> None:
        self.world, self.server = world, world.server
        self.newest = 1000
        self.opened: list[Any] = []
        self.last: dict[int, str] = {}  # what happened to a row at last
        self.written: dict[int, dict[int, str]] = {}  # the same, by open transactions

    def step(self, what: str, *rest: Any) -> None:
        if what in {*MOVES, "kept", "delete"}:
            self._open([(what, *rest)])
            self._commit(self.opened.pop())
            return
        steps: dict[str, Callable[..., object]] = {
            "run": self.world.run,
            "caught up": self._catch_up,
            "run while": self.run_while,
            "backfill": self._backfill,
            "strategy": self.world.read_by,
            "open": self._open,
            "commit": lambda place: self._end(place, self._commit),
            "roll back": lambda place: self._end(place, lambda one: one.roll_back()),
            "capture": self.server.capture,
            "cleaned up": self._clean_up,
            "untracked": self._leave_untracked,
            "new column": self._new_column,
            "new instance": self.server.enable_capture,
            "back up": self.server.back_up,
            "restore": self._restore,
        }
        steps[what](*rest)

    def _catch_up(self) -> None:
        self.server.capture()
        self.world.run()

    def _open(self, writes: list[tuple[Any, ...]]) -> None:
        transaction = self.server.begin()
        for one in writes:
            self._write(transaction, *one)
        self.opened.append(transaction)

    def _end(self, place: int, how: Callable[[Any], object]) -> None:
        if self.opened:
            how(self.opened.pop(place % len(self.opened)))

    def _commit(self, transaction: Any) -> None:
        transaction.commit()
        self.last |= self.written.pop(transaction.number, {})

    def _backfill(self, hour: int) -> None:
        begin = T0 + timedelta(hours=hour)
        self.world.run(Interval(begin, begin + timedelta(hours=1)))

    def _clean_up(self, writes: list[tuple[Any, ...]]) -> None:
        for one in writes:
            self.step(*one)
        self.server.capture()
        self.server.clean_capture()
        self.server.clean_tracking()

    def _leave_untracked(self, writes: list[tuple[Any, ...]]) -> None:
        self.server.leave_untracked()
        for one in writes:
            self.step(*one)
        self.server.track_changes()

    def _write(self, transaction: Any, what: str, key: int, *rest: Any) -> None:
        if self.server.is_locked(key, transaction):
            return  # who writes would wait
        self.written.setdefault(transaction.number, {})[key] = what
        if what == "delete":
            transaction.delete(key)
        elif what == "kept":
            transaction.put({"user_id": key, "user_name": rest[0]})
        else:
            move = MOVES[what]
            self.newest += 7 if what == "newer" else 0
            self.server.records.now = T0 + timedelta(minutes=self.newest + 1)
            minute = self.newest + min(move or 0, 0) if what != "future" else self.newest + 525_600
            stamp = None if move is None else moment(T0 + timedelta(minutes=minute))
            transaction.put({"user_id": key, "user_name": rest[0], "updated_at": stamp})

    def _new_column(self) -> None:
        if self.server.add_column():
            self.last |= {row["user_id"]: "default" for row in self.server.rows()}
        self.server.enable_capture()  # as the old instance goes on without it
        transaction = self.server.begin()
        if not self.server.is_locked(1, transaction):
            transaction.put({"user_id": 1, "note": "m"})
            self.last[1] = "kept"
        transaction.commit()

    def _restore(self) -> None:
        # A restore after which writers get beyond the last read's mark before the next read can't
        # be told by it: that needs a reconcile. The next read follows here.
        if self.server.restore():
            self.opened.clear()
            there = {row["user_id"] for row in self.server.rows()}
            self.last |= {key: "restore" if key in there else "delete" for key in range(1, 6)}
        self.world.run()

    def run_while(self, statement: int, event: tuple[Any, ...]) -> bool:
        """Read, and let something happen before the n-th statement; tell whether there was one."""
        asked = 0

        def between() -> None:
            nonlocal asked
            asked += 1
            if asked == statement:
                self.step(*event)

        self.server.between = between
        # A change log that is cleaned up under a read ends it; its retry is the next read.
        with contextlib.suppress(SourceUnavailable):
            self.world.run()
        self.server.between = lambda: None
        return asked >= statement

    def end(self) -> None:
        """Let everybody come to the end, and read once more."""
        while self.opened:
            self._commit(self.opened.pop())
        self._catch_up()


Rows = dict[int, tuple[Any, ...]]


def merged(world: TsqlWorld) -> Rows:
    """Bring silver up to bronze; give its rows by key, of the columns that the source has now.

    A column that the source has no more keeps its values in rows that nobody reads again.
    """
    rows = newest_rows(world)
    has_note = any("note" in row for row in rows)
    schema = pa.schema([f for f in pa.schema(COLUMNS) if f.name != "note" or has_note])
    write_silver(world, rows, schema)
    there = world.server.records.columns
    return {
        row["user_id"]: tuple(row.get(name) if name in there else None for name in COLUMNS)
        for row in rows
    }


def held(server: TsqlServer) -> Rows:
    def value(row: dict[str, Any], name: str) -> Any:
        given = row.get(name)
        return given and datetime.fromisoformat(given[:26]) if name == "updated_at" else given

    return {row["user_id"]: tuple(value(row, name) for name in COLUMNS) for row in server.rows()}


def unseen(life: Life) -> set[int]:
    """Merge; give the keys that differ: they must be such as the strategy declares."""
    lake, now = merged(life.world), held(life.server)
    lost = {key for key in lake | now if lake.get(key) != now.get(key)}
    blind = BLIND[life.world.table.strategy or ""]
    assert lost <= {key for key, what in life.last.items() if what in blind}
    return lost


def named(result: TableResult) -> dict[int, str]:
    return {key["user_id"]: name for name, keys in result.keys.items() for key in keys}


def test_every_row_of_a_statement_arrives(tmp_path: Path) -> None:
    # Through SQLAlchemy, which may take rows of a result before the driver's Arrow is asked for.
    with tsql_world(tmp_path, "snapshot") as world:
        transaction = world.server.begin()
        for key in range(250):
            transaction.put({"user_id": key, "user_name": "a"})
        transaction.commit()
        assert world.run()["rows"] == 250


@pytest.mark.parametrize("event", MEANWHILE, ids=lambda event: event[0])
@pytest.mark.parametrize("strategy", ["rowversion", "change_tracking", "cdc"])
def test_nothing_may_happen_before_any_statement_that_loses_a_row(
    strategy: str, event: tuple[Any, ...]
) -> None:
    statement, there_was_one = 0, True
    while there_was_one:
        statement += 1
        with TemporaryDirectory(dir=FAST) as folder, tsql_world(Path(folder), strategy) as world:
            life = Life(world)
            for key in (1, 2, 4):
                life.step("newer", key, "a")
            life.step("caught up")
            life.step("newer", 1, "b")
            life.step("open", [("newer", 2, "b"), ("newer", 3, "b")])
            life.step("newer", 4, "b")
            life.step("delete", 4)
            life.step("capture", 9)
            there_was_one = life.run_while(statement, event)
            life.end()
            unseen(life)
    assert statement > 10


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(
    max_examples=500 if SOAK else 25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@example(steps=[("untracked", [("delete", 1)])])
@example(steps=[("cleaned up", [("newer", 1, "b"), ("delete", 2)])])
@example(steps=[("back up",), ("newer", 1, "b"), ("delete", 2), ("caught up",), ("restore",)])
@example(steps=[("open", [("newer", 1, "b")]), ("newer", 2, "b"), ("run",), ("commit", 0)])
@example(steps=[("open", [("newer", 1, "b")]), *[("newer", 2, "b")] * 10, ("run",), ("commit", 0)])
@example(
    steps=[
        ("open", [("newer", 1, "b")]),
        ("back up",),
        ("new column",),
        ("strategy", "snapshot"),
        ("run",),
        ("strategy", "rowversion"),
        ("run",),
        ("restore",),
    ]
)
@example(steps=[("back-dated", 1, "b")])
@example(steps=[("newer", 3, "a"), ("newer", 3, "b"), ("delete", 3), ("caught up",)])
@given(steps=st.lists(STEPS, min_size=4, max_size=14))
def test_what_is_not_seen_is_named_and_mended(strategy: str, steps: list[tuple[Any, ...]]) -> None:
    with TemporaryDirectory(dir=FAST) as folder, tsql_world(Path(folder), strategy) as world:
        life = Life(world)
        for key in (1, 2):
            life.step("newer", key, "a")
        life.step("caught up")
        for step in steps:
            life.step(*step)
        life.end()
        now, lost = held(world.server), unseen(life)
        result = named(reconcile_table(world.job(run_id="reconcile__1"), Options(repair=True)))
        assert set(result) == lost
        assert merged(world) == now
        assert not named(reconcile_table(world.job(run_id="reconcile__2"), Options()))
        world.run()
        assert merged(world) == now
