"""Connections from Azure Key Vault: the provider's real backend, and a real identity's way to it.

A vault and a machine's identity stand in, on this machine: what goes over the wire is what Azure
documents. Nothing in Airflow, in the provider, in Azure's libraries or in Tidemark is replaced.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from json_answers import send_json

from tidemark.metadata import load_source

PROJECT = Path(__file__).parents[2]
BACKEND = "airflow.providers.microsoft.azure.secrets.key_vault.AzureKeyVaultBackend"
RESOURCE, TOKEN, MACHINE = "https://vault.azure.net", "a-token-of-the-machine", "the-machines-own"
PASSWORD = "s3cret-of-the-vault"  # noqa: S105
CONNECTION = {
    "conn_type": "mssql", "host": "shop.database.windows.net", "schema": "shop",
    "login": "tidemark", "password": PASSWORD, "extra": {"Encrypt": "yes"},
}  # fmt: skip
Write = Callable[..., Path]


class Answering(BaseHTTPRequestHandler):
    """Answers in JSON, and notes what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def log_message(self, *_: Any) -> None:
        pass


class Vault(Answering):
    """GET secret, behind its challenge: who shows no token is told where to get one."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            challenge = (
                f'Bearer authorization="https://login.microsoftonline.com/tenant", '
                f'resource="{RESOURCE}"'
            )
            unauthorized = {"error": {"code": "Unauthorized"}}
            send_json(self, 401, unauthorized, {"WWW-Authenticate": challenge})
            return
        self.asked.append(path)
        if path.rstrip("/") == "/secrets/airflow-connections-spotify-sql":
            value = {"id": f"https://localhost{path}/1", "value": json.dumps(CONNECTION)}
            send_json(self, 200, value | {"attributes": {"enabled": True}})
        else:
            send_json(self, 404, {"error": {"code": "SecretNotFound", "message": "not found"}})


class Identity(Answering):
    """What Azure's App Service gives a managed identity's token at, on the machine itself."""

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        good = self.headers["X-IDENTITY-HEADER"] == MACHINE and query["resource"] == [RESOURCE]
        self.asked.append(self.path)
        if good:
            expires = str(int(time.time()) + 3600)
            token = {"access_token": TOKEN, "expires_on": expires, "token_type": "Bearer"}
            send_json(self, 200, token | {"resource": RESOURCE})
        else:
            send_json(self, 400, {"error": "invalid_request"})


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    ]  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private, public = folder / "key.pem", folder / "certificate.pem"
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    public.write_bytes(certificate.public_bytes(encoding))
    return private, public


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[tuple[dict[str, str], list[str], list[str]]]:
    """A vault and an identity; give the environment that a deployment sets, and what they heard."""
    private, public = _certificate(tmp_path)
    handlers = [type(kind.__name__, (kind,), {"asked": []}) for kind in (Vault, Identity)]
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for handler in handlers]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    servers[0].socket = context.wrap_socket(servers[0].socket, server_side=True)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    vault, identity = (server.server_port for server in servers)
    kwargs = {
        "connections_prefix": "airflow-connections",
        "variables_prefix": None,
        "config_prefix": None,
        "vault_url": f"https://localhost:{vault}",
        "verify_challenge_resource": False,  # only because the vault's host is no vault.azure.net
    }
    environment = {
        "AIRFLOW__SECRETS__BACKEND": BACKEND,
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(kwargs),
        "IDENTITY_ENDPOINT": f"http://127.0.0.1:{identity}/msi/token",
        "IDENTITY_HEADER": MACHINE,
        "REQUESTS_CA_BUNDLE": str(public),
    }
    yield environment, handlers[0].asked, handlers[1].asked  # type: ignore[attr-defined]
    for server in servers:
        server.shutdown()
        server.server_close()


def _source_url(config: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Ask Tidemark for a source's URL, as its command line does."""
    name = load_source(config).source.connection
    asker = f"{config}: source.connection"
    return subprocess.run(
        [sys.executable, "-m", "tidemark.airflow.source_url", name, asker],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env=os.environ | environment,
    )


# "client" is what a task is, "server" what the scheduler and the command line are.
@pytest.mark.parametrize("context", ["client", "server"])
@pytest.mark.usefixtures("airflow_database")
def test_a_sources_connection_comes_from_the_vault_by_the_machines_identity(
    azure: tuple[dict[str, str], list[str], list[str]], write: Write, context: str
) -> None:
    environment, secrets, tokens = azure
    done = _source_url(write("DimUser"), environment | {"_AIRFLOW_PROCESS_CONTEXT": context})
    assert done.stdout == (
        "mssql+mssqlpython://tidemark:s3cret-of-the-vault@shop.database.windows.net/shop"
        "?Encrypt=yes"
    ), done.stderr[-3000:]
    assert [path.rstrip("/") for path in secrets] == ["/secrets/airflow-connections-spotify-sql"]
    assert tokens, "the token came from the machine's identity"
    assert PASSWORD not in done.stderr
    assert TOKEN not in done.stderr


@pytest.mark.usefixtures("airflow_database")
def test_a_connection_that_the_vault_does_not_hold_is_named(
    azure: tuple[dict[str, str], list[str], list[str]], write: Write
) -> None:
    environment, secrets, _ = azure
    config = write("DimUser", source={"connection": "shop_sql"})
    done = _source_url(config, environment)
    assert done.returncode == 1
    assert "source.connection 'shop_sql' is no Airflow connection" in done.stderr
    assert [path.rstrip("/") for path in secrets] == ["/secrets/airflow-connections-shop-sql"]
