"""Activities that a worker may begin by itself, and those that it has begun."""

from __future__ import annotations

import pytest

from perdure_schemas import codec, keys, limits
from perdure_schemas.records import Dispatch, RunTask
from tests.support.matching import Matching

EAGER = keys.activity_task_id("r1", keys.eager_event_id(2, 1, 0), 1)


def _allowed(matching: Matching, task_id: str = "r9/w3.1") -> int:
    matching.write_task(task_id)
    matching.driver.poll()
    (sent,) = matching.driver.outbox.take()
    body = codec.decode_as(sent.value, Dispatch).body
    assert isinstance(body, RunTask)
    return body.eager_activities_max


@pytest.mark.parametrize(
    ("slots", "allowed"),
    [
        (0, 0),
        (1, 1),
        (limits.EAGER_ACTIVITIES_MAX - 1, limits.EAGER_ACTIVITIES_MAX - 1),
        (limits.EAGER_ACTIVITIES_MAX, limits.EAGER_ACTIVITIES_MAX),
        (limits.EAGER_ACTIVITIES_MAX + 1, limits.EAGER_ACTIVITIES_MAX),
    ],
)
def test_a_worker_may_begin_as_many_as_it_has_slots_but_not_all_of_a_crowd(slots: int, allowed: int) -> None:
    matching = Matching()
    matching.beat("w1", activity_slots=slots)
    assert _allowed(matching) == allowed


def test_none_may_begin_past_others_that_wait_or_past_a_rate() -> None:
    matching = Matching()
    matching.beat("w1", workflow_slots=9, activity_slots=1)
    assert _allowed(matching, "r8/w3.1") == 1
    matching.task("r2/a5.1")
    matching.task("r3/a5.1")  # waits
    matching.beat("w2", activity_slots=0)
    assert _allowed(matching, "r9/w3.1") == 0
    limited = Matching()
    limited.beat("w1", activity_slots=5, activities_per_second=100.0)
    assert _allowed(limited) == 0


def test_an_activity_that_was_begun_goes_to_its_worker_free_or_not() -> None:
    matching = Matching()
    matching.beat("w0", activity_slots=5)
    matching.beat("w1", activity_slots=1)
    matching.task("r2/a5.1")
    matching.task("r3/a5.1")
    assert matching.task(EAGER, sticky_worker_id="w1") == [("run", "w1", EAGER)]
    assert len(matching.state.queues["q"].workers["w1"].leases[1]) == 2
    assert matching.task("r4/a5.1") == [("run", "w0", "r4/a5.1")]


@pytest.mark.parametrize("gone", [True, False])
def test_without_its_worker_it_goes_to_another(gone: bool) -> None:
    matching = Matching()
    matching.beat("w0")
    if gone:
        matching.stop("w1")
    else:
        matching.beat("w1", draining=True)
    assert matching.task(EAGER, sticky_worker_id="w1") == [("run", "w0", EAGER)]


def test_a_lost_worker_loses_it_as_any_other() -> None:
    matching = Matching()
    matching.beat("w1")
    matching.task(EAGER, sticky_worker_id="w1", start_notice_delay_ms=60_000)
    assert matching.advance(5_000) == [("ActivityLeaseLost", f"lost/{EAGER}")]


def test_one_that_history_does_not_know_yet_runs_on_for_a_minute() -> None:
    matching = Matching()
    since_ms = matching.now_ms

    def beat() -> list[tuple[object, ...]]:
        return matching.beat("w1", held=(EAGER,), held_since_ms=since_ms, activity_slots=2)

    assert beat() == []
    for _ in range(59):
        matching.advance(1_000)
        assert beat() == []
    assert matching.state.queues["q"].workers["w1"].free(1) == 1, "its slot is taken"
    matching.advance(1_000)
    assert beat() == [("gone", "w1", EAGER)]


def test_a_new_owner_leaves_it_with_the_worker_that_says_it_has_it() -> None:
    first = Matching()
    first.beat("w1")
    first.task(EAGER, sticky_worker_id="w1", start_notice_delay_ms=60_000)
    second = Matching(first.log, first.store, first.now_ms, owner="second")
    assert second.answer("w1", held=(EAGER,)) == [("probe", "w1")]
    assert second.beat("w2") == []
    assert list(second.state.queues["q"].workers["w1"].leases[1]) == [EAGER]
