"""The tables of the sample source, declared once, and the way into its SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidemark.errors import SourceError, SourceUnavailable

DeclaredType = Literal["INTEGER", "TEXT", "DATE", "TIMESTAMP"]
Value = int | str | None
Row = tuple[Value, ...]

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@dataclass(frozen=True)
class SampleTable:
    """One table of the sample: its columns in order with their declared types, key and cursor.

    A DATE is text ``YYYY-MM-DD``; a TIMESTAMP is text ``YYYY-MM-DD HH:MM:SS[.ffffff]`` in UTC.
    Both sort as text the way they sort in time.
    """

    name: str
    columns: Mapping[str, DeclaredType]
    key: str
    cursor: str

    def index(self, column: str) -> int:
        """Return the position of a column in a row."""
        return list(self.columns).index(column)

    @property
    def ddl(self) -> str:
        """The CREATE TABLE statement."""
        lines = (
            f"{name} {kind}{' PRIMARY KEY' if name == self.key else ''}"
            for name, kind in self.columns.items()
        )
        return f"CREATE TABLE IF NOT EXISTS {self.name} ({', '.join(lines)})"

    def insert(self, columns: list[str]) -> str:
        """Return the statement that inserts a row or updates these columns of the one there."""
        marks = ", ".join("?" * len(columns))
        others = [f"{name} = excluded.{name}" for name in columns if name != self.key]
        action = f"UPDATE SET {', '.join(others)}" if others else "NOTHING"
        return (
            f"INSERT INTO {self.name} ({', '.join(columns)}) VALUES ({marks}) "
            f"ON CONFLICT ({self.key}) DO {action}"
        )


_TABLES = (
    SampleTable(
        name="DimUser",
        columns={
            "user_id": "INTEGER",
            "user_name": "TEXT",
            "country": "TEXT",
            "subscription_type": "TEXT",
            "start_date": "DATE",
            "end_date": "DATE",
            "updated_at": "TIMESTAMP",
        },
        key="user_id",
        cursor="updated_at",
    ),
    SampleTable(
        name="DimArtist",
        columns={
            "artist_id": "INTEGER",
            "artist_name": "TEXT",
            "genre": "TEXT",
            "country": "TEXT",
            "updated_at": "TIMESTAMP",
        },
        key="artist_id",
        cursor="updated_at",
    ),
    SampleTable(
        name="DimTrack",
        columns={
            "track_id": "INTEGER",
            "track_name": "TEXT",
            "artist_id": "INTEGER",
            "album_name": "TEXT",
            "duration_sec": "INTEGER",
            "release_date": "DATE",
            "updated_at": "TIMESTAMP",
        },
        key="track_id",
        cursor="updated_at",
    ),
    SampleTable(
        name="DimDate",
        columns={
            "date_key": "INTEGER",
            "date": "DATE",
            "day": "INTEGER",
            "month": "INTEGER",
            "year": "INTEGER",
            "weekday": "TEXT",
        },
        key="date_key",
        cursor="date",
    ),
    SampleTable(
        name="FactStream",
        columns={
            "stream_id": "INTEGER",
            "user_id": "INTEGER",
            "track_id": "INTEGER",
            "date_key": "INTEGER",
            "listen_duration": "INTEGER",
            "device_type": "TEXT",
            "stream_timestamp": "TIMESTAMP",
        },
        key="stream_id",
        cursor="stream_timestamp",
    ),
)
SCHEMA: Mapping[str, SampleTable] = {table.name: table for table in _TABLES}
"""The five tables by name, in the order in which they are written and shown."""


@contextmanager
def transaction(path: Path, *, dry_run: bool = False) -> Iterator[sqlite3.Connection]:
    """Open the file, creating it if missing, for one transaction: all of the block or nothing.

    Args:
        path: the SQLite file. The default rollback journal is kept: readers open it read-only.
        dry_run: work on a copy in memory, which is then thrown away.

    Raises:
        SourceUnavailable: another process holds the file.
        SourceError: anything else that SQLite refuses.
    """
    try:
        with closing(_copy(path) if dry_run else _open(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")  # else closing rolls back
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in _BUSY:
            raise SourceUnavailable(f"{path}: another process holds it; try again") from error
        raise SourceError(
            f"{path}: SQLite says: {error}. Is it a sample source? "
            "`tidemark sample --path FILE` makes one elsewhere"
        ) from error


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(
            f"{path}: its folder can't be made: {error.strerror}; name another file with --path"
        ) from error
    return sqlite3.connect(path, isolation_level=None)


def _copy(path: Path) -> sqlite3.Connection:
    memory = sqlite3.connect(":memory:", isolation_level=None)
    if path.exists():
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as original:
            original.backup(memory)
    return memory


def step_of(connection: sqlite3.Connection) -> int:
    """Return the step the source is at: 1 is the initial state, 0 is no sample source."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def set_step(connection: sqlite3.Connection, step: int) -> None:
    """Record the step, in the transaction that is open."""
    connection.execute(f"PRAGMA user_version = {int(step)}")
