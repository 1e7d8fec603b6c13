"""Mails of real runs, received by a real SMTP server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.models.connection import Connection
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from airflow.utils.session import create_session

from tidemark.airflow.mail import Run, compose
from tidemark.airflow.redaction import describe
from tidemark.errors import SourceError
from tidemark.layout import Lake
from tidemark.mail_server import MailServer
from tidemark.report import RunReport

DAG_FILE = """
import json
from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import DAG, Connection, get_current_context, task

from tidemark.airflow.alerts import dag_callbacks, record_failure
from tidemark.metadata import load_source
from tidemark.report import record
from tidemark.settings import load_settings
from tidemark.storage import open_store

source = load_source(Path(PATH))
with DAG(
    source.name,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={"on_failure_callback": record_failure},
    **dag_callbacks(source),
):

    @task
    def left(dag_run=None):
        lake = load_settings().lake
        run = (open_store(lake.root), lake, source.name, dag_run.run_id)
        record(*run, "copy.DimUser", {"rows": 7, "read": 7, "unchanged": 0, "window": "all"})
        match dag_run.conf.get("left"):
            case "fail":
                raise ValueError("left broke")
            case "leak":
                password = Connection.get("vault").password
                raise ValueError(f"no login with {password} at mssql://sa:pa%24s@db/x")
            case "stale":
                record_failure(get_current_context())
            case "corrupt":
                record(*run, "silver", {"tables": 3})

    @task
    def right(dag_run=None):
        if dag_run.conf.get("right"):
            raise KeyError("right broke")

    @task(on_failure_callback=None)
    def lost(dag_run=None):
        if dag_run.conf.get("lost"):
            raise RuntimeError("nobody recorded this")

    [left(), right(), lost()]
"""

pytestmark = pytest.mark.usefixtures("airflow_database")

Start = Callable[..., DAG]
Write = Callable[..., Path]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    with MailServer(tmp_path / "mail") as server:
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", server.connection)
        yield server


@pytest.fixture
def dag(write: Write, tmp_path: Path, request: pytest.FixtureRequest) -> Start:
    """Write a source's file and a small Dag with its alerts, and make Airflow know it."""

    def _dag(**alerts: object) -> DAG:
        name = re.sub(r"\W+", "_", request.node.name)
        alerts = {"to": ["a@example.com", "b@example.com"]} | alerts
        path = write("DimUser", name=name, alerts=alerts)
        folder = tmp_path / "dags"
        folder.mkdir()
        (folder / "small.py").write_text(DAG_FILE.replace("PATH", repr(str(path))))
        bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
        assert not bag.import_errors
        DagBundlesManager().sync_bundles_to_db()
        sync_bag_to_db(bag, "dags-folder", None)
        return bag.dags[name]

    return _dag


def run(dag: DAG, **conf: str) -> str:
    return str(dag.test(run_conf=conf).state)


def text(mail: EmailMessage, kind: str = "plain") -> str:
    body = mail.get_body((kind,))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def outcomes_of(server: MailServer) -> list[str]:
    return [mail["Subject"].split(" (manual")[0].rsplit(" ", 1)[-1] for mail in server.mails]


def test_all_failed_tasks_are_in_one_mail(dag: Start, server: MailServer) -> None:
    assert run(dag(), left="fail", right="fail", lost="fail") == "failed"

    (mail,) = server.mails
    name = test_all_failed_tasks_are_in_one_mail.__name__
    run_id = mail["Subject"].removeprefix(f"Tidemark: {name} failed (").removesuffix(")")
    assert run_id.startswith("manual__")
    assert mail["To"] == "a@example.com, b@example.com"
    assert mail["From"] == "tidemark@localhost"
    url = f"/dags/{name}/runs/{run_id.replace(':', '%3A').replace('+', '%2B')}"
    for kind in ("plain", "html"):
        body = text(mail, kind)
        assert "ValueError: left broke" in body
        assert "right broke" in body
        assert "lost\n    no exception was recorded" in body
        assert "DimUser 7 7 0" in " ".join(body.split())
        assert url in body
        assert run_id in body
        assert "manual" in body
    assert re.search(f'<a href="http://[^"/]+{re.escape(url)}">', text(mail, "html"))


def test_a_recovery_is_mailed_once_and_a_success_is_not(dag: Start, server: MailServer) -> None:
    small = dag()
    assert run(small) == "success"
    assert not server.mails
    assert run(small, left="fail") == "failed"
    assert run(small) == "success"
    assert run(small) == "success"
    assert outcomes_of(server) == ["failed", "recovered"]
    assert "left broke" not in text(server.mails[1])


@pytest.mark.parametrize(
    ("events", "outcomes"),
    [
        (["success"], ["recovered", "succeeded"]),
        (["completion"], ["failed", "recovered", "succeeded"]),
        (["failure"], ["failed"]),
        ([], []),
    ],
)
def test_events_choose_the_mails(
    dag: Start, server: MailServer, events: list[str], outcomes: list[str]
) -> None:
    small = dag(events=events)
    for conf in ({"right": "fail"}, {}, {}):
        run(small, **conf)
    assert outcomes_of(server) == outcomes


def test_the_last_run_is_remembered_while_no_mail_goes_out(
    dag: Start, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dag()
    monkeypatch.delenv("AIRFLOW_CONN_SMTP_DEFAULT")
    run(small, left="fail")
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", server.connection)
    run(small)
    (mail,) = server.mails
    assert "recovered" in mail["Subject"]


def test_a_connection_of_airflows_database_will_do(
    dag: Start, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SMTP_DEFAULT")
    stored = Connection(conn_id="stored", **json.loads(server.connection))
    with create_session() as session:
        session.add(stored)
    run(dag(connection="stored"), left="fail")
    assert len(server.mails) == 1


def test_a_failure_that_was_cleared_is_not_told_again(dag: Start, server: MailServer) -> None:
    run(dag(), left="stale", right="fail")
    body = text(server.mails[0])
    assert "right" in body
    assert "left (try" not in body


def test_a_corrupt_report_does_not_hold_up_the_mail(dag: Start, server: MailServer) -> None:
    run(dag(), left="corrupt", right="fail")
    body = text(server.mails[0])
    assert "failed tasks: right" in body
    assert "silver.json" in body


def test_no_secret_is_mailed_or_kept(
    dag: Start, server: MailServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "Tr0ub4dor&3"  # noqa: S105  a password that is masked
    vault = {"conn_type": "mssql", "host": "db", "login": "sa", "password": secret}
    monkeypatch.setenv("AIRFLOW_CONN_VAULT", json.dumps(vault))
    run(dag(), left="leak")
    assert "ValueError: no login with *** at mssql://***@db/x" in text(server.mails[0])
    kept = list((home / "lake").rglob("*.json"))
    assert any(path.name == "failure.left.json" for path in kept)
    for path in [*kept, *server.files]:
        assert secret not in path.read_text()
        assert "pa%24s" not in path.read_text()


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        (None, "SMTP connection is not found"),
        ({"host": "127.0.0.1", "port": 9, "extra": {"disable_ssl": True}}, "ConnectionRefused"),
        ({"host": "nowhere.invalid", "port": 25, "extra": {"disable_ssl": True}}, "gaierror"),
    ],
)
def test_a_mail_that_cannot_be_sent_is_a_warning(
    dag: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    connection: dict[str, object] | None,
    reason: str,
) -> None:
    if connection is not None:
        value = json.dumps({"conn_type": "smtp"} | connection)
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", value)
    small = dag(events=["completion"])
    assert run(small) == "success"
    (warning,) = [r.getMessage() for r in caplog.records if r.name == "tidemark.airflow.alerts"]
    assert reason in warning
    assert "'smtp_default'" in warning
    assert "docs/alerts.md" in warning


def test_refused_recipients_are_named(
    dag: Start, server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.refused = ("b@example.com",)
    assert run(dag(), left="fail") == "failed"
    assert len(server.mails) == 1
    assert any(
        "refused" in r.getMessage() and "b@example" in r.getMessage() for r in caplog.records
    )


def test_nobody_to_tell_is_a_warning(
    dag: Start, server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(dag(to=[]), left="fail") == "failed"
    assert not server.mails
    assert any("add recipients as alerts.to" in r.getMessage() for r in caplog.records)


def test_an_unreadable_lake_does_not_hold_up_the_mail(
    dag: Start, server: MailServer, home: Path
) -> None:
    small = dag()
    (home / "lake").write_text("this is no folder")
    assert run(small, right="fail") == "failed"
    assert "failed tasks: left, right" in text(server.mails[0])


def test_a_run_id_cannot_add_a_header() -> None:
    run_id = "manual\r\nBcc: eve@example.com\n\n<script>"
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ended = Run(
        source="spotify",
        outcome="failed",
        run_id=run_id,
        run_type="manual",
        interval=(start, start + timedelta(days=1)),
        started=start,
        ended=start + timedelta(seconds=75),
        reason="timed_out",
        url="http://localhost",
    )
    mail = compose(ended, RunReport("spotify", run_id), "me@example.com", ("you@example.com",))
    assert mail["Bcc"] is None
    assert mail["Subject"] == "Tidemark: spotify failed (manual Bcc: eve@example.com <script>)"
    assert "<script>" not in text(mail, "html")
    assert "reason    timed out" in text(mail)
    assert "took 75 s" in text(mail)
    assert "interval  2026-01-01 00:00:00 UTC to 2026-01-02 00:00:00 UTC" in text(mail)


@pytest.mark.parametrize(
    "message",
    [
        "connect to mssql+pymssql://sa:hunter2@host:1433/db failed",
        "connect to mssql://sa:hunt/er2@with@host failed",
        "Driver={x};Server=h;UID=sa;PWD=hunter2;Encrypt=yes",
        "Driver={x};PWD={hunter2;};Encrypt=yes",
        "https://a.blob.core.windows.net/c?sv=1&sig=hunter2&se=2",
        "{'client_secret': 'hunter2'}",
        "AccountKey=hunter2==;EndpointSuffix=core.windows.net",
        "POST /token?access_token=hunter2&user=me",
        "accessToken: hunter2",
        "connect(db_password=hunter2, port=1)",
        "PGPASSWORD=hunter2 psql",
        "api_key=hunter2",
        "{'x-api-key': 'hunter2'}",
        "Authorization: Bearer hunter2",
        "{'Authorization': 'Basic hunter2', 'Accept': '*/*'}",
        'body: {\\"password\\": \\"hunter2\\"}',
        "challenge failed for Bearer eyJhbGciOiJIUzI1NiJ9.hunter2",
        "Password=hunt er2;Encrypt=yes",
        "Server=h;UID=sa;PWD=hunt er2",
        "cannot open 'Server=h;PWD=hunt er2' now",
        "PWD={hunt}}er2};Encrypt=yes",
        "Password='hunt''er2;';Encrypt=yes",
        '{"password": "hunt\\"er2"}',
        "connect to mssql://sa:hunt@ er2@host failed",
        "connect to mssql://sa:hunt er2@host failed",
    ],
)
def test_credentials_are_known_by_their_form(message: str) -> None:
    found = describe(ValueError(message))
    assert "hunt" not in found
    assert "er2" not in found
    assert "***" in found


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("PWD=x y;Encrypt=yes", "PWD=***;Encrypt=yes"),
        ("PWD={a}}b};Encrypt=yes", "PWD=***;Encrypt=yes"),
        ("mssql://sa:x@host:1433/db failed; ask me@x.org", "mssql://***@host:1433/db failed; ask"),
        ("http://host:8080 is down for me@x.org", "http://host:8080 is down for me@x.org"),
        ("http://host: not found by me@x.org", "http://host: not found by me@x.org"),
        ("{'password': 'x', 'user': 'sa'}", "'user': 'sa'}"),
        ("'UID=sa;PWD=x y' failed: timeout", "failed: timeout"),
        ("token_count=3, primary_key=user_id", "token_count=3, primary_key=user_id"),
        ("SharedAccessKeyName=Root;design=3", "SharedAccessKeyName=Root;design=3"),
        ("secret_name='kv', tokens: 5", "secret_name='kv', tokens: 5"),
        ("no bearer token; the password is wrong", "no bearer token; the password is wrong"),
        ("AuthorizationFailed: no role", "AuthorizationFailed: no role"),
    ],
)
def test_what_is_no_credential_stays_readable(message: str, shown: str) -> None:
    assert shown in describe(ValueError(message))


def test_the_cause_of_a_final_failure_is_told() -> None:
    error = AirflowFailException("no retry")
    error.__cause__ = SourceError("DimUser: no such table")
    assert describe(error) == "SourceError: DimUser: no such table"


def test_a_long_exception_is_cut() -> None:
    found = describe(ValueError("\n".join(f"line {n} {'x' * 2000}" for n in range(50))))
    assert found.startswith("ValueError: line 0 x")
    assert found.endswith("\n…")
    assert len(found) < 5500


def test_the_layout_keeps_alerts_beside_the_lake() -> None:
    assert Lake("lake").alert_file("spotify") == "_tidemark/alerts/spotify.json"
