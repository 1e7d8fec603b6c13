"""The server before `Logins`: TLS for any host behind a proxy's CONNECT, plain for a machine's own.

The provider asks the workspace's token endpoint at ``https://<host>`` without the connection's
port, and Microsoft's library asks ``https://login.microsoftonline.com``. Both go by the
connection's ``proxies``, so that nothing of either has to be replaced.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from json_answers import send_json

from databricks_workspace.logins import LOGIN_HOST, Logins


@dataclass(frozen=True)
class LoginServer:
    """Where tokens are asked for.

    Attributes:
        address: Of the proxy, and of the machine's metadata service.
        certificate: What its TLS is trusted by.
    """

    address: str
    certificate: Path


@contextmanager
def serve_logins(logins: Logins, folder: Path) -> Iterator[LoginServer]:
    """Hold the server on a port of this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate = folder / "login.pem"
    certificate.write_bytes(_certificate())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    handler = type("Handler", (_Proxy,), {"logins": logins, "context": context})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield LoginServer(f"http://127.0.0.1:{server.server_port}", certificate)
    finally:
        server.shutdown()
        server.server_close()


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    logins: Logins
    host = ""

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def _respond(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        asked = dict(urllib.parse.parse_qsl(f"{address.query}&{body}"))
        status, result = self.logins.answer(self.host, address.path, asked, dict(self.headers))
        send_json(self, status, result)

    def log_message(self, *_: Any) -> None:
        pass


class _Proxy(_Answering):
    context: ssl.SSLContext

    def do_CONNECT(self) -> None:
        self.send_response(200, "Connection established")
        self.end_headers()
        self.close_connection = True
        inner = type("Inner", (_Answering,), {"logins": self.logins, "host": self._asked_host()})
        with suppress(OSError):
            tls = self.context.wrap_socket(self.connection, server_side=True)
            with suppress(OSError), tls:
                inner(tls, self.client_address, self.server)

    def _asked_host(self) -> str:
        return self.path.rpartition(":")[0]


def _certificate() -> bytes:
    """Make a certificate, and the key to it, for the hosts that are asked."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "logins of the tests")])
    now = dt.datetime.now(dt.UTC)
    local = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(LOGIN_HOST), local]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + made.public_bytes(serialization.Encoding.PEM)
