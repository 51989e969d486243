"""Activities that their worker has begun by itself: history knows them by the worker's name for them, too."""

from __future__ import annotations

from typing import Any

from perdure_history.core.state import ActivityStatus
from perdure_schemas import keys, records
from perdure_schemas.records import (
    ActivityTaskCanceled,
    ActivityTaskCompleted,
    ActivityTaskFailed,
    ActivityTaskHeartbeat,
    DeadlineReached,
    Failure,
    FailureKind,
    RequestCancelActivityTask,
    ScheduleActivityTask,
    SignalInput,
    SignalWorkflow,
)
from tests.unit.history.harness import NAMES, History, options, payload, start

NAME = keys.eager_event_id(2, 1, 0)
TASK = keys.activity_task_id("run", NAME, 1)
FAILURE = Failure(kind=FailureKind.APPLICATION, type="Declined", message="no")


def _begun(worker_id: str = "w1", names: tuple[int, ...] = (NAME,), **fields: Any) -> History:
    history = History()
    history.send(start())
    commands = [
        ScheduleActivityTask(options=options(str(place), **fields), eager_event_id=name)
        for place, name in enumerate(names)
    ]
    history.complete_task(*commands, sticky_worker_id=worker_id)
    return history


def _say(history: History, kind: type, event_id: int = NAME, attempt: int = 1, **fields: Any) -> list[str]:
    history.send(
        kind(scheduled_event_id=event_id, attempt=attempt, started_time_ms=history.now_ms, **fields), run_id="run"
    )
    return history.kinds()


def test_its_task_has_the_workers_name_and_goes_to_that_worker() -> None:
    history = _begun()
    (task,) = history.tasks("activity")
    (event_id,) = history.run().activities
    assert (task.task_id, task.sticky_worker_id, task.scheduled_event_id) == (TASK, "w1", event_id)
    (event,) = [one for one in history.history() if isinstance(one.attributes, records.ActivityTaskScheduled)]
    assert (event.attributes.eager_event_id, event.attributes.eager_worker_id) == (NAME, "w1")


def test_its_end_counts_under_either_name_and_once() -> None:
    for name in (NAME, 0):
        history = _begun()
        (event_id,) = history.run().activities
        assert "ActivityTaskCompletedEvent" in _say(
            history, ActivityTaskCompleted, name or event_id, result=[payload("x")]
        )
        done = next(
            e.attributes for e in history.events() if isinstance(e.attributes, records.ActivityTaskCompletedEvent)
        )
        assert done.scheduled_event_id == event_id
        assert history.tombstones(NAMES.tasks) == [TASK]
        assert history.run().eager_ids == {}
        assert _say(history, ActivityTaskCompleted) == []


def test_what_arrives_meanwhile_does_not_change_what_the_name_means() -> None:
    history = History()
    history.send(start())
    seen = history.run().last_event_id
    for number in range(3):
        history.send(SignalWorkflow(signal=SignalInput(signal_name=str(number))))
    history.complete_task(
        ScheduleActivityTask(options=options("a"), eager_event_id=NAME),
        ScheduleActivityTask(options=options("b"), eager_event_id=keys.eager_event_id(2, 1, 1)),
        last_event_id=seen,
        sticky_worker_id="w1",
    )
    _say(history, ActivityTaskCompleted, result=[payload("of a")])
    (left,) = history.run().activities.values()
    assert left.options.activity_id == "b"


def test_a_name_that_nobody_gave_or_that_is_over_means_nothing() -> None:
    history = _begun()
    assert _say(history, ActivityTaskCompleted, keys.eager_event_id(2, 2, 0)) == []
    assert _say(history, ActivityTaskCompleted, attempt=2) == []
    assert len(history.run().activities) == 1


def test_the_next_attempt_is_like_any_other() -> None:
    history = _begun()
    _say(history, ActivityTaskFailed, failure=FAILURE)
    assert history.tombstones(NAMES.tasks) == [TASK]
    run = history.run()
    (activity,) = run.activities.values()
    assert activity.status is ActivityStatus.BACKING_OFF
    history.now_ms = run.wake_up_due_ms
    history.send(DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms), run_id="run")
    (task,) = history.tasks("activity")
    assert task.task_id == keys.activity_task_id("run", activity.scheduled_event_id, 2)
    assert task.sticky_worker_id == ""
    assert _say(history, ActivityTaskCompleted, NAME, 1) == [], "the first attempt is over"
    assert "ActivityTaskCompletedEvent" in _say(history, ActivityTaskCompleted, activity.scheduled_event_id, 2)


def test_heartbeats_and_a_request_to_stop_find_it() -> None:
    history = _begun(heartbeat_timeout_ms=5_000)
    assert _say(history, ActivityTaskHeartbeat, details=[payload("half")]) == ["ActivityAttemptRecorded"]
    (activity,) = history.run().activities.values()
    assert activity.heartbeat_details == [payload("half")]
    history.send(SignalWorkflow(signal=SignalInput(signal_name="stop")))
    history.complete_task(RequestCancelActivityTask(scheduled_event_id=activity.scheduled_event_id))
    (task,) = history.tasks("activity")
    assert (task.task_id, task.cancel_requested) == (TASK, True)
    assert "ActivityTaskCanceledEvent" in _say(history, ActivityTaskCanceled)


def test_a_worker_that_does_not_cache_and_a_name_twice_are_not_taken() -> None:
    for history in (_begun(worker_id=""), _begun(names=(5,))):
        (task,) = history.tasks("activity")
        assert not keys.is_eager_task(task.task_id)
        assert task.sticky_worker_id == ""
    first, second = _begun(names=(NAME, NAME)).tasks("activity")
    assert (first.task_id, keys.is_eager_task(second.task_id)) == (TASK, False)


def test_a_new_owner_knows_its_names() -> None:
    first = _begun()
    second = History(log=first.log, command_offset=first.offset, committed=first.offset, now_ms=first.now_ms)
    assert "ActivityTaskCompletedEvent" in _say(second, ActivityTaskCompleted)
