"""Reset: the new run is what its record says, for the owner that decided it and for every later one."""

from __future__ import annotations

import pytest

from perdure_schemas import limits
from perdure_schemas.records import (
    ActivityTaskScheduled,
    CompleteWorkflowExecution,
    ErrorCode,
    Rejected,
    ResetWorkflow,
    ScheduleActivityTask,
    SignalInput,
    SignalWorkflow,
    Started,
    StartTimer,
    WorkflowExecutionStarted,
    WorkflowStatus,
)
from tests.unit.history.harness import History, options, reply_to, start

HOUR_MS = 3_600_000


def _reset(history: History, **fields: object) -> list[object]:
    history.send(ResetWorkflow(**{"run_id": "new", "reason": "bug", **fields}), reply=reply_to(), command_id="reset")
    return [reply.body for reply in history.replies()]


def _two_activities() -> History:
    """Event 3 schedules two activities, one of which ends; event 7 sets a timer; a signal comes."""
    history = History()
    first, _ = history.schedule(options("a"), options("b"))
    history.complete_activity(first)
    history.complete_task(StartTimer(timer_id="t", start_to_fire_timeout_ms=HOUR_MS))
    history.send(SignalWorkflow(signal=SignalInput(signal_name="s")), command_id="signal")
    return history


def _successor(history: History) -> History:
    return History(history.config, log=history.log, command_offset=history.offset, now_ms=history.now_ms)


def test_the_prefix_is_copied_and_what_was_open_is_handed_out_anew() -> None:
    history = _two_activities()
    before = history.history()
    history.now_ms += HOUR_MS
    assert _reset(history) == [Started(run_id="new", first_execution_run_id="run")]
    assert history.run().status is WorkflowStatus.TERMINATED
    copied = history.history("new")
    point = max(event.event_id for event in before if type(event.attributes).__name__ == "WorkflowTaskCompletedEvent")
    assert [(e.event_id, type(e.attributes)) for e in copied[: point - 1]] == [
        (e.event_id, type(e.attributes)) for e in before[: point - 1]
    ]
    assert type(copied[-1].attributes).__name__ == "WorkflowExecutionSignaled"
    started = copied[0].attributes
    assert isinstance(started, WorkflowExecutionStarted)
    assert (started.original_run_id, copied[0].event_time_ms) == ("run", before[0].event_time_ms)
    open_tasks = [task for task in history.tasks() if task.run_id == "new"]
    assert sorted(task.kind for task in open_tasks) == ["activity", "workflow"]
    (pending,) = history.run("new").activities.values()
    (scheduled,) = [
        e
        for e in copied
        if isinstance(e.attributes, ActivityTaskScheduled) and e.event_id == pending.scheduled_event_id
    ]
    assert scheduled.event_time_ms == history.now_ms


def test_a_later_owner_folds_the_same_state() -> None:
    history = _two_activities()
    _reset(history)
    new = _successor(history)
    for run_id in ("run", "new"):
        assert new.run(run_id) == history.run(run_id)
    new.complete_task(CompleteWorkflowExecution(), run_id="new")
    assert new.run("new").status is WorkflowStatus.COMPLETED


def test_a_repeated_reset_makes_no_second_run() -> None:
    history = _two_activities()
    _reset(history)
    assert _reset(history) == [Started(run_id="new", first_execution_run_id="run", created=False)]
    assert history.run("new").is_open
    assert not history.events()


def test_signals_may_be_left_out_and_a_closed_run_can_be_reset() -> None:
    history = _two_activities()
    history.complete_task(CompleteWorkflowExecution())
    assert _reset(history, event_id=3, reapply_signals=False) == [Started(run_id="new", first_execution_run_id="run")]
    assert history.run().status is WorkflowStatus.COMPLETED
    assert [event.event_id for event in history.history("new")] == [1, 2]
    history.complete_task(ScheduleActivityTask(options=options("other")), run_id="new")
    assert len(history.run("new").activities) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"event_id": 2}, "not the completion"),
        ({"point": "Middle"}, "no point"),
        ({"run_id": "run"}, "id of the new run"),
        ({"run_id": "a/b"}, "id of the new run"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, object], message: str) -> None:
    history = _two_activities()
    (answer,) = _reset(history, **fields)
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.INVALID_ARGUMENT
    assert message in answer.message
    assert history.run().is_open


def test_too_long_histories_and_unknown_workflows_are_refused() -> None:
    history = History()
    (answer,) = _reset(history)
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.NOT_FOUND
    history.send(start())
    (answer,) = _reset(history)
    assert isinstance(answer, Rejected)
    assert "nothing to decide anew" in answer.message
    history.run().history_bytes = limits.RESET_BYTES_MAX + 1
    (answer,) = _reset(history)
    assert isinstance(answer, Rejected)
    assert str(limits.RESET_BYTES_MAX) in answer.message
