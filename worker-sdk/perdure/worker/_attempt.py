"""One attempt of an activity on this worker: its state, its cancellation, its heartbeats.

Invariants: an attempt ends once; a cancellation is delivered once, and not lost if it comes before the code runs;
heartbeats go out no more often than their throttle interval, and the last details are not lost while the attempt runs.
Made by :mod:`perdure.worker._activities`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from perdure._activity_context import ActivityContext, Definition, ThreadCancellation
from perdure._limits import check_payloads
from perdure.activity import ActivityCancellationDetails
from perdure.converter import PayloadConverter
from perdure.exceptions import CancelledError
from perdure.worker._timers import Timer, TimerThread
from perdure_schemas.records import ActivityTask, ActivityTaskHeartbeat, RunTask

#: A heartbeat is sent when this share of the heartbeat timeout is over.
_THROTTLE_SHARE = 0.8


def throttle_interval_s(heartbeat_timeout_ms: int | None, default: timedelta, maximum: timedelta) -> float:
    """How long details are held back after a heartbeat was sent, in seconds."""
    if heartbeat_timeout_ms:
        return min(heartbeat_timeout_ms / 1000 * _THROTTLE_SHARE, maximum.total_seconds())
    return min(default, maximum).total_seconds()


class Attempt:
    """A running attempt.

    Args:
        run: The dispatched task.
        task: What to run.
        definition: The activity.
        loop: The event loop, for async activities.
        started_time_ms: The time now, by the engine's clock.
        on_local_end: Takes the end of a local activity's attempt.
    """

    def __init__(
        self,
        run: RunTask,
        task: ActivityTask,
        definition: Definition,
        loop: asyncio.AbstractEventLoop,
        started_time_ms: int,
        *,
        on_local_end: Callable[[Any], None] | None = None,
    ) -> None:
        #: Takes the end of a local activity's attempt; ``None`` for others, whose end is told to history.
        self.on_local_end = on_local_end
        self.run = run
        self.task = task
        self.definition = definition
        self.started_time_ms = started_time_ms
        self.thread_cancellation = ThreadCancellation()
        self.timeout: Timer | None = None
        #: Nobody wants the result any more.
        self.gone = False
        self.cancellation: ActivityCancellationDetails | None = None
        self.heartbeats: Heartbeats | None = None
        #: The last heartbeat that is with the codec; what follows is sent behind it.
        self.heartbeat_on_its_way: concurrent.futures.Future[None] | None = None
        self._loop = loop
        self._async_task: asyncio.Task[None] | None = None
        self._context: ActivityContext | None = None
        self._lock = threading.Lock()

    def entered(self, context: ActivityContext, async_task: asyncio.Task[None] | None) -> None:
        """The attempt's code is about to run.

        Raises:
            asyncio.CancelledError: an async attempt was cancelled before it began.
            CancelledError: a synchronous one was.
        """
        with self._lock:
            self._context = context
            self._async_task = async_task
            cancellation = self.cancellation
        if cancellation is not None:
            context.note_cancelled(cancellation)
            if async_task is not None:
                raise asyncio.CancelledError
            if not self.definition.no_thread_cancel_exception:
                raise CancelledError

    def left(self) -> None:
        """The attempt's code is over."""
        with self._lock:
            # Both refer to the attempt: without them it is free as soon as it has ended.
            self._async_task = self._context = None
        if self.timeout is not None:
            self.timeout.cancel()
            self.timeout = None

    def close_heartbeats(self) -> ActivityTaskHeartbeat | None:
        """There are no more heartbeats; what was held back and never sent."""
        heartbeats, self.heartbeats = self.heartbeats, None
        return None if heartbeats is None else heartbeats.close()

    def cancel(self, details: ActivityCancellationDetails) -> None:
        """Ask the attempt to stop. Only the first call counts. From any thread."""
        with self._lock:
            if self.cancellation is not None:
                return
            self.cancellation = details
            context = self._context
        if context is None:
            return  # it is told when it begins
        context.note_cancelled(details)
        if self.definition.is_async:
            try:
                self._loop.call_soon_threadsafe(self._cancel_async_task)
            except RuntimeError:
                pass  # the loop is closed, and the task with it
        elif not self.definition.no_thread_cancel_exception:
            self.thread_cancellation.raise_in_thread(CancelledError)

    def worker_stops(self) -> None:
        """Tell the attempt that its worker was asked to stop."""
        with self._lock:
            context = self._context
        if context is not None:
            context.worker_shutdown.set()

    def _cancel_async_task(self) -> None:
        if self._async_task is not None:
            self._async_task.cancel()


class Heartbeats:
    """The heartbeats of one attempt.

    Args:
        attempt: The attempt.
        converter: Encodes details.
        interval_s: The throttle interval.
        timers: Sends what was held back.
        send: Takes a heartbeat that is due.
        check_size: Refuse details that are too large; not before a codec, which may make them smaller.
    """

    def __init__(
        self,
        attempt: Attempt,
        converter: PayloadConverter,
        interval_s: float,
        timers: TimerThread,
        send: Callable[[Attempt, ActivityTaskHeartbeat], None],
        *,
        check_size: bool = True,
    ) -> None:
        self._attempt = attempt
        self._converter = converter
        self._interval_s = interval_s
        self._timers = timers
        self._send = send
        self._check_size = check_size
        self._lock = threading.Lock()
        self._held_back: ActivityTaskHeartbeat | None = None
        self._timer: Timer | None = None
        self._closed = False

    def beat(self, *details: Any) -> None:
        """The attempt said that it lives.

        Raises:
            PayloadTooLargeError: the details are too large. Exception: they cannot be encoded.
        """
        payloads = self._converter.to_payloads(details) if details else []
        if self._check_size:
            check_payloads(payloads, f"the heartbeat of activity {self._attempt.task.options.activity_id!r}")
        heartbeat = ActivityTaskHeartbeat(
            scheduled_event_id=self._attempt.task.scheduled_event_id,
            attempt=self._attempt.task.attempt,
            started_time_ms=self._attempt.started_time_ms,
            details=payloads,
        )
        with self._lock:
            if self._closed:
                return
            if self._timer is not None:
                self._held_back = heartbeat
                return
            self._timer = self._timers.call_later(self._interval_s, self._interval_over)
        self._send(self._attempt, heartbeat)

    def close(self) -> ActivityTaskHeartbeat | None:
        """The attempt is over; what was held back and never sent."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            held_back, self._held_back = self._held_back, None
            return held_back

    def _interval_over(self) -> None:
        with self._lock:
            heartbeat, self._held_back = self._held_back, None
            if heartbeat is None or self._closed:
                self._timer = None
                return
            self._timer = self._timers.call_later(self._interval_s, self._interval_over)
        self._send(self._attempt, heartbeat)
