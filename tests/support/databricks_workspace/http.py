"""The HTTP server before a workspace."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from json_answers import send_json

from databricks_workspace.workspace import Workspace


@contextmanager
def serve(folder: Path) -> Iterator[Workspace]:
    """Hold a workspace that answers on a port of this machine; its runs end with it."""
    workspace = Workspace(folder)
    handler = type("Handler", (_Handler,), {"workspace": workspace})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    workspace.jobs.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield workspace
    finally:
        server.shutdown()
        workspace.end()


class _Handler(BaseHTTPRequestHandler):
    workspace: Workspace

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def _respond(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        token = self.headers.get("Authorization", "")
        try:
            body = self._body(address.query)
        except ValueError as error:
            send_json(self, 400, {"error_code": "MALFORMED_REQUEST", "message": str(error)})
            return
        path = address.path.rstrip("/")
        send_json(self, *self.workspace.answer(self.command, path, body, token))

    def _body(self, query: str) -> dict[str, Any]:
        asked: dict[str, Any] = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if data and (body := json.loads(data)) is not None:
            asked |= body
        return asked

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's name
        pass
