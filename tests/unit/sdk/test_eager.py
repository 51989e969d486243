"""Activities that a worker begins by itself: which ones, under which names, and what happens when slots are short."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.worker._activity_slots import ActivitySlots
from perdure.worker._eager import begin_by_itself
from perdure.worker._tuning import FixedSizeSlotSupplier
from perdure_schemas import keys
from perdure_schemas.records import (
    ActivityOptions,
    ActivityTask,
    CompleteWorkflowExecution,
    RetryPolicy,
    RunTask,
    ScheduleActivityTask,
    StartTimer,
    WorkflowTask,
    WorkflowTaskCompleted,
)

_TASK = WorkflowTask(
    workflow_type="Order", scheduled_event_id=2, attempt=3, first_event_id=1, last_event_id=2, history=[],
    start_to_close_timeout_ms=10_000,
)  # fmt: skip


def _schedule(activity_id: str = "a", **fields: Any) -> ScheduleActivityTask:
    wanted = {"activity_type": "charge", "task_queue": "q", "start_to_close_timeout_ms": 1_000, **fields}
    return ScheduleActivityTask(options=ActivityOptions(activity_id=activity_id, **wanted))


def _begin(*commands: Any, allowed: int = 3, room: int = 100, **fields: Any) -> tuple[list[int], list[str]]:
    """The names given to the commands, and the ids of the tasks begun."""
    answer = WorkflowTaskCompleted(
        **{
            "scheduled_event_id": 2,
            "attempt": 3,
            "last_event_id": 2,
            "started_time_ms": 1,
            "commands": list(commands),
            "sticky_worker_id": "me",
            **fields,
        }
    )
    run = RunTask(
        task_id="r/w2.3", kind="workflow", workflow_id="wf", run_id="r", task=b"", eager_activities_max=allowed
    )
    named, begun = begin_by_itself(
        run, _TASK, answer, room=room, serves=lambda options: options.task_queue == "q", now_ms=7
    )
    for own, task in begun:
        assert (own.kind, own.workflow_id, own.run_id) == ("activity", "wf", "r")
        assert (task.attempt, task.workflow_type, task.scheduled_time_ms) == (1, "Order", 7)
        assert own.task_id == keys.activity_task_id("r", task.scheduled_event_id, 1)
    assert [type(one) for one in named.commands] == [type(one) for one in commands]
    return [getattr(one, "eager_event_id", 0) for one in named.commands], [own.task_id for own, _ in begun]


def test_an_activity_is_begun_under_a_name_that_its_place_gives_it() -> None:
    timer = StartTimer(timer_id="t", start_to_fire_timeout_ms=1)
    first, second = keys.eager_event_id(2, 3, 0), keys.eager_event_id(2, 3, 2)
    assert _begin(_schedule("a"), timer, _schedule("b")) == (
        [first, 0, second],
        [keys.activity_task_id("r", first, 1), keys.activity_task_id("r", second, 1)],
    )


@pytest.mark.parametrize("limits", [{"allowed": 2}, {"room": 2}])
def test_no_more_are_begun_than_matching_and_the_worker_have_room_for(limits: dict[str, int]) -> None:
    names, begun = _begin(*(_schedule(str(number)) for number in range(4)), **limits)
    assert [name < 0 for name in names] == [True, True, False, False]
    assert len(begun) == 2


@pytest.mark.parametrize(
    "command",
    [
        _schedule(task_queue="another"),
        _schedule(retry_policy=RetryPolicy(maximum_attempts=1)),
        _schedule(start_to_close_timeout_ms=None, schedule_to_close_timeout_ms=5_000),
        _schedule(schedule_to_close_timeout_ms=999),
        _schedule(heartbeat_timeout_ms=1_001),
    ],
    ids=["elsewhere", "only once", "no time of its own", "less time in whole", "beats too seldom"],
)
def test_some_activities_go_by_the_task_queue(command: ScheduleActivityTask) -> None:
    names, begun = _begin(command, _schedule("b"))
    assert names[0] == 0
    assert len(begun) == 1


@pytest.mark.parametrize(
    ("commands", "fields"),
    [
        ([_schedule()], {"sticky_worker_id": ""}),
        ([_schedule()], {"speculative_id": "s"}),
        ([_schedule()], {"attempt": 70_000}),
        ([_schedule(), CompleteWorkflowExecution()], {}),
    ],
    ids=["not cached", "stands in no history", "too many attempts", "closes the run"],
)
def test_some_answers_begin_nothing(commands: list[Any], fields: dict[str, Any]) -> None:
    names, begun = _begin(*commands, **fields)
    assert not any(names)
    assert begun == []


def test_names_of_different_attempts_and_places_differ() -> None:
    names = {
        keys.eager_event_id(event, attempt, place)
        for event in (1, 2, 51_200)
        for attempt in (1, 65_535)
        for place in (0, 65_535)
    }
    assert len(names) == 12
    assert all(-(2**63) <= name < 0 for name in names)
    for name in names:
        task_id = keys.activity_task_id("r", name, 1)
        assert keys.is_eager_task(task_id)
        assert keys.is_activity_task(task_id)
    assert not keys.is_eager_task(keys.activity_task_id("r", 5, 1))


def _task(name: str) -> tuple[RunTask, ActivityTask]:
    run = RunTask(task_id=name, kind="activity", workflow_id="wf", run_id="r", task=b"")
    options = ActivityOptions(activity_id=name, activity_type="charge", task_queue="q")
    body = ActivityTask(
        workflow_type="Order", scheduled_event_id=5, attempt=1, options=options, scheduled_time_ms=0,
        attempt_scheduled_time_ms=0,
    )  # fmt: skip
    return run, body


def _names(tasks: list[tuple[RunTask, ActivityTask]]) -> list[str]:
    return [run.task_id for run, _ in tasks]


def test_what_is_too_much_for_the_slots_waits_for_one() -> None:
    slots = ActivitySlots(FixedSizeSlotSupplier(2))
    assert slots.room() == 2
    assert _names(slots.take([_task("a"), _task("b"), _task("c"), _task("d")])) == ["a", "b"]
    assert slots.waiting_count == 2
    assert slots.room() == -2
    assert _names(slots.give_back("a")) == ["c"]
    assert _names(slots.give_back("b")) == ["d"]
    assert slots.give_back("c") == []
    assert slots.room() == 1


def test_one_that_waits_can_be_taken_away_and_all_can_be_let_go() -> None:
    slots = ActivitySlots(FixedSizeSlotSupplier(1))
    slots.take([_task("a"), _task("b"), _task("c"), _task("d")])
    assert slots.withdraw("a") is None
    withdrawn = slots.withdraw("c")
    assert withdrawn is not None
    assert withdrawn[0].task_id == "c"
    assert slots.give_back("c") == [], "the one slot is still taken"
    assert _names(slots.take_all_waiting()) == ["b", "d"]
    assert slots.waiting_count == 0


def test_promised_slots_are_no_room() -> None:
    slots = ActivitySlots(FixedSizeSlotSupplier(3))
    slots.promise(2)
    assert slots.room() == 1
    slots.promise(-2)
    assert slots.room() == 3
