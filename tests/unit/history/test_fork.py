"""Fork: a workflow of another id that begins with a run's first events, and owes nothing to that run."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_schemas import codec
from perdure_schemas.records import (
    CompleteWorkflowExecution,
    ErrorCode,
    ForkWorkflow,
    HistoryRecord,
    ParentExecution,
    Rejected,
    Started,
    StartTimer,
    WorkflowExecutionStarted,
    WorkflowStatus,
)
from tests.unit.history.harness import START_MS, History, options, reply_to, start

HOUR_MS = 3_600_000


def _two_activities() -> History:
    """Event 3 schedules two activities, one of which ends; event 8 sets a timer."""
    history = History()
    first, _ = history.schedule(options("a"), options("b"))
    history.complete_activity(first)
    history.complete_task(StartTimer(timer_id="t", start_to_fire_timeout_ms=HOUR_MS))
    return history


def _fork(history: History, **fields: object) -> object:
    given: dict[str, Any] = {
        "run_id": "forked",
        "source_workflow_id": "wf",
        "source_run_id": "run",
        **fields,
    }
    events = given.pop("events", history.history())
    copied = HistoryRecord(
        workflow_id="wf",
        run_id="run",
        command_offset=0,
        epoch=0,
        events=events,
    )
    given.setdefault("records", [codec.encode(copied)])
    history.send(ForkWorkflow(**given), workflow_id="copy", reply=reply_to(), command_id="fork")
    (reply,) = history.replies()
    return reply.body


def test_the_source_goes_on_and_the_fork_has_its_own_tasks() -> None:
    history = _two_activities()
    before = history.history()
    point = max(event.event_id for event in before if type(event.attributes).__name__ == "WorkflowTaskCompletedEvent")
    assert _fork(history) == Started(run_id="forked", first_execution_run_id="forked")
    assert sorted(task.kind for task in history.tasks()) == ["activity", "workflow"]
    assert {task.run_id for task in history.tasks()} == {"forked"}
    assert history.run().is_open
    assert history.history() == before
    new = history.history("forked")
    assert [(e.event_id, type(e.attributes)) for e in new] == [
        (e.event_id, type(e.attributes)) for e in before[: point - 1]
    ]
    started = new[0].attributes
    assert isinstance(started, WorkflowExecutionStarted)
    assert (started.original_run_id, started.first_execution_run_id) == ("run", "forked")
    history.complete_task(CompleteWorkflowExecution(), run_id="forked")
    assert history.run("forked").status is WorkflowStatus.COMPLETED
    assert history.run().is_open


def test_a_later_owner_folds_the_same_state() -> None:
    history = _two_activities()
    _fork(history)
    second = History(log=history.log, command_offset=history.offset, now_ms=history.now_ms)
    for run_id in ("run", "forked"):
        assert second.run(run_id) == history.run(run_id)


def test_a_fork_is_nobodys_child_and_has_its_time_limits_anew() -> None:
    history = History()
    parent = ParentExecution(workflow_id="p", run_id="pr", initiated_event_id=5, root_workflow_id="p", root_run_id="pr")
    history.send(start(parent=parent, execution_timeout_ms=HOUR_MS, run_timeout_ms=HOUR_MS))
    history.complete_task(StartTimer(timer_id="t", start_to_fire_timeout_ms=60_000))
    history.now_ms += 2 * HOUR_MS
    _fork(history)
    forked = history.run("forked")
    assert forked.is_open
    assert forked.parent is None
    assert forked.deadline_ms == START_MS + 3 * HOUR_MS
    history.complete_task(CompleteWorkflowExecution(), run_id="forked")
    assert not [r for r in history.sent if r.topic.endswith("commands")], "no parent is told"


def test_a_repeated_fork_makes_no_second_run() -> None:
    history = _two_activities()
    _fork(history)
    assert _fork(history) == Started(run_id="forked", first_execution_run_id="forked", created=False)
    assert not history.events()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"event_id": 2}, "not the completion of a workflow task; those are: 3, 8"),
        ({"event_id": 99}, "event 99 is not the completion"),
        ({"point": "Middle"}, "no point"),
        ({"run_id": "run"}, "id of the new run"),
        ({"run_id": "a/b"}, "id of the new run"),
        ({"records": []}, "does not begin with the start"),
        ({"records": [b"nonsense"]}, "does not begin with the start"),
        ({"events": []}, "does not begin with the start"),
        ({"source_workflow_id": "copy"}, "needs a workflow id of its own"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, object], message: str) -> None:
    history = _two_activities()
    answer = _fork(history, **fields)
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.INVALID_ARGUMENT
    assert message in answer.message
    assert not history.events()


def test_a_history_with_a_gap_or_a_taken_id_is_refused() -> None:
    history = _two_activities()
    gap = _fork(history, events=[*history.history()[:2], *history.history()[3:]])
    assert isinstance(gap, Rejected)
    assert "has event 4 where event 3 belongs" in gap.message
    history.send(start("other"), workflow_id="copy")
    taken = _fork(history)
    assert isinstance(taken, Rejected)
    assert taken.code is ErrorCode.ALREADY_EXISTS
