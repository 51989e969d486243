"""Which activities a worker begins by itself, when the answer that schedules them is in the log.

The way by history and matching to a worker's inbox takes longer than many an activity. So matching says with a workflow
task how many activities its answer may begin at once; the answer names them, and history gives them the event ids under
which they go on. Pure. The invariants that this rests on: the task's id is the same for worker, history and matching,
so the dispatch that follows is known as a repetition (I3); history, matching and their timeouts treat such an attempt
as any other. An answer that history refuses leaves an attempt that nobody wants: one may be made twice, so an activity
that may be tried only once is never begun so. After an idea of Temporal's, which calls them eager.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from perdure_schemas import keys
from perdure_schemas.records import (
    ActivityOptions,
    ActivityTask,
    CancelWorkflowExecution,
    CompleteWorkflowExecution,
    ContinueAsNewWorkflowExecution,
    FailWorkflowExecution,
    RunTask,
    ScheduleActivityTask,
    WorkflowCommand,
    WorkflowTask,
    WorkflowTaskCompleted,
)

Begun = Sequence[tuple[RunTask, ActivityTask]]

_CLOSING = (
    CompleteWorkflowExecution,
    FailWorkflowExecution,
    CancelWorkflowExecution,
    ContinueAsNewWorkflowExecution,
)
#: Beyond this the names of attempts and commands would run into each other.
_NUMBER_MAX = 0xFFFF


def begin_by_itself(
    run: RunTask,
    task: WorkflowTask,
    answer: WorkflowTaskCompleted,
    *,
    room: int,
    serves: Callable[[ActivityOptions], bool],
    now_ms: int,
) -> tuple[WorkflowTaskCompleted, Begun]:
    """The answer with its first activities named, and these as tasks.

    Parameters:
        room: how many activities the worker has room for.
        serves: whether the worker runs such an activity.
        now_ms: when they are taken as scheduled.
    """
    room = min(room, run.eager_activities_max)
    if room <= 0 or not answer.sticky_worker_id or answer.speculative_id or answer.attempt > _NUMBER_MAX:
        return answer, ()
    commands = answer.commands
    if not commands or isinstance(commands[-1], _CLOSING):
        return answer, ()
    named: list[WorkflowCommand] = []
    begun: list[tuple[RunTask, ActivityTask]] = []
    for number, command in enumerate(commands):
        if (
            isinstance(command, ScheduleActivityTask)
            and len(begun) < room
            and number <= _NUMBER_MAX
            and not command.start_delay_ms
            and _may_begin(command.options)
            and serves(command.options)
        ):
            name = keys.eager_event_id(answer.scheduled_event_id, answer.attempt, number)
            command = msgspec.structs.replace(command, eager_event_id=name)
            begun.append(_task(run, task, command.options, name, now_ms))
        named.append(command)
    return (msgspec.structs.replace(answer, commands=named), begun) if begun else (answer, ())


def _may_begin(options: ActivityOptions) -> bool:
    """Whether it may be made twice, and its timeouts are what they seem; others are made what they are by history."""
    start_to_close_ms = options.start_to_close_timeout_ms
    if options.retry_policy.maximum_attempts == 1 or start_to_close_ms is None:
        return False
    in_whole_ms, heartbeat_ms = options.schedule_to_close_timeout_ms, options.heartbeat_timeout_ms
    return (in_whole_ms is None or in_whole_ms >= start_to_close_ms) and (
        heartbeat_ms is None or heartbeat_ms <= start_to_close_ms
    )


def _task(
    run: RunTask, task: WorkflowTask, options: ActivityOptions, name: int, now_ms: int
) -> tuple[RunTask, ActivityTask]:
    body = ActivityTask(
        workflow_type=task.workflow_type,
        scheduled_event_id=name,
        attempt=1,
        options=options,
        scheduled_time_ms=now_ms,
        attempt_scheduled_time_ms=now_ms,
    )
    task_id = keys.activity_task_id(run.run_id, name, 1)
    return RunTask(task_id=task_id, kind="activity", workflow_id=run.workflow_id, run_id=run.run_id, task=b""), body
