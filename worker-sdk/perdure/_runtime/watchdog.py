"""Finds workflow code that does not yield, and interrupts it, so that it cannot hold up a worker for ever.

Invariants: an exception is thrown into the watched thread only between :meth:`Watchdog.begin` and :meth:`Watchdog.end`,
both called by that thread; after ``end`` none is pending; while nothing runs the watchdog's own thread sleeps without a
timeout. Made by the worker, used by the runs of its dispatch thread.
"""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
import time
import traceback
from types import FrameType

from perdure._runtime.errors import WorkflowDeadlockError
from perdure._runtime.guard import is_user_code
from perdure._runtime.info import Info

_log = logging.getLogger("perdure.worker")

#: Workflow code must come to a point where it waits within this time.
DEADLOCK_TIMEOUT_S = 2.0
_STACK_FRAMES_MAX = 12

# Taken now: the guard puts a wrapper around the one in the module.
_monotonic = time.monotonic
# A prototype of its own: the attributes of the function in ctypes.pythonapi are shared with everyone.
_throw_into = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)
_NOTHING = ctypes.py_object()


class _InterruptedError(BaseException):
    """Thrown into workflow code. No ``Exception``, so that ``except Exception`` there does not stop it."""


class Watchdog:
    """See the module. One watches one thread, which is known when :meth:`begin` is called.

    Args:
        timeout_s: How long code may run; ``DEADLOCK_TIMEOUT_S`` if not given.
    """

    def __init__(self, timeout_s: float | None = None) -> None:
        self.timeout_s = DEADLOCK_TIMEOUT_S if timeout_s is None else timeout_s
        self._lock = threading.Lock()
        self._begun_s = 0.0
        #: The thread whose code runs, and what it runs; 0 if none does.
        self._thread_id = 0
        self._run: Info | None = None
        self._report: str | None = None
        self._asleep = True
        self._stopped = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(target=self._watch, name="perdure-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watchdog's thread. Blocks for a moment."""
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def begin(self, run: Info) -> None:
        """Code of that run runs on this thread from here on."""
        self._run = run
        self._begun_s = _monotonic()
        self._thread_id = threading.get_ident()
        if self._asleep:
            self._asleep = False
            self._wake.set()

    def end(self) -> WorkflowDeadlockError | None:
        """It does not run any more; the error if it ran for too long."""
        report: str | None = None
        try:
            with self._lock:
                self._thread_id = 0
                report, self._report = self._report, None
            if report is not None:
                _throw_into(threading.get_ident(), _NOTHING)  # in case it has not arrived
        except _InterruptedError:
            # It arrived just here. No other one follows: they come the timeout apart.
            with self._lock:
                self._thread_id = 0
                report, self._report = report or self._report, None
        return None if report is None else WorkflowDeadlockError(report)

    # --- the watchdog's own thread ----------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopped:
            left_s = self._left_s()
            self._wake.wait(left_s)
            self._wake.clear()

    def _left_s(self) -> float | None:
        """How long to sleep until code may have run for too long; ``None`` while none runs."""
        with self._lock:
            thread_id = self._thread_id
            if not thread_id:
                # In this order: who begins now sees that the watchdog sleeps, or is seen here.
                self._asleep = True
                if not self._thread_id:
                    return None
                self._asleep = False
                return self.timeout_s
            left_s = self._begun_s + self.timeout_s - _monotonic()
            if left_s > 0:
                return left_s
            frame = sys._current_frames().get(thread_id)
            first, run = self._report is None, self._run
            if first:
                self._report = self._describe(frame)
                report = self._report
            _throw_into(thread_id, _InterruptedError)
            self._begun_s = _monotonic()  # if the code catches it: again
        if first and run is not None:
            _log.error(
                "event=workflow_blocks workflow=%s type=%s run=%s: no workflow code runs until it returns: %s",
                run.workflow_id,
                run.workflow_type,
                run.run_id,
                report,
            )
        return self.timeout_s

    def _describe(self, frame: FrameType | None) -> str:
        stack = traceback.extract_stack(frame) if frame is not None else []
        own = [number for number, line in enumerate(stack) if is_user_code(line.filename)]
        if own:
            stack = stack[own[0] :]
        where = next((line for line in reversed(stack) if is_user_code(line.filename)), stack[-1] if stack else None)
        at = "" if where is None else f"; it was at {where.filename}, line {where.lineno}, in {where.name}"
        lines = "".join(traceback.format_list(stack[-_STACK_FRAMES_MAX:]))
        return (
            f"potential deadlock: the workflow did not yield within {self.timeout_s:g} s{at}. Workflow code must not "
            f"block or compute for long: do that in an activity\n{lines}"
        )
