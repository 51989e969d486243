"""StartWorkflow: the policies for a workflow id that has a run already, and the first events of a new one.

Invariant I3: a start with the same command id or the same run id is answered as the first one was, and changes nothing.
"""

from __future__ import annotations

from perdure_history.core.commands.activity_options import retry_policy_fault
from perdure_history.core.commands.context import Context, Steps, payloads_too_large
from perdure_history.core.commands.properties import memo_fault, search_attributes_fault, static_text_fault
from perdure_history.core.commands.signal import take_signal
from perdure_history.core.commands.update import request_fault, take_update
from perdure_history.core.effects import Answer, AnswerResult, AnswerUnlessClosed, KeepWaiter
from perdure_history.core.state import RunState
from perdure_history.core.versioning import override_fault
from perdure_schemas import records
from perdure_schemas.keys import SCHEDULE_PREFIX, is_schedule
from perdure_schemas.records import (
    Command,
    ErrorCode,
    IdConflictPolicy,
    IdReusePolicy,
    Rejected,
    ReplyBody,
    Started,
    StartWorkflow,
    WorkflowStatus,
)

__all__ = ["existing_run_steps", "is_repetition", "new_run_steps", "refusal", "replaces_running", "uses_running"]

_UNSUCCESSFUL = (
    WorkflowStatus.FAILED,
    WorkflowStatus.CANCELED,
    WorkflowStatus.TERMINATED,
    WorkflowStatus.TIMED_OUT,
)


def is_repetition(run: RunState | None, command: Command, body: StartWorkflow) -> bool:
    """Whether ``run`` is what this very start has made."""
    if run is None:
        return False
    made_it = run.run_id == body.run_id or run.start_command_id == command.command_id
    # A start with an update that the run has accepted is repeated, too: the run may be another's, and closed by now.
    return made_it or (body.update is not None and body.update.update_id in run.updates)


def uses_running(current: RunState | None, body: StartWorkflow) -> bool:
    """Whether the start means the running run of that workflow id."""
    if current is None or not current.is_open or replaces_running(body):
        return False
    return body.signal is not None or body.id_conflict_policy is IdConflictPolicy.USE_EXISTING


def replaces_running(body: StartWorkflow) -> bool:
    """Whether the start terminates a running run of that workflow id."""
    return (
        body.id_conflict_policy is IdConflictPolicy.TERMINATE_EXISTING
        or body.id_reuse_policy is IdReusePolicy.TERMINATE_IF_RUNNING
    )


def refusal(current: RunState | None, command: Command, body: StartWorkflow, context: Context) -> Rejected | None:
    """Why this start is refused; ``None`` if it is not. ``current`` is the newest run of the workflow id."""
    invalid = _invalid(command, body, context)
    if invalid:
        return Rejected(code=ErrorCode.INVALID_ARGUMENT, message=invalid)
    if current is None:
        return None
    if current.is_open:
        if uses_running(current, body) or replaces_running(body):
            return None
        return _exists(current, f"workflow {command.workflow_id!r} is running")
    policy = body.id_reuse_policy
    if policy is IdReusePolicy.REJECT_DUPLICATE:
        return _exists(current, f"workflow {command.workflow_id!r} has a closed run, and the reuse policy is {policy}")
    if policy is IdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY and current.status not in _UNSUCCESSFUL:
        message = f"workflow {command.workflow_id!r} has a run that did not fail, and the reuse policy is {policy}"
        return _exists(current, message)
    return None


def _exists(current: RunState, message: str) -> Rejected:
    return Rejected(code=ErrorCode.ALREADY_EXISTS, message=message, run_id=current.run_id, status=current.status)


def _invalid(command: Command, body: StartWorkflow, context: Context) -> str:
    policy = context.policy
    if not command.workflow_id or len(command.workflow_id) > policy.workflow_id_chars_max:
        return f"the workflow id must have 1 to {policy.workflow_id_chars_max} characters"
    if is_schedule(command.workflow_id):
        return f"workflow ids that begin with {SCHEDULE_PREFIX!r} are those of schedules; choose another"
    for what, name in (("workflow type", body.workflow_type), ("task queue", body.task_queue), ("run id", body.run_id)):
        if not name or len(name) > policy.name_chars_max:
            return f"the {what} must have 1 to {policy.name_chars_max} characters"
    if "/" in body.run_id or "@" in body.run_id:
        return "the run id must not contain '/' or '@'"
    for what, timeout_ms in (
        ("execution timeout", body.execution_timeout_ms),
        ("run timeout", body.run_timeout_ms),
        ("task timeout", body.task_timeout_ms),
    ):
        if timeout_ms is not None and timeout_ms <= 0:
            return f"the {what} is {timeout_ms} ms; it must be above zero, or not set"
    if body.id_conflict_policy is not IdConflictPolicy.UNSPECIFIED:
        if body.id_reuse_policy is IdReusePolicy.TERMINATE_IF_RUNNING:
            return "the id reuse policy TERMINATE_IF_RUNNING cannot be combined with an id conflict policy"
        if body.update is not None and body.id_conflict_policy is IdConflictPolicy.TERMINATE_EXISTING:
            return "a start with an update cannot terminate the running workflow; use FAIL or USE_EXISTING"
        if body.signal is not None and body.id_conflict_policy is IdConflictPolicy.FAIL:
            return "a start with a signal cannot have the id conflict policy FAIL"
    if body.signal is not None and not 1 <= len(body.signal.signal_name) <= policy.name_chars_max:
        return f"the signal name must have 1 to {policy.name_chars_max} characters"
    if body.update is not None:
        invalid = request_fault(body.update, context)
        if invalid:
            return invalid
    payloads = [*body.input, *body.header.values()]
    if body.signal is not None:
        payloads += [*body.signal.input, *body.signal.header.values()]
    return (
        payloads_too_large(policy, payloads)
        or memo_fault(body.memo, policy)
        or search_attributes_fault(body.search_attributes, policy)
        or static_text_fault(body.static_summary, body.static_details, policy)
        or override_fault(body.versioning_override)
        or (retry_policy_fault(body.retry_policy) if body.retry_policy is not None else "")
        or _delay_fault(body, context)
    )


def _delay_fault(body: StartWorkflow, context: Context) -> str:
    if body.start_delay_ms < 0:
        return f"the start delay is {body.start_delay_ms} ms; it cannot be negative"
    if not body.cron_schedule:
        return ""
    if body.start_delay_ms:
        return "a cron schedule and a start delay cannot be combined; leave one of them out"
    try:
        context.policy.next_cron_ms(body.cron_schedule, context.now_ms, context.now_ms)
    except ValueError as error:
        return str(error)
    return ""


def new_run_steps(run: RunState, command: Command, body: StartWorkflow, context: Context) -> Steps:
    """The first events of the new run."""
    backoff_ms = body.start_delay_ms
    if body.cron_schedule:
        now_ms = context.now_ms
        backoff_ms = context.policy.next_cron_ms(body.cron_schedule, now_ms, now_ms) - now_ms
    deadline_ms = 0
    if body.execution_timeout_ms is not None:
        deadline_ms = context.now_ms + body.start_delay_ms + body.execution_timeout_ms
    yield records.WorkflowExecutionStarted(
        workflow_type=body.workflow_type,
        task_queue=body.task_queue,
        input=body.input,
        header=body.header,
        execution_timeout_ms=body.execution_timeout_ms,
        run_timeout_ms=body.run_timeout_ms,
        task_timeout_ms=body.task_timeout_ms,
        memo=body.memo,
        identity=command.identity,
        first_execution_run_id=body.run_id,
        start_command_id=command.command_id,
        await_result=command.reply if body.await_result else None,
        parent=body.parent,
        execution_deadline_ms=deadline_ms,
        retry_policy=body.retry_policy,
        cron_schedule=body.cron_schedule,
        first_task_backoff_ms=backoff_ms,
        search_attributes=body.search_attributes,
        static_summary=body.static_summary,
        static_details=body.static_details,
        priority=body.priority,
        versioning_override=body.versioning_override,
        inherited_version=body.inherited_version,
        scheduled_by=body.scheduled_by,
        last_completion_result=body.last_completion_result,
        last_failure=body.last_failure,
    )
    if body.signal is not None:
        yield take_signal(command, body.signal)
    if command.reply is not None:
        answer = Started(run_id=body.run_id, first_execution_run_id=body.run_id)
        if body.await_result and body.start_answer_delay_ms > 0:
            yield AnswerUnlessClosed(command.reply, answer, body.start_answer_delay_ms)
        else:
            yield Answer(command.reply, answer)
    if body.update is not None:
        yield from take_update(run, command, body.update, body.update_wait_stage, body.update_expires_at_ms, context)


def existing_run_steps(run: RunState, command: Command, body: StartWorkflow, context: Context) -> Steps:
    """Answer with a run that exists, after the signal, if there is one and it is new."""
    repetition = is_repetition(run, command, body)
    if body.signal is not None and not repetition and not context.repeated:
        yield take_signal(command, body.signal)
    if command.reply is None:
        return
    answer: ReplyBody = Started(
        run_id=run.run_id, first_execution_run_id=run.first_execution_run_id, created=repetition
    )
    yield Answer(command.reply, answer)
    if body.update is not None:
        yield from take_update(run, command, body.update, body.update_wait_stage, body.update_expires_at_ms, context)
    if body.await_result:
        yield KeepWaiter(command.reply) if run.is_open else AnswerResult(command.reply)
