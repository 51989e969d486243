"""One thread that calls functions when they are due: worker heartbeats, held-back heartbeats, attempt timeouts.

Invariants: it sleeps until the next due time, never in a loop; functions are called one after the other and must be
quick; an error in one is logged and stops nothing; cancelled calls do not pile up. One for each worker.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

_logger = logging.getLogger("perdure.worker")


#: Cancelled calls are swept out when there are this many, and they are more than half of all.
_SWEEP_MIN = 1_000


class Timer:
    """One call that is due at some time."""

    __slots__ = ("_function", "_on_cancel")

    def __init__(self, function: Callable[[], None], on_cancel: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function
        self._on_cancel = on_cancel

    @property
    def pending(self) -> bool:
        """Whether it is still to be called."""
        return self._function is not None

    def cancel(self) -> None:
        """Do not call it, if it was not called yet."""
        if self._function is not None:
            self._function = None
            self._on_cancel()

    def fire(self) -> None:
        """Call it now, once."""
        function, self._function = self._function, None
        if function is not None:
            try:
                function()
            except Exception:
                _logger.exception("event=timer_failed function=%r", function)


class TimerThread:
    """Calls functions later. ``name`` is the thread's."""

    def __init__(self, name: str) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._cancelled = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def call_later(self, delay_s: float, function: Callable[[], None]) -> Timer:
        """Call ``function`` in ``delay_s`` seconds, on the timer's thread."""
        timer = Timer(function, self._note_cancelled)
        due_s = time.monotonic() + max(delay_s, 0.0)
        with self._changed:
            heapq.heappush(self._heap, (due_s, next(self._numbers), timer))
            if self._heap[0][2] is timer:
                self._changed.notify()
        return timer

    def stop(self) -> None:
        """Call nothing more; waits for a call that runs."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _note_cancelled(self) -> None:
        with self._changed:
            self._cancelled += 1
            if self._cancelled >= _SWEEP_MIN and self._cancelled * 2 > len(self._heap):
                self._heap = [entry for entry in self._heap if entry[2].pending]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopped:
                    wait_s = self._heap[0][0] - time.monotonic() if self._heap else None
                    if wait_s is not None and wait_s <= 0:
                        break
                    self._changed.wait(wait_s)
                if self._stopped:
                    return
                timer = heapq.heappop(self._heap)[2]
            timer.fire()
