"""Tidemark's home: the environment in which any ``airflow`` command uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tidemark.errors import TidemarkError
from tidemark.sample import default_path
from tidemark.settings import Settings

# SQLite takes one writer at a time: with Airflow's default of 32 the scheduler ends with
# "database is locked".
_PARALLELISM = "4"
DEFAULT_PORT = 8080


def environment(settings: Settings, port: int = DEFAULT_PORT) -> dict[str, str]:
    """Give the variables that make Airflow use this project and this home.

    A connection that the caller's environment already sets is left out, and so stays the caller's.

    Args:
        settings: The places.
        port: Where Airflow's API server and UI listen, on this machine alone.
    """
    base = f"http://localhost:{port}"
    airflow_home = str(settings.home / "airflow")
    programs = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", "")
    variables = {
        # `airflow standalone` starts `airflow`, by its name alone.
        "PATH": path if programs in path.split(os.pathsep) else f"{programs}{os.pathsep}{path}",
        "TIDEMARK_PROJECT": str(settings.project),
        "TIDEMARK_HOME": str(settings.home),
        "TIDEMARK_CONFIG": str(settings.config),
        "TIDEMARK_LAKE": settings.lake.root,
        "AIRFLOW_HOME": airflow_home,
        # SQLite's default is to wait five seconds for another writer, such as the scheduler.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{airflow_home}/airflow.db?timeout=60",
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.project / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(settings.project / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": _PARALLELISM,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{base}/execution/",
        "AIRFLOW__API__BASE_URL": base,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
    }
    connections = {
        "AIRFLOW_CONN_SPOTIFY_SQL": {
            "conn_type": "sqlite",
            "host": str(default_path(settings.home)),
        },
        "AIRFLOW_CONN_TIDEMARK_SPARK": {"conn_type": "spark", "host": "local[*]"},
    }
    defaults = {name: json.dumps(value) for name, value in connections.items()}
    return variables | {k: v for k, v in defaults.items() if k not in os.environ}


def is_prepared(settings: Settings) -> bool:
    """Tell whether Airflow's database is in the home."""
    return (settings.home / "airflow" / "airflow.db").is_file()


def prepare(settings: Settings) -> None:
    """Make Airflow's database in the home, if it is not there; about six seconds, once.

    Raises:
        TidemarkError: Airflow could not make it; carries its last lines.
    """
    if is_prepared(settings):
        return
    (settings.home / "airflow").mkdir(parents=True, exist_ok=True)
    run = subprocess.run(
        [airflow_command(), "db", "migrate"],
        env=os.environ | environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        message = (
            f"Airflow's database in {settings.home} could not be made; remove the folder and run "
            f"again:\n{run.stderr[-1500:]}"
        )
        raise TidemarkError(message)


def airflow_command() -> str:
    """Give the path of this environment's ``airflow``."""
    return str(Path(sys.executable).with_name("airflow"))
