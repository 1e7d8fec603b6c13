"""A real SQLite source and a real lake folder, for the tests of the extraction core."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tidemark.errors import LakeError
from tidemark.ingest import (
    TableJob,
    advance_watermark,
    copy_to_bronze,
    discard_empty,
    lookup_watermark,
)
from tidemark.layout import Lake, sequence_of
from tidemark.metadata import Table, load_source
from tidemark.storage import LocalStore
from tidemark.watermark import TableState, load_state
from tidemark.windows import Interval

SOAK = os.environ.get("TIDEMARK_SOAK") == "1"
# Memory instead of a disk, where there is one: each step waits for the disk several times.
FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
DIM_USER = (
    "CREATE TABLE DimUser (user_id INTEGER PRIMARY KEY, user_name TEXT, updated_at TIMESTAMP)"
)


def load_table(folder: Path, fields: str = "", name: str = "DimUser") -> Table:
    """Load a table's metadata as a user writes it."""
    path = folder / "config" / "spotify.yaml"
    path.parent.mkdir(exist_ok=True)
    defaults = {"key": "user_id", "cursor": "updated_at"}
    missing = "".join(
        f"{k}: {v}, " for k, v in defaults.items() if not re.search(rf"(^|[ ,]){k}:", fields)
    )
    path.write_text(
        "source: {connection: spotify_sql}\ntables:\n" + f"  {name}: {{{missing}{fields}}}\n"
    )
    return load_source(path).tables[name]


@dataclass(frozen=True)
class InterruptedStore(LocalStore):
    """A disk that stops at publishing, as a killed process does."""

    def publish(self, temporary: str, final: str) -> None:
        message = f"{temporary} → {final}: interrupted"
        raise LakeError(message)


@dataclass
class World:
    """One source table and its lake."""

    folder: Path
    table: Table
    store: LocalStore = field(init=False)
    lake: Lake = field(init=False)

    def __post_init__(self) -> None:
        self.lake = Lake(str(self.folder / "lake"))
        self.store = LocalStore(Path(self.lake.root))

    @property
    def database(self) -> Path:
        return self.folder / "source.db"

    @property
    def name(self) -> str:
        return self.table.lake_name

    def job(self, **changes: Any) -> TableJob:
        job = TableJob(self.store, self.lake, self.table, "run-1", f"sqlite:///{self.database}")
        return replace(job, **changes)

    def switch(self, layout: str) -> None:
        """Change the metadata's `bronze_layout`."""
        self.table = self.table.model_copy(update={"bronze_layout": layout})

    @contextlib.contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            yield connection
            connection.commit()

    def sql(self, *statements: str) -> None:
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def put(self, *rows: Iterable[Any]) -> None:
        """Insert rows, or replace those with the same key; columns behind a row's get NULL."""
        known = self.columns()
        with self.connect() as connection:
            for row in map(tuple, rows):
                quoted = (name.replace('"', '""') for name in known[: len(row)])
                names = ", ".join(f'"{name}"' for name in quoted)
                marks = ", ".join("?" * len(row))
                insert = f'REPLACE INTO "{self.table.name}" ({names}) VALUES ({marks})'
                connection.execute(insert, row)

    def columns(self) -> list[str]:
        """Name the table's columns, in their order."""
        with self.connect() as connection:
            known = connection.execute(f'PRAGMA table_info("{self.table.name}")')
            return [name for _, name, *_ in known]

    def rows(self) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(f'SELECT * FROM "{self.table.name}"').fetchall()

    def copy(self, interval: Interval | None = None, **changes: Any) -> dict[str, Any]:
        job = self.job(**changes)
        return copy_to_bronze(job, lookup_watermark(job), interval)

    def finish(self, copied: Mapping[str, Any]) -> None:
        """Do what the Dag does after the copy."""
        job = self.job()
        if copied["rows"]:
            advance_watermark(job, dict(copied))
        else:
            discard_empty(job, dict(copied))

    def run(self, interval: Interval | None = None) -> dict[str, Any]:
        copied = self.copy(interval)
        self.finish(copied)
        return copied

    @property
    def state(self) -> TableState:
        return load_state(self.store, self.lake, self.name)

    @property
    def published(self) -> list[str]:
        """The published files, by their paths from the table's folder, oldest first."""
        found = self.store.names_below(self.lake.bronze_folder(self.name))
        named = [path.rpartition("/")[::2] for path in found]
        kept = [(name, day) for day, name in named if not day or day.startswith("date=")]
        return [f"{day}/{name}".lstrip("/") for name, day in sorted(kept) if sequence_of(name)]

    @property
    def hidden(self) -> list[str]:
        """Temporary files and digests that no state points to."""
        used = (self.state.digests or "").rpartition("/")[2]
        bronze = self.store.names(self.lake.bronze_folder(self.name))
        kept = self.store.names(self.lake.state_folder(self.name))
        others = {used, "cdc.json", "_cdc.json.lock"}
        return [n for n in bronze if not sequence_of(n)] + [n for n in kept if n not in others]

    def bronze(self) -> list[dict[str, Any]]:
        """Read every bronze row, in the order of the reads."""
        folder = Path(self.lake.root) / self.lake.bronze_folder(self.name)
        tables = [pq.read_table(folder / name, partitioning=None) for name in self.published]
        rows = [row for table in tables for row in table.to_pylist()]
        return sorted(rows, key=lambda row: row["_sequence"])

    def replay(self) -> dict[Any, dict[str, Any]]:
        """Give the newest version of each key, as silver would hold it."""
        newest: dict[Any, dict[str, Any]] = {}
        for row in self.bronze():
            key = tuple(row[column] for column in self.table.key)
            newest[key] = {k: v for k, v in row.items() if not k.startswith("_")}
            if row["_operation"] == "delete":
                del newest[key]
        return newest


def make_world(
    folder: Path, ddl: str = DIM_USER, fields: str = "", cdc: str | bytes | None = None
) -> World:
    """Make a source with one table, and an empty lake (but for a given ``cdc.json``)."""
    name = ddl.split("TABLE", 1)[1].split("(", 1)[0].strip().strip('"')
    world = World(folder, load_table(folder, fields, name))
    world.sql(ddl)
    if cdc is not None:
        data = cdc if isinstance(cdc, bytes) else b'{"cdc": "%s"}' % cdc.encode()
        world.store.write(world.lake.state_file(world.name), data)
    return world
