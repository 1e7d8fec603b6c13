"""The Dag that compares a source with its lake: its shape, and real runs over bronze."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dagrun import DagRun

from tidemark.airflow.factory import build_dags
from tidemark.mail_server import MailServer
from tidemark.report import load
from tidemark.settings import load_settings
from tidemark.storage import open_store

Write = Callable[..., Path]


def _run(dag_id: str, conf: dict[str, Any] | None = None) -> tuple[DagRun, dict[str, str]]:
    run = build_dags()[dag_id].test(run_conf=conf)
    return run, {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


def test_every_source_has_one_and_it_is_scheduled_only_when_asked(write: Write) -> None:
    write("DimUser", "DimArtist", schedule="@daily")
    dag = build_dags()["spotify_reconcile"]
    edges = {(task.task_id, after) for task in dag.tasks for after in task.downstream_task_ids}
    assert edges == {("DimUser", "report"), ("DimArtist", "report")}
    assert dag.schedule is None
    assert dag.params["repair"] is False
    write("DimUser", reconcile={"schedule": "@weekly", "repair": True})
    dag = build_dags()["spotify_reconcile"]
    assert dag.schedule is not None
    assert dag.params["repair"] is True


def test_a_file_of_its_name_has_the_older_right(write: Write) -> None:
    write("DimUser")
    write("DimArtist", name="spotify_reconcile")
    dags = build_dags()
    assert set(dags) == {"spotify", "spotify_reconcile", "spotify_reconcile_reconcile"}
    assert "DimArtist.copy_to_bronze" in dags["spotify_reconcile"].task_ids


@pytest.mark.usefixtures("airflow_database")
def test_differences_end_a_run_red_mail_and_are_repaired_on_request(
    write: Write, source: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("DimUser", "DimArtist", alerts={"to": ["data@example.com"]})
    _run("spotify")  # up to where Spark would start: bronze is what there is to compare with
    run, states = _run("spotify_reconcile")
    assert (str(run.state), set(states.values())) == ("success", {"success"})
    with sqlite3.connect(source) as connection:
        connection.execute("DELETE FROM DimUser WHERE user_id = 7")
        connection.execute("UPDATE DimUser SET user_name = 'in place' WHERE user_id = 8")
    with MailServer(home / "mail") as mail:
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", mail.connection)
        run, states = _run("spotify_reconcile")
    assert states == {"DimUser": "success", "DimArtist": "success", "report": "failed"}
    lake = load_settings().lake
    store = open_store(lake.root)
    done = load(store, lake, "spotify_reconcile", run.run_id)
    (failure,) = done.failures
    assert "2 keys differ; they stand in _tidemark/runs/" in failure.exception
    assert "DimUser: 1 different, 1 extra" in failure.exception
    assert (done.tables["DimUser"].note or "").startswith("1 different, 1 extra")
    page = store.read(f"{lake.run_folder('spotify_reconcile', run.run_id)}/reconcile.md")
    assert page is not None
    assert "user_id=7" in page.data.decode()
    (message,) = [file.read_text() for file in (home / "mail").glob("*.eml")]
    assert "Tidemark: spotify_reconcile failed" in message
    before = len(list((home / "lake/bronze/DimUser").iterdir()))
    run, states = _run("spotify_reconcile", {"repair": True, "tables": ["DimUser"]})
    assert (states["DimArtist"], states["report"]) == ("skipped", "success")
    assert len(list((home / "lake/bronze/DimUser").iterdir())) == before + 1
    assert load(store, lake, "spotify_reconcile", run.run_id).tables["DimUser"].rows == 2
    run, states = _run("spotify_reconcile", {"deep": True})
    assert states["report"] == "success"


@pytest.mark.usefixtures("airflow_database", "source")
def test_a_table_that_cannot_be_compared_holds_up_no_other(write: Write) -> None:
    write("DimUser", "DimArtist")
    _run("spotify", {"tables": ["DimArtist"]})
    _, states = _run("spotify_reconcile")
    assert states == {"DimUser": "failed", "DimArtist": "success", "report": "failed"}
    _, states = _run("spotify_reconcile", {"tabels": ["DimArtist"]})
    assert states["DimArtist"] == "failed"
