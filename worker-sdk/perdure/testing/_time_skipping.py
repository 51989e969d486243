"""The clock of a test environment, and what moves it: time runs as usual, but does not wait where only time is missing.

Time skips to the next timer when somebody waits for a workflow's result, or sleeps in
:meth:`WorkflowEnvironment.sleep`, and the engine has nothing else to do: no record is unread, and no worker has a task.
Invariants: the clock never goes back; it moves on the engine's thread only, to one due time at a time, so timers fire
in their order; it never moves while an activity, workflow code or a query runs; it does not move any more once the
result that was waited for has come, because the loop that waits is asked before each skip.

The rules are those documented for Temporal's time-skipping test server. Made by :mod:`perdure.testing._workflow`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from perdure._connection import Connection
from perdure_matching.core.idle import WorkLeft
from perdure_runtime.clock import wall_clock_ms

#: A task that no worker can take holds time back for so long of real time: a worker may just be starting.
NO_WORKER_GRACE_S = 1.0


class EngineView(Protocol):
    """What the skipper must know of the engine; asked on the engine's thread, when it is idle."""

    def next_timer_ms(self) -> int | None:
        """When the next timer is due."""

    def work_left(self) -> WorkLeft:
        """Tasks that are not done."""

    def wake(self) -> None:
        """Make the engine look for work, and become idle again. From any thread."""


class VirtualClock:
    """A clock that runs as the wall clock does, and can be moved on."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    def now_ms(self) -> int:
        """The time in milliseconds since the epoch."""
        return wall_clock_ms() + self._ahead_ms

    def advance_to(self, time_ms: int) -> None:
        """Move on; an earlier time changes nothing."""
        self._ahead_ms += max(0, time_ms - self.now_ms())


class _Sleep:
    """Somebody who sleeps until a time of the clock."""

    def __init__(self, until_ms: int) -> None:
        self.until_ms = until_ms
        self.loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self.loop.create_future()

    def wake(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self._finish)
        except RuntimeError:
            pass  # the loop is closed: nobody sleeps any more

    def _finish(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class TimeSkipper:
    """Decides when the clock of an environment moves on.

    Args:
        clock: The clock.
        engine: The engine.
        connection: The environment's client; its result waits count.
    """

    def __init__(self, clock: VirtualClock, engine: EngineView, connection: Connection) -> None:
        self._clock = clock
        self._engine = engine
        self._connection = connection
        self._replies = connection.replies
        self._lock = threading.Lock()
        self._sleeps: list[_Sleep] = []
        self._disabled_count = 0
        #: End of the replies up to which a loop has confirmed that it still waits for a result; -1: none has.
        self._confirmed_to = -1
        self._asked = False
        self._lonely_since_s: float | None = None
        self._grace_timer: threading.Timer | None = None

        connection.on_delivered = engine.wake

    # --- the test's side ------------------------------------------------------------------------------------------

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within, waiting for a result does not move the clock."""
        with self._lock:
            self._disabled_count += 1
        try:
            yield None
        finally:
            with self._lock:
                self._disabled_count -= 1
            self._engine.wake()

    async def sleep(self, duration_ms: int) -> None:
        """Return when the clock has moved on by ``duration_ms``; the clock skips as soon as nothing runs."""
        sleep = _Sleep(self._clock.now_ms() + duration_ms)
        with self._lock:
            self._sleeps.append(sleep)
        self._engine.wake()
        # Time passes by itself, too: an activity may run all the while.
        timer = sleep.loop.call_later(duration_ms / 1000, sleep._finish)
        try:
            await sleep.over
        finally:
            timer.cancel()
            with self._lock:
                if sleep in self._sleeps:
                    self._sleeps.remove(sleep)

    def close(self) -> None:
        """Wake up who sleeps; nothing moves any more."""
        with self._lock:
            sleeps, self._sleeps = self._sleeps, []
            self._disabled_count += 1
            if self._grace_timer is not None:
                self._grace_timer.cancel()
        for sleep in sleeps:
            sleep.wake()

    # --- the engine's side ----------------------------------------------------------------------------------------

    def on_idle(self) -> bool:
        """The engine has nothing to do: move the clock if that is allowed; true if it was moved."""
        with self._lock:
            target_ms = min((sleep.until_ms for sleep in self._sleeps), default=None)
            waits = None if self._disabled_count else next(iter(list(self._connection.result_waits)), None)
        if target_ms is None and waits is None:
            return False
        if not self._may_skip():
            return False
        if target_ms is not None and target_ms <= self._clock.now_ms():
            # Only here, so that whatever became due during the sleep has been done.
            self._wake_sleepers()
            return True
        timer_ms = self._engine.next_timer_ms()
        if timer_ms is not None and (target_ms is None or timer_ms < target_ms):
            target_ms = timer_ms
        if target_ms is None:
            return False
        if waits is not None and not self._is_confirmed(waits):
            return False
        self._clock.advance_to(target_ms)
        return True

    def _wake_sleepers(self) -> None:
        now_ms = self._clock.now_ms()
        with self._lock:
            due = [sleep for sleep in self._sleeps if sleep.until_ms <= now_ms]
            self._sleeps = [sleep for sleep in self._sleeps if sleep.until_ms > now_ms]
        for sleep in due:
            sleep.wake()

    def _may_skip(self) -> bool:
        left = self._engine.work_left()
        if left.in_hand:
            self._lonely_since_s = None
            return False
        if not left.without_worker:
            self._lonely_since_s = None
            return True
        now_s = time.monotonic()
        if self._lonely_since_s is None:
            self._lonely_since_s = now_s
            with self._lock:
                self._grace_timer = threading.Timer(NO_WORKER_GRACE_S, self._engine.wake)
                self._grace_timer.daemon = True
                self._grace_timer.start()
        return now_s - self._lonely_since_s >= NO_WORKER_GRACE_S

    def _is_confirmed(self, wait: asyncio.Future[Any]) -> bool:
        """Whether the loop has said, after all replies there are, that it still waits. Asks it if it has not."""
        _, end = self._connection.log.watermarks(self._replies)
        if self._confirmed_to == end:
            return True
        if self._connection.replies_delivered_to < end:
            return False  # the delivery wakes the engine; only then is the loop asked, behind what was delivered
        if not self._asked:
            self._asked = True
            try:
                wait.get_loop().call_soon_threadsafe(self._confirm, end)
            except RuntimeError:  # its loop is closed
                self._connection.result_waits.discard(wait)
                self._asked = False
        return False

    def _confirm(self, end: int) -> None:
        """On the loop that waits: everything below ``end`` was handed to it before this call was, so it is taken."""
        self._asked = False
        if any(not wait.done() for wait in list(self._connection.result_waits)):
            self._confirmed_to = end
            self._engine.wake()
