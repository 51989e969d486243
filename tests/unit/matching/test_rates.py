"""Rate limits of activities: for one worker, and for a whole task queue."""

from __future__ import annotations

from perdure_matching.core.rates import RateLimit
from tests.support.matching import Matching


def _runs(sent: list[tuple[object, ...]]) -> int:
    return sum(1 for one in sent if one[0] == "run")


def test_a_bucket_gives_its_rate_and_keeps_little() -> None:
    limit = RateLimit()
    limit.set(10, 0)
    given = 0
    for now_ms in range(10_000, 12_000):
        if not limit.wait_ms(now_ms):
            limit.take(now_ms)
            given += 1
    assert given == 20


def test_a_wait_is_exact() -> None:
    limit = RateLimit()
    limit.set(4, 0)
    limit.take(1_000)
    assert limit.wait_ms(1_000) == 250
    assert limit.wait_ms(1_200) == 50
    assert limit.wait_ms(1_250) == 0


def test_what_is_no_rate_is_no_limit() -> None:
    limit = RateLimit()
    for rate in (float("nan"), float("inf"), -1.0, 0.0):
        limit.set(rate, 0)
        limit.take(0)
        assert limit.wait_ms(0) == 0


def test_a_queue_is_limited_across_its_workers() -> None:
    matching = Matching()
    for worker in ("one", "two"):
        matching.beat(worker, activity_slots=50, queue_activities_per_second=5.0)
    at_once = sum(_runs(matching.task(f"run/a{number}.1")) for number in range(1, 41))
    assert at_once == 1
    matching.state.check()
    assert _runs(matching.advance(1_000)) == 5
    matching.state.check()
    assert _runs(matching.advance(2_000)) == 10


def test_a_worker_is_limited_and_others_are_not() -> None:
    matching = Matching()
    matching.beat("slow", activity_slots=50, activities_per_second=2.0)
    assert sum(_runs(matching.task(f"run/a{number}.1")) for number in range(1, 11)) == 1
    assert _runs(matching.advance(1_000)) == 2
    assert _runs(matching.beat("quick", activity_slots=50)) == 7


def test_workflow_tasks_are_not_limited() -> None:
    matching = Matching()
    matching.beat("one", workflow_slots=50, activity_slots=50, queue_activities_per_second=1.0)
    assert sum(_runs(matching.task(f"run/w{number}.1")) for number in range(1, 11)) == 10


def test_a_limit_ends_when_no_worker_says_it_any_more() -> None:
    matching = Matching()
    matching.beat("one", activity_slots=50, queue_activities_per_second=0.1)
    for number in range(1, 11):
        matching.task(f"run/a{number}.1")
    assert _runs(matching.beat("one", activity_slots=50)) == 9
