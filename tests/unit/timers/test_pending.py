"""The near future in memory: order, exactness, sending again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure_schemas.records import Command, DeadlineReached
from perdure_timers.core.pending import PendingTimers, Timer, wake_up


def timer(timer_id: str, due_ms: int) -> Timer:
    return Timer(timer_id, "wf", "run", 1, due_ms)


def ids(timers: list[Timer]) -> list[str]:
    return [timer.timer_id for timer in timers]


def test_timers_are_given_out_when_due_and_in_order() -> None:
    pending = PendingTimers(60_000)
    for name, due_ms in (("c", 30), ("a", 10), ("b", 20)):
        pending.add(timer(name, due_ms))
    assert pending.next_due_ms() == 10
    assert pending.take_due(9, 100) == []
    assert ids(pending.take_due(20, 100)) == ["a", "b"]
    assert pending.next_due_ms() == 30


def test_a_batch_is_bounded_and_the_rest_is_due_at_once() -> None:
    pending = PendingTimers(60_000)
    for number in range(10):
        pending.add(timer(f"t{number}", 5))
    assert len(pending.take_due(5, 4)) == 4
    assert pending.next_due_ms() == 5
    assert len(pending.take_due(5, 100)) == 6


def test_an_unconfirmed_timer_is_sent_again_after_a_long_silence_only() -> None:
    pending = PendingTimers(60_000)
    pending.add(timer("a", 10))
    pending.take_due(10, 10)
    assert pending.next_due_ms() == 60_010
    assert pending.take_due(60_009, 10) == []
    assert ids(pending.take_due(60_010, 10)) == ["a"]
    assert pending.take_due(60_010, 10) == []
    pending.remove("a")
    assert pending.next_due_ms() is None


def test_removed_timers_never_fire_and_leave_no_garbage() -> None:
    pending = PendingTimers(60_000)
    for number in range(10_000):
        pending.add(timer(f"t{number}", 10))
    for number in range(9_999):
        assert pending.remove(f"t{number}") is not None
    assert pending.remove("t0") is None
    assert len(pending._heap) < 2_000
    assert ids(pending.take_due(10, 100)) == ["t9999"]


def test_a_wake_up_has_an_id_of_its_own_and_the_same_each_time() -> None:
    armed = Timer("run/t4", "wf", "run", 4, 99)
    assert wake_up(armed) == Command(
        command_id="due/run/t4", workflow_id="wf", run_id="run", body=DeadlineReached(arm_number=4, due_time_ms=99)
    )


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "take"]), st.integers(0, 30), st.integers(0, 100))))
def test_next_due_is_exactly_when_something_is_given_out(steps: list[tuple[str, int, int]]) -> None:
    pending = PendingTimers(50)
    waiting: dict[str, int] = {}
    sent: dict[str, int] = {}
    now_ms = 0
    for what, number, amount in steps:
        name = f"t{number}"
        if what == "add" and name not in waiting and name not in sent:
            waiting[name] = now_ms + amount
            pending.add(timer(name, now_ms + amount))
        elif what == "remove":
            waiting.pop(name, None)
            sent.pop(name, None)
            pending.remove(name)
        elif what == "take":
            now_ms += amount
            taken = ids(pending.take_due(now_ms, 5))
            for one in taken:
                due_ms = waiting.pop(one, None)
                assert due_ms is None or due_ms <= now_ms
                assert due_ms is not None or sent[one] + 50 <= now_ms
                sent[one] = now_ms
        due = [*waiting.values(), *(sent_ms + 50 for sent_ms in sent.values())]
        assert pending.next_due_ms() == min(due, default=None)
