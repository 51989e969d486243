"""Key formats: what one part writes, every other part parses; ids are distinct and sort as promised."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_schemas import keys

_ids = st.text(max_size=30)
_longs = st.integers(0, 2**62)


@given(_ids, _longs, _longs)
def test_a_fenced_key_parses_back_whatever_the_id(record_id: str, partition: int, epoch: int) -> None:
    parsed = keys.parse_fenced_key(keys.fenced_key(record_id, partition, epoch))
    assert parsed == keys.FencedKey(record_id, partition, epoch)


@given(_ids, _ids, _longs, _longs, _longs, _longs)
def test_fenced_keys_are_distinct(one: str, two: str, p1: int, p2: int, e1: int, e2: int) -> None:
    same = (one, p1, e1) == (two, p2, e2)
    assert (keys.fenced_key(one, p1, e1) == keys.fenced_key(two, p2, e2)) is same


@pytest.mark.parametrize("key", [b"", b"run/0000000001", b"run@3", b"run@.", b"run@a.b", b"run@1.", b"1.2"])
def test_a_key_without_a_fence_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError):
        keys.parse_fenced_key(key)


@given(_ids, st.integers(1, 1000))
def test_a_partition_is_in_range_and_is_the_crc_of_the_key(key: str, partitions: int) -> None:
    partition = keys.partition_of(key, partitions)
    assert 0 <= partition < partitions
    assert partition == zlib.crc32(key.encode()) % partitions


def test_partitions_never_change() -> None:
    """Written down values: if one of these changes, every existing topic is keyed wrongly."""
    assert [keys.partition_of(key, 16) for key in ("", "order-1", "order-2", "münchen")] == [
        zlib.crc32(key.encode()) % 16 for key in ("", "order-1", "order-2", "münchen")
    ]
    assert keys.partition_of("123456789", 2**32) == 0xCBF43926  # CRC-32's own check value


@given(_ids, _ids)
def test_marks_are_told_from_records_by_their_key(source: str, unique: str) -> None:
    assert keys.is_mark(keys.mark_key(source, unique))


@given(st.uuids(), _longs, _longs)
def test_no_record_key_is_taken_for_a_mark(run: object, number: int, epoch: int) -> None:
    run_id = str(run)
    for record_id in (
        keys.history_id(run_id, 1),
        keys.activity_attempt_id(run_id, number),
        keys.workflow_task_attempt_id(run_id),
        keys.quarantine_id(run_id),
        keys.timer_id(run_id, number),
    ):
        assert not keys.is_mark(keys.fenced_key(record_id, 0, epoch))
    assert not keys.is_mark(None)


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_history_ids_of_a_run_sort_by_event(one: int, two: int) -> None:
    assert (keys.history_id("run", one) < keys.history_id("run", two)) is (one < two)


@given(st.uuids(), st.integers(1, 10**9), st.integers(1, 1000))
def test_ids_of_one_run_are_distinct(run: object, event_id: int, attempt: int) -> None:
    run_id = str(run)
    ids = [
        keys.history_id(run_id, event_id),
        keys.activity_attempt_id(run_id, event_id),
        keys.workflow_task_attempt_id(run_id),
        keys.quarantine_id(run_id),
        keys.workflow_task_id(run_id, event_id, attempt),
        keys.activity_task_id(run_id, event_id, attempt),
        keys.query_task_id(run_id, str(event_id)),
        keys.timer_id(run_id, event_id),
    ]
    assert len(set(ids)) == len(ids)
    assert all(record_id.startswith(f"{run_id}/") for record_id in ids)


def test_each_attempt_has_a_task_id_of_its_own() -> None:
    assert keys.activity_task_id("r", 5, 1) != keys.activity_task_id("r", 5, 2) != keys.activity_task_id("r", 51, 2)
    assert keys.workflow_task_id("r", 5, 1) != keys.workflow_task_id("r", 5, 2)


@given(_ids, st.integers(1, 100))
def test_a_task_queue_is_in_one_partition_unless_its_name_says_more(name: str, partitions: int) -> None:
    for plain in (name, f"{name}~0", f"{name}~03", f"{name}~65", f"{name}~1", f"{name}~", "~4"):
        assert keys.queue_partitions(plain, partitions) == (keys.partition_of(plain, partitions),)


@given(_ids.filter(bool), st.integers(2, 64), st.integers(1, 100), _ids)
def test_a_task_queue_has_as_many_partitions_as_its_name_says_or_there_are(
    name: str, count: int, partitions: int, workflow_id: str
) -> None:
    task_queue = f"{name}~{count}"
    found = keys.queue_partitions(task_queue, partitions)
    assert found[0] == keys.partition_of(task_queue, partitions)
    assert len(set(found)) == len(found) == min(count, partitions)
    assert set(found) <= set(range(partitions))
    assert keys.queue_partition(task_queue, workflow_id, partitions) in found


def test_workflows_are_spread_over_the_partitions_of_a_task_queue() -> None:
    counts = [0] * 8
    for number in range(4_000):
        counts[keys.queue_partition("orders~4", f"order-{number}", 8)] += 1
    assert [count > 0 for count in counts].count(True) == 4
    assert max(counts) < 1_200
