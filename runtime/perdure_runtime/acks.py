"""Acknowledgements of ``append`` calls, for the embedded log and for its clients.

Invariant: decided once, with the owning log's lock held; callbacks run after that without the lock. Decided by the
embedded log's commit thread after the sync, or by a client's receiving thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from perdure_runtime.log import LogError, LogRecord, NewRecord, TopicPartition

if TYPE_CHECKING:
    from perdure_runtime.log import Ack

_logger = logging.getLogger("perdure.log")


class LocalAck:
    """Implements :class:`perdure_runtime.log.Ack` for records whose offsets are known from the start.

    Args:
        lock: guards it, together with everything else of its log.
        records: what was appended.
        urge: called, with the lock held, when somebody waits for the decision.
    """

    __slots__ = ("_callbacks", "_done", "_error", "_event", "_lock", "_records", "_unknown", "_urge")

    def __init__(
        self, lock: threading.Lock, records: Sequence[LogRecord] = (), urge: Callable[[], None] | None = None
    ) -> None:
        self._lock = lock
        self._records = records
        self._urge = urge
        self._done = False
        self._unknown = False
        self._error: LogError | None = None
        self._event: threading.Event | None = None
        self._callbacks: list[Callable[[Ack], None]] | None = None

    @classmethod
    def decided(cls, lock: threading.Lock, error: LogError | None = None, *, unknown: bool = False) -> LocalAck:
        """One that is decided from the start. ``unknown``: it is safe, but nobody knows its offsets any more."""
        ack = cls(lock)
        ack._done = True
        ack._error = error
        ack._unknown = unknown
        return ack

    def done(self) -> bool:
        return self._done

    def error(self) -> LogError | None:
        return self._error

    def wait(self, timeout_s: float | None = None) -> bool:
        if self._done:
            return True
        with self._lock:
            if self._done:
                return True
            if self._event is None:
                self._event = threading.Event()
            if self._urge is not None:
                self._urge()
        return self._event.wait(timeout_s)

    def offsets(self) -> Mapping[TopicPartition, int]:
        self._check_safe()
        last = {(record[0], record[1]): record[2] for record in self._records}
        return {TopicPartition(*where): offset for where, offset in last.items()}

    def last_offsets(self) -> list[int] | None:
        """The values of :meth:`offsets` in the order in which the partitions appear; ``None`` if not known any more."""
        if self._unknown:
            return None
        return list({(record[0], record[1]): record[2] for record in self._records}.values())

    def _check_safe(self) -> None:
        if not self._done:
            raise LogError("the append is not acknowledged yet: wait for it before asking for its offsets")
        if self._error is not None:
            raise self._error
        if self._unknown:
            raise LogError("the append was acknowledged before a restart, its offsets are not known any more")

    def on_done(self, callback: Callable[[Ack], None]) -> None:
        if not self._done:
            with self._lock:
                if not self._done:
                    if self._callbacks is None:
                        self._callbacks = []
                    self._callbacks.append(callback)
                    return
        callback(self)

    def decide(self, error: LogError | None) -> list[Callable[[Ack], None]] | None:
        """Decide it (lock held). Returns the callbacks, to be called without the lock."""
        self._error = error
        self._done = True
        if self._event is not None:
            self._event.set()
        return self._callbacks


class RemoteAck(LocalAck):
    """The acknowledgement of an append that is done elsewhere: its offsets come with the answers, one for each message
    the call was sent in."""

    __slots__ = ("_answers", "_failed")

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__(lock)
        self._answers: list[tuple[Sequence[NewRecord], list[int]]] = []
        self._failed: LogError | None = None

    def answered(self, sent: Sequence[NewRecord], last_offsets: list[int] | None, error: LogError | None) -> None:
        """Take in the answer to one message (lock held).

        Args:
            sent: the records of that message.
            last_offsets: what the server's :meth:`LocalAck.last_offsets` said.
            error: why it failed.
        """
        if error is not None:
            self._failed = self._failed or error
        elif last_offsets is None:
            self._unknown = True
        else:
            self._answers.append((sent, last_offsets))

    def settle(self) -> list[Callable[[Ack], None]] | None:
        """All messages are answered: decide (lock held). Returns the callbacks, to be called without the lock."""
        return self.decide(self._failed)

    def offsets(self) -> Mapping[TopicPartition, int]:
        self._check_safe()
        found: dict[TopicPartition, int] = {}
        for sent, last_offsets in self._answers:
            places = dict.fromkeys((record[0], record[1]) for record in sent)
            for where, offset in zip(places, last_offsets, strict=True):
                found[TopicPartition(*where)] = offset
        return found


def call_back(called: Sequence[tuple[LocalAck, Sequence[Callable[[Ack], None]]]]) -> None:
    """Call the callbacks of decided acknowledgements; an error in one is logged and does not touch the others."""
    for ack, callbacks in called:
        for callback in callbacks:
            try:
                callback(ack)
            except Exception:
                _logger.exception("event=ack_callback_failed")
