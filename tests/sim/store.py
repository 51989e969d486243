"""The state store in memory: the real one's staging and sealing over a sorted map, with losses on demand.

Invariant: one sealed batch or commit is applied whole or not at all. ``lose`` takes the last commits back, as an
operating system that dies may.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from pathlib import Path

from perdure_runtime.store import SealedBatch, StateStore
from tests.sim.mortal import Process
from tests.sim.world import SimCrash


class Disk:
    """What is on disk: it outlives its process. Has those methods of RocksDB that the store uses."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []
        #: What undoes the last commits, the newest last.
        self._undo: list[dict[bytes, bytes | None]] = []

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def put(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            if self.entries.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]
            return
        if key not in self.entries:
            insort(self.keys, key)
        self.entries[key] = value

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        self._undo.append({key: self.entries.get(key) for key in changes})
        del self._undo[:-20]
        for key, value in changes.items():
            self.put(key, value)

    def lose(self, count: int) -> None:
        """Take the last ``count`` writes back."""
        for _ in range(min(count, len(self._undo))):
            for key, value in self._undo.pop().items():
                self.put(key, value)

    def wipe(self) -> None:
        """The folder is deleted."""
        self.entries.clear()
        self.keys.clear()
        self._undo.clear()

    def delete_range(self, start: bytes, end: bytes) -> None:
        self._undo.clear()
        for key in self.keys[bisect_left(self.keys, start) : bisect_left(self.keys, end)]:
            self.put(key, None)

    def iter(self) -> _Iterator:
        return _Iterator(self)

    def close(self) -> None:
        """The disk stays."""


class _Iterator:
    def __init__(self, disk: Disk) -> None:
        # Commits happen between scans only, so there is no need of a snapshot.
        self._keys = disk.keys
        self._entries = disk.entries
        self._index = 0

    def seek(self, key: bytes) -> None:
        self._index = bisect_left(self._keys, key)

    def valid(self) -> bool:
        return self._index < len(self._keys)

    def key(self) -> bytes:
        return self._keys[self._index]

    def value(self) -> bytes | None:
        return self._entries.get(self._keys[self._index])

    def next(self) -> None:
        self._index += 1

    def status(self) -> None:
        """Nothing ever damages this disk."""


class SimStore(StateStore):
    """A :class:`StateStore` on a :class:`Disk`."""

    def __init__(self, disk: Disk, process: Process, name: str) -> None:
        self._use(Path(name), disk)  # type: ignore[arg-type]
        self._process = process

    def beside(self) -> SimStore:
        return SimStore(self._database, self._process, str(self._path))  # type: ignore[arg-type]

    def _write(self, batches: Sequence[SealedBatch], positions: Mapping[bytes, bytes]) -> None:
        killed = self._process.write(f"checkpoint of {self._path}")
        changes: dict[bytes, bytes | None] = {}
        for batch in batches:
            changes.update(batch.writes)
        changes.update(positions)
        self._database.write(changes)
        if killed:
            raise SimCrash(self._process)
