"""Connections, retries and Spark's failures: what a message says, and what is tried again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowException
from sqlalchemy import make_url

from tidemark import errors
from tidemark.airflow.compute import (
    failed_job,
    failed_tables,
    require_connection,
)
from tidemark.airflow.connections import mask_key, source_url
from tidemark.airflow.factory import RETRY_POLICY
from tidemark.airflow.tasks import failure_message
from tidemark.jars import submit_variables
from tidemark.metadata import load_source
from tidemark.spark_conf import job_variables

Write = Callable[..., Path]


def _action(error: BaseException) -> RetryAction:
    return RETRY_POLICY.evaluate(error, try_number=1, max_tries=3).action


def _below(kind: type[errors.TidemarkError]) -> list[type[errors.TidemarkError]]:
    return [each for own in kind.__subclasses__() for each in (own, *_below(own))]


@pytest.mark.parametrize("kind", _below(errors.TidemarkError))
def test_the_library_decides_which_of_its_errors_are_tried_again(
    kind: type[errors.TidemarkError],
) -> None:
    error = kind("DimUser: why")
    transient = errors.is_transient(error)
    assert _action(error) is (RetryAction.RETRY if transient else RetryAction.FAIL)


@pytest.mark.parametrize("error", [KeyError("rows"), TypeError(), ModuleNotFoundError("pyarrow")])
def test_a_fault_in_the_code_is_not_tried_again(error: Exception) -> None:
    assert _action(error) is RetryAction.FAIL


@pytest.mark.parametrize("error", [ConnectionResetError(), AirflowException(), SystemExit(1)])
def test_what_comes_from_outside_is_tried_again(error: BaseException) -> None:
    assert _action(error) is RetryAction.DEFAULT


@pytest.mark.parametrize(
    "connection",
    [
        json.dumps({"conn_type": "sqlite", "host": "/data/a b.db"}),
        json.dumps({"conn_type": "sqlite", "schema": "/data/a b.db"}),
        "sqlite:////data/a b.db",
    ],
)
def test_a_sqlite_connection_holds_an_absolute_path(
    write: Write, monkeypatch: pytest.MonkeyPatch, connection: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SPOTIFY_SQL", connection)
    assert source_url(load_source(write("DimUser"))) == "sqlite:////data/a b.db"


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        (
            {"conn_type": "postgres", "host": "h", "schema": "shop", "login": "me",
             "password": "p@ss/w:d", "port": 5433, "extra": {"sslmode": "require", "cursor": "x"}},
            "postgresql+psycopg://me:p%40ss%2Fw%3Ad@h:5433/shop?sslmode=require",
        ),
        (
            {"conn_type": "mssql", "host": "x.example.net", "schema": "shop",
             "extra": {"Encrypt": "yes", "Authentication": "ActiveDirectoryMSI"}},
            "mssql+mssqlpython://x.example.net/shop?Encrypt=yes&Authentication=ActiveDirectoryMSI",
        ),
    ],
)  # fmt: skip
def test_a_servers_connection_becomes_a_url(
    write: Write, monkeypatch: pytest.MonkeyPatch, connection: dict[str, object], url: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SPOTIFY_SQL", json.dumps(connection))
    found = make_url(source_url(load_source(write("DimUser"))))
    assert found == make_url(url)


@pytest.mark.usefixtures("airflow_database")
def test_the_key_of_masks_is_a_connections_password(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed = {"connection": "spotify_sql", "mask_connection": "masks"}
    source = load_source(write("DimUser", source=keyed))
    with pytest.raises(errors.SourceError, match=r"source\.mask_connection 'masks' is no Airflow"):
        mask_key(source)
    monkeypatch.setenv("AIRFLOW_CONN_MASKS", json.dumps({"conn_type": "generic"}))
    with pytest.raises(errors.SourceError, match="'masks' has no password"):
        mask_key(source)
    conn = {"conn_type": "generic", "password": "geheim"}
    monkeypatch.setenv("AIRFLOW_CONN_MASKS", json.dumps(conn))
    assert mask_key(source) == "geheim"
    assert mask_key(load_source(write("DimUser"))) is None


@pytest.mark.usefixtures("airflow_database")
def test_a_missing_connection_is_named_with_its_file_and_the_remedy(write: Write) -> None:
    path = write("DimUser")
    with pytest.raises(errors.SourceError) as raised:
        source_url(load_source(path))
    words = (str(path), "'spotify_sql'", "airflow connections add", "AIRFLOW_CONN_SPOTIFY_SQL")
    assert all(word in str(raised.value) for word in words)


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        ({"conn_type": "mysql", "host": "h", "password": "geheim"}, ["'mysql'", "sqlite"]),
        ({"conn_type": "sqlite", "host": "spotify.db"}, ["'spotify.db'", "absolute"]),
        ({"conn_type": "sqlite"}, ["''", "absolute"]),
        ({"conn_type": "mssql", "host": "h", "password": "geheim"}, ["(mssql)", "no database"]),
        ({"conn_type": "postgres", "schema": "d", "password": "geheim"}, ["(postgres)", "no host"]),
    ],
)
def test_a_connection_that_cannot_be_read_says_why_without_its_password(
    write: Write, monkeypatch: pytest.MonkeyPatch, connection: dict[str, str], words: list[str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SPOTIFY_SQL", json.dumps(connection))
    with pytest.raises(errors.SourceError) as raised:
        source_url(load_source(write("DimUser")))
    assert all(word in str(raised.value) for word in words)
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("connection", "master"),
    [
        ({"conn_type": "spark", "host": "local[*]"}, "local[*]"),
        ({"conn_type": "spark", "host": "spark://localhost", "port": 7077}, "spark://localhost"),
    ],
)
def test_sparks_connection_says_where_it_runs(
    monkeypatch: pytest.MonkeyPatch, connection: dict[str, str], master: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TIDEMARK_SPARK", json.dumps(connection))
    assert require_connection() == master


def test_spark_submit_finds_its_home_without_an_activated_environment() -> None:
    programs = str(Path(sys.executable).parent)
    path = [folder for folder in os.environ["PATH"].split(os.pathsep) if folder != programs]
    environ = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "SPARK_HOME"}}
    environ |= {"PATH": os.pathsep.join(path)}
    done = subprocess.run(
        ["spark-submit", "--version"],
        env=environ | job_variables(environ, "local[*]"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "version 4." in done.stderr


def test_only_a_spark_on_this_machine_is_told_its_address() -> None:
    plain = submit_variables({"PATH": "/usr/bin"})
    assert job_variables({"PATH": "/usr/bin"}, "spark://localhost:7077") == plain
    local = job_variables({"PATH": "/usr/bin"}, "local[*]")
    assert local == plain | {"SPARK_LOCAL_IP": "127.0.0.1"}


def test_a_job_that_failed_for_some_tables_names_them_and_their_reasons() -> None:
    tables = {
        "DimUser": {"status": "failed", "error": "rule dim_user: no column user_nam"},
        "DimArtist": {"status": "done", "error": None},
    }
    message = failed_tables("silver", {"tables": tables})
    assert message == "silver: 1 of 2 tables failed:\n  DimUser: rule dim_user: no column user_nam"


def test_a_job_without_failed_tables_names_none() -> None:
    assert failed_tables("gold", {"tables": {"DimUser": {"status": "done", "error": None}}}) is None
    assert failed_tables("gold", {}) is None


def test_a_job_that_broke_down_is_told_in_its_own_words() -> None:
    error = "Cannot execute: spark-submit. Error code is: 1.\nLast spark-submit output:\nno Java"
    message = failed_job("gold", error)
    assert message is not None
    assert message.endswith("Last spark-submit output:\nno Java")


@pytest.mark.parametrize("code", ["-9", "137", "143", "52"])
def test_a_job_that_was_killed_may_be_tried_again(code: str) -> None:
    assert failed_job("silver", f"Cannot execute: spark-submit. Error code is: {code}.") is None


def test_a_run_without_failures_is_green() -> None:
    assert failure_message("spotify", {"silver": "skipped", "gold": "success"}, {}) is None


def test_a_red_run_names_each_failed_task_its_reason_and_what_was_left_out() -> None:
    states = {"DimUser.copy_to_bronze": "failed", "silver": "upstream_failed", "report": "running"}
    reasons = {"DimUser.copy_to_bronze": "no such table", "gold": "of an earlier attempt"}
    message = failure_message("spotify", states, reasons) or ""
    assert "DimUser.copy_to_bronze: no such table" in message
    assert "left out because of that: silver" in message
    assert "gold" not in message
