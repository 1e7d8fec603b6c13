"""One table of a real SQL Server, and its lake."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from core_harness import World

from tidemark.extract import sqlserver
from tidemark.ingest import TableJob
from tidemark.metadata import load_source
from tidemark.watermark import load_state
from tidemark.windows import Interval

SCHEMA = "tidemark_contract"


@dataclass(frozen=True)
class Server:
    """A server that the tests may write to."""

    url: str

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        engine = sqlserver.create_engine(sa.make_url(self.url), SCHEMA)
        with engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def run(self, *statements: str) -> None:
        with self.connection() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.connection() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query).all()]

    @contextmanager
    def open_transaction(self) -> Iterator[sa.Connection]:
        """Give a connection of another user, whose transaction is open until it commits."""
        engine = sqlserver.create_engine(sa.make_url(self.url), SCHEMA)
        with engine.connect() as connection:
            yield connection

    def refusal(self, *statements: str) -> str | None:
        """Run statements; give why the server refused one of them."""
        try:
            self.run(*statements)
        except sa.exc.DBAPIError as error:
            return str(error.orig)
        return None


@dataclass
class MssqlWorld(World):
    """As `World`, with another kind of source."""

    server: Server | None = None

    @property
    def full_name(self) -> str:
        return f"[{SCHEMA}].[{self.table.name}]"

    def job(self, **changes: Any) -> TableJob:
        assert self.server is not None
        job = TableJob(self.store, self.lake, self.table, "run-1", self.server.url)
        return replace(job, **changes)

    def sql(self, *statements: str) -> None:
        """Run statements, in which ``{t}`` is the table."""
        assert self.server is not None
        self.server.run(*(statement.replace("{t}", self.full_name) for statement in statements))

    def state_cdc(self) -> str | None:
        """Give the stored watermark."""
        return load_state(self.store, self.lake, self.name).cdc

    def positions(self) -> list[str]:
        """Give what the strategy stored at its last read."""
        return list(load_state(self.store, self.lake, self.name).position.values())

    def slice(self, begin: str, end: str) -> dict[str, Any]:
        """Read a span of time again, as a backfill does."""
        span = Interval(*(datetime.fromisoformat(t).replace(tzinfo=UTC) for t in (begin, end)))
        copied = self.copy(span)
        self.finish(copied)
        return copied

    def step(self) -> dict[str, Any]:
        """Read once, as the Dag does."""
        copied = self.copy()
        self.finish(copied)
        return copied

    def bronze_table(self) -> pa.Table:
        """Give all rows of bronze in the order in which they were read."""
        files = sorted(Path(self.lake.root).glob(f"bronze/{self.name}/*.parquet"))
        tables = [pq.read_table(file) for file in files]
        return pa.concat_tables(tables, promote_options="permissive").sort_by("_sequence")

    def held(self, *columns: str) -> dict[Any, tuple[Any, ...]]:
        """Give what bronze says the table holds: the newest version of each key."""
        rows: dict[Any, tuple[Any, ...]] = {}
        for row in self.bronze_table().to_pylist():
            rows.pop(row["id"], None)
            if row["_operation"] != "delete":
                rows[row["id"]] = tuple(row[name] for name in columns)
        return rows


def new_world(
    folder: Path, server: Server, ddl: str, fields: Mapping[str, str] | None = None
) -> MssqlWorld:
    """Make a table of columns `ddl`, with a key ``id``, and an empty lake."""
    name = f"T_{uuid.uuid4().hex[:12]}"
    body = {"schema": SCHEMA, "lake_name": "T", "key": "id", **(fields or {})}
    path = folder / "config" / "shop.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = ", ".join(f"{key}: {value}" for key, value in body.items())
    path.write_text(f"source: {{connection: shop}}\ntables:\n  {name}: {{{listed}}}\n")
    world = MssqlWorld(folder, load_source(path).tables[name], server=server)
    world.sql(f"CREATE TABLE {{t}} (id int NOT NULL PRIMARY KEY, {ddl})")
    return world


def drop_tables(server: Server) -> None:
    """Drop all tables of the tests' schema."""
    names = server.rows(
        "SELECT t.name FROM sys.tables AS t JOIN sys.schemas AS s ON s.schema_id = t.schema_id "
        f"WHERE s.name = N'{SCHEMA}'"
    )
    for (name,) in names:
        server.run(f"DROP TABLE [{SCHEMA}].[{name}]")
