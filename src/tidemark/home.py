"""Tidemark's home: the environment in which any ``airflow`` command uses it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tidemark.errors import TidemarkError
from tidemark.sample import default_path
from tidemark.settings import Settings, load_settings

# SQLite takes one writer at a time: with Airflow's default of 32 the scheduler ends with
# "database is locked".
_PARALLELISM = "4"
DEFAULT_PORT = 8080
LOCAL_MASTER = "local[*]"


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
    own = connections(settings)
    return variables | {k: v for k, v in own.items() if k not in os.environ}


def connections(settings: Settings) -> dict[str, str]:
    """Give the variables of the home's own connections: the sample, and a Spark on this machine."""
    values = {
        "AIRFLOW_CONN_SPOTIFY_SQL": {
            "conn_type": "sqlite",
            "host": str(default_path(settings.home)),
        },
        "AIRFLOW_CONN_TIDEMARK_SPARK": {"conn_type": "spark", "host": LOCAL_MASTER},
    }
    return {name: json.dumps(value) for name, value in values.items()}


def is_prepared(settings: Settings) -> bool:
    """Tell whether Airflow's database is in the home, whole, and of the Airflow installed here."""
    stamp = _stamp(settings)
    return _database(settings).is_file() and stamp.is_file() and stamp.read_text() == _airflow()


def prepare(settings: Settings) -> None:
    """Make Airflow's database in the home, or bring it up to date; a new one is copied at once.

    Raises:
        TidemarkError: Airflow could not do it; carries its last lines.
    """
    if is_prepared(settings):
        return
    database = _database(settings)
    if empty_database().is_file() and not database.exists():
        _copy_whole(empty_database(), database)
    else:
        _migrate(settings)
    _stamp(settings).write_text(_airflow())


def empty_database() -> Path:
    """Give the file that the set-up keeps for new homes; it may be absent, which costs seconds."""
    return Path(sys.prefix) / "share" / "tidemark" / f"airflow-{_airflow()}.db"


def make_empty_database() -> None:
    """Let Airflow make its database once, for `empty_database`.

    Raises:
        TidemarkError: Airflow could not do it; carries its last lines.
    """
    with tempfile.TemporaryDirectory(dir=sys.prefix) as folder:
        settings = load_settings(os.environ | {"TIDEMARK_HOME": folder})
        _migrate(settings)
        _copy_whole(_database(settings), empty_database())


def _migrate(settings: Settings) -> None:
    _database(settings).parent.mkdir(parents=True, exist_ok=True)
    run = subprocess.run(
        [airflow_command(), "db", "migrate"],
        env=os.environ | environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        message = (
            f"Airflow's database in {settings.home / 'airflow'} could not be made or brought up to "
            "date; move that folder away (it holds the record of the runs, not the lake) and run "
            f"again:\n{run.stderr[-1500:]}"
        )
        raise TidemarkError(message)


def _copy_whole(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    unfinished = to.with_name(f"{to.name}.{os.getpid()}")
    shutil.copyfile(file, unfinished)
    unfinished.replace(to)


def _database(settings: Settings) -> Path:
    return settings.home / "airflow" / "airflow.db"


def _stamp(settings: Settings) -> Path:
    # The database's file alone says nothing: it is there from a migration's first moment on.
    return settings.home / "airflow" / ".migrated"


def _airflow() -> str:
    return version("apache-airflow")


def airflow_command() -> str:
    """Give the path of this environment's ``airflow``."""
    return str(Path(sys.executable).with_name("airflow"))


if __name__ == "__main__":
    try:
        make_empty_database()
    except TidemarkError as error:
        sys.exit(str(error))
