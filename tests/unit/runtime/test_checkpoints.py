"""The queue between sends and the store: what is written when, and what never."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from perdure_runtime.checkpoints import Checkpoints
from perdure_runtime.log import Membership
from perdure_runtime.store import StateStore


class Taken:
    """A commit that has arrived."""

    def done(self) -> bool:
        return True

    def error(self) -> None:
        return None


class Group:
    """Takes every commit at once."""

    def __init__(self) -> None:
        self.commits: list[dict[int, int]] = []

    def commit(self, offsets: Mapping[int, int]) -> Any:
        self.commits.append(dict(offsets))
        return Taken()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    store = StateStore(tmp_path / "state", 1)
    yield store
    store.close()


def commit(checkpoints: Checkpoints) -> None:
    checkpoints.settle()
    checkpoints.begin_commit()
    checkpoints.settle()


def on_disk(store: StateStore, partition: int) -> bytes | None:
    return store.beside().partition(partition).get(b"key")


def test_i4_state_without_an_offset_waits_for_the_next_commit(store: StateStore) -> None:
    group = Group()
    checkpoints = Checkpoints(store, cast(Membership, group), "history", lambda *_: False)
    store.partition(0).put(b"key", b"first")
    checkpoints.taken({}, 1.0)
    commit(checkpoints)
    assert (group.commits, on_disk(store, 0)) == ([], None)
    checkpoints.taken({0: 5}, 2.0)
    commit(checkpoints)
    assert (group.commits, on_disk(store, 0)) == ([{0: 5}], b"first")


def test_state_of_a_partition_that_was_given_away_is_never_written(store: StateStore) -> None:
    checkpoints = Checkpoints(store, cast(Membership, Group()), "history", lambda *_: False)
    for partition in (0, 1):
        store.partition(partition).put(b"key", b"ours")
    checkpoints.taken({}, 1.0)
    commit(checkpoints)
    # Partition 0 goes to somebody else, and is followed here from now on.
    store.drop_partition(0)
    checkpoints.disown(0)
    followed = store.beside()
    followed.partition(0).put(b"key", b"newer")
    followed.commit([followed.seal()], {})
    checkpoints.taken({1: 5}, 2.0)
    commit(checkpoints)
    assert (on_disk(store, 0), on_disk(store, 1)) == (b"newer", b"ours")
