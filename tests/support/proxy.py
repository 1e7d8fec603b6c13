"""A network between a client and a server that drops in the middle."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Network:
    """A way to a server through a port of our own.

    Attributes:
        target: The server's port on this machine.
        cut_after: How many bytes of the server's pass before the connection drops; None: all.
    """

    target: int
    cut_after: int | None = None
    dropped: int = 0
    _listener: socket.socket = field(init=False)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @contextlib.contextmanager
    def up(self) -> Iterator[Network]:
        with socket.create_server(("127.0.0.1", 0)) as self._listener:
            threading.Thread(target=self._accept, daemon=True).start()
            yield self

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                for source, sink, limit in (
                    (client, server, None),
                    (server, client, self.cut_after),
                ):
                    pump = threading.Thread(
                        target=self._pump, args=(source, sink, limit), daemon=True
                    )
                    pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                passed += len(data)
                if limit is not None and passed > limit:
                    self.dropped += 1
                    for end in (source, sink):
                        end.shutdown(socket.SHUT_RDWR)  # wakes the other pump too
                    return
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
