"""The whole Dag, silver and gold included, on a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mssql_world import SCHEMA, Server
from server_dag import COLUMNS, Kind, check_whole_dag


def test_silver_and_gold_follow_a_server(tmp_path: Path, server: Server) -> None:
    def run(statement: str) -> list[Any]:
        with server.connection() as connection:
            done = connection.exec_driver_sql(statement)
            return list(done.all()) if done.returns_rows else []

    for name in COLUMNS:
        run(f"IF OBJECT_ID(N'{SCHEMA}.{name}') IS NOT NULL DROP TABLE {SCHEMA}.{name}")
    kind = Kind("mssql", SCHEMA, "datetime2(7)", "SYSUTCDATETIME()", run)
    check_whole_dag(tmp_path, server.url, kind)
