"""An asyncio event loop and the worker's timers, both on the virtual clock and stepped by hand.

Invariants: nothing runs but in :meth:`SimLoop.run_ready`; a loop whose process was killed never runs again. Coroutines
of a killed process are kept, so that the garbage collector does not run their ``finally`` blocks at a time of its own.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

from perdure.worker._timers import Timer
from tests.sim.mortal import Process
from tests.sim.world import World

#: Loops of killed processes with all that runs on them.
graveyard: list[object] = []


class SimLoop(asyncio.AbstractEventLoop):
    """See the module. ``wake``: the loop has something to do."""

    def __init__(self, world: World, process: Process, wake: Callable[[], None]) -> None:
        self.ready: deque[asyncio.Handle] = deque()
        self._world = world
        self._process = process
        self._wake = wake
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._number = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.errors: list[dict[str, Any]] = []

    def run_ready(self) -> None:
        """Run what is ready now, and what that makes ready."""
        timers = self._timers
        now_s = self.time()
        while timers and timers[0][0] <= now_s:
            handle = heapq.heappop(timers)[2]
            if not handle._cancelled:
                self.ready.append(handle)
        ready = self.ready
        if not ready:
            return
        events._set_running_loop(self)
        try:
            while ready:
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
        finally:
            events._set_running_loop(None)

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        self._wake()
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, handle))
        self._world.at(-(-when * 1000 // 1), self._wake)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when it is due."""

    def time(self) -> float:
        return self._world.now_ms / 1000

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=None if name is None else str(name), context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._process.doomed:
            self.errors.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)


class SimTimers:
    """The worker's ``TimerThread`` without a thread."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self._stopped = False

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self) -> None:
        self._stopped = True

    def call_later(self, delay_s: float, function: Callable[[], None]) -> Timer:
        timer = Timer(function, _nothing)

        def due() -> None:
            if self._stopped or not self._process.alive or not timer.pending:
                return
            wait_ms = self._process.stopped_until_ms - self._world.now_ms
            if wait_ms > 0:
                self._world.later(wait_ms, due)
            else:
                timer.fire()

        self._world.at(-(-(self._world.now_ms + max(delay_s, 0.0) * 1000) // 1), due)
        return timer


def _nothing() -> None:
    """A cancelled timer is passed over when it is due."""
