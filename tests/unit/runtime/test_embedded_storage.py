"""The embedded log's storage: both kinds behave alike, and the sync covers what was written, whatever RocksDB does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure_runtime.embedded import storage as storage_module
from perdure_runtime.embedded.storage import MemoryStorage, RocksStorage, Storage


@pytest.fixture(params=["memory", "disk"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage = MemoryStorage() if request.param == "memory" else RocksStorage(tmp_path / "db")
    yield made
    made.close()


def test_entries_are_ordered_and_replaced(storage: Storage) -> None:
    storage.write({b"b": b"1", b"a": b"1", b"c": b"1"}, [])
    storage.write({b"b": b"2", b"c": None, b"never": None}, [])
    storage.sync()
    assert list(storage.scan(b"a", b"z")) == [(b"a", b"1"), (b"b", b"2")]
    assert list(storage.scan(b"a", b"b")) == [(b"a", b"1")]
    assert storage.get(b"b") == b"2"
    assert storage.get(b"c") is None


def test_a_range_goes_before_the_entries_of_the_same_write_come(storage: Storage) -> None:
    storage.write({b"a1": b"", b"a2": b"", b"b": b""}, [])
    storage.write({b"a2": b"new"}, [(b"a", b"b")])
    assert list(storage.scan(b"", b"z")) == [(b"a2", b"new"), (b"b", b"")]


def test_the_last_key_of_a_range(storage: Storage) -> None:
    assert storage.last_key(b"a", b"z") is None
    storage.write({b"b": b"", b"d": b"", b"f": b""}, [])
    assert storage.last_key(b"a", b"e") == b"d"
    assert storage.last_key(b"a", b"d") == b"b"
    assert storage.last_key(b"a", b"z") == b"f"
    assert storage.last_key(b"e", b"f") is None


def test_a_scan_sees_one_moment(storage: Storage) -> None:
    storage.write({b"a": b"1", b"b": b"1"}, [])
    entries = storage.scan(b"a", b"z")
    assert next(entries) == (b"a", b"1")
    storage.write({b"b": None}, [])
    assert list(entries) == [(b"b", b"1")]


def test_every_write_ahead_file_is_synced_to_its_end_across_rotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RocksDB starts a new file whenever its memtable is full; what is in any of them must have been synced."""
    synced: dict[int, int] = {}

    def sync_file(descriptor: int) -> None:
        os.fsync(descriptor)
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size

    monkeypatch.setattr(storage_module, "_WRITE_BUFFER_BYTES", 64 * 1024)
    monkeypatch.setattr(storage_module, "_sync_file", sync_file)
    storage = RocksStorage(tmp_path / "db")
    files: set[str] = set()
    for number in range(120):
        storage.write({b"%06d" % number: os.urandom(8_000)}, [])
        storage.sync()
        for path in (tmp_path / "db").glob("*.log"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            files.add(path.name)
            assert status.st_size == 0 or synced.get(status.st_ino) == status.st_size, path.name
    storage.close()
    assert len(files) > 3, "no rotation happened: the test tests nothing"
