"""The acknowledgement that producers and memberships on Kafka hand out.

Decided exactly once; waiting costs an event only for those who wait. Called by the producer and the membership.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from perdure_runtime.kafka.errors import logger
from perdure_runtime.log import Ack, LogError, TopicPartition


class KafkaAck:
    """See :class:`perdure_runtime.log.Ack`.

    Parameters:
        lock: guards the decision; shared by the acknowledgements of one owner.
        outstanding: how many partitions have to report before it is decided.
    """

    __slots__ = ("_callbacks", "_decided", "_error", "_event", "_lock", "_offsets", "_outstanding")

    def __init__(self, lock: threading.Lock, outstanding: int = 0) -> None:
        self._lock = lock
        self._outstanding = outstanding
        self._decided = False
        self._error: LogError | None = None
        self._offsets: dict[TopicPartition, int] = {}
        self._event: threading.Event | None = None
        self._callbacks: list[Callable[[Ack], None]] = []

    def done(self) -> bool:
        """Whether it is decided."""
        return self._decided

    def error(self) -> LogError | None:
        """The error, if it failed."""
        return self._error

    def offsets(self) -> Mapping[TopicPartition, int]:
        """The offset of the call's last record in each partition."""
        if self._error is not None:
            raise self._error
        if not self._decided:
            raise LogError("the offsets are known only when the records are acknowledged")
        return self._offsets

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until decided; true if it is."""
        with self._lock:
            if self._decided:
                return True
            if self._event is None:
                self._event = threading.Event()
            event = self._event
        return event.wait(timeout_s)

    def on_done(self, callback: Callable[[Ack], None]) -> None:
        """Call back once decided, on the thread that decides, or at once if it already is."""
        with self._lock:
            if not self._decided:
                self._callbacks.append(callback)
                return
        callback(self)

    def delivered(self, partition: TopicPartition, offset: int) -> bool:
        """One partition of the call is safe up to ``offset``; true if that was the last one missing."""
        self._offsets[partition] = offset
        self._outstanding -= 1
        return self._outstanding == 0

    def decide(self, error: LogError | None) -> None:
        """Decide it; the first decision stands."""
        with self._lock:
            if self._decided:
                return
            self._error = error
            self._decided = True
            event, callbacks = self._event, self._callbacks
            self._callbacks = []
        if event is not None:
            event.set()
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                logger.exception("a callback of an acknowledgement failed")
