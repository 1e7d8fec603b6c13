"""One table of a real PostgreSQL server, and its lake."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from core_harness import World, load_table

from tidemark.landing import TableJob

DIM_USER = 'CREATE TABLE dbo."DimUser" (user_id int PRIMARY KEY, user_name text, updated_at {type})'


@dataclass
class PostgresWorld(World):
    """As `World`, with another kind of source."""

    url: str = ""

    def job(self, **changes: Any) -> TableJob:
        job = TableJob(self.store, self.lake, self.table, "run-1", self.url)
        return replace(job, **changes)

    def client(self) -> psycopg.Connection[Any]:
        """Connect as another user of the database does."""
        return psycopg.connect(self.url, options="-c timezone=UTC")

    def sql(self, *statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]

    def put(self, *rows: Iterable[Any]) -> None:
        with self.client() as connection:
            for row in rows:
                put(connection, *row)

    def rows(self) -> list[tuple[Any, ...]]:
        with self.client() as connection:
            return connection.execute('SELECT * FROM dbo."DimUser"').fetchall()


def put(connection: psycopg.Connection[Any], *row: Any) -> None:
    """Write a row of DimUser, and commit nothing."""
    connection.execute(
        'INSERT INTO dbo."DimUser" VALUES (%s, %s, %s) ON CONFLICT (user_id) DO UPDATE SET '
        "user_name = excluded.user_name, updated_at = excluded.updated_at",
        row,
    )


def make_postgres_world(
    folder: Path, url: str, fields: str = "", ddl: str = DIM_USER, kind: str = "timestamptz"
) -> PostgresWorld:
    """Make the table anew in a server's schema dbo, and an empty lake."""
    world = PostgresWorld(folder, load_table(folder, fields), url=url)
    world.sql("DROP SCHEMA IF EXISTS dbo CASCADE", "CREATE SCHEMA dbo", ddl.format(type=kind))
    return world
