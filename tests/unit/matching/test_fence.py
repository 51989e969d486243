"""The fence: records of a deposed owner are void behind the mark of the next one (I1)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure_runtime.fence import Fence


def test_i1_a_source_without_mark_is_not_fenced() -> None:
    assert Fence().admits("history/0", 0)


def test_i1_an_older_epoch_is_void_behind_a_newer_mark() -> None:
    fence = Fence()
    assert fence.mark("history/0", 10)
    assert fence.admits("history/0", 10)
    assert fence.mark("history/0", 20)
    assert not fence.admits("history/0", 10)
    assert fence.admits("history/0", 20)


def test_i1_a_mark_written_late_changes_nothing() -> None:
    fence = Fence()
    fence.mark("history/0", 20)
    assert not fence.mark("history/0", 10)
    assert not fence.admits("history/0", 10)
    assert fence.newest("history/0") == 20


def test_i1_sources_are_fenced_apart() -> None:
    fence = Fence()
    fence.mark("history/0", 20)
    assert fence.admits("history/1", 0)


@given(st.lists(st.tuples(st.sampled_from(["history/0", "history/1", "timers/0"]), st.integers(0, 50))))
def test_i1_a_checkpoint_holds_the_whole_fence(marks: list[tuple[str, int]]) -> None:
    fence = Fence()
    for source, epoch in marks:
        fence.mark(source, epoch)
    loaded = Fence.decode(fence.encode())
    for source in ("history/0", "history/1", "timers/0"):
        newest = max((epoch for name, epoch in marks if name == source), default=-1)
        assert loaded.newest(source) == newest
        for epoch in range(0, 52, 3):
            assert loaded.admits(source, epoch) == (epoch >= newest)


def test_an_empty_checkpoint_is_an_empty_fence() -> None:
    assert Fence.decode(None).admits("history/7", 0)
