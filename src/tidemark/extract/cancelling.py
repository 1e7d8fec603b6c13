"""Cancel the statement at the source when the task that waits for it is killed.

While a driver waits for its server, Python runs no signal handler: a killed task would end without
a word, and the server would go on with the statement until it has something to send. So a thread is
told of the signal, and asks the driver to cancel.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

_KILLED = frozenset({signal.SIGINT, signal.SIGTERM})  # Airflow sends the one, then the other


@contextlib.contextmanager
def cancelled_on_kill(cancel: Callable[[], None]) -> Iterator[None]:
    """Call a function as soon as this process is told to end; the signal goes on to whom it would.

    A SIGTERM that nobody handles would end the process at once: it ends by SystemExit instead.
    Only the main thread hears of signals: in another one nothing is done.

    Args:
        cancel: Asks the driver to cancel what it waits for; from a thread of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(ear, cancel), daemon=True)
    listener.start()
    unhandled = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if unhandled:
        signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        if unhandled:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        os.close(mouth)  # which ends the listener
        listener.join()
        os.close(ear)


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)  # as a shell says that a signal ended a process


def _listen(ear: int, cancel: Callable[[], None]) -> None:
    while heard := os.read(ear, 64):
        if _KILLED.intersection(heard):
            with contextlib.suppress(Exception):  # it is about to end in any case
                cancel()
