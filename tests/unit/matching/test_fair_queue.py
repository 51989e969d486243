"""The order in which a backlog is served."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure_matching.core.fair_queue import FairQueue


def push(queue: FairQueue, task_id: str, sequence: int, priority: int = 3, key: str = "", weight: float = 1.0) -> float:
    return queue.push(task_id, priority=priority, fairness_key=key, weight=weight, sequence=sequence)


def drain(queue: FairQueue) -> list[str]:
    served = []
    while (task_id := queue.pop()) is not None:
        served.append(task_id)
    return served


def test_equals_are_served_first_in_first_out() -> None:
    queue = FairQueue()
    for number in range(5):
        push(queue, f"t{number}", number)
    assert drain(queue) == ["t0", "t1", "t2", "t3", "t4"]


def test_a_smaller_priority_number_is_served_first() -> None:
    queue = FairQueue()
    push(queue, "low", 0, priority=5)
    push(queue, "normal", 1, priority=3)
    push(queue, "urgent", 2, priority=1)
    assert drain(queue) == ["urgent", "normal", "low"]


def test_a_flood_of_one_key_does_not_delay_another_key() -> None:
    queue = FairQueue()
    for number in range(100):
        push(queue, f"flood{number}", number, key="loud")
    push(queue, "quiet", 100, key="quiet")
    assert "quiet" in drain(queue)[:2]


def test_a_key_with_twice_the_weight_gets_twice_the_turns() -> None:
    queue = FairQueue()
    for number in range(60):
        push(queue, f"a{number}", number, key="a", weight=2.0)
        push(queue, f"b{number}", number, key="b", weight=1.0)
    first = drain(queue)[:30]
    assert sum(task_id.startswith("a") for task_id in first) == 20


def test_a_key_that_was_idle_gets_no_turns_in_advance() -> None:
    queue = FairQueue()
    for number in range(50):
        push(queue, f"a{number}", number, key="a")
    for _ in range(40):
        queue.pop()
    for number in range(10):
        push(queue, f"b{number}", 50 + number, key="b")
    served = drain(queue)
    assert sum(task_id.startswith("b") for task_id in served[:10]) in (4, 5, 6)


def test_a_task_comes_back_to_its_old_place() -> None:
    queue = FairQueue()
    for number in range(10):
        push(queue, f"t{number}", number)
    taken = queue.pop()
    assert taken == "t0"
    queue.push(taken, priority=3, fairness_key="", weight=1.0, sequence=0, start=0.0)
    assert drain(queue)[:2] == ["t0", "t1"]


def test_discarded_tasks_are_not_served_and_leave_no_garbage() -> None:
    queue = FairQueue()
    for number in range(1_000):
        push(queue, f"t{number}", number)
    for number in range(990):
        assert queue.discard(f"t{number}")
    assert not queue.discard("t0")
    assert len(queue._levels[3].lanes[""].entries) < 200
    assert drain(queue) == [f"t{number}" for number in range(990, 1_000)]


def test_keys_that_come_and_go_leave_no_garbage() -> None:
    queue = FairQueue()
    push(queue, "stays", 0, priority=1)
    for number in range(1, 1_000):
        push(queue, f"t{number}", number, key="k")
        assert queue.discard(f"t{number}")
    assert len(queue._turns) < 200
    assert drain(queue) == ["stays"]


def test_keys_of_the_past_are_forgotten() -> None:
    queue = FairQueue()
    for number in range(5_010):
        push(queue, f"t{number}", number, key=f"key{number}")
        if number >= 10:
            assert queue.pop() == f"t{number - 10}"
    assert len(queue._levels[3].lanes) < 2_000


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from(["", "a", "b"]), st.sampled_from([0.5, 1.0, 3.0]), st.booleans())
    )
)
def test_every_task_is_served_once_and_order_within_a_key_is_kept(
    entries: list[tuple[int, str, float, bool]],
) -> None:
    queue = FairQueue()
    served: list[int] = []
    pushed: dict[str, tuple[int, str]] = {}
    for number, (priority, key, weight, pop) in enumerate(entries):
        push(queue, str(number), number, priority, key, weight)
        pushed[str(number)] = (priority, key)
        if pop:
            waiting = [pushed[task_id][0] for task_id in pushed if int(task_id) not in served]
            task_id = queue.pop()
            assert task_id is not None
            assert pushed[task_id][0] == min(waiting)
            served.append(int(task_id))
    served += [int(task_id) for task_id in drain(queue)]
    assert sorted(served) == list(range(len(entries)))
    for lane in set(pushed.values()):
        in_lane = [number for number in served if pushed[str(number)] == lane]
        assert in_lane == sorted(in_lane)
