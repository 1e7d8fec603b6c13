"""``tidemark ui``: Airflow's UI and scheduler on this machine, with the demo's home."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys

from tidemark import sample
from tidemark.errors import TidemarkError
from tidemark.home import airflow_command, environment, prepare
from tidemark.settings import Settings

_USER = "admin"


def run_ui(settings: Settings, port: int) -> int:
    """Become ``airflow standalone``; Ctrl-C ends it.

    Args:
        settings: The places.
        port: Where the UI listens, on this machine alone.

    Raises:
        TidemarkError: The port is taken.
    """
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise TidemarkError(
                f"ui: port {port} is taken; end what listens there, or choose another: "
                f"make ui PORT={port + 1}"
            )
    prepare(settings)
    database = sample.default_path(settings.home)
    if not database.exists():
        sample.create(database)
    sys.stdout.write(
        f"Airflow is at http://localhost:{port} in about half a minute\n"
        f"log in as    {_USER}\nwith         {_password(settings)}\n"
        "the Dag is paused at first: switch it on, then trigger it\n\n"
    )
    sys.stdout.flush()
    command = airflow_command()
    os.execve(command, [command, "standalone"], os.environ | environment(settings, port))  # noqa: S606  # no shell is wanted


def _password(settings: Settings) -> str:
    # Airflow makes one itself at its first start; made here, it can be shown before.
    file = settings.home / "airflow" / "simple_auth_manager_passwords.json.generated"
    known: dict[str, str] = json.loads(file.read_text()) if file.is_file() else {}
    if _USER not in known:
        known[_USER] = secrets.token_urlsafe(9)
        file.touch(mode=0o600)
        file.write_text(json.dumps(known))
    return known[_USER]
