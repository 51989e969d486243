"""Describe, await, fetch, query: requests that change no state. They are commands so that each sees all before it."""

from __future__ import annotations

from perdure_history.core.answers import described
from perdure_history.core.commands.context import Context, Steps, payloads_too_large
from perdure_history.core.commands.update import task_number
from perdure_history.core.effects import (
    Answer,
    AnswerResult,
    DispatchQuery,
    DropQuery,
    HoldQuery,
    Ignored,
    KeepWaiter,
    PendingQuery,
    ReleaseUpdates,
    SendHistoryPage,
)
from perdure_history.core.react import failing_message
from perdure_history.core.state import RunState, WorkflowTaskStatus
from perdure_schemas.records import (
    AwaitResult,
    Command,
    DescribeWorkflow,
    ErrorCode,
    FetchHistory,
    QueryAnswer,
    QueryTaskCompleted,
    QueryTaskExpired,
    QueryWorkflow,
    Rejected,
    WorkflowStatus,
)

__all__ = ["await_result", "describe", "fetch_history", "query", "query_completed", "query_expired"]

_CLEAN = (WorkflowStatus.RUNNING, WorkflowStatus.COMPLETED, WorkflowStatus.CONTINUED_AS_NEW)
_REJECT_CONDITIONS = ("NONE", "NOT_OPEN", "NOT_COMPLETED_CLEANLY")


def describe(run: RunState, command: Command, _body: DescribeWorkflow, context: Context) -> Steps:
    """How the run stands."""
    if command.reply is not None:
        yield Answer(command.reply, described(run, context.offset))


def await_result(run: RunState, command: Command, _body: AwaitResult, _context: Context) -> Steps:
    """How the run ended, once it has."""
    if command.reply is not None:
        yield KeepWaiter(command.reply) if run.is_open else AnswerResult(command.reply)


def fetch_history(_run: RunState, command: Command, body: FetchHistory, context: Context) -> Steps:
    """A page of the history."""
    if command.reply is None:
        return
    if body.first_event_id < 1 or body.page_bytes_max < 1:
        message = f"first_event_id {body.first_event_id} and page_bytes_max {body.page_bytes_max} must be at least 1"
        yield Answer(command.reply, Rejected(code=ErrorCode.INVALID_ARGUMENT, message=message))
        return
    bytes_max = min(body.page_bytes_max, context.policy.history_page_bytes_max)
    yield SendHistoryPage(command.reply, body.first_event_id, bytes_max)


def query(run: RunState, command: Command, body: QueryWorkflow, context: Context) -> Steps:
    """Ask a worker, once the workflow code has seen everything that has happened."""
    if command.reply is None or body.expires_at_ms <= context.now_ms:
        yield Ignored("query has expired, or nobody waits for it")
        return
    if body.reject_condition not in _REJECT_CONDITIONS:
        message = (
            f"unknown query reject condition {body.reject_condition!r}; use one of {', '.join(_REJECT_CONDITIONS)}"
        )
        yield Answer(command.reply, Rejected(code=ErrorCode.INVALID_ARGUMENT, message=message))
        return
    invalid = payloads_too_large(context.policy, [*body.args, *body.header.values()])
    if not 1 <= len(body.query_type) <= context.policy.name_chars_max:
        invalid = f"the query name must have 1 to {context.policy.name_chars_max} characters"
    if invalid:
        yield Answer(command.reply, Rejected(code=ErrorCode.INVALID_ARGUMENT, message=invalid))
        return
    not_open = body.reject_condition == "NOT_OPEN" and not run.is_open
    unclean = body.reject_condition == "NOT_COMPLETED_CLEANLY" and run.status not in _CLEAN
    if not_open or unclean:
        yield Answer(command.reply, QueryAnswer(rejected_status=run.status))
        return
    pending = PendingQuery(
        # The epoch in it tells which owner's record is to be dropped, so no state is kept for a query.
        query_id=task_number(context),
        query_type=body.query_type,
        args=body.args,
        header=body.header,
        to=command.reply,
        expires_at_ms=body.expires_at_ms,
        seen_event_id=run.waking_event_id,
    )
    task = run.workflow_task
    if task is None or run.paused:
        # A paused run is asked as it stands: its code does not see more before it goes on.
        yield DispatchQuery(pending)
    elif task.status is WorkflowTaskStatus.BACKING_OFF:
        message = failing_message(task.last_cause)
        yield Answer(command.reply, Rejected(code=ErrorCode.FAILED_PRECONDITION, message=message))
    else:
        yield HoldQuery(pending)


def query_completed(_run: RunState, _command: Command, body: QueryTaskCompleted, _context: Context) -> Steps:
    """Pass a worker's answer on."""
    yield Answer(body.reply, QueryAnswer(result=body.result, failure=body.failure))
    yield DropQuery(body.query_id)


def query_expired(_run: RunState, _command: Command, body: QueryTaskExpired, context: Context) -> Steps:
    """Nobody answered in time. The task may have been one for updates: those whose time is not over go out again."""
    yield DropQuery(body.query_id)
    yield ReleaseUpdates(task_number(context), body.query_id)
