"""How a server process is asked to stop: by a signal, an error in one of its parts, or the end of its supervisor.

The first SIGTERM or SIGINT asks for a graceful stop, the second one ends the process at once. The main thread waits on
a pipe, so nothing polls: Python handles signals on the main thread only, but the system may give one to any thread,
and a lock that the main thread waits for would not end then. Called by the development server, the engine's process
and the supervisor.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from types import FrameType

_EXIT_BY_SIGNAL = 128


class StopRequest:
    """One reason to stop, waited for by the main thread."""

    def __init__(self) -> None:
        # SimpleQueue.put may be called in a signal handler, whatever the interrupted code holds.
        self._queue: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._signalled = False
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)

    def install_signal_handlers(self) -> None:
        """Stop on SIGTERM and SIGINT. Only the main thread may call this."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def ask(self, error: BaseException | None = None) -> None:
        """Ask for a stop, because of an error if one is given."""
        self._queue.put(error)
        try:
            os.write(self._wake, b"\0")
        except BlockingIOError:
            pass  # a full pipe wakes, too

    @property
    def asked(self) -> bool:
        """Whether somebody has asked already. The reason is still there for :meth:`wait`."""
        return not self._queue.empty()

    def ask_at_end_of_input(self) -> None:
        """Ask for a stop when stdin ends: the supervisor holds its other end, and may be killed without a word."""

        def wait() -> None:
            while os.read(sys.stdin.fileno(), 1024):
                pass
            self.ask()

        threading.Thread(target=wait, name="perdure-supervised", daemon=True).start()

    def wait(self) -> None:
        """Block until somebody asks.

        Raises:
            BaseException: the error that was the reason.
        """
        while self._queue.empty():
            os.read(self._woken, 64)
        error = self._queue.get()
        if error is not None:
            raise error

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._signalled:
            os._exit(_EXIT_BY_SIGNAL + number)
        self._signalled = True
        self.ask()
