"""Which run follows one that closes: continued as new, tried again, or due by its cron schedule. Pure.

Invariants: the new run's id is a function of the closing run's id and its closing event, so the decision taken again
after a crash names the same run (I3); a chain of runs keeps its first run's id and its deadline; nothing follows a run
that somebody asked to stop. What the new run takes over comes from the first event of the closing one, with memo and
search attributes as they are at its end. Called by the commands that close a run.
"""

from __future__ import annotations

import msgspec

from perdure_history.core.commands.context import Context
from perdure_history.core.effects import StartNextRun
from perdure_history.core.failures import bounded
from perdure_history.core.retry import is_retryable, retry_interval_ms
from perdure_history.core.state import RunState
from perdure_history.core.versioning import continued_versioning, retried_version
from perdure_schemas.keys import next_run_id
from perdure_schemas.records import (
    ContinueAsNewWorkflowExecution,
    Failure,
    Payload,
    RetryState,
    WorkflowExecutionStarted,
)

__all__ = ["CONTINUE_AS_NEW", "CRON", "RETRY", "after_completion", "after_failure", "continued_as_new"]

#: Why a run follows another one.
CONTINUE_AS_NEW = "CONTINUE_AS_NEW"
RETRY = "RETRY"
CRON = "CRON"


def continued_as_new(run: RunState, command: ContinueAsNewWorkflowExecution, context: Context) -> StartNextRun:
    """The run that the workflow code asks for. Its attempts are counted from one again."""
    before = context.started_of(run.run_id)
    override, inherited, prefers_ramping = continued_versioning(run, command)
    started = _following(
        run,
        before,
        CONTINUE_AS_NEW,
        workflow_type=command.workflow_type,
        task_queue=command.task_queue,
        input=command.input,
        header=command.header or before.header,
        run_timeout_ms=command.run_timeout_ms or before.run_timeout_ms,
        task_timeout_ms=command.task_timeout_ms or before.task_timeout_ms,
        retry_policy=command.retry_policy or before.retry_policy,
        memo=command.memo if command.replaces_memo else run.memo,
        search_attributes=command.search_attributes if command.replaces_search_attributes else run.search_attributes,
        first_task_backoff_ms=command.backoff_start_interval_ms,
        last_failure=None,
        versioning_override=override,
        inherited_version=inherited,
        prefers_ramping=prefers_ramping,
    )
    return _next_run(run, started)


def after_completion(run: RunState, result: list[Payload], context: Context) -> StartNextRun | None:
    """The run that follows a successful one: the cron schedule's next."""
    due_ms = _next_cron_ms(run, context)
    if not due_ms:
        return None
    started = _following(
        run,
        context.started_of(run.run_id),
        CRON,
        first_task_backoff_ms=due_ms - context.now_ms,
        last_completion_result=result,
        last_failure=None,
    )
    return _next_run(run, started)


def after_failure(run: RunState, failure: Failure, context: Context) -> tuple[RetryState, StartNextRun | None]:
    """Whether a failed run is tried again, and the run that follows it: its next attempt, else the schedule's next."""
    retry_state, due_ms = _next_attempt(run, failure, context.now_ms)
    initiator, attempt = RETRY, run.attempt + 1
    if retry_state is not RetryState.IN_PROGRESS:
        due_ms = _next_cron_ms(run, context)
        initiator, attempt = CRON, 1
    if not due_ms:
        return retry_state, None
    before = context.started_of(run.run_id)
    started = _following(
        run,
        before,
        initiator,
        attempt=attempt,
        inherited_version=retried_version(run, before.inherited_version) if initiator == RETRY else "",
        first_task_backoff_ms=due_ms - context.now_ms,
        last_failure=bounded(failure),
    )
    return retry_state, _next_run(run, started)


def _next_attempt(run: RunState, failure: Failure, now_ms: int) -> tuple[RetryState, int]:
    policy = run.retry_policy
    if policy is None:
        return RetryState.RETRY_POLICY_NOT_SET, 0
    if run.cancel_requested:
        return RetryState.CANCEL_REQUESTED, 0
    if not is_retryable(failure, policy):
        return RetryState.NON_RETRYABLE_FAILURE, 0
    if 0 < policy.maximum_attempts <= run.attempt:
        return RetryState.MAXIMUM_ATTEMPTS_REACHED, 0
    wait_ms = failure.next_retry_delay_ms
    if wait_ms is None:
        wait_ms = retry_interval_ms(policy, run.attempt)
    due_ms = now_ms + max(0, wait_ms)
    if run.execution_deadline_ms and due_ms >= run.execution_deadline_ms:
        return RetryState.TIMEOUT, 0
    return RetryState.IN_PROGRESS, due_ms


def _next_cron_ms(run: RunState, context: Context) -> int:
    """When the cron schedule comes next; 0 if no run follows by it."""
    if not run.cron_schedule or run.cancel_requested:
        return 0
    due_ms = context.policy.next_cron_ms(run.cron_schedule, run.execution_time_ms, context.now_ms)
    return 0 if run.execution_deadline_ms and due_ms >= run.execution_deadline_ms else due_ms


def _following(
    run: RunState, before: WorkflowExecutionStarted, initiator: str, **changes: object
) -> WorkflowExecutionStarted:
    taken_over: dict[str, object] = {
        "attempt": 1,
        "memo": run.memo,
        "search_attributes": run.search_attributes,
        "continued_run_id": run.run_id,
        "initiator": initiator,
        "execution_deadline_ms": run.execution_deadline_ms,
        "await_result": None,
        "inherited_version": "",
        "prefers_ramping": False,
    }
    return msgspec.structs.replace(before, **{**taken_over, **changes})


def _next_run(run: RunState, started: WorkflowExecutionStarted) -> StartNextRun:
    # The closing event is the next one.
    return StartNextRun(next_run_id(run.run_id, run.last_event_id + 1), started)
