"""All outstanding timers in the partition's store, in the order of their due times.

Layout: ``d/<due, 8 bytes big-endian><timer id>`` the timer, ``i/<timer id>`` its due time, ``m`` positions, fence and
count. A read by time is one scan; a removal needs the index, since a tombstone only has the id. Called by the service.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from perdure_runtime.handler import PartitionStore
from perdure_schemas import limits
from perdure_timers.core.pending import Timer

__all__ = ["FarTimers", "Positions"]

_META = b"m"
_DUE = b"d/"
_INDEX = b"i/"
_CUT = len(_DUE) + 8


class Positions(msgspec.Struct, array_like=True):
    """How far ``timers`` was read, and what the fence knew then."""

    timers: int = 0
    saved_ms: int = 0
    fence: bytes = b""
    #: Offset of the newest mark; the checkpoint's position is above it.
    mark: int = -1
    stored_count: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode_positions = msgspec.msgpack.Decoder(Positions).decode
_decode_rest = msgspec.msgpack.Decoder(tuple[str, str, int]).decode


class FarTimers:
    """The timers of one partition on disk."""

    __slots__ = ("_store", "count")

    def __init__(self, store: PartitionStore) -> None:
        self._store = store
        self.count = 0

    def load(self, now_ms: int) -> Positions | None:
        """The positions of the last checkpoint; ``None`` if there is none, or one so old that it had to be emptied."""
        meta = self._store.get(_META)
        if meta is None:
            return None
        positions = _decode_positions(meta)
        if now_ms - positions.saved_ms > limits.STATE_AGE_MS_MAX:
            for prefix in (_DUE, _INDEX, _META):
                for key in [key for key, _ in self._store.scan(prefix)]:
                    self._store.delete(key)
            return None
        self.count = positions.stored_count
        return positions

    def save(self, positions: Positions) -> None:
        """Stage the positions of a checkpoint."""
        positions.stored_count = self.count
        self._store.put(_META, _encode(positions))

    def put(self, timer: Timer) -> None:
        """Stage a timer that is not stored."""
        self._store.put(_due_key(timer.key), _encode((timer.workflow_id, timer.run_id, timer.arm_number)))
        self._store.put(_INDEX + timer.timer_id.encode(), timer.due_ms.to_bytes(8, "big"))
        timer.stored = True
        self.count += 1

    def due_of(self, timer_id: str) -> int | None:
        """The due time of a stored timer; ``None`` if it is not stored."""
        if self.count == 0:
            return None
        value = self._store.get(_INDEX + timer_id.encode())
        return None if value is None else int.from_bytes(value, "big")

    def delete(self, due_ms: int, timer_id: str) -> None:
        """Stage the removal of a stored timer."""
        self._store.delete(_due_key((due_ms, timer_id)))
        self._store.delete(_INDEX + timer_id.encode())
        self.count -= 1

    def scan(self, start: tuple[int, str]) -> Iterator[Timer]:
        """Stored timers from a (due time, id) on, earliest first."""
        for key, value in self._store.scan(_DUE, _due_key(start)):
            workflow_id, run_id, arm_number = _decode_rest(value)
            due_ms = int.from_bytes(key[len(_DUE) : _CUT], "big")
            yield Timer(key[_CUT:].decode(), workflow_id, run_id, arm_number, due_ms, stored=True)


def _due_key(key: tuple[int, str]) -> bytes:
    return _DUE + max(key[0], 0).to_bytes(8, "big") + key[1].encode()
