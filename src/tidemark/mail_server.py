"""A mail server for one laptop: it keeps every mail as a file, and sends none on."""

from __future__ import annotations

import asyncio
import email
import json
import logging
import threading
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Self

from aiosmtpd.smtp import SMTP, Envelope, Session

_HOST = "127.0.0.1"


@dataclass
class MailServer:
    """Receives mail on a free port of this machine while the context is open.

    Attributes:
        folder: Where ``1.eml``, ``2.eml``, … are written, after those that are already there.
        port: The port that the system gave; 0 before the context is entered.
        refused: Recipients that the server does not know.
    """

    folder: Path
    port: int = 0
    refused: tuple[str, ...] = ()
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)
    _server: asyncio.Server | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        """Begin to listen; when this returns, the port answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # aiosmtpd logs each line of the dialogue.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        # aiosmtpd's own controller can't listen on port 0, and a port that is looked up first
        # may be taken before it is used.
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening; what was received stays in the folder."""
        if self._server is not None:
            self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join()
        self._loop.close()

    @property
    def connection(self) -> str:
        """The Airflow connection to this server, as ``AIRFLOW_CONN_SMTP_DEFAULT`` takes it."""
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "tidemark@localhost"}
        return json.dumps({"conn_type": "smtp", "host": _HOST, "port": self.port, "extra": extra})

    @property
    def files(self) -> list[Path]:
        """The files of all mails in the folder, oldest first."""
        return sorted(self.folder.glob("[0-9]*.eml"), key=lambda path: int(path.stem))

    @property
    def mails(self) -> list[EmailMessage]:
        """All mails in the folder, oldest first."""
        return [
            email.message_from_bytes(path.read_bytes(), policy=policy.default)
            for path in self.files
        ]

    async def handle_RCPT(  # noqa: N802  aiosmtpd finds its hooks by these names
        self,
        server: SMTP,  # noqa: ARG002
        session: Session,  # noqa: ARG002
        envelope: Envelope,
        address: str,
        options: list[str],  # noqa: ARG002
    ) -> str:
        """Take a recipient; called by aiosmtpd."""
        if address in self.refused:
            return "550 No such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self,
        server: SMTP,  # noqa: ARG002
        session: Session,  # noqa: ARG002
        envelope: Envelope,
    ) -> str:
        """Keep one mail; called by aiosmtpd."""
        number = int(self.files[-1].stem) + 1 if self.files else 1
        content = envelope.content
        data = content.encode() if isinstance(content, str) else content or b""
        # Renamed when whole: whoever watches the folder never reads half a mail.
        temporary = self.folder / f"_{number}.tmp"
        temporary.write_bytes(data)
        temporary.rename(self.folder / f"{number}.eml")
        return "250 Message accepted for delivery"

    async def _listen(self) -> asyncio.Server:
        def receiver() -> SMTP:
            return SMTP(self, hostname="localhost", loop=self._loop)

        return await self._loop.create_server(receiver, _HOST, 0)
