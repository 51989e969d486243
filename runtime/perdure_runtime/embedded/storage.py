"""Where the embedded log keeps its bytes: an ordered map with atomic writes, on RocksDB or in memory.

Invariants:

* a ``write`` is atomic, writes are durable in their order, and everything written before ``sync`` began survives a
  crash once it returned;
* only the commit thread writes; any thread reads, from a snapshot.

RocksDB's own synced write would hold the interpreter's lock for the whole ``fsync`` (the binding never releases it), so
writes go unsynced into its write-ahead log, and :class:`_WalSync` syncs that file, which releases the lock.
Called by the rest of this package only.
"""

from __future__ import annotations

import os
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol

from rocksdict import Options, Rdict, RdictIter, WriteBatch

from perdure_runtime.log import LogError

_WRITE_BUFFER_BYTES = 32 * 1024 * 1024
_sync_file = getattr(os, "fdatasync", os.fsync)


class Storage(Protocol):
    """An ordered map of bytes with atomic writes."""

    def write(self, entries: Mapping[bytes, bytes | None], ranges: Sequence[tuple[bytes, bytes]]) -> None:
        """Remove the key ranges ``[begin, end)``, then set the entries (``None`` removes one), all or nothing."""

    def sync(self) -> None:
        """Make everything written so far durable."""

    def get(self, key: bytes) -> bytes | None:
        """One value."""

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Entries of ``[begin, end)`` in key order, from one snapshot."""

    def last_key(self, begin: bytes, end: bytes) -> bytes | None:
        """The greatest key of ``[begin, end)``."""

    def close(self) -> None:
        """Let go of all resources. Nothing may be called after it."""


class MemoryStorage:
    """Keeps everything in memory, for tests: lost when the process ends."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._keys: list[bytes] = []
        self._values: dict[bytes, bytes] = {}

    def write(self, entries: Mapping[bytes, bytes | None], ranges: Sequence[tuple[bytes, bytes]]) -> None:
        with self._lock:
            for begin, end in ranges:
                low, high = bisect_left(self._keys, begin), bisect_left(self._keys, end)
                for key in self._keys[low:high]:
                    del self._values[key]
                del self._keys[low:high]
            for key, value in entries.items():
                if value is not None:
                    if key not in self._values:
                        insort(self._keys, key)
                    self._values[key] = value
                elif key in self._values:
                    del self._values[key]
                    del self._keys[bisect_left(self._keys, key)]

    def sync(self) -> None:
        """Nothing: memory is as safe as it gets."""

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._lock:
            keys = self._keys[bisect_left(self._keys, begin) : bisect_left(self._keys, end)]
            found = [(key, self._values[key]) for key in keys]
        return iter(found)

    def last_key(self, begin: bytes, end: bytes) -> bytes | None:
        with self._lock:
            position = bisect_left(self._keys, end) - 1
            if position < 0 or self._keys[position] < begin:
                return None
            return self._keys[position]

    def close(self) -> None:
        self._keys.clear()
        self._values.clear()


class RocksStorage:
    """Keeps everything in a RocksDB folder that one process may have open.

    Raises:
        LogError: the folder is in use, is something else, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            foreign = not (path / "CURRENT").exists() and any(path.iterdir())
        except OSError as error:
            raise LogError(f"cannot use {path} for the embedded log: {error.strerror or error}") from error
        if foreign:
            raise LogError(
                f"{path} holds files that are not an embedded log: give a new or an empty folder, "
                "so that nothing of yours is mixed in"
            )
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        options.set_max_background_jobs(2)
        options.set_keep_log_file_num(2)
        options.set_max_open_files(256)
        # The dumps would wake a thread for nobody.
        options.set_stats_dump_period_sec(0)
        options.set_stats_persist_period_sec(0)
        try:
            self._db = Rdict(str(path), options)
        except Exception as error:
            if "While lock file" in str(error) or "lock hold" in str(error):
                raise LogError(
                    f"the embedded log at {path} is in use by another process (or opened twice in this one): "
                    f"stop that one, or give another folder"
                ) from error
            raise LogError(f"the embedded log at {path} cannot be opened: {error}") from error
        self._wal = _WalSync(path)

    def write(self, entries: Mapping[bytes, bytes | None], ranges: Sequence[tuple[bytes, bytes]]) -> None:
        batch = WriteBatch(raw_mode=True)
        for begin, end in ranges:
            batch.delete_range(begin, end)
        put = batch.put
        for key, value in entries.items():
            if value is None:
                batch.delete(key)
            else:
                put(key, value)
        self._db.write(batch)

    def sync(self) -> None:
        self._wal.sync()

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise self._unreadable(error) from error
        return value

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        iterator = self._db.iter()
        iterator.seek(begin)
        while iterator.valid():
            key: bytes = iterator.key()
            if key >= end:
                return
            yield key, iterator.value()
            iterator.next()
        self._check(iterator)

    def _check(self, iterator: RdictIter) -> None:
        """An iterator that meets a damaged block looks as one at its end."""
        try:
            iterator.status()
        except Exception as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> LogError:
        return LogError(
            f"the embedded log at {self._path} cannot be read: {error}. If its files are damaged, restore them from a "
            "copy: there is no other one of what they held"
        )

    def last_key(self, begin: bytes, end: bytes) -> bytes | None:
        iterator = self._db.iter()
        iterator.seek_for_prev(end)
        if iterator.valid() and iterator.key() == end:
            iterator.prev()
        if not iterator.valid():
            self._check(iterator)
            return None
        key: bytes = iterator.key()
        return key if key >= begin else None

    def close(self) -> None:
        self._wal.close()
        self._db.close()


class _WalSync:
    """Syncs RocksDB's write-ahead log from outside.

    RocksDB hands every write to the operating system before ``write`` returns, and a write goes into one file as a
    whole. Since every write is followed by a sync, only the newest file can hold something unsynced. If that file did
    not grow, RocksDB has switched to a new one, because the memtable was full; then the folder is synced, too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = -1
        self._file: int | None = None
        self._size = -1

    def sync(self) -> None:
        if self._file is not None:
            size = os.fstat(self._file).st_size
            if size != self._size:
                _sync_file(self._file)
                self._size = size
                return
        self._switch()

    def _switch(self) -> None:
        numbers = sorted(int(path.stem) for path in self._path.glob("*.log") if path.stem.isdigit())
        newer = [number for number in numbers if number > self._number]
        for number in newer:
            try:
                opened = os.open(self._path / f"{number:06d}.log", os.O_RDONLY)
            except FileNotFoundError:
                continue  # its memtable is in a table file by now, which RocksDB synced before it removed the log
            self.close()
            self._file, self._number = opened, number
            self._size = os.fstat(opened).st_size
            _sync_file(opened)
        if newer:
            folder = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
