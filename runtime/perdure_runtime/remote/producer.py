"""Appending over the link: messages go out at once, are kept until they are answered, and sent again after a reconnect.

Invariants: sequence numbers are gapless and leave in order, so that the server knows what it has seen; what waits for
an answer is bounded in bytes. One pipe serves all producers of a log. Called by :mod:`perdure_runtime.remote.log`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perdure_runtime.acks import LocalAck, RemoteAck, call_back
from perdure_runtime.log import LogError, LogUnavailableError, NewRecord
from perdure_runtime.remote import protocol
from perdure_runtime.remote.link import Link
from perdure_runtime.sizes import record_bytes, too_large
from perdure_schemas.limits import APPEND_BYTES_MAX, RECORD_BYTES_MAX, UNACKNOWLEDGED_BYTES_MAX

CLOSE_FLUSH_S_MAX = 5.0


class Pipe:
    """All appends of a remote log, in one sequence."""

    def __init__(self) -> None:
        self._sequence = 0
        self._bytes = 0
        #: By sequence: the frame, its records, their acknowledgement, and whether this is the last frame of the call.
        self._waiting: dict[int, tuple[bytes, Sequence[NewRecord], RemoteAck, bool]] = {}
        self._failure: LogError | None = None

    def append(self, link: Link, records: Sequence[NewRecord]) -> LocalAck:
        """Send records, and keep them until they are acknowledged.

        Raises:
            LogError: a record is too large, or the log is closed.
            LogUnavailableError: the server is away, and too much waits for it already.
        """
        if not records:
            return LocalAck.decided(link.lock)
        parts = list(_cut(records))
        ack = RemoteAck(link.lock)
        with link.lock:
            if self._failure is not None:
                raise self._failure
            for number, part in enumerate(parts, 1):
                sequence = self._sequence + 1
                data = protocol.frame(protocol.Append(sequence, part))
                if self._bytes + len(data) > UNACKNOWLEDGED_BYTES_MAX and number == 1:
                    raise LogUnavailableError(
                        f"{self._bytes} bytes wait for the Perdure server at {link.address}, which does not answer: "
                        "is it running? Start it with `perdure dev`"
                    )
                self._sequence = sequence
                self._bytes += len(data)
                self._waiting[sequence] = (data, part, ack, number == len(parts))
                link.send(data)
        return ack

    def unanswered(self) -> list[bytes]:
        """The frames to send again after a reconnect (lock held)."""
        return [data for data, _, _, _ in self._waiting.values()]

    def answered(self, link: Link, acks: list[tuple[int, list[int] | None, str]]) -> None:
        """Take in what the server acknowledged."""
        called = []
        with link.lock:
            for sequence, last_offsets, reason in acks:
                found = self._waiting.pop(sequence, None)
                if found is None:
                    continue  # answered twice: before and after a reconnect
                data, part, ack, last = found
                self._bytes -= len(data)
                ack.answered(part, last_offsets, LogError(reason) if reason else None)
                if last:
                    callbacks = ack.settle()
                    if callbacks:
                        called.append((ack, callbacks))
        call_back(called)

    def last(self, link: Link) -> LocalAck | None:
        """The acknowledgement that is decided last, if any is open."""
        with link.lock:
            return next(reversed(self._waiting.values()))[2] if self._waiting else None

    def fail(self, link: Link, error: LogError) -> None:
        """Nothing more will be answered."""
        called = []
        with link.lock:
            self._failure = error
            waiting, self._waiting = self._waiting, {}
            for _, part, ack, last in waiting.values():
                ack.answered(part, None, error)
                if last:
                    callbacks = ack.settle()
                    if callbacks:
                        called.append((ack, callbacks))
        call_back(called)


class RemoteLogProducer:
    """Implements :class:`perdure_runtime.log.Producer`. May be used by many threads."""

    def __init__(self, link: Link, pipe: Pipe, name: str) -> None:
        self.name = name
        self._link = link
        self._pipe = pipe
        self._last: LocalAck | None = None
        self._closed = False

    def append(self, records: Sequence[NewRecord]) -> LocalAck:
        if self._closed:
            raise LogError(f"producer {self.name!r} is closed")
        self._last = ack = self._pipe.append(self._link, records)
        return ack

    def flush(self, timeout_s: float) -> bool:
        # The server acknowledges in the order of the calls.
        return self._last is None or self._last.wait(timeout_s)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._link.connected:
                self.flush(CLOSE_FLUSH_S_MAX)


def _cut(records: Sequence[NewRecord]) -> Iterator[list[NewRecord]]:
    """Cut records into messages of a bounded size."""
    part: list[NewRecord] = []
    filled_bytes = 0
    for record in records:
        size = record_bytes(record)
        if size > RECORD_BYTES_MAX:
            raise too_large(record, size)
        size += len(record.topic)
        if part and filled_bytes + size > APPEND_BYTES_MAX:
            yield part
            part, filled_bytes = [], 0
        part.append(record)
        filled_bytes += size
    yield part
