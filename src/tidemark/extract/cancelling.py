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

# What ends a task: a person, Airflow or a container, and the task's own time limit.
_KILLED = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGALRM})


class Killed:
    """Whether this process was told to end while it waited for a source."""

    def __init__(self) -> None:
        """Begin with no."""
        self._event = threading.Event()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def note(self) -> None:
        """Remember that it was."""
        self._event.set()


@contextlib.contextmanager
def cancelled_on_kill(cancel: Callable[[], None]) -> Iterator[Killed]:
    """Call a function as soon as this process is told to end; the signal goes on to whom it would.

    A SIGTERM that nobody handles would end the process at once: it ends by SystemExit instead.
    Only the main thread hears of signals: in another one nothing is done.

    Args:
        cancel: Asks the driver to cancel what it waits for; from a thread of its own.

    Yields:
        Whether it was: what the driver raises then is no error of the source's.
    """
    killed = Killed()
    if threading.current_thread() is not threading.main_thread():
        yield killed
        return
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(ear, cancel, killed), daemon=True)
    listener.start()
    unhandled = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if unhandled:
        signal.signal(signal.SIGTERM, _end)
    try:
        yield killed
    finally:
        if unhandled:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        os.close(mouth)  # which ends the listener
        listener.join()
        os.close(ear)


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)  # as a shell says that a signal ended a process


def _listen(ear: int, cancel: Callable[[], None], killed: Killed) -> None:
    while heard := os.read(ear, 64):
        if _KILLED.intersection(heard):
            killed.note()
            with contextlib.suppress(Exception):  # it is about to end in any case
                cancel()
