"""The home's environment and Airflow's database, without Airflow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tidemark import demo, home
from tidemark.errors import TidemarkError
from tidemark.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("AIRFLOW_CONN_SPOTIFY_SQL", "AIRFLOW_CONN_TIDEMARK_SPARK"):
        monkeypatch.delenv(name, raising=False)
    return load_settings({"TIDEMARK_PROJECT": str(tmp_path), "TIDEMARK_HOME": "home"})


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a script in `airflow`'s place that notes its calls and fails if there is a `broken`."""
    notes, program = tmp_path / "calls", tmp_path / "airflow"
    notes.touch()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {notes}\ntouch "$AIRFLOW_HOME/airflow.db"\n'
        f"if [ -e {tmp_path}/broken ]; then echo no such revision >&2; exit 1; fi\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(home, "airflow_command", lambda: str(program))
    monkeypatch.setattr(home, "version", lambda _: "3.3.2")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    (tmp_path / "venv").mkdir()
    return notes


def test_the_database_is_made_once(settings: Settings, calls: Path) -> None:
    assert not home.is_prepared(settings)
    home.prepare(settings)
    home.prepare(settings)
    assert home.is_prepared(settings)
    assert calls.read_text() == "db migrate\n"


def test_a_new_home_gets_the_database_that_the_set_up_made(settings: Settings, calls: Path) -> None:
    home.make_empty_database()
    home.empty_database().write_text("made by the set-up")
    home.prepare(settings)
    assert home.is_prepared(settings)
    assert (settings.home / "airflow" / "airflow.db").read_text() == "made by the set-up"
    assert calls.read_text() == "db migrate\n"


def test_a_database_that_holds_runs_is_migrated_and_never_replaced(
    settings: Settings, calls: Path
) -> None:
    home.make_empty_database()
    database = settings.home / "airflow" / "airflow.db"
    database.parent.mkdir(parents=True)
    database.write_text("of an earlier Airflow")
    home.prepare(settings)
    assert database.read_text() == "of an earlier Airflow"
    assert calls.read_text() == "db migrate\n" * 2


@pytest.mark.usefixtures("calls")
def test_the_set_up_says_why_airflow_made_no_database(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(TidemarkError, match="no such revision"):
        home.make_empty_database()
    assert not home.empty_database().exists()
    assert list((tmp_path / "venv").iterdir()) == []


def test_a_migration_that_did_not_end_is_done_again(
    settings: Settings, calls: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(TidemarkError, match="no such revision") as raised:
        home.prepare(settings)
    assert str(settings.home / "airflow") in str(raised.value)
    assert (settings.home / "airflow" / "airflow.db").is_file()
    assert not home.is_prepared(settings)
    (tmp_path / "broken").unlink()
    home.prepare(settings)
    assert home.is_prepared(settings)
    assert calls.read_text() == "db migrate\n" * 2


def test_another_airflow_migrates(
    settings: Settings, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.prepare(settings)
    monkeypatch.setattr(home, "version", lambda _: "3.4.0")
    assert not home.is_prepared(settings)
    home.prepare(settings)
    assert home.is_prepared(settings)
    assert calls.read_text() == "db migrate\n" * 2


def test_a_database_that_was_removed_is_made_anew(settings: Settings, calls: Path) -> None:
    home.prepare(settings)
    (settings.home / "airflow" / "airflow.db").unlink()
    assert not home.is_prepared(settings)
    assert calls.read_text() == "db migrate\n"


def test_the_callers_connections_stay_theirs_but_not_in_the_demo(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SPOTIFY_SQL", "sqlite:////real.db")
    monkeypatch.setenv("AIRFLOW_CONN_TIDEMARK_SPARK", "spark://cluster")
    assert "AIRFLOW_CONN_SPOTIFY_SQL" not in home.environment(settings)
    assert "AIRFLOW_CONN_TIDEMARK_SPARK" not in home.environment(settings)
    used = demo._variables(settings, "smtp://here")
    sample = {"conn_type": "sqlite", "host": str(settings.home / "source" / "spotify.db")}
    assert json.loads(used["AIRFLOW_CONN_SPOTIFY_SQL"]) == sample
    assert json.loads(used["AIRFLOW_CONN_TIDEMARK_SPARK"])["host"] == "local[*]"
    assert used["AIRFLOW_CONN_SMTP_DEFAULT"] == "smtp://here"
