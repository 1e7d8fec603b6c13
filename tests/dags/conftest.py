"""An Airflow of the tests' own, in this process: set up before anything imports it."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tidemark.home import environment, prepare
from tidemark.sample.data import create
from tidemark.settings import load_settings

PROJECT = Path(__file__).parents[2]

# Airflow reads its settings when it is imported, and test modules import it when collected.
_home = tempfile.mkdtemp(prefix="tidemark-dags-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
_settings = load_settings({"TIDEMARK_PROJECT": str(PROJECT), "TIDEMARK_HOME": _home})
os.environ |= {k: v for k, v in environment(_settings).items() if k.startswith("AIRFLOW_")}
os.environ.pop("AIRFLOW_CONN_SPOTIFY_SQL", None)
os.environ.pop("AIRFLOW_CONN_TIDEMARK_SPARK", None)


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Make Airflow's database, once: six seconds."""
    prepare(_settings)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test its own lake and configuration folder."""
    for name in ("TIDEMARK_LAKE", "AIRFLOW_CONN_SPOTIFY_SQL", "AIRFLOW_CONN_TIDEMARK_SPARK"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config").mkdir()
    monkeypatch.setenv("TIDEMARK_PROJECT", str(PROJECT))
    monkeypatch.setenv("TIDEMARK_HOME", str(tmp_path))
    monkeypatch.setenv("TIDEMARK_CONFIG", str(tmp_path / "config"))
    return tmp_path


Write = Callable[..., Path]


@pytest.fixture
def write(home: Path) -> Write:
    """Write `config/<name>.yaml` for some tables of the sample, and give its path."""

    def _write(*tables: str, name: str = "spotify", **fields: object) -> Path:
        keys = {"DimUser": "user_id", "DimArtist": "artist_id", "DimTrack": "track_id"}
        document = {
            "source": {"connection": "spotify_sql"},
            "tasks": {"retries": 0},
            "defaults": {"cursor": "updated_at"},
            "tables": {table: {"key": keys[table], "gold": {"scd": 1}} for table in tables},
        }
        path = home / "config" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document | fields, sort_keys=False))
        return path

    return _write


@pytest.fixture
def source(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the sample database, and its Airflow connection."""
    path = home / "spotify.db"
    create(path)
    connection = {"conn_type": "sqlite", "host": str(path)}
    monkeypatch.setenv("AIRFLOW_CONN_SPOTIFY_SQL", json.dumps(connection))
    return path
