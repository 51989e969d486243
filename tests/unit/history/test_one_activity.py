"""The common case from end to end: start, one activity, the result."""

from __future__ import annotations

from perdure_schemas import codec
from perdure_schemas.records import (
    ActivityTask,
    CompleteWorkflowExecution,
    ExecutionSummary,
    HistoryRecord,
    ScheduleActivityTask,
    Started,
    WorkflowClosed,
    WorkflowStatus,
    WorkflowTask,
)
from tests.unit.history.harness import NAMES, History, body_of, options, payload, reply_to, start


def test_a_one_activity_workflow_runs_to_its_end() -> None:
    history = History()

    history.send(start(await_result=True, input=[payload("order")]), reply=reply_to("1"))
    assert history.kinds() == ["WorkflowExecutionStarted", "WorkflowTaskScheduled"]
    (task,) = history.tasks()
    body = body_of(task)
    assert isinstance(body, WorkflowTask)
    assert (body.first_event_id, body.last_event_id, body.scheduled_event_id) == (1, 2, 2)
    assert [codec.decode_as(value, HistoryRecord).events[0].event_id for value in body.history] == [1]
    (started,) = history.replies()
    assert started.body == Started(run_id="run", first_execution_run_id="run")
    (summary,) = history.values(NAMES.executions, ExecutionSummary)
    assert summary.status is WorkflowStatus.RUNNING

    first_task_id = task.task_id
    history.complete_task(ScheduleActivityTask(options=options()), sticky_worker_id="w1")
    assert history.kinds() == ["WorkflowTaskCompletedEvent", "ActivityTaskScheduled"]
    assert history.tombstones(NAMES.tasks) == [first_task_id]
    (task,) = history.tasks("activity")
    body = body_of(task)
    assert isinstance(body, ActivityTask)
    assert body.options.input == [payload("in")]
    assert task.task_queue == "payments"
    assert not history.timers()

    history.complete_activity(4)
    assert history.kinds() == ["ActivityTaskCompletedEvent", "WorkflowTaskScheduled"]
    assert history.tombstones(NAMES.tasks) == [task.task_id]
    (task,) = history.tasks("workflow")
    assert task.sticky_worker_id == "w1"
    assert task.sticky_until_ms == history.now_ms + history.config.sticky_ms
    body = body_of(task)
    assert isinstance(body, WorkflowTask)
    assert (body.first_event_id, body.last_event_id) == (3, 6)
    seen = [event.event_id for value in body.history for event in codec.decode_as(value, HistoryRecord).events]
    assert seen == [3, 4, 5, 6]

    history.complete_task(CompleteWorkflowExecution(result=[payload("done")]))
    assert history.kinds() == ["WorkflowTaskCompletedEvent", "WorkflowExecutionCompleted"]
    assert history.tombstones(NAMES.tasks) == [task.task_id]
    (closed,) = history.replies()
    assert closed.request_id == "1"
    assert closed.body == WorkflowClosed(run_id="run", status=WorkflowStatus.COMPLETED, result=[payload("done")])
    (summary,) = history.values(NAMES.executions, ExecutionSummary)
    assert summary.status is WorkflowStatus.COMPLETED
    assert summary.history_length == 8

    assert [event.event_id for event in history.history()] == list(range(1, 9))
    assert not history.outstanding(NAMES.tasks)
    assert not history.outstanding(NAMES.timers)
    assert not history.handler.ignored


def test_history_goes_out_before_its_effects() -> None:
    history = History()
    history.run_to_end()
    topics = [record.topic for record in history.all_sent]
    assert topics[0] == NAMES.history
    first = {topic: topics.index(topic) for topic in set(topics)}
    assert all(first[NAMES.history] <= index for index in first.values())
    assert {record.partition for record in history.all_sent if record.topic == NAMES.history} == {0}
