"""The state store: what a role has folded from its topics, on disk in RocksDB, one database for each role and process.

It is a cache of the log and never precious: deleted, it is rebuilt. Invariants:

* writes reach the disk only through :meth:`StateStore.commit`, in the order of :meth:`StateStore.seal`, each sealed
  batch in one RocksDB write; the shell commits a batch only when the log has acknowledged all that was sent before it,
  so the store never knows more than the log;
* reads see staged and sealed writes;
* what the disk says is never guessed at: an error while reading or writing is a :class:`StateStoreError`, and an entry
  that cannot be read is never taken for one that is not there;
* two views of one database (:meth:`StateStore.beside`) never have the same partition at the same time.

Called by the processor shell; handlers see one partition of it as a ``PartitionStore``.
"""

from __future__ import annotations

import logging
import shutil
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import rocksdict

_logger = logging.getLogger("perdure.engine")

_VERSION_KEY = b"\xff\xffversion"
#: One of a hundred keys that are not there is looked for in vain.
_FILTER_BITS_PER_KEY = 10
#: What RocksDB says when the file system refuses, and not the files are wrong.
_REFUSALS = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "Permission denied",
    "Read-only file system",
    "Too many open files",
    "Cannot allocate memory",
    "Input/output error",
    "Stale file handle",
)


class StateStoreError(Exception):
    """The state folder cannot be used. The message says why and what to do.

    Attributes:
        path: the folder.
        damaged: its files are not as they were written: it must be thrown away, and is rebuilt from the log.
    """

    def __init__(self, path: Path, message: str, *, damaged: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.damaged = damaged


class SealedBatch:
    """Writes that belong to one checkpoint."""

    __slots__ = ("number", "writes")

    def __init__(self, number: int, writes: dict[bytes, bytes | None]) -> None:
        self.number = number
        self.writes = writes


class StateStore:
    """One RocksDB folder, shared by the partitions of a role that this process owns.

    Args:
        path: the folder; it is created.
        version: version of the role's layout, kept inside.

    Raises:
        StateStoreError: another process has it open, it is damaged, or it was written with another layout version.
    """

    def __init__(self, path: Path, version: int) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _failure(path, error) from error
        self._use(path, _open(path))
        found = self.get(_VERSION_KEY)
        wanted = str(version).encode()
        if found is None:
            try:
                self._database.put(_VERSION_KEY, wanted)
            except Exception as error:
                self.close()
                raise _failure(path, error) from error
        elif found != wanted:
            self.close()
            raise StateStoreError(
                path,
                f"the state folder {path} was written with layout version {found.decode()}, this program has version"
                f" {version}; delete the folder (it is rebuilt from the log), or run the program that wrote it",
            )

    @classmethod
    def open_or_rebuild(cls, path: Path, version: int) -> StateStore:
        """As the constructor, but a damaged folder is emptied first: what it held is folded from the log again."""
        try:
            return cls(path, version)
        except StateStoreError as error:
            if not error.damaged:
                raise
            discard(path, str(error))
            return cls(path, version)

    def _use(self, path: Path, database: rocksdict.Rdict) -> None:
        self._path = path
        self._database = database
        #: What is not on disk yet: key → (value, number of the batch it belongs to).
        self._overlay: dict[bytes, tuple[bytes | None, int]] = {}
        self._overlay_keys: list[bytes] | None = None
        self._staged: dict[bytes, bytes | None] = {}
        self._batch_number = 0

    def partition(self, partition: int) -> StorePartition:
        """The part of the store that belongs to ``partition``."""
        return StorePartition(self, partition.to_bytes(2, "big"))

    def beside(self) -> StateStore:
        """A second view of the same database, with staged writes of its own: for a partition that is being folded, and
        whose checkpoints follow another rule than those of the owned ones. It is never closed by itself."""
        view = StateStore.__new__(StateStore)
        view._use(self._path, self._database)
        return view

    def adopt(self, part: StorePartition) -> None:
        """Make a partition of a view made by :meth:`beside` one of this store's: what is staged there and not on disk
        is staged here."""
        for key, (value, _) in part.redirect(self).items():
            self.stage(key, value)

    def get(self, key: bytes) -> bytes | None:
        """The value of a full key."""
        pending = self._overlay.get(key)
        if pending is not None:
            return pending[0]
        return self._read(key)

    def _read(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._database.get(key)
        except Exception as error:  # rocksdict raises plain Exception for everything
            raise _failure(self._path, error) from error
        return value

    def stage(self, key: bytes, value: bytes | None) -> None:
        """Stage a write (``None``: a removal) of a full key."""
        if self._overlay_keys is not None and key not in self._overlay:
            insort(self._overlay_keys, key)
        self._overlay[key] = (value, self._batch_number)
        self._staged[key] = value

    def seal(self) -> SealedBatch:
        """Close the current batch; later writes belong to the next one."""
        batch = SealedBatch(self._batch_number, self._staged)
        self._staged = {}
        self._batch_number += 1
        return batch

    def commit(self, batches: Sequence[SealedBatch], positions: Mapping[bytes, bytes]) -> None:
        """Write sealed batches, in order, and position entries (full keys) to disk in one write.

        Raises:
            StateStoreError: the disk is full, or fails; the database takes nothing more until it is opened anew.
        """
        self._write(batches, positions)
        overlay = self._overlay
        for batch in batches:
            for key in batch.writes:
                pending = overlay.get(key)
                if pending is not None and pending[1] <= batch.number:
                    del overlay[key]
        self._overlay_keys = None

    def _write(self, batches: Sequence[SealedBatch], positions: Mapping[bytes, bytes]) -> None:
        write = rocksdict.WriteBatch(raw_mode=True)
        for batch in batches:
            for key, value in batch.writes.items():
                if value is None:
                    write.delete(key)
                else:
                    write.put(key, value)
        for key, value in positions.items():
            write.put(key, value)
        try:
            self._database.write(write)
        except Exception as error:
            raise _failure(self._path, error) from error

    def scan(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Entries with full keys from ``start`` on while they begin with ``prefix``; pending writes included.

        Raises:
            StateStoreError: an entry cannot be read.
        """
        pending = self._pending_keys(prefix, start)
        position = 0
        iterator = self._database.iter()
        iterator.seek(start)
        while True:
            on_disk: bytes | None = iterator.key() if iterator.valid() else None
            if on_disk is None:
                self._check(iterator)
            if on_disk is not None and not on_disk.startswith(prefix):
                on_disk = None
            in_memory = pending[position] if position < len(pending) else None
            if on_disk is None and in_memory is None:
                return
            if in_memory is not None and (on_disk is None or in_memory <= on_disk):
                position += 1
                if in_memory == on_disk:
                    iterator.next()
                entry = self._overlay.get(in_memory)
                value = entry[0] if entry is not None else self._read(in_memory)
                if value is not None:
                    yield in_memory, value
            else:
                assert on_disk is not None
                value = iterator.value()
                iterator.next()
                yield on_disk, value

    def _check(self, iterator: rocksdict.RdictIter) -> None:
        """An iterator that meets a damaged block looks as one at its end."""
        try:
            iterator.status()
        except Exception as error:
            raise _failure(self._path, error) from error

    def take_pending(self) -> dict[bytes, tuple[bytes | None, int]]:
        """Give away all writes that are not on disk: key → (value, number of the batch)."""
        taken, self._overlay, self._staged, self._overlay_keys = self._overlay, {}, {}, None
        return taken

    def drop_partition(self, partition: int) -> None:
        """Forget what is staged for a partition that is not ours any more; what is on disk stays for its return."""
        prefix = partition.to_bytes(2, "big")
        for key in [key for key in self._overlay if key.startswith(prefix)]:
            del self._overlay[key]
        for key in [key for key in self._staged if key.startswith(prefix)]:
            del self._staged[key]
        self._overlay_keys = None

    def wipe_partition(self, partition: int) -> None:
        """Remove everything of a partition, from disk too: it will be rebuilt."""
        self.drop_partition(partition)
        prefix = partition.to_bytes(2, "big")
        end = (partition + 1).to_bytes(2, "big")
        try:
            self._database.delete_range(prefix, end)
        except Exception as error:
            raise _failure(self._path, error) from error

    def close(self) -> None:
        """Close the database. Staged writes are given up; the log still has them."""
        try:
            self._database.close()
        except Exception as error:  # closing flushes; what cannot be flushed is in the log, too
            _logger.warning("folder=%s event=closed_without_flush reason=%r", self._path, str(error))

    def _pending_keys(self, prefix: bytes, start: bytes) -> list[bytes]:
        if not self._overlay:
            return []
        if self._overlay_keys is None:
            self._overlay_keys = sorted(self._overlay)
        keys = self._overlay_keys
        found = []
        for index in range(bisect_left(keys, start), len(keys)):
            if not keys[index].startswith(prefix):
                break
            found.append(keys[index])
        return found


class StorePartition:
    """One partition's keys of a :class:`StateStore`; implements ``PartitionStore``."""

    __slots__ = ("_prefix", "_store")

    def __init__(self, store: StateStore, prefix: bytes) -> None:
        self._store = store
        self._prefix = prefix

    def redirect(self, store: StateStore) -> dict[bytes, tuple[bytes | None, int]]:
        """Read and stage in another view from now on. Returns what the old one has not on disk, by full key."""
        left, self._store = self._store, store
        return left.take_pending()

    def get(self, key: bytes) -> bytes | None:
        """The value of ``key``, staged writes included."""
        return self._store.get(self._prefix + key)

    def put(self, key: bytes, value: bytes) -> None:
        """Stage a write."""
        self._store.stage(self._prefix + key, value)

    def delete(self, key: bytes) -> None:
        """Stage a removal."""
        self._store.stage(self._prefix + key, None)

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Entries whose keys begin with ``prefix``, in key order, from ``start`` on; staged writes included."""
        cut = len(self._prefix)
        for key, value in self._store.scan(self._prefix + prefix, self._prefix + max(prefix, start or prefix)):
            yield key[cut:], value


def _open(path: Path) -> rocksdict.Rdict:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    # History asks of each new run whether it is there already: without a filter that reads a block of every level.
    blocks = rocksdict.BlockBasedOptions()
    blocks.set_bloom_filter(_FILTER_BITS_PER_KEY, False)
    options.set_block_based_table_factory(blocks)
    try:
        return rocksdict.Rdict(str(path), options)
    except Exception as error:
        if f"{path}/LOCK" in str(error):
            raise StateStoreError(
                path,
                f"the state folder {path} is in use by another process; stop it, or give this one a folder of its own",
            ) from error
        raise _failure(path, error) from error


def _failure(path: Path, error: Exception) -> StateStoreError:
    text = str(error)
    if any(refusal in text for refusal in _REFUSALS):
        return StateStoreError(path, f"the state folder {path} cannot be read or written ({text}): make room there")
    text = f"the state folder {path} is damaged ({text}): it is rebuilt from the log"
    return StateStoreError(path, text, damaged=True)


def require_unused(path: Path) -> None:
    """Make sure that nobody has a folder open, for whoever is about to delete it.

    Raises:
        StateStoreError: a process has it open, or it is damaged.
    """
    _open(path).close()


def discard(path: Path, reason: str) -> None:
    """Remove a damaged folder, which nobody has open."""
    _logger.warning("folder=%s event=state_discarded reason=%r", path, reason)
    shutil.rmtree(path, ignore_errors=True)
