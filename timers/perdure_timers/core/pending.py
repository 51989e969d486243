"""The near future: wake-ups that are due soon, and those that were sent and not yet confirmed.

Invariants: no timer is given out before its due time; each is given out once, and again only when history stayed silent
about it for ``resend_after_ms``; :meth:`PendingTimers.next_due_ms` is exact; adding, removing and giving out cost
O(log n). Called by :mod:`perdure_timers.service`.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import msgspec

from perdure_schemas.records import Command, DeadlineReached

__all__ = ["PendingTimers", "Timer", "wake_up"]

_GARBAGE_MIN = 1_024


class Timer(msgspec.Struct, gc=False):
    """One armed wake-up of a run."""

    timer_id: str
    workflow_id: str
    run_id: str
    arm_number: int
    due_ms: int
    #: Offset of its record and when it was read; both only matter until it is stored.
    sequence: int = -1
    arrived_ms: int = 0
    stored: bool = False

    @property
    def key(self) -> tuple[int, str]:
        """Its place in time."""
        return (self.due_ms, self.timer_id)


class _Sent(NamedTuple):
    timer: Timer
    sent_ms: int


class PendingTimers:
    """Timers in the order in which they are due.

    Args:
        resend_after_ms: how long history may say nothing about a sent wake-up before it is sent again.
    """

    __slots__ = ("_heap", "_near", "_resend_after_ms", "_sent")

    def __init__(self, resend_after_ms: int) -> None:
        self._resend_after_ms = resend_after_ms
        self._near: dict[str, Timer] = {}
        self._heap: list[tuple[int, str]] = []
        #: In the order of sending, so the first is the first to be sent again.
        self._sent: OrderedDict[str, _Sent] = OrderedDict()

    @property
    def waiting_count(self) -> int:
        """How many are not due yet, or due and not given out."""
        return len(self._near)

    def add(self, timer: Timer) -> None:
        """Take in a timer that is not here."""
        self._near[timer.timer_id] = timer
        heappush(self._heap, timer.key)

    def get(self, timer_id: str) -> Timer | None:
        """The timer of an id, sent or not."""
        timer = self._near.get(timer_id)
        if timer is None:
            sent = self._sent.get(timer_id)
            timer = None if sent is None else sent.timer
        return timer

    def remove(self, timer_id: str) -> Timer | None:
        """Forget a timer: it is confirmed or void."""
        timer = self._near.pop(timer_id, None)
        if timer is None:
            sent = self._sent.pop(timer_id, None)
            return None if sent is None else sent.timer
        if len(self._heap) > 2 * len(self._near) + _GARBAGE_MIN:
            self._heap = [waiting.key for waiting in self._near.values()]
            heapify(self._heap)
        return timer

    def next_due_ms(self) -> int | None:
        """When :meth:`take_due` has something to give; ``None`` if never."""
        due_ms = self._next_waiting_ms()
        if self._sent:
            resend_ms = self._resend_ms()
            due_ms = resend_ms if due_ms is None else min(due_ms, resend_ms)
        return due_ms

    def take_due(self, now_ms: int, count_max: int) -> list[Timer]:
        """Give out up to ``count_max`` timers that are due at ``now_ms``, earliest first, then those to send again."""
        due: list[Timer] = []
        while len(due) < count_max:
            due_ms = self._next_waiting_ms()
            if due_ms is None or due_ms > now_ms:
                break
            timer = self._near.pop(heappop(self._heap)[1])
            self._sent[timer.timer_id] = _Sent(timer, now_ms)
            due.append(timer)
        while len(due) < count_max and self._sent and self._resend_ms() <= now_ms:
            timer = self._sent[next(iter(self._sent))].timer
            self._sent[timer.timer_id] = _Sent(timer, now_ms)
            self._sent.move_to_end(timer.timer_id)
            due.append(timer)
        return due

    def _resend_ms(self) -> int:
        return self._sent[next(iter(self._sent))].sent_ms + self._resend_after_ms

    def _next_waiting_ms(self) -> int | None:
        while self._heap:
            due_ms, timer_id = self._heap[0]
            timer = self._near.get(timer_id)
            if timer is not None and timer.due_ms == due_ms:
                return due_ms
            heappop(self._heap)
        return None


def wake_up(timer: Timer) -> Command:
    """The command that tells history that a timer is due. Its id follows from the timer's, so a repetition is known."""
    return Command(
        command_id=f"due/{timer.timer_id}",
        workflow_id=timer.workflow_id,
        run_id=timer.run_id,
        body=DeadlineReached(arm_number=timer.arm_number, due_time_ms=timer.due_ms),
    )
