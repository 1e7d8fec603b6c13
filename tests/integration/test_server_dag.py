"""The whole Dag, silver and gold included, on a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from postgres import server
from server_dag import Kind, check_whole_dag


def test_silver_and_gold_follow_a_server(tmp_path: Path) -> None:
    with server() as url:

        def run(statement: str) -> list[Any]:
            with psycopg.connect(url, autocommit=True) as connection:
                done = connection.execute(statement)  # type: ignore[call-overload]
                return done.fetchall() if done.description else []

        run("CREATE SCHEMA contract")
        check_whole_dag(
            tmp_path, url, Kind("postgres", "contract", "timestamptz", "clock_timestamp()", run)
        )
