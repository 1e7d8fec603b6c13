"""One table of the stand-in for SQL Server, and its lake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from core_harness import World, load_table
from tsql_server import TsqlServer

from tidemark.extract import sqlserver
from tidemark.ingest import TableJob


@dataclass
class TsqlWorld(World):
    """As `World`, with another kind of source."""

    server: TsqlServer = field(kw_only=True)

    def job(self, **changes: Any) -> TableJob:
        job = TableJob(self.store, self.lake, self.table, "run-1", "mssql://standin/shop")
        return replace(job, **changes)

    def read_by(self, strategy: str) -> None:
        """Change the metadata's `strategy`."""
        self.table = load_table(self.folder, f"strategy: {strategy}")


@contextmanager
def tsql_world(folder: Path, strategy: str) -> Iterator[TsqlWorld]:
    """Make a server under change tracking and capture, with an empty table and an empty lake."""
    server = TsqlServer(folder)
    server.track_changes()
    server.enable_capture()
    table = load_table(folder, f"strategy: {strategy}")
    with patch.object(sqlserver, "create_engine", server.create_engine()):
        yield TsqlWorld(folder, table, server=server)
