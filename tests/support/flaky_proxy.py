"""An HTTP server before another one, that disturbs what passes through it as a test wants."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Takes method and path; gives a status to answer with, "drop", "lose" (pass on, but no answer), or
# None: pass on.
Rule = Callable[[str, str], int | str | None]


@dataclass
class FlakyProxy:
    """The server; `rule` may be exchanged at any time."""

    endpoint: str
    error_code: str = "ServerBusy"
    rule: Rule = lambda _method, _path: None
    seen: list[str] = field(default_factory=list)

    def first(self, times: int, what: int | str, only: str = "") -> None:
        """Disturb the first requests, of a method alone if one is named."""
        left = [times]

        def rule(method: str, _path: str) -> int | str | None:
            if left[0] and only in {"", method}:
                left[0] -= 1
                return what
            return None

        self.rule = rule


@contextlib.contextmanager
def proxy(target: str) -> Iterator[FlakyProxy]:
    """Stand before a server, given by its URL."""
    url = urlsplit(target)
    found = FlakyProxy("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.seen.append(f"{self.command} {self.path}")
            what = found.rule(self.command, self.path)
            if isinstance(what, int):
                self.send_response(what)
                self.send_header("x-ms-error-code", found.error_code)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if what != "drop":
                answer, data = self._forward(body)
            if what is not None:
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "connection", "date", "server"}:
                    self.send_header(name, value)
            if answer.getheader("Content-Length") is None:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _forward(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
            connection = http.client.HTTPConnection(url.hostname or "", url.port)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer, answer.read()

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass  # noqa: N815  # its own names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.endpoint = f"http://127.0.0.1:{server.server_port}{url.path}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
