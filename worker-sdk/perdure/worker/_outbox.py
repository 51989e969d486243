"""Sends completions, and keeps a task held until the log has its completion.

Invariants: completions of one call go out in one append, in order; one that the log did not take is sent again until
it does, because the log being away is no reason to do the work twice. Used by the dispatch thread, by the event loop
and by activity threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from perdure.worker._inbox import Inbox
from perdure.worker._timers import TimerThread
from perdure_runtime.log import Ack, LogError, NewRecord, Producer

_logger = logging.getLogger("perdure.worker")
_RETRY_DELAY_S = 1.0


class Outgoing(NamedTuple):
    """A record to append, the task that is finished with it (empty: none), and what to do once it is in the log."""

    record: NewRecord
    task_id: str
    then: Callable[[], None] | None = None


class Outbox:
    """The completions of one worker.

    Args:
        producer: Takes the records.
        inbox: Holds the tasks.
        timers: For repetitions.
        on_released: Called, on any thread, whenever tasks stopped being held.
    """

    def __init__(self, producer: Producer, inbox: Inbox, timers: TimerThread, on_released: Callable[[], None]) -> None:
        self._producer = producer
        self._inbox = inbox
        self._timers = timers
        self._on_released = on_released

    def send(self, batch: Sequence[Outgoing]) -> None:
        """Append records; does not wait."""
        if not batch:
            return
        try:
            ack = self._producer.append([outgoing.record for outgoing in batch])
        except LogError as error:
            self._again(batch, error)
            return

        def decided(ack: Ack) -> None:
            error = ack.error()
            if error is not None:
                self._again(batch, error)
                return
            for outgoing in batch:
                if outgoing.then is not None:
                    outgoing.then()  # before its task is finished: a worker that stops waits for what this begins
                if outgoing.task_id:
                    self._inbox.finish(outgoing.task_id)
            self._on_released()

        ack.on_done(decided)

    def note_released(self) -> None:
        """A task stopped being held without a completion."""
        self._on_released()

    def _again(self, batch: Sequence[Outgoing], error: LogError) -> None:
        _logger.warning("event=completions_unsent count=%d reason=%r", len(batch), str(error))
        self._timers.call_later(_RETRY_DELAY_S, lambda: self.send(batch))
