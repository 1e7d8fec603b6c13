"""A contract with SQL Server: run against any server that ``TIDEMARK_TEST_MSSQL_URL`` names.

The tests make their own tables, in a schema of their own, and drop them. What a server lacks is
skipped with the server's own words.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from mssql_world import SCHEMA, MssqlWorld, Server, drop_tables, new_world

VARIABLE = "TIDEMARK_TEST_MSSQL_URL"
Make = Callable[..., MssqlWorld]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    url = os.environ.get(VARIABLE)
    if not url:
        pytest.skip(f"no SQL Server: set {VARIABLE} to the SQLAlchemy URL of one")
    server = Server(url)
    server.run(f"IF SCHEMA_ID(N'{SCHEMA}') IS NULL EXEC(N'CREATE SCHEMA {SCHEMA}')")
    drop_tables(server)
    yield server
    drop_tables(server)
    server.run(f"DROP SCHEMA {SCHEMA}")


@pytest.fixture
def make(tmp_path: Path, server: Server) -> Make:
    """Make a table and its lake; skip if the server does not know a type of it."""

    def _make(ddl: str, fields: Mapping[str, str] | None = None) -> MssqlWorld:
        return new_world(tmp_path, server, ddl, fields)

    return _make
