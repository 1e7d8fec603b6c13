"""The compose stack's own steps: the health check, the log-in, and what they need."""

from __future__ import annotations

import argparse
import json
import stat
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
import sqlalchemy as sa

from tidemark import stack
from tidemark.sample import sqlserver

ANSWER = {
    "metadatabase": {"status": "healthy"},
    "scheduler": {"status": "healthy"},
    "triggerer": {"status": None},
    "dag_processor": {"status": "unhealthy"},
}


class ApiServer(BaseHTTPRequestHandler):
    """Airflow's API server, as far as its health goes."""

    def do_GET(self) -> None:
        found = self.path == stack.HEALTH
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps(ANSWER).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), ApiServer) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/execution/"
        listening.shutdown()


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("metadatabase", ""),
        ("scheduler", ""),
        ("triggerer", "triggerer is not there yet"),
        ("dag_processor", "dag_processor is unhealthy"),
    ],
)
def test_a_container_is_as_healthy_as_its_part_of_airflow(
    server: str,
    part: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", server)
    assert stack.main(["health", part]) == (1 if says else 0)
    assert says in capsys.readouterr().err


def test_without_an_api_server_nothing_is_healthy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "http://127.0.0.1:9/execution/")
    assert stack.main(["health", "scheduler"]) == 1
    assert "http://127.0.0.1:9/api/v2/monitor/health does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("step", ["airflow", "lake", "source", "health scheduler"])
def test_a_missing_variable_is_named(
    step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", "EXECUTION_API_SERVER_URL"):
        monkeypatch.delenv(f"AIRFLOW__CORE__{name}", raising=False)
    for name in ("AIRFLOW_CONN_SPOTIFY_SQL", "TIDEMARK_LAKE"):
        monkeypatch.delenv(name, raising=False)
    assert stack.main(step.split()) == 1
    assert "is not set; run this as docker-compose.yaml does" in capsys.readouterr().err


def test_the_log_in_is_its_users_alone_and_follows_the_env_file(tmp_path: Path) -> None:
    file = tmp_path / "airflow" / "passwords.json"
    stack.write_passwords(file, "first")
    file.chmod(0o644)
    stack.write_passwords(file, "second")
    assert json.loads(file.read_text()) == {"admin": "second"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_administrator_goes_to_the_server_that_the_connection_names() -> None:
    connection = {
        "host": "sqlserver", "port": 1433, "password": "theirs",
        "extra": {"Encrypt": "yes", "TrustServerCertificate": "yes"},
    }  # fmt: skip
    engine = stack.administrator_engine(connection, "a;dmin", "master")
    assert "a;dmin" not in repr(engine)
    (text,), _ = engine.dialect.create_connect_args(engine.url)
    assert text == (
        "Server=sqlserver,1433;Database=master;UID=sa;PWD={a;dmin};"
        "Encrypt=yes;TrustServerCertificate=yes"
    )


class Administrator:
    """Notes what a server is told, and answers what it is asked: how many are there already."""

    def __init__(self, there: int) -> None:
        self.there = there
        self.told: list[tuple[str, Mapping[str, Any]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def connect(self) -> Administrator:
        return self

    def execution_options(self, *, isolation_level: str) -> Administrator:
        assert isolation_level == "AUTOCOMMIT", "ALTER DATABASE runs in no transaction"
        return self

    def execute(self, statement: sa.TextClause, bound: Mapping[str, Any] | None = None) -> Any:
        if str(statement).startswith("SELECT COUNT(*)"):
            return argparse.Namespace(scalar_one=lambda: self.there)
        self.told.append((str(statement), bound or {}))
        return None


def test_what_is_there_is_not_made_again() -> None:
    grant = ("GRANT VIEW SERVER STATE TO [tidemark]", {})
    second = Administrator(1)
    sqlserver.prepare_server(second, "s3cret")  # type: ignore[arg-type]
    assert second.told == [grant]

    first = Administrator(0)
    sqlserver.prepare_server(first, "s3cret")  # type: ignore[arg-type]
    assert [text.split("[")[0] for text, _ in first.told] == [
        "CREATE DATABASE ",
        "ALTER DATABASE ",
        "ALTER DATABASE ",
        "DECLARE @statement nvarchar(max); SET @statement = N'CREATE LOGIN ",
        "GRANT VIEW SERVER STATE TO ",
    ]
    assert [bound for _, bound in first.told if bound] == [{"password": "s3cret"}]
