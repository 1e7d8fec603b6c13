"""A source's URL for the command line, found where Airflow would find it.

The core imports no Airflow: a plain SQLite connection is read from Airflow's own environment
variable, and whatever else there is (other kinds of database, secrets backends, Airflow's database)
is asked of Airflow in a child process. Nobody prints the URL: it may hold a password.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import PurePath

from tidemark.errors import SourceError
from tidemark.home import environment
from tidemark.metadata import Source
from tidemark.settings import Settings


def source_url(source: Source, settings: Settings) -> str:
    """Give the SQLAlchemy URL of a source. It may hold a password: never log it.

    Raises:
        SourceError: There is no such connection, or it can't be used; names it and the remedy.
    """
    asker = f"{source.path}: source.connection"
    return connection_url(source.source.connection, asker, settings)


def connection_url(name: str, asker: str, settings: Settings) -> str:
    """Give the SQLAlchemy URL of an Airflow connection. It may hold a password: never log it.

    Args:
        name: The connection's id.
        asker: What names it, such as a field of a file: an error begins with it.
        settings: The places.

    Raises:
        SourceError: There is no such connection, or it can't be used; names it and the remedy.
    """
    variables = airflow_variables(settings)
    variable = variables.get(f"AIRFLOW_CONN_{name.upper()}", "")
    return _sqlite_url(variable) or _asked(name, asker, variables)


def mask_key(source: Source, settings: Settings) -> str | None:
    """Give the key of a source's columns that are masked by HMAC; None if none is.

    Raises:
        SourceError: There is no such connection, or it has no password.
    """
    name = source.source.mask_connection
    if name is None or not any(table.columns.needs_key for table in source.tables.values()):
        return None
    asker = f"{source.path}: source.mask_connection"
    return _asked(name, asker, airflow_variables(settings), "--mask-key")


def airflow_variables(settings: Settings) -> Mapping[str, str]:
    """Give the environment in which a process of Airflow's sees the caller's connections."""
    # Whoever has an Airflow of their own has their own connections: the sample has no place there.
    own = {} if "AIRFLOW_HOME" in os.environ else environment(settings)
    return own | dict(os.environ)


def _sqlite_url(text: str) -> str | None:
    """Read a SQLite connection in JSON; None for anything else, which is Airflow's to read."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    host = value.get("host") if isinstance(value, dict) else None
    if not isinstance(host, str) or value.get("conn_type") != "sqlite":
        return None
    return f"sqlite:///{host}" if PurePath(host).is_absolute() else None


def _asked(name: str, asker: str, variables: Mapping[str, str], *what: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tidemark.airflow.source_url", name, asker, *what],
        env=variables,
        capture_output=True,
        check=False,
    )
    if done.returncode == 0 and done.stdout:
        return done.stdout.decode()  # as text, Python would change the ends of lines in a key
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    # Airflow's own words may hold what it was given: only ours, which never do, are shown.
    reason = next((line[9:] for line in lines if line.startswith("tidemark:")), None)
    raise SourceError(
        reason
        or f"{asker}: the Airflow connection {name!r} can't be read; try "
        f"`airflow connections get {name}`, and run `tidemark env` first if Airflow was never used"
    )
