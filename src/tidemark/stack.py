"""The one-shot steps and the health check of ``docker-compose.yaml``: ``python -m tidemark.stack``.

What they need comes from the environment, which the compose file fills from ``.env``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from tidemark.errors import ConfigError, LakeError, SourceError, SourceUnavailable, TidemarkError
from tidemark.home import airflow_command

PARTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
HEALTH = "/api/v2/monitor/health"
_HEALTH_SECONDS = 10
_USER = "admin"
Step = Callable[[argparse.Namespace, Mapping[str, str]], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a step.

    Returns:
        The exit code: 0, or 1 after an error, which is printed.
    """
    parsed = _parser().parse_args(arguments)
    command: Step = parsed.command
    try:
        command(parsed, os.environ)
    except TidemarkError as error:
        sys.stderr.write(f"tidemark.stack: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tidemark.stack", description=__doc__)
    steps = parser.add_subparsers(required=True, metavar="<step>")
    airflow = steps.add_parser("airflow", help="bring Airflow's database and log-in up to date")
    airflow.set_defaults(command=_airflow)
    lake = steps.add_parser("lake", help="make the lake's container in Azurite")
    lake.set_defaults(command=_lake)
    source = steps.add_parser("source", help="make the sample in the SQL Server, or change it")
    source.add_argument("--step", type=int, metavar="N", help="2, 3, ...: the rows after a step")
    source.set_defaults(command=_source)
    health = steps.add_parser("health", help="exit code 0 if a part of Airflow is healthy")
    health.add_argument("part", choices=PARTS)
    health.set_defaults(command=_health)
    return parser


def _airflow(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    del arguments
    write_passwords(
        Path(_needed(environ, "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE")),
        _needed(environ, "UI_PASSWORD"),
    )
    if subprocess.run([airflow_command(), "db", "migrate"], check=False).returncode:  # noqa: S603  # our own program
        raise ConfigError("Airflow's database could not be brought up to date; see the lines above")


def write_passwords(file: Path, password: str) -> None:
    """Write the UI's log-in where Airflow's simple auth manager reads it, for its user alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(json.dumps({_USER: password}))


def _lake(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    del arguments
    from azure.core.exceptions import AzureError, ResourceExistsError  # noqa: PLC0415  # quick health
    from azure.storage.blob import BlobServiceClient  # noqa: PLC0415  # as above

    # abfs://container@account.dfs.core.windows.net
    container = urlsplit(_needed(environ, "TIDEMARK_LAKE")).username or ""
    name = _needed(environ, "TIDEMARK_LAKE_CONNECTION")
    connection = json.loads(_needed(environ, f"AIRFLOW_CONN_{name.upper()}"))
    text = connection["extra"]["connection_string"]
    try:
        with BlobServiceClient.from_connection_string(text) as service:
            service.create_container(container)
    except ResourceExistsError:
        pass
    except AzureError as error:
        raise LakeError(f"container {container!r} could not be made: {error}") from error


def _source(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    import sqlalchemy as sa  # noqa: PLC0415  # the health check shall be quick

    from tidemark.sample import sqlserver  # noqa: PLC0415  # as above

    connection = json.loads(_needed(environ, "AIRFLOW_CONN_SPOTIFY_SQL"))
    administrator = _needed(environ, "MSSQL_SA_PASSWORD")
    try:
        master = administrator_engine(connection, administrator, "master")
        sqlserver.prepare_server(master, connection["password"])
        database = administrator_engine(connection, administrator, sqlserver.DATABASE)
        sqlserver.prepare_database(database)
        if arguments.step is not None:
            with database.begin() as opened:
                changed = sqlserver.move(
                    opened, sqlserver.sample_tables(sqlserver.SCHEMA_NAME), arguments.step
                )
            sys.stdout.write(f"step {arguments.step}: changed {changed}\n")
    except sa.exc.DBAPIError as error:
        raise SourceError(f"{connection['host']}: SQL Server says: {error.orig}") from error


def administrator_engine(connection: Mapping[str, Any], password: str, database: str) -> Any:
    """Make an engine for the administrator of the server that an Airflow connection names."""
    from sqlalchemy import URL  # noqa: PLC0415  # as in `_source`

    from tidemark.extract.sqlserver import create_engine  # noqa: PLC0415  # as in `_source`

    url = URL.create(
        "mssql+mssqlpython",
        username="sa",
        password=password,
        host=connection["host"],
        port=connection["port"],
        database=database,
        query=connection["extra"],
    )
    return create_engine(url, "")


def _health(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    # Where the tasks find the API server, there a container finds it.
    server = _needed(environ, "AIRFLOW__CORE__EXECUTION_API_SERVER_URL")
    address = urljoin(server, HEALTH)
    try:
        with urllib.request.urlopen(address, timeout=_HEALTH_SECONDS) as answer:  # noqa: S310  # ours
            found = json.load(answer)[arguments.part]["status"]
    except (OSError, ValueError, KeyError) as error:
        raise SourceUnavailable(f"{address} does not answer: {error}") from error
    if found != "healthy":
        raise SourceUnavailable(f"{arguments.part} is {found or 'not there yet'}")


def _needed(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name)
    if not value:
        raise ConfigError(f"{name} is not set; run this as docker-compose.yaml does")
    return value


if __name__ == "__main__":
    sys.exit(main())
