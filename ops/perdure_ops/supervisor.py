"""Runs the engine as several processes: starts children, starts a crashed one again, passes signals on.

A child holds the other end of a pipe as its stdin, so children end when the supervisor is killed without a word. One
thread for each child waits for it; the main thread waits on one queue, so nothing polls. Called by ``perdure server``
with more than one process.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from perdure_ops.errors import CliError
from perdure_runtime import restarting

_logger = logging.getLogger("perdure.supervisor")

#: What a child prints when it is ready; the rest of the line is for people.
READY_PREFIX = "Perdure server is ready"
RESTART_DELAY_S_MIN = 0.5
RESTART_DELAY_S_MAX = 30.0
#: A child that ran this long had started well: its next restart is quick again.
RUN_S_GOOD = 60.0
STOP_TIMEOUT_S = 20.0
#: When a child is started again: from the delay before its last start, and how long it ran since.
restart_delay_s = partial(
    restarting.restart_delay_s, min_s=RESTART_DELAY_S_MIN, max_s=RESTART_DELAY_S_MAX, good_s=RUN_S_GOOD
)


class ChildSpec(NamedTuple):
    """A child: its name, which is its engine's instance name, its command line, and variables besides our own."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = MappingProxyType({})


class _Event(NamedTuple):
    """Something the main thread must know: a child is ready or gone, or we shall stop (no child)."""

    child: _Child | None
    ready: bool = False


@dataclass(eq=False)
class _Child:
    spec: ChildSpec
    ready: bool = False
    delay_s: float = 0.0
    process: subprocess.Popen[str] | None = None
    thread: threading.Thread | None = None
    ended: threading.Event = field(default_factory=threading.Event)


class Supervisor:
    """Keeps children running until a signal comes.

    Args:
        children: what to run.
        announce: told once, when all children are ready for the first time.
        monotonic_s: a clock for run times.
    """

    def __init__(
        self, children: Sequence[ChildSpec], announce: Callable[[], None], monotonic_s: Callable[[], float]
    ) -> None:
        self._children = [_Child(spec) for spec in children]
        self._announce = announce
        self._monotonic_s = monotonic_s
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._signals = 0

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; a second signal kills the children.

        Raises:
            CliError: a child failed before it was ever ready, so its command line or the log must be wrong.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        for child in self._children:
            child.thread = threading.Thread(target=self._keep, args=(child,), name=child.spec.name, daemon=True)
            child.thread.start()
        announced = False
        try:
            while True:
                event = self._events.get()
                if event.child is None:
                    return
                if event.ready and not announced and all(child.ready for child in self._children):
                    announced = True
                    self._announce()
                if not event.ready and not announced and not event.child.ready:
                    raise CliError(f"process {event.child.spec.name} did not start; its error is above")
        finally:
            self._stop()

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signals += 1
        if self._signals > 1:
            self._signal_children(signal.SIGKILL)
        self._events.put(_Event(None))

    def _stop(self) -> None:
        self._stopping.set()
        self._signal_children(signal.SIGTERM)
        for child in self._children:
            if not child.ended.wait(STOP_TIMEOUT_S):
                self._signal_children(signal.SIGKILL)
                child.ended.wait(STOP_TIMEOUT_S)

    def _signal_children(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.process is not None and child.process.poll() is None:
                child.process.send_signal(number)

    def _keep(self, child: _Child) -> None:
        """Run a child again and again. Runs in the child's thread."""
        try:
            while not self._stopping.is_set():
                started_s = self._monotonic_s()
                self._run_once(child)
                if self._stopping.is_set():
                    return
                child.delay_s = restart_delay_s(child.delay_s, self._monotonic_s() - started_s)
                code = child.process.returncode if child.process is not None else None
                _logger.warning("process=%s event=ended code=%s restart_in_s=%g", child.spec.name, code, child.delay_s)
                self._events.put(_Event(child))
                self._stopping.wait(child.delay_s)
        finally:
            child.ended.set()

    def _run_once(self, child: _Child) -> None:
        # A session of its own: a Ctrl-C in the terminal reaches the supervisor only, which passes it on in order.
        child.process = subprocess.Popen(  # noqa: S603 - our own command line
            child.spec.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | child.spec.environment,
        )
        if self._stopping.is_set():
            child.process.terminate()
        assert child.process.stdout is not None
        for line in child.process.stdout:
            if line.startswith(READY_PREFIX):
                child.ready = True
                self._events.put(_Event(child, ready=True))
            else:
                print(line, end="", file=sys.stderr)
        child.process.wait()
        assert child.process.stdin is not None
        child.process.stdin.close()
