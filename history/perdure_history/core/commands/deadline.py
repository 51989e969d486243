"""DeadlineReached: the run's armed wake-up has come.

Invariant I6: it is a command like any other. What is due is read from the state when it is processed; a completion that
stands before it in the log has won, and a wake-up that is not the armed one does nothing.
"""

from __future__ import annotations

from perdure_history.core.commands import activity as activities
from perdure_history.core.commands.context import Context, Steps
from perdure_history.core.commands.workflow_task import scheduled
from perdure_history.core.deadlines import DueActivity, DueFirstTask, DueTask, DueTimer, due_items
from perdure_history.core.effects import Ignored, WakeUpSpent
from perdure_history.core.evolve import UNNUMBERED
from perdure_history.core.following import after_failure
from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.records import Command, DeadlineReached, EventAttributes, Failure, FailureKind, TimeoutType

__all__ = ["reached"]


def reached(run: RunState, _command: Command, body: DeadlineReached, context: Context) -> Steps:
    """Do everything that is due."""
    if not run.wake_up_due_ms or body.arm_number != run.wake_up_number:
        yield Ignored("wake-up is not armed")
        return
    yield WakeUpSpent()
    if run.deadline_ms and run.deadline_ms <= context.now_ms:
        yield from _timed_out(run, context)
        return
    steps: list[EventAttributes] = []
    for item in due_items(run, context.now_ms):
        steps += _steps(run, item, context)
    if all(type(step) in UNNUMBERED for step in steps):
        # Each of these needs a history record with a key of its own, and a decision has one record for each run: the
        # next wake-up, which is due at once, takes the next one.
        del steps[1:]
    yield from steps


def _timed_out(run: RunState, context: Context) -> Steps:
    """The run has taken too long. Its next attempt may follow, unless the whole execution has."""
    if run.execution_deadline_ms and run.execution_deadline_ms <= context.now_ms:
        yield records.WorkflowExecutionTimedOut()
        return
    failure = Failure(kind=FailureKind.TIMEOUT, message="Workflow timed out", timeout_type=TimeoutType.START_TO_CLOSE)
    retry_state, following = after_failure(run, failure, context)
    yield records.WorkflowExecutionTimedOut(
        retry_state=retry_state, new_run_id="" if following is None else following.run_id
    )
    if following is not None:
        yield following


def _steps(
    run: RunState, item: DueTimer | DueActivity | DueTask | DueFirstTask, context: Context
) -> list[EventAttributes]:
    if isinstance(item, DueFirstTask):
        return [scheduled(run)]
    if isinstance(item, DueTimer):
        return [records.TimerFired(timer_id=item.timer_id, started_event_id=item.timer.started_event_id)]
    if isinstance(item, DueTask):
        task = run.workflow_task
        assert task is not None
        return [
            records.WorkflowTaskAttemptRecorded(
                scheduled_event_id=task.scheduled_event_id,
                attempt=task.attempt,
                scheduled_time_ms=context.now_ms,
                last_failure=task.last_failure,
                last_cause=task.last_cause,
            )
        ]
    if item.timeout is None:
        return [activities.dispatch_attempt(item.activity, context)]
    return list(activities.timed_out(item.activity, item.timeout, context))  # type: ignore[arg-type]
