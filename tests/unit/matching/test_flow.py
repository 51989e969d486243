"""Flow control: what was set for a task queue and its fairness keys holds across workers, versions and owners."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from perdure_matching.core.fair_queue import FairQueue
from perdure_matching.core.model import Phase
from perdure_schemas.records import FairnessKeyConfig
from tests.support.fakes import DictStore
from tests.support.matching import Matching


def key(name: str, **fields: Any) -> FairnessKeyConfig:
    return FairnessKeyConfig(fairness_key=name, **fields)


def ran(sent: list[tuple[Any, ...]]) -> list[str]:
    """The tasks that were dispatched."""
    return [message[2].partition("/")[0] for message in sent if message[0] == "run"]


def tasks(matching: Matching, name: str, count: int, **fields: Any) -> list[str]:
    """Activities ``<name>1`` and so on, of the fairness key ``name``; which of them were dispatched."""
    found: list[str] = []
    for number in range(1, count + 1):
        found += ran(matching.task(f"{name}{number}/a5.1", **{"fairness_key": name, **fields}))
    return found


def done(matching: Matching, name: str) -> list[str]:
    return ran(matching.done(f"{name}/a5.1"))


# --- concurrency ----------------------------------------------------------------------------------------------------


def test_a_key_runs_as_many_at_once_as_was_set_across_workers() -> None:
    matching = Matching()
    matching.configure(key_concurrency_default=2)
    for worker in ("one", "two", "three"):
        matching.beat(worker, activity_slots=10)
    assert tasks(matching, "a", 5) == ["a1", "a2"]
    assert done(matching, "a2") == ["a3"]
    assert done(matching, "a1") == ["a4"]
    assert done(matching, "a3") == ["a5"]
    assert done(matching, "a4") == []


def test_a_full_key_delays_no_other() -> None:
    matching = Matching()
    matching.configure(key_concurrency_default=1)
    matching.beat("one", activity_slots=10)
    assert tasks(matching, "a", 50) == ["a1"]
    assert tasks(matching, "b", 2) == ["b1"]
    assert tasks(matching, "c", 1) == ["c1"]


def test_a_key_of_its_own_limit_goes_before_the_default() -> None:
    matching = Matching()
    matching.configure(key("a", concurrency=3), key("stopped", concurrency=0), key_concurrency_default=1)
    matching.beat("one", activity_slots=20)
    assert tasks(matching, "a", 5) == ["a1", "a2", "a3"]
    assert tasks(matching, "b", 5) == ["b1"]
    assert tasks(matching, "stopped", 5) == []


def test_a_limit_of_one_key_leaves_the_others_alone() -> None:
    matching = Matching()
    matching.configure(key("a", concurrency=1))
    matching.beat("one", activity_slots=20)
    assert tasks(matching, "a", 3) == ["a1"]
    assert tasks(matching, "b", 3) == ["b1", "b2", "b3"]


def test_all_versions_of_a_task_queue_share_a_limit() -> None:
    matching = Matching()
    matching.configure(key_concurrency_default=1)
    matching.beat("plain", activity_slots=5)
    matching.beat("new", activity_slots=5, deployment_name="d", build_id="1")
    matching.sent()
    assert tasks(matching, "a", 1) == ["a1"]
    assert ran(matching.task("p1/a5.1", fairness_key="a", version="d.1")) == []
    assert done(matching, "a1") == ["p1"]


def test_workflow_tasks_are_not_held_back_by_what_is_set_for_activities() -> None:
    matching = Matching()
    matching.configure(queue_rate=0.0, key_concurrency_default=0)
    matching.beat("one", workflow_slots=10, activity_slots=10)
    assert tasks(matching, "a", 3) == []
    assert ran(matching.task("w1/w5.1", fairness_key="a")) == ["w1"]


def test_a_limit_that_is_changed_counts_at_once() -> None:
    matching = Matching()
    matching.beat("one", activity_slots=10)
    assert tasks(matching, "a", 3) == ["a1", "a2", "a3"]
    matching.configure(key_concurrency_default=2)
    assert ran(matching.task("b/a5.1", fairness_key="a")) == []
    assert done(matching, "a1") == []  # two still run
    assert done(matching, "a2") == ["b"]
    assert tasks(matching, "c", 4, fairness_key="a") == []
    assert ran(matching.configure(key_concurrency_default=4)) == ["c1", "c2"]
    assert ran(matching.unset()) == ["c3", "c4"]


@pytest.mark.parametrize("end", ["lapse", "stop"])
def test_a_worker_that_is_gone_frees_the_slots_of_its_keys(end: str) -> None:
    matching = Matching()
    matching.configure(key_concurrency_default=1)
    matching.beat("dies", activity_slots=1)
    assert tasks(matching, "a", 2) == ["a1"]
    if end == "stop":
        matching.beat("lives", activity_slots=5)
        assert ran(matching.stop("dies")) == ["a2"]
        return
    found: list[str] = []
    for _ in range(8):
        found += ran(matching.beat("lives", activity_slots=5)) + ran(matching.advance(1_000))
    assert found == ["a2"]


def test_an_activity_that_its_client_completes_does_not_run() -> None:
    matching = Matching()
    matching.configure(key_concurrency_default=1)
    matching.beat("one", activity_slots=5)
    assert tasks(matching, "a", 2) == ["a1"]
    assert ran(matching.task("a1/a5.1", fairness_key="a", left_open=True)) == ["a2"]


def test_a_waiting_task_that_is_cancelled_or_over_takes_no_slot() -> None:
    matching = Matching()
    matching.configure(key_concurrency_default=1)
    matching.beat("one", activity_slots=5)
    assert tasks(matching, "a", 4) == ["a1"]
    matching.task("a2/a5.1", fairness_key="a", cancel_requested=True)
    done(matching, "a3")
    assert done(matching, "a1") == ["a4"]


def test_the_next_owner_knows_what_is_set_and_what_runs() -> None:
    first = Matching()
    first.configure(key_concurrency_default=2)
    first.beat("one", activity_slots=10)
    assert tasks(first, "a", 6) == ["a1", "a2"]
    second = Matching(first.log, now_ms=first.now_ms + 100, owner="second")
    assert ran(second.poll()) == []
    # A task from after the takeover waits, too: a worker that has not answered may run others of its key.
    assert ran(second.task("new/a5.1", fairness_key="a")) == []
    assert ran(second.task("other/a5.1", fairness_key="b")) == []
    sent = ran(second.answer("one", activity_slots=10, held=("a1/a5.1", "a2/a5.1")))
    assert sent == ["other"]
    assert done(second, "a1") == ["a3"]
    assert done(second, "a2") == ["a4"]


def test_the_next_owner_frees_what_a_dead_worker_had() -> None:
    first = Matching()
    first.configure(key_concurrency_default=1)
    first.beat("dies", activity_slots=1)
    assert tasks(first, "a", 2) == ["a1"]
    first.now_ms += 2_000  # old enough for the store
    first.handler.checkpoint()
    second = Matching(first.log, DictStore(first.store.snapshot()), first.now_ms, owner="second")
    found: list[str] = []
    for _ in range(12):
        found += ran(second.beat("lives", activity_slots=5)) + ran(second.advance(1_000))
        second.state.check()
    assert found == ["a2"]
    assert second.state.tasks["a1/a5.1"].phase is Phase.PARKED  # reported: history decides on another attempt


# --- rates ----------------------------------------------------------------------------------------------------------


def test_a_queue_goes_at_the_rate_that_was_set() -> None:
    matching = Matching()
    matching.configure(queue_rate=5.0)
    for worker in ("one", "two"):
        matching.beat(worker, activity_slots=50)
    assert len(tasks(matching, "a", 20)) + len(tasks(matching, "b", 20)) == 1
    assert len(ran(matching.advance(1_000))) == 5
    assert len(ran(matching.advance(2_000))) == 10
    matching.state.check()


def test_a_rate_that_was_set_goes_before_what_workers_say() -> None:
    matching = Matching()
    matching.beat("one", activity_slots=50, queue_activities_per_second=1.0)
    matching.configure(queue_rate=10.0)
    tasks(matching, "a", 40)
    matching.beat("one", activity_slots=50, queue_activities_per_second=1.0)
    assert len(ran(matching.advance(1_000))) == 10
    matching.unset()
    matching.advance(1_000)
    matching.beat("one", activity_slots=50, queue_activities_per_second=1.0)
    assert len(ran(matching.advance(3_000))) == 3


def test_each_key_has_its_own_rate_by_its_weight() -> None:
    matching = Matching()
    matching.configure(key("b", weight=3.0), key("c", rate=5.0), key("d", rate=0.0), key_rate_default=2.0)
    matching.beat("one", activity_slots=500)
    for name in "abcd":
        tasks(matching, name, 30)
    matching.advance(1_000)
    went = Counter(task[0] for task in ran(matching.advance(2_000)))
    assert went == {"a": 4, "b": 12, "c": 10}


def test_a_rate_of_zero_stops_the_queue_until_it_is_changed() -> None:
    matching = Matching()
    matching.configure(queue_rate=0.0)
    matching.beat("one", activity_slots=50)
    assert tasks(matching, "a", 3) == []
    assert ran(matching.advance(60_000)) == []
    assert ran(matching.beat("one", activity_slots=50)) == []
    assert ran(matching.configure(key("b", weight=2.0))) == ["a1", "a2", "a3"]


def test_a_default_of_zero_stops_keys_that_were_never_seen() -> None:
    matching = Matching()
    matching.configure(key("let", rate=100.0), key_rate_default=0.0)
    matching.beat("one", activity_slots=50)
    assert tasks(matching, "a", 2) == []
    assert tasks(matching, "let", 1) == ["let1"]


def test_a_rate_that_is_raised_does_not_wait_for_the_old_one() -> None:
    matching = Matching()
    matching.configure(queue_rate=0.001)
    matching.beat("one", activity_slots=50)
    assert tasks(matching, "a", 5) == ["a1"]
    matching.configure(queue_rate=1_000.0)
    assert len(ran(matching.advance(1_000))) == 4


# --- weights --------------------------------------------------------------------------------------------------------


def test_shares_are_those_of_the_weights_whatever_waits() -> None:
    """A hundred times as many tasks of the key with the least weight wait, and it gets its share and no more."""
    weights = {"one": 1.0, "two": 2.0, "four": 4.0, "eight": 8.0}
    queue = FairQueue()
    count = 0
    for name, weight in weights.items():
        for _ in range(40_000 if name == "one" else 400):
            queue.push(f"{name}/{count}", priority=3, fairness_key=name, weight=weight, sequence=count)
            count += 1
    served: Counter[str] = Counter()
    while max(served.values(), default=0) < 400:  # as long as all have tasks
        task_id = queue.pop()
        assert task_id is not None
        served[task_id.partition("/")[0]] += 1
    for name, weight in weights.items():
        share, fair = served[name] / served.total(), weight / sum(weights.values())
        assert abs(share - fair) <= 0.01 * fair, f"{name}: {share:.3f}, and {fair:.3f} is fair"


def test_a_weight_that_is_set_counts_for_what_waits_already() -> None:
    matching = Matching()
    tasks(matching, "a", 60)
    tasks(matching, "b", 60)
    assert Counter(task[0] for task in ran(matching.beat("one", activity_slots=20))) == {"a": 10, "b": 10}
    matching.configure(key("b", weight=4.0))
    assert Counter(task[0] for task in ran(matching.beat("two", activity_slots=50))) == {"a": 10, "b": 40}


def test_a_key_that_was_closed_gets_no_turns_in_arrears() -> None:
    matching = Matching()
    matching.configure(key("a", concurrency=0))
    tasks(matching, "a", 50)
    tasks(matching, "b", 100)
    assert Counter(task[0] for task in ran(matching.beat("one", activity_slots=40))) == {"b": 40}
    matching.unset()
    went = Counter(task[0] for task in ran(matching.beat("two", activity_slots=20)))
    assert went["a"] in (10, 11)
    assert went["b"] in (9, 10)


# --- bad records ----------------------------------------------------------------------------------------------------


def test_settings_for_no_type_of_tasks_are_refused_and_nothing_else() -> None:
    matching = Matching()
    matching.configure(task_type="nexus", queue_rate=0.0)
    (failure,) = matching.driver.failures
    assert "'nexus'; known are workflow, activity" in str(failure)
    matching.beat("one", activity_slots=5)
    assert tasks(matching, "a", 1) == ["a1"]


def test_numbers_that_are_none_are_no_limits() -> None:
    matching = Matching()
    matching.configure(key("a", weight=float("nan")), queue_rate=float("nan"), key_rate_default=float("inf"))
    matching.beat("one", activity_slots=5)
    assert tasks(matching, "a", 3) == ["a1", "a2", "a3"]
