"""Timers on the log: exact, in batches, durable, and fenced."""

from __future__ import annotations

import pytest

from perdure_schemas import codec, limits
from perdure_schemas.records import Command, DeadlineReached
from perdure_timers.service import TimersConfig
from tests.support.fakes import DictStore
from tests.support.timers import NAMES, START_MS, Timers

STORE_AT_ONCE = TimersConfig(store_after_ms=0)


def successor(first: Timers, *, after_ms: int = 100, store: DictStore | None = None) -> Timers:
    return Timers(first.log, store, first.now_ms + after_ms, STORE_AT_ONCE, owner="second")


def test_a_due_timer_becomes_a_command_of_its_workflow() -> None:
    timers = Timers()
    timers.arm("run/t3", 50)
    timers.driver.tick(START_MS + 50)
    (record,) = timers.driver.outbox.take()
    assert (record.topic, record.partition, record.key) == (NAMES.commands, 0, b"wf-run")
    assert codec.decode_as(record.value, Command) == Command(
        command_id="due/run/t3",
        workflow_id="wf-run",
        run_id="run",
        body=DeadlineReached(arm_number=3, due_time_ms=START_MS + 50),
    )


def test_a_timer_fires_at_its_time_and_not_a_millisecond_before() -> None:
    timers = Timers()
    timers.arm("run/t1", 1_234)
    assert timers.handler.next_wakeup_ms() == START_MS + 1_234
    assert timers.advance(1_233) == []
    assert timers.advance(1) == ["run/t1"]


@pytest.mark.parametrize("in_ms", [0, -10_000, -START_MS])
def test_a_timer_of_the_past_fires_at_once(in_ms: int) -> None:
    timers = Timers()
    timers.arm("run/t1", in_ms)
    assert timers.advance(0) == ["run/t1"]


def test_a_void_timer_does_not_fire() -> None:
    timers = Timers()
    timers.arm("run/t1", 100)
    timers.confirm("run/t1")
    assert timers.advance(200_000) == []
    assert timers.handler.next_wakeup_ms() is None


def test_a_fired_timer_stays_outstanding_until_history_confirms_it() -> None:
    timers = Timers()
    timers.arm("run/t1", 100)
    assert timers.advance(59_000) == ["run/t1"]
    assert timers.advance(1_099) == []
    assert timers.advance(1) == ["run/t1"]
    timers.confirm("run/t1")
    assert timers.advance(200_000) == []


def test_far_timers_fire_on_time_from_the_store() -> None:
    timers = Timers(config=STORE_AT_ONCE)
    hour_ms = 3_600_000
    for number in range(200):
        timers.arm(f"run{number}/t1", hour_ms + number * 1_000)
    timers.handler.checkpoint()
    assert timers.handler._pending.waiting_count == 0
    assert timers.handler._unstored == {}
    assert timers.advance(hour_ms - 1) == []
    assert timers.handler._pending.waiting_count <= 62
    for number in range(200):
        assert timers.advance(1_000 if number else 1) == [f"run{number}/t1"]
        timers.confirm(f"run{number}/t1")
    assert timers.advance(hour_ms) == []


def test_a_far_timer_can_be_made_void_in_the_store() -> None:
    timers = Timers(config=STORE_AT_ONCE)
    timers.arm("run/t1", 3_600_000)
    timers.handler.checkpoint()
    timers.confirm("run/t1")
    timers.handler.checkpoint()
    assert list(timers.store.entries) == [b"m"]
    assert timers.advance(7_200_000) == []


def test_more_timers_than_memory_takes_fire_in_order_and_on_time() -> None:
    config = TimersConfig(in_memory_max=50, fired_per_tick_max=7, store_after_ms=0)
    first = Timers(config=config)
    for number in range(500):
        first.arm(f"run{number:03}/t1", 1_000 + number // 10)
    first.handler.checkpoint()
    second = Timers(first.log, DictStore(first.store.snapshot()), first.now_ms, config, owner="second")
    assert second.handler._pending.waiting_count == 50
    fired = second.advance(2_000)
    assert fired == [f"run{number:03}/t1" for number in range(500)]
    assert all(at_ms == START_MS + 1_000 + int(name[3:6]) // 10 for name, at_ms in second.fired)


def test_a_burst_is_sent_in_batches() -> None:
    timers = Timers(config=TimersConfig(fired_per_tick_max=300))
    for number in range(1_000):
        timers.write(f"run{number}/t1", START_MS + 10)
    timers.driver.poll()
    timers._now_ms += 10
    assert [len(timers.tick()) for _ in range(5)] == [300, 300, 300, 100, 0]


def test_timers_that_come_and_go_never_touch_the_store() -> None:
    timers = Timers()
    for number in range(100):
        timers.arm(f"run{number}/t1", 10_000)
        timers.handler.checkpoint()
        timers.confirm(f"run{number}/t1")
    timers.handler.checkpoint()
    assert set(timers.store.written_keys) == {b"m"}
    assert timers.store.deletes == 0


def test_i4_a_new_owner_fires_again_what_was_not_confirmed() -> None:
    first = Timers(config=STORE_AT_ONCE)
    first.arm("a/t1", 50)
    first.arm("b/t1", 50)
    first.arm("c/t1", 10_000)
    first.handler.checkpoint()
    assert first.advance(50) == ["a/t1", "b/t1"]
    first.write_tombstone("a/t1")
    for store in (None, first.store):
        second = successor(first, store=store)
        assert second.advance(0) == ["b/t1"]
        assert second.advance(20_000) == ["c/t1"]


def test_i4_the_fold_fires_nothing() -> None:
    first = Timers()
    first.write("a/t1", START_MS - 1_000)
    second = successor(first)
    assert second.driver.outbox.records == []
    assert second.advance(0) == ["a/t1"]


def test_i3_a_timer_sent_again_under_a_later_epoch_is_the_same_timer() -> None:
    timers = Timers(config=STORE_AT_ONCE)
    timers.arm("near/t1", 10_000, epoch=1)
    timers.arm("far/t1", 3_600_000, epoch=1)
    due_ms = START_MS + 3_600_000
    timers.handler.checkpoint()
    timers.log.mark(NAMES.timers, "history/0", 2, timers.now_ms)
    timers.arm("near/t1", 10_000, epoch=2)
    timers.write("far/t1", due_ms, epoch=2)
    timers.driver.poll()
    assert timers.handler._unstored == {}
    assert timers.advance(10_000) == ["near/t1"]
    timers.confirm("near/t1", epoch=2)
    timers.confirm("far/t1", epoch=2)
    timers.handler.checkpoint()
    assert list(timers.store.entries) == [b"m"]
    assert timers.advance(7_200_000) == []


def test_i1_records_of_a_deposed_history_owner_are_void_behind_the_next_mark() -> None:
    timers = Timers()
    timers.arm("kept/t1", 100, epoch=1)
    timers.log.mark(NAMES.timers, "history/0", 2, timers.now_ms)
    timers.arm("zombie/t1", 100, epoch=1)
    timers.confirm("kept/t1", epoch=1)
    assert timers.advance(100) == ["kept/t1"]
    assert successor(timers).advance(0) == ["kept/t1"]


def test_i1_an_owner_that_reads_the_mark_of_the_next_one_falls_silent() -> None:
    first = Timers()
    first.arm("a/t1", 100)
    second = successor(first, after_ms=0)
    first.driver.poll()
    assert first.advance(1_000) == []
    assert first.handler.checkpoint() is None
    assert second.advance(100) == ["a/t1"]


def test_i1_a_record_in_front_of_a_mark_stays_valid_when_the_fold_resumes_there() -> None:
    first = Timers(config=TimersConfig(store_after_ms=60_000))
    first.arm("a/t1", 10_000, epoch=1)
    first.log.mark(NAMES.timers, "history/0", 5, first.now_ms)
    first.driver.poll()
    first.handler.checkpoint()
    second = successor(first, store=first.store)
    assert second.advance(10_000) == ["a/t1"]


def test_a_store_older_than_tombstones_live_is_rebuilt_from_the_log() -> None:
    first = Timers(config=STORE_AT_ONCE)
    first.arm("gone/t1", 1_000)
    first.arm("kept/t1", 1_000)
    first.handler.checkpoint()
    del first.log.topics[NAMES.timers][1]
    second = successor(first, after_ms=limits.STATE_AGE_MS_MAX + 1, store=first.store)
    assert second.handler.restore_offset() is None
    assert second.advance(0) == ["kept/t1"]


@pytest.mark.parametrize(
    ("key", "reason"),
    [(b"a/t1@0.0", "not an Avro single-object record"), (None, "has no key"), (b"x", "does not end in")],
)
def test_i5_a_poisoned_record_is_refused_and_the_partition_goes_on(key: bytes | None, reason: str) -> None:
    timers = Timers()
    timers.log.append(NAMES.timers, key, b"garbage", timers.now_ms)
    timers.arm("b/t1", 10)
    assert timers.advance(10) == ["b/t1"]
    ((_, message),) = timers.driver.failures
    assert reason in message


def test_i5_a_due_time_before_the_epoch_is_refused_with_the_reason() -> None:
    timers = Timers()
    timers.write("a/t1", -1)
    timers.driver.poll()
    assert "before the epoch" in timers.driver.failures[0][1]


def test_a_senseless_configuration_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="in_memory_max must be at least 1"):
        TimersConfig(in_memory_max=0)
