"""The state store: staged writes are seen at once, and reach the disk only by commit."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure_runtime import store as store_module
from perdure_runtime.store import SealedBatch, StateStore, StateStoreError


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path / "state", version=1)


def _reopen(store: StateStore, path: Path) -> StateStore:
    store.close()
    return StateStore(path, version=1)


def test_staged_writes_are_seen_and_lost_without_commit(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "s", version=1)
    part = store.partition(3)
    part.put(b"a", b"1")
    assert part.get(b"a") == b"1"
    store = _reopen(store, tmp_path / "s")
    assert store.partition(3).get(b"a") is None


def test_a_committed_batch_survives_and_a_later_staged_one_does_not(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "s", version=1)
    part = store.partition(3)
    part.put(b"a", b"1")
    first = store.seal()
    part.put(b"a", b"2")
    store.commit([first], {})
    assert part.get(b"a") == b"2", "a commit must not uncover what is on disk below a newer staged write"
    store = _reopen(store, tmp_path / "s")
    assert store.partition(3).get(b"a") == b"1"


def test_partitions_are_apart(store: StateStore) -> None:
    store.partition(1).put(b"k", b"one")
    store.partition(2).put(b"k", b"two")
    store.drop_partition(1)
    assert store.partition(1).get(b"k") is None
    assert list(store.partition(2).scan(b"")) == [(b"k", b"two")]


def test_wipe_removes_what_is_on_disk_of_that_partition_only(store: StateStore) -> None:
    for partition in (1, 2):
        store.partition(partition).put(b"k", b"v")
    store.commit([store.seal()], {})
    store.wipe_partition(1)
    assert store.partition(1).get(b"k") is None
    assert store.partition(2).get(b"k") == b"v"


def test_positions_are_written_with_the_batches(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "s", version=1)
    store.partition(0).put(b"a", b"1")
    store.commit([store.seal()], {b"\x00\x00position": b"7"})
    store = _reopen(store, tmp_path / "s")
    assert store.partition(0).get(b"position") == b"7"


def test_a_folder_in_use_is_refused_by_name(tmp_path: Path, store: StateStore) -> None:
    with pytest.raises(StateStoreError, match="in use by another process"):
        StateStore(tmp_path / "state", version=1)


def test_a_folder_of_another_version_is_refused_with_advice(tmp_path: Path) -> None:
    StateStore(tmp_path / "s", version=1).close()
    with pytest.raises(StateStoreError, match="layout version 1, this program has version 2; delete the folder"):
        StateStore(tmp_path / "s", version=2)


def _damaged(folder: Path, change: Callable[[Path], None]) -> Path:
    """A closed store of some hundred kilobytes, one file of which has been changed."""
    store = StateStore(folder, version=1)
    part = store.partition(3)
    for number in range(400):
        part.put(b"%06d" % number, random.Random(number).randbytes(1_000))
    store.commit([store.seal()], {})
    store.close()
    change(max(folder.glob("*.sst"), key=lambda path: path.stat().st_size))
    return folder


def _flip_in_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_an_error_and_never_an_entry_that_is_not_there(tmp_path: Path) -> None:
    store = StateStore(_damaged(tmp_path / "s", _flip_in_the_middle), version=1)
    with pytest.raises(StateStoreError, match=r"is damaged .*: it is rebuilt from the log") as failed:
        for number in range(400):
            assert store.partition(3).get(b"%06d" % number) is not None
    assert failed.value.damaged
    assert failed.value.path == tmp_path / "s"
    with pytest.raises(StateStoreError, match="is damaged"):
        assert len(list(store.partition(3).scan(b""))) == 400
    store.close()


@pytest.mark.parametrize("change", [lambda path: os.truncate(path, 5_000), lambda path: path.unlink()])
def test_a_damaged_folder_is_emptied_and_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[Path], None]
) -> None:
    folder = _damaged(tmp_path / "s", change)
    with pytest.raises(StateStoreError) as refused:
        StateStore(folder, version=1)
    assert refused.value.damaged
    store = StateStore.open_or_rebuild(folder, version=1)
    assert list(store.partition(3).scan(b"")) == []
    assert "event=state_discarded" in caplog.text
    store.close()


def test_a_folder_in_use_or_of_another_version_is_not_emptied(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "s", version=1)
    store.partition(0).put(b"a", b"1")
    store.commit([store.seal()], {})
    with pytest.raises(StateStoreError, match="in use"):
        StateStore.open_or_rebuild(tmp_path / "s", version=1)
    store.close()
    with pytest.raises(StateStoreError, match="layout version"):
        StateStore.open_or_rebuild(tmp_path / "s", version=2)
    assert StateStore(tmp_path / "s", version=1).partition(0).get(b"a") == b"1"


def test_a_full_disk_is_no_damage() -> None:
    full = store_module._failure(Path("s"), Exception("IO error: No space left on device: While appending to file: x"))
    assert not full.damaged
    assert "make room" in str(full)


_keys = st.binary(min_size=1, max_size=3)
_writes = st.lists(st.tuples(_keys, st.none() | st.binary(max_size=3)), max_size=30)


@settings(max_examples=40, deadline=None)
@given(on_disk=_writes, sealed=_writes, staged=_writes, prefix=st.binary(max_size=1), start=st.none() | _keys)
def test_scan_merges_disk_and_memory_in_key_order(
    tmp_path_factory: pytest.TempPathFactory,
    on_disk: list[tuple[bytes, bytes | None]],
    sealed: list[tuple[bytes, bytes | None]],
    staged: list[tuple[bytes, bytes | None]],
    prefix: bytes,
    start: bytes | None,
) -> None:
    store = StateStore(tmp_path_factory.mktemp("store") / "s", version=1)
    part = store.partition(5)
    expected: dict[bytes, bytes] = {}
    batches: list[SealedBatch] = []
    for writes in (on_disk, sealed, staged):
        for key, value in writes:
            if value is None:
                part.delete(key)
                expected.pop(key, None)
            else:
                part.put(key, value)
                expected[key] = value
        if writes is on_disk:
            store.commit([store.seal()], {})
        elif writes is sealed:
            batches.append(store.seal())
    begin = max(prefix, start or prefix)
    wanted = [(k, v) for k, v in sorted(expected.items()) if k.startswith(prefix) and k >= begin]
    assert list(part.scan(prefix, start)) == wanted
    store.commit(batches, {})
    assert list(part.scan(prefix, start)) == wanted
    store.close()
