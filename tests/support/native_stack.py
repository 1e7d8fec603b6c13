"""The compose stack's services of Airflow as processes of this machine, no engine needed.

Commands, environment and health checks are the compose file's own; a host becomes this machine, a
path a folder of the test's own.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import azurite
import compose
from home_harness import BIN, PROJECT, end_session, get_json, wait_until

_START_SECONDS = 240
_RUN_SECONDS = 600


def free_port() -> int:
    """Give a port of this machine that nobody listens on.

    Not one of those that the system itself hands out: until a service listens, somebody else's
    connection would take it.
    """
    while True:
        port = random.randint(20_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class NativeStack:
    """The stack's processes.

    Attributes:
        folder: Where all of it lies.
        variables: What `.env` holds.
        postgres: The port of PostgreSQL.
        mailpit: The port of the mail server.
        azurite: The port of the lake.
        extra: What goes over the compose file's own environment.
    """

    folder: Path
    variables: Mapping[str, str]
    postgres: int
    mailpit: int
    azurite: int
    extra: Mapping[str, str]
    port: int = field(default_factory=free_port)
    token: str = ""

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def address(self) -> str:
        return f"http://localhost:{self.port}"

    def service(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = compose.load(self.variables)["services"][name]
        return found

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        places = {
            "@postgres:5432/": f"@127.0.0.1:{self.postgres}/",
            "http://api-server:8080/": f"{self.address}/",
            "http://localhost:8080": self.address,
            '"mailpit", "port": 1025': f'"127.0.0.1", "port": {self.mailpit}',
            "http://azurite:10000/": f"http://127.0.0.1:{self.azurite}/",
            "/opt/tidemark/home": str(self.home),
            "/opt/tidemark/project/config": str(self.folder / "config"),
            "/opt/tidemark/project": str(PROJECT),
        }
        values: dict[str, str] = dict(service["environment"])
        for place, here in places.items():
            values = {name: value.replace(place, here) for name, value in values.items()}
        values["AIRFLOW__API__PORT"] = str(self.port)
        own = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "TIDEMARK"))}
        path = {"PATH": f"{BIN}{os.pathsep}{own['PATH']}"}
        return own | path | values | dict(self.extra)

    def once(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a one-shot service to its end."""
        service = self.service(name)
        return self._call(compose.command(service), service)

    def _call(
        self, words: list[str], service: Mapping[str, Any]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            cwd=PROJECT,
            env=self.environment(service),
            capture_output=True,
            text=True,
            check=False,
        )

    def tidemark(self, *words: str) -> str:
        """Run `tidemark` in the scheduler's environment, as `docker compose exec` does."""
        done = self._call(["tidemark", *words], self.service("scheduler"))
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    @contextmanager
    def lake(self) -> Iterator[None]:
        """Hold Azurite, as the compose file starts it, on a port of its own."""
        service = self.service("azurite")
        program, *words = compose.command(service)
        assert program == "azurite"
        script = azurite.installed().parents[1] / "azurite.js"
        places = {"/data": str(self.folder / "lake"), "0.0.0.0": "127.0.0.1"}  # noqa: S104
        ports = {"blob": self.azurite, "queue": free_port(), "table": free_port()}
        own = [part for name, port in ports.items() for part in (f"--{name}Port", str(port))]
        words = [str(script), *(places.get(word, word) for word in words), *own]
        (self.folder / "said").mkdir()
        with (self.folder / "said" / "azurite").open("w") as output:
            process = subprocess.Popen(
                [str(BIN / "node"), *words],
                env=os.environ | service["environment"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            said = "Blob service is successfully listening"
            wait_until(lambda: said in self.log("azurite"), 60, lambda: self.log("azurite"))
            yield
        finally:
            end_session(process)

    def is_healthy(self, name: str) -> bool:
        """Run a service's health check."""
        service = self.service(name)
        kind, *words = service["healthcheck"]["test"]
        assert kind == "CMD"
        return self._call(words, service).returncode == 0

    @contextmanager
    def running(self, *names: str) -> Iterator[None]:
        """Hold services; each is begun at once, and all are healthy then."""
        with ExitStack() as stack:
            processes = {name: stack.enter_context(self._process(name)) for name in names}
            for name, process in processes.items():
                wait_until(
                    lambda n=name, p=process: p.poll() is not None or self.is_healthy(n),  # type: ignore[misc]
                    _START_SECONDS,
                    lambda n=name: f"{n} never became healthy: {self.log(n)[-4000:]}",  # type: ignore[misc]
                    pause=2,
                )
                assert process.poll() is None, f"{name} has ended: {self.log(name)[-4000:]}"
            yield

    def log(self, name: str) -> str:
        """Give what a service has said."""
        return (self.folder / "said" / name).read_text()

    @contextmanager
    def _process(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        service = self.service(name)
        words = compose.command(service)
        said = self.folder / "said" / name
        with said.open("a") as output:
            process = subprocess.Popen(
                [str(BIN / words[0]), *words[1:]],
                cwd=PROJECT,
                env=self.environment(service),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            end_session(process)

    # --- The REST API, as a user calls it

    def log_in(self) -> None:
        """Get a token with the log-in of `.env`."""
        known = {"username": "admin", "password": self.variables["UI_PASSWORD"]}
        self.token = self.send("POST", "/auth/token", known)["access_token"]

    def send(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """Send a request with a body; give the answer's."""
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(  # noqa: S310  # always http://localhost
            self.address + path, json.dumps(body).encode(), headers, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  # the same
            return json.load(answer)

    def get(self, path: str) -> Any:
        """Ask for a resource; None if there is none."""
        try:
            return get_json(self.address + path, self.token)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def wait_for(self, dag: str) -> str:
        """Wait until the Dag processor has found a Dag; give its path."""
        path = f"/api/v2/dags/{dag}"
        wait_until(lambda: self.get(path) is not None, _START_SECONDS, lambda: f"no Dag {dag}")
        return path

    def start(self, dag: str) -> str:
        """Wait for a Dag, switch it on and trigger it; give the run's id."""
        path = self.wait_for(dag)
        self.send("PATCH", path, {"is_paused": False})
        run_id: str = self.send("POST", f"{path}/dagRuns", {"logical_date": None})["dag_run_id"]
        return run_id

    def ended(self, dag: str, run_id: str) -> str:
        """Wait for a run's end; give its state."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run_id}"
        wait_until(
            lambda: self.get(path)["state"] in ("success", "failed"),
            _RUN_SECONDS,
            lambda: f"the run did not end: {self.get(path)}",
        )
        return str(self.get(path)["state"])
