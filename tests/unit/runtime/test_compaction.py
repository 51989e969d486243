"""Compaction as a pure function: what a reader of the whole partition ends up with never changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure_runtime.embedded import compaction
from perdure_runtime.embedded.layout import CleanState
from perdure_runtime.log import LogRecord


def _record(offset: int, key: str, value: bytes | None) -> LogRecord:
    return LogRecord("t", 0, offset, key.encode(), value, 0)


def _fold(records: list[LogRecord]) -> dict[bytes, bytes]:
    state: dict[bytes, bytes] = {}
    for record in records:
        assert record.key is not None
        if record.value is None:
            state.pop(record.key, None)
        else:
            state[record.key] = record.value
    return state


def _newest(records: list[LogRecord], begin: int, target: int) -> dict[bytes, int]:
    return {r.key: r.offset for r in records if r.key is not None and begin <= r.offset < target}


def test_only_the_newest_record_of_a_key_stays() -> None:
    records = [_record(0, "a", b"1"), _record(1, "b", b"1"), _record(2, "a", b"2")]
    assert compaction.surviving(records, _newest(records, 0, 3), 0) == records[1:]


def test_a_tombstone_stays_until_its_time_is_over() -> None:
    records = [_record(0, "a", b"1"), _record(1, "a", None)]
    newest = _newest(records, 0, 2)
    assert compaction.surviving(records, newest, 0) == records[1:]
    assert compaction.surviving(records, newest, 2) == []


def test_records_without_a_key_are_never_removed() -> None:
    keyless = LogRecord("t", 0, 0, None, b"v", 0)
    assert compaction.surviving([keyless], {}, 100) == [keyless]


def test_tombstones_may_go_one_retention_after_the_pass_that_first_covered_them() -> None:
    state = compaction.after_pass(CleanState(), 10, live=5, tombstones=2, removed_below=0, now_ms=1_000)
    assert (state.end, state.horizon, state.horizon_ms) == (10, 10, 1_000)
    assert compaction.tombstones_below(state, 500, 1_499) == 0
    assert compaction.tombstones_below(state, 500, 1_500) == 10
    later = compaction.after_pass(state, 20, live=6, tombstones=2, removed_below=0, now_ms=1_200)
    assert (later.end, later.horizon, later.horizon_ms) == (20, 10, 1_000), "a running horizon is not moved"
    used = compaction.after_pass(later, 20, live=4, tombstones=1, removed_below=10, now_ms=1_500)
    assert (used.horizon, used.horizon_ms) == (20, 1_500)


def test_a_pass_is_due_when_enough_is_new_or_tombstones_may_go() -> None:
    state = CleanState(end=100, live=100, tombstones=1)
    assert not compaction.is_due(state, 110, ratio_min=0.3, records_min=5, removable_below=0)
    assert compaction.is_due(state, 150, ratio_min=0.3, records_min=5, removable_below=0)
    assert not compaction.is_due(state, 103, ratio_min=0.0, records_min=5, removable_below=0)
    assert compaction.is_due(state, 100, ratio_min=0.3, records_min=5, removable_below=50)
    assert not compaction.is_due(CleanState(end=100), 100, 0.3, 5, removable_below=50)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.binary(max_size=2)), max_size=40),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=6),
)
def test_any_series_of_passes_keeps_the_state(
    written: list[tuple[str, bytes | None]], passes: list[tuple[int, int]]
) -> None:
    """A pass at ``target`` some time after the last one; tombstones live for two units of time."""
    original = [_record(offset, key, value) for offset, (key, value) in enumerate(written)]
    kept, state, now_ms = list(original), CleanState(), 1
    for target, elapsed_ms in passes:
        now_ms += elapsed_ms
        target = max(state.end, min(target, len(original)))
        removable = compaction.tombstones_below(state, 2, now_ms)
        newest = _newest(kept, state.end, target)
        below = compaction.surviving([r for r in kept if r.offset < target], newest, removable)
        kept = below + [r for r in kept if r.offset >= target]
        tombstones = sum(r.value is None for r in below)
        state = compaction.after_pass(state, target, len(below), tombstones, removable, now_ms)
        assert _fold(kept) == _fold(original)
        keys = [r.key for r in below]
        assert len(keys) == len(set(keys)), "below the cleaned end each key stands once"
