"""`airflow dags backfill`: what it asks of Airflow, and what it says."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow import settings as airflow_settings
from airflow.cli.cli_parser import get_parser
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.jobs.job import Job
from airflow.models import DagRun
from airflow.models.backfill import Backfill
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, JobState
from sqlalchemy import delete, event, select, update

from tidemark.airflow.provider import IGNORED_FLAGS, IGNORED_OPTIONS

pytestmark = pytest.mark.usefixtures("airflow_database", "known")

Write = Callable[..., Path]

DAG_FILE = """
from tidemark.airflow.factory import build_dags

globals().update(build_dags())
"""


@pytest.fixture
def known(write: Write, tmp_path: Path) -> None:
    """Let Airflow know Dags that have not run: two daily, and one without a schedule."""
    write("DimUser", "DimArtist", name="daily", schedule="@daily")
    write("DimUser", name="manual")
    renamed = {"DimUser": {"key": "user_id", "lake_name": "WebUser"}}
    write(name="renamed", schedule="@daily", tables=renamed)
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "all.py").write_text(DAG_FILE)
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    DagBundlesManager().sync_bundles_to_db()
    with create_session() as session:
        session.execute(delete(DagRun))
        session.execute(delete(Backfill))
    sync_bag_to_db(bag, "dags-folder", None)


def call(*words: str) -> None:
    args = get_parser().parse_args(["dags", "backfill", *words])
    args.func(args)


def created() -> list[Backfill]:
    with create_session() as session:
        return list(session.scalars(select(Backfill)))


def runs() -> list[tuple[str, str, str]]:
    with create_session() as session:
        found = session.scalars(select(DagRun).order_by(DagRun.logical_date)).all()
        return [
            (f"{r.data_interval_start:%d %H:%M}", f"{r.data_interval_end:%d %H:%M}", r.run_type)
            for r in found
        ]


FIVE_DAYS = ("daily", "-s", "2026-01-01", "-e", "2026-01-05")


def test_the_command_is_among_airflows_own() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "airflow", "dags", "backfill", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for flag in ("--start-date", "--end-date", "--max-active-runs", "--tables", "--wait"):
        assert flag in done.stdout
    assert "--donot-pickle" not in done.stdout


def test_airflows_other_commands_are_still_there() -> None:
    for words in (["dags", "list"], ["dags", "test", "x"], ["backfill", "create", "--dag-id", "x",
                  "--from-date", "2026-01-01", "--to-date", "2026-01-02"]):  # fmt: skip
        assert callable(get_parser().parse_args(words).func)


def test_a_dry_run_prints_the_intervals_and_creates_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    call(*FIVE_DAYS, "--dry-run")
    out = capsys.readouterr().out
    assert "dry run: daily would run 5 data intervals:" in out
    assert "2026-01-01 00:00 UTC to 2026-01-02 00:00 UTC" in out
    assert "2026-01-05 00:00 UTC to 2026-01-06 00:00 UTC" in out
    assert not created()


def test_a_scheduler_that_writes_meanwhile_is_waited_for() -> None:
    engine = airflow_settings.get_engine()
    path = str(engine.url.database)
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    other.execute("CREATE TABLE IF NOT EXISTS somebody_elses (value)")
    attempts = []

    def write_between(_conn: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("INSERT INTO dag_run"):
            attempts.append(statement)
            with contextlib.suppress(sqlite3.OperationalError):
                other.execute("INSERT INTO somebody_elses VALUES (1)")

    event.listen(engine, "before_cursor_execute", write_between)
    try:
        call(*FIVE_DAYS)
    finally:
        event.remove(engine, "before_cursor_execute", write_between)
        other.close()
    assert len(attempts) == len(runs()) == 5


def test_five_days_are_five_runs_both_ends_included(capsys: pytest.CaptureFixture[str]) -> None:
    call(*FIVE_DAYS)
    assert runs() == [(f"{day:02} 00:00", f"{day + 1:02} 00:00", "backfill") for day in range(1, 6)]
    (backfill,) = created()
    assert (backfill.dag_id, backfill.max_active_runs) == ("daily", 1)
    assert backfill.reprocess_behavior == "none"
    out = capsys.readouterr().out
    assert f"backfill {backfill.id} of daily will run 5 data intervals:" in out
    assert "no scheduler is running" in out
    assert "airflow dags list-runs daily" in out
    assert "/dags/daily/backfills" in out


def test_the_flags_reach_airflow() -> None:
    call(*FIVE_DAYS, "--tables", "DimArtist, DimUser", "-c", '{"x": 1}', "--run-backwards",
         "--max-active-runs", "3", "--rerun-failed-tasks")  # fmt: skip
    (backfill,) = created()
    assert backfill.dag_run_conf == {"x": 1, "tables": ["DimArtist", "DimUser"]}
    assert backfill.max_active_runs == 3
    assert backfill.reprocess_behavior == "failed"
    with create_session() as session:
        first = session.scalars(select(DagRun).order_by(DagRun.id)).first()
        assert first is not None
        assert first.data_interval_start == datetime(2026, 1, 5, tzinfo=UTC)


def test_a_table_is_named_as_in_the_source_or_the_lake(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("renamed", *FIVE_DAYS[1:], "--dry-run", "--tables")
    for name in ("DimUser", "WebUser"):
        call(*words, name)
        assert "would run 5 data intervals" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"'WebUsr'; did you mean 'WebUser'.* are: DimUser$"):
        call(*words, "WebUsr")


def test_what_has_run_is_not_run_again_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    call(*FIVE_DAYS)
    with create_session() as session:
        session.execute(update(DagRun).values(state=DagRunState.SUCCESS))
        session.execute(update(Backfill).values(completed_at=datetime.now(UTC)))
    call(*FIVE_DAYS)
    assert "nothing to run" in capsys.readouterr().out
    assert len(created()) == 1
    call(*FIVE_DAYS, "--reset-dagruns")
    assert "will run 5 data intervals" in capsys.readouterr().out
    assert [b.reprocess_behavior for b in created()] == ["none", "completed"]
    assert len(runs()) == 5


@pytest.mark.parametrize(("state", "code"), [("success", None), ("failed", 1)])
def test_wait_ends_with_the_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    def scheduler(_: float) -> None:
        with create_session() as session:
            session.execute(update(DagRun).values(state=DagRunState(state)))

    monkeypatch.setattr("tidemark.airflow.backfill.sleep", scheduler)
    if code:
        with pytest.raises(SystemExit, match="5 runs failed"):
            call(*FIVE_DAYS, "--wait")
    else:
        call(*FIVE_DAYS, "--wait")
    *_, before, after = (line for line in capsys.readouterr().out.splitlines() if "5 " in line)
    assert (before, after) == ("  5 queued", f"  5 {state}")


@pytest.fixture
def scheduler_job() -> Iterator[None]:
    """Let Airflow take a scheduler for alive."""
    with create_session() as session:
        now = datetime.now(UTC)
        job = Job(job_type="SchedulerJob", state=JobState.RUNNING, latest_heartbeat=now)
        session.add(job)
    yield
    with create_session() as session:
        session.execute(delete(Job))


@pytest.mark.usefixtures("scheduler_job")
@pytest.mark.parametrize("closes", [True, False])
def test_wait_ends_when_the_scheduler_has_closed_the_backfill(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, closes: bool
) -> None:
    slept: list[float] = []

    def scheduler(seconds: float) -> None:
        slept.append(seconds)
        with create_session() as session:
            session.execute(update(DagRun).values(state=DagRunState.SUCCESS))
            if closes and len(slept) == 4:
                session.execute(update(Backfill).values(completed_at=datetime.now(UTC)))

    monkeypatch.setattr("tidemark.airflow.backfill.sleep", scheduler)
    if not closes:
        monkeypatch.setattr("tidemark.airflow.backfill._CLOSE_SECONDS", 0.0)
    call(*FIVE_DAYS, "--wait")
    assert ("is not closed yet" in capsys.readouterr().out) is not closes
    assert len(slept) == (4 if closes else 1)


def test_old_flags_are_taken_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    words = [flags[-1] for flags in IGNORED_FLAGS]
    for flags in IGNORED_OPTIONS:
        words += [flags[-1], "1"]
    call(*FIVE_DAYS, "-n", *words)
    out = capsys.readouterr().out
    for flags, why in (IGNORED_FLAGS | IGNORED_OPTIONS).items():
        assert f"{flags[-1]}: without effect, {why}" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dayly", *FIVE_DAYS[1:]], "there is no Dag 'dayly'; did you mean 'daily'?"),
        (["daily", "-s", "2026-01-05", "-e", "2026-01-01"], "is before --start-date"),
        (["daily", "-s", "2199-01-01", "-e", "2199-01-02"], "future"),
        (["daily", "-s", "2026-01-01T01:00", "-e", "2026-01-01T02:00"], "no data interval of"),
        (["manual", *FIVE_DAYS[1:]], 'airflow dags trigger manual --conf \'{"from_date": "2026-01'),
        ([*FIVE_DAYS, "--pool", "x"], "set tasks.pool in the source's file"),
        ([*FIVE_DAYS, "-t", "x"], "choose whole tables with --tables"),
        ([*FIVE_DAYS, "-m"], "mark the runs in the UI"),
        ([*FIVE_DAYS, "--tables", "DimUsr"], "has no table 'DimUsr'; did you mean 'DimUser'?"),
        ([*FIVE_DAYS, "--conf", "{"], "is no JSON"),
        ([*FIVE_DAYS, "--conf", "[]"], "is no JSON object"),
        ([*FIVE_DAYS, "--conf", json.dumps({"tables": 3})], "3 is not of type 'array'"),
        ([*FIVE_DAYS, "--reset-dagruns", "--rerun-failed-tasks"], "both completed and failed"),
    ],
)
def test_what_cannot_be_done_is_told_with_the_remedy(words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        call(*words)
    assert message in str(caught.value)
    assert not created()


def test_a_second_backfill_waits_for_the_first() -> None:
    call(*FIVE_DAYS)
    with pytest.raises(SystemExit, match=r"Another backfill .* cancel it at http"):
        call("daily", "-s", "2026-02-01", "-e", "2026-02-02")
