"""A stand-in for SQL Server: one table, and all that the server records of its changes.

It holds what SQL Server's documentation says of each record:

- A rowversion is given out when a row is written, not when it is committed.
- Change tracking counts the committed transactions, and keeps the last change of each key.
- Change data capture reads the log of committed transactions, later, into a table of each capture
  instance: 1 a delete with the old values, 2 an insert, 3 and 4 an update's old and new values.

A transaction's rows can't be written by another one before it ends, as by SQL Server's locks.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from tsql_catalog import CATALOG, COLUMNS, MINUTES_AHEAD, TABLE, TABLE_ID, TYPES
from tsql_driver import engine_maker

Row = dict[str, Any]


def moment(at: datetime) -> str:
    """Write a datetime2(7) as the stand-in keeps it."""
    return f"{at.replace(tzinfo=None).isoformat(timespec='microseconds')}0"


@dataclass
class Capture:
    """A capture instance."""

    name: str
    number: int
    columns: tuple[str, ...]
    least: int


@dataclass
class Records:
    """All that the server counts and records; what a backup brings back."""

    now: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    columns: tuple[str, ...] = ("user_id", "user_name", "updated_at", "row_version")
    rowversion: int = 2_000  # the last one that was given out
    version: int = 0  # of change tracking
    least_version: int | None = None
    recordings: int = 0  # of change tracking, that were ever begun
    lsn: int = 0x100  # of the last committed transaction
    log: list[tuple[int, list[tuple[int, Row]]]] = field(default_factory=list)  # not captured yet
    newest: int | None = None  # the last LSN that was captured
    captures: list[Capture] = field(default_factory=list)
    place: int = 0


@dataclass
class Transaction:
    """What somebody has written and not committed yet."""

    server: TsqlServer
    number: int
    writes: list[tuple[str, Row]] = field(default_factory=list)
    rowversions: list[int] = field(default_factory=list)

    def put(self, row: Mapping[str, Any]) -> None:
        """Insert a row, or update the one with its key."""
        self._write("put", dict(row))

    def delete(self, user_id: int) -> None:
        self._write("delete", {"user_id": user_id})

    def _write(self, what: str, row: Row) -> None:
        assert not self.server.is_locked(row["user_id"], self), "a writer would wait for ever"
        records = self.server.records
        if what == "put":
            records.rowversion += 1
            self.rowversions.append(records.rowversion)
            row["row_version"] = records.rowversion.to_bytes(8, "big")
        self.writes.append((what, row))

    def commit(self) -> None:
        self.server.commit(self)

    def roll_back(self) -> None:
        self.server.end(self)


@dataclass
class TsqlServer:
    """The server.

    Attributes:
        folder: Holds SQLite's file.
        records: What it counts.
        between: Called before each statement of a reader: what others do meanwhile.
    """

    folder: Path
    records: Records = field(default_factory=Records)
    between: Callable[[], None] = lambda: None
    refusal: str = ""
    _open: dict[int, Transaction] = field(default_factory=dict)
    _begun: int = 0

    def __post_init__(self) -> None:
        self._writer = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
        self._writer.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;" + CATALOG)
        self._writer.execute('INSERT INTO "sys.tables" VALUES (?, 0)', (TABLE_ID,))
        for name in self.records.columns:
            self._describe(name)
        self._backup: tuple[sqlite3.Connection, Records] | None = None

    @property
    def _file(self) -> Path:
        return self.folder / "server.db"

    # -- what the driver asks

    def before_statement(self) -> None:
        self.between()

    def arrow_type(self, column: str) -> pa.DataType | None:
        return COLUMNS[column][2] if column in COLUMNS else None

    def open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
        for name, function in self._functions().items():
            connection.create_function(name, -1, function)
        return connection

    def _functions(self) -> dict[str, Callable[..., Any]]:
        records = lambda: self.records  # noqa: E731  # a backup brings back other ones
        return {
            "CONVERTED": _converted,
            "DATETIME2": lambda text: text and moment(datetime.fromisoformat(text[:26])),
            "OBJECT_ID": lambda name: TABLE_ID if TABLE in name or self._has(name) else None,
            "TYPE_NAME": TYPES.get,
            "HAS_PERMS_BY_NAME": lambda *_: 1,
            "SERVERPROPERTY": lambda _: 3,
            "DATABASEPROPERTYEX": lambda *_: "READ_WRITE",
            "DB_ID": lambda: 1,
            "DB_NAME": lambda: "shop",
            "SPID": lambda: 50,
            "MINUTES_AHEAD": lambda: MINUTES_AHEAD,
            "SYSUTCDATETIME": lambda: moment(records().now),
            "DBTS": lambda: records().rowversion.to_bytes(8, "big"),
            "MIN_ACTIVE_ROWVERSION": lambda: self._least_active().to_bytes(8, "big"),
            "CHANGE_TRACKING_CURRENT_VERSION": lambda: records().version,
            "CHANGE_TRACKING_MIN_VALID_VERSION": lambda _: records().least_version,
            "fn_cdc_get_max_lsn": lambda: _lsn(records().newest),
            "fn_cdc_get_min_lsn": lambda name: _lsn(self._capture(name).least),
            "FROM_LSN": self._checked,
            "TO_LSN": lambda high: self._checked(None, high),
        }

    def _has(self, name: str) -> bool:
        return name == "cdc.change_tables" and bool(self.records.captures)

    def _least_active(self) -> int:
        active = [n for transaction in self._open.values() for n in transaction.rowversions]
        return min(active, default=self.records.rowversion + 1)

    def _capture(self, name: str) -> Capture:
        return next(c for c in self.records.captures if c.name == name)

    def _checked(self, name: str | None, lsn: bytes) -> bytes:
        number = int.from_bytes(lsn, "big")
        least = 0 if name is None else self._capture(name).least
        if not least <= number <= (self.records.newest or 0):
            # So it says of bounds that are out of range: error 313.
            self.refusal = (
                "An insufficient number of arguments were supplied for the procedure or function "
                "cdc.fn_cdc_get_all_changes_ ... ."
            )
            raise ValueError(self.refusal)
        return lsn

    # -- what writers do

    def begin(self) -> Transaction:
        self._begun += 1
        transaction = Transaction(self, self._begun)
        self._open[transaction.number] = transaction
        begun = moment(self.records.now + timedelta(minutes=MINUTES_AHEAD))
        number = transaction.number
        with self._written() as run:
            run('INSERT INTO "sys.dm_tran_database_transactions" VALUES (?, 1, ?)', number, begun)
            run('INSERT INTO "sys.dm_tran_active_transactions" VALUES (?, ?)', number, begun)
            run('INSERT INTO "sys.dm_tran_session_transactions" VALUES (?, 51)', number)
        return transaction

    def put(self, **row: Any) -> None:
        transaction = self.begin()
        transaction.put(row)
        transaction.commit()

    def delete(self, user_id: int) -> None:
        transaction = self.begin()
        transaction.delete(user_id)
        transaction.commit()

    def is_locked(self, user_id: int, writer: Transaction) -> bool:
        """Tell whether another open transaction has written a row."""
        others = (t for t in self._open.values() if t is not writer)
        return any(row["user_id"] == user_id for t in others for _, row in t.writes)

    def commit(self, transaction: Transaction) -> None:
        records, changes = self.records, []
        with self._written() as run:
            for what, row in transaction.writes:
                changes += self._apply(run, what, row)
            if changes:
                records.version += records.least_version is not None
                records.lsn += 1
                records.log.append((records.lsn, changes))
                self._track(run, changes)
            self._forget(run, transaction)

    def _apply(self, run: Callable[..., Any], what: str, row: Row) -> list[tuple[int, Row]]:
        names = ", ".join(self.records.columns)
        key = row["user_id"]
        found = run(f'SELECT {names} FROM "dbo.{TABLE}" WHERE user_id = ?', key).fetchone()
        old = found and dict(zip(self.records.columns, found, strict=True))
        if what == "delete":
            run(f'DELETE FROM "dbo.{TABLE}" WHERE user_id = ?', key)
            return [(1, old)] if old else []
        new = dict.fromkeys(self.records.columns) | (old or {}) | row
        marks = ", ".join("?" * len(new))
        run(f'REPLACE INTO "dbo.{TABLE}" ({", ".join(new)}) VALUES ({marks})', *new.values())
        return [(3, old), (4, new)] if old else [(2, new)]

    def _track(self, run: Callable[..., Any], changes: list[tuple[int, Row]]) -> None:
        if self.records.least_version is None:
            return
        for (_, before), (what, row) in zip([(0, {}), *changes], changes, strict=False):
            # As servers do that lack the mend of KB 4135113, with the rows clustered by updated_at.
            is_moved = what == 4 and (row["updated_at"] or "") < (before["updated_at"] or "")
            for letter in "ID" if is_moved else {1: "D", 2: "I", 4: "U"}.get(what, ""):
                self.records.place += 1
                values = (self.records.version, self.records.place, letter, row["user_id"])
                run('INSERT INTO "standin.changes" VALUES (?, ?, ?, ?)', *values)

    def end(self, transaction: Transaction) -> None:
        with self._written() as run:
            self._forget(run, transaction)

    def _forget(self, run: Callable[..., Any], transaction: Transaction) -> None:
        del self._open[transaction.number]
        for view in ("database", "active", "session"):
            table = f'"sys.dm_tran_{view}_transactions"'
            run(f"DELETE FROM {table} WHERE transaction_id = ?", transaction.number)

    def rows(self) -> list[Row]:
        """Give what is committed."""
        names = self.records.columns
        found = self._writer.execute(f'SELECT {", ".join(names)} FROM "dbo.{TABLE}"')
        return [dict(zip(names, row, strict=True)) for row in found]

    # -- what its administrator does

    def track_changes(self) -> None:
        """Begin change tracking anew: ENABLE CHANGE_TRACKING."""
        records = self.records
        records.recordings += 1
        records.least_version = records.version
        created = moment(records.now + timedelta(seconds=records.recordings))
        with self._written() as run:
            for table in ("sys.change_tracking_tables", "sys.internal_tables", "standin.changes"):
                run(f'DELETE FROM "{table}"')
            run('INSERT INTO "sys.change_tracking_tables" VALUES (?, ?)', TABLE_ID, records.version)
            values = (TABLE_ID, "CHANGE_TRACKING", created)
            run('INSERT INTO "sys.internal_tables" VALUES (?, ?, ?)', *values)

    def leave_untracked(self) -> None:
        """DISABLE CHANGE_TRACKING: what is written from now on raises no version."""
        self.records.least_version = None
        with self._written() as run:
            for table in ("sys.change_tracking_tables", "sys.internal_tables", "standin.changes"):
                run(f'DELETE FROM "{table}"')

    def clean_tracking(self) -> None:
        """Forget the changes of the past, as CHANGE_RETENTION has it."""
        if self.records.least_version is not None:
            self.records.least_version = self.records.version
            with self._written() as run:
                run('DELETE FROM "standin.changes"')

    def enable_capture(self) -> None:
        """Make a capture instance of the columns of now; the older of two goes, as two is most."""
        records = self.records
        with self._written() as run:
            if len(records.captures) == 2:
                self._drop_capture(run, records.captures.pop(0))
            records.lsn += 7  # to make its tables is written to the log, too
            number = 1_000 + records.lsn
            name = f"dbo_{TABLE}_{number}"
            records.captures.append(Capture(name, number, records.columns, records.lsn))
            run('UPDATE "sys.tables" SET is_tracked_by_cdc = 1')
            created = moment(records.now + timedelta(milliseconds=number))
            values = (number, name, TABLE_ID, created)
            run('INSERT INTO "cdc.change_tables" VALUES (?, ?, ?, ?)', *values)
            for column in records.columns:
                run('INSERT INTO "cdc.captured_columns" VALUES (?, ?, 0)', number, column)
            own = ("__$start_lsn", "__$seqval", "__$operation", *records.columns)
            run(f'CREATE TABLE "cdc.{name}_CT" ({", ".join(own)})')

    def _drop_capture(self, run: Callable[..., Any], capture: Capture) -> None:
        run('DELETE FROM "cdc.change_tables" WHERE object_id = ?', capture.number)
        run('DELETE FROM "cdc.captured_columns" WHERE object_id = ?', capture.number)
        run(f'DROP TABLE "cdc.{capture.name}_CT"')

    def capture(self, most: int | None = None) -> None:
        """Let the capture job read the log: all of it, or some transactions."""
        records = self.records
        with self._written() as run:
            done, records.log = records.log[:most], records.log[len(records.log[:most]) :]
            for lsn, changes in done:
                for capture in records.captures:
                    if lsn > capture.least:
                        self._record(run, capture, lsn, changes)
                if records.captures:
                    records.newest = lsn

    def _record(
        self, run: Callable[..., Any], capture: Capture, lsn: int, changes: list[tuple[int, Row]]
    ) -> None:
        place = 0
        for what, row in changes:
            place += what != 4  # an update's old and new values have one number
            values = [_lsn(lsn), _lsn(place), what, *(row.get(c) for c in capture.columns)]
            marks = ", ".join("?" * len(values))
            run(f'INSERT INTO "cdc.{capture.name}_CT" VALUES ({marks})', *values)

    def clean_capture(self) -> None:
        """Forget what was captured, as the clean-up job does: nothing below the newest is kept."""
        newest = self.records.newest
        with self._written() as run:
            for capture in self.records.captures:
                if newest is not None and newest > capture.least:
                    capture.least = newest
                    run(f'DELETE FROM "cdc.{capture.name}_CT" WHERE __$start_lsn < ?', _lsn(newest))

    def add_column(self) -> bool:
        """ALTER TABLE … ADD note nvarchar(50) DEFAULT 'n' WITH VALUES: no row counts as changed."""
        is_new = "note" not in self.records.columns
        if is_new:
            self._writer.execute(f"ALTER TABLE \"dbo.{TABLE}\" ADD COLUMN note TEXT DEFAULT 'n'")
            self.records.columns += ("note",)
            self._describe("note")
        return is_new

    def _describe(self, name: str) -> None:
        number, size, _ = COLUMNS[name]
        place = self.records.columns.index(name) + 1
        values = (TABLE_ID, place, name, number, number, size, 27, 7)
        marks = ", ".join("?" * len(values))
        self._writer.execute(f'INSERT INTO "sys.columns" VALUES ({marks})', values)

    def back_up(self) -> None:
        """Keep what is committed now."""
        copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._writer.backup(copy)
        for view in ("database", "active", "session"):
            copy.execute(f'DELETE FROM "sys.dm_tran_{view}_transactions"')
        self._backup = copy, deepcopy(self.records)

    def restore(self) -> bool:
        """Bring everything back as it was, if it was kept; open transactions are gone."""
        if self._backup is None:
            return False
        for transaction in list(self._open.values()):
            transaction.roll_back()
        copy, records = self._backup
        copy.backup(self._writer)
        self.records = replace(deepcopy(records), now=self.records.now)
        return True

    @contextlib.contextmanager
    def _written(self) -> Iterator[Callable[..., Any]]:
        self._writer.execute("BEGIN IMMEDIATE")
        with self._writer:
            yield lambda statement, *values: self._writer.execute(statement, values)

    def create_engine(self) -> Callable[..., Any]:
        """Give what stands in for ``sqlserver.create_engine``."""
        return engine_maker(self)


def _lsn(number: int | None) -> bytes | None:
    return None if number is None else number.to_bytes(10, "big")


def _converted(size: str, value: Any, style: int) -> str | None:
    if value is None:
        return None
    text = {1: lambda: f"0x{value.hex().upper()}", 121: lambda: value.replace("T", " ")}[style]()
    if size != "max" and len(text) > int(size):
        message = f"{text} does not fit varchar({size})"
        raise ValueError(message)
    return text
