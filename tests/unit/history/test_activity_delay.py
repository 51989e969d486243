"""An activity with a start delay: its first attempt waits, and nothing else is different."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_history.core.state import ActivityStatus
from perdure_schemas.records import (
    ActivityTask,
    DeadlineReached,
    RequestCancelActivityTask,
    ScheduleActivityTask,
    SignalInput,
    SignalWorkflow,
)
from tests.unit.history.harness import START_MS, History, body_of, options, payload, start


def scheduled(delay_ms: int, eager_event_id: int = 0, **fields: Any) -> tuple[History, int]:
    """A workflow with one delayed activity, and the event that scheduled it."""
    history = History()
    history.send(start())
    command = ScheduleActivityTask(options=options(**fields), start_delay_ms=delay_ms, eager_event_id=eager_event_id)
    history.complete_task(command, sticky_worker_id="w1")
    (event_id,) = history.run().activities
    return history, event_id


def wake(history: History) -> list[str]:
    run = history.run()
    history.now_ms = max(history.now_ms, run.wake_up_due_ms)
    history.send(DeadlineReached(arm_number=run.wake_up_number, due_time_ms=run.wake_up_due_ms), run_id="run")
    return history.kinds()


def test_the_first_attempt_is_handed_out_when_the_delay_is_over() -> None:
    history, event_id = scheduled(60_000)
    assert not history.tasks("activity")
    (armed,) = history.timers()
    assert armed.due_time_ms == START_MS + 60_000
    assert wake(history) == ["ActivityAttemptRecorded"]
    (task,) = history.tasks("activity")
    body = body_of(task)
    assert isinstance(body, ActivityTask)
    assert (task.task_id, body.attempt) == (f"run/a{event_id}.1", 1)
    assert body.options.input == [payload("in")], "the input comes from the history"
    assert (body.scheduled_time_ms, body.attempt_scheduled_time_ms) == (START_MS, START_MS + 60_000)
    history.complete_activity(event_id)
    assert "ActivityTaskCompletedEvent" in history.kinds()


def test_a_worker_does_not_begin_it_by_itself() -> None:
    history, event_id = scheduled(60_000, eager_event_id=-65_537)
    activity = history.run().activities[event_id]
    assert (activity.status, activity.eager_event_id, activity.eager_worker_id) == (ActivityStatus.BACKING_OFF, 0, "")


def test_it_is_cancelled_at_once_while_it_waits() -> None:
    history, event_id = scheduled(60_000)
    history.send(SignalWorkflow(signal=SignalInput(signal_name="stop")))
    history.complete_task(RequestCancelActivityTask(scheduled_event_id=event_id))
    assert "ActivityTaskCanceledEvent" in history.kinds()
    assert not history.run().activities


def test_the_delay_is_part_of_the_time_as_a_whole_and_not_of_the_wait_for_a_worker() -> None:
    history, event_id = scheduled(60_000, schedule_to_close_timeout_ms=90_000, schedule_to_start_timeout_ms=10_000)
    wake(history)
    assert history.run().activities[event_id].status is ActivityStatus.SCHEDULED
    assert wake(history)[0] == "ActivityTaskTimedOut"  # nobody took it
    assert history.now_ms == START_MS + 70_000


@pytest.mark.parametrize(("delay_ms", "message"), [(-1, "cannot be negative"), (90_000, "leaves nothing")])
def test_a_delay_that_makes_no_sense_fails_the_workflow_task(delay_ms: int, message: str) -> None:
    history = History()
    history.send(start())
    wanted = options(schedule_to_close_timeout_ms=90_000)
    history.complete_task(ScheduleActivityTask(options=wanted, start_delay_ms=delay_ms))
    (failed,) = [event.attributes for event in history.events() if "Failed" in type(event.attributes).__name__]
    assert message in failed.failure.message
    assert not history.run().activities
