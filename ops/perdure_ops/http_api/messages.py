"""Messages to workflows over HTTP: signals, queries, updates, and those that start the workflow they are for."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from perdure._ids import new_id
from perdure.client import WithStartWorkflowOperation, WorkflowUpdateStage
from perdure.client._update import run_update
from perdure.common import QueryRejectCondition, RawValue, WorkflowIDConflictPolicy
from perdure_ops.http_api import fields
from perdure_ops.http_api.context import REQUEST_S, Api
from perdure_ops.http_api.operations import Answer, Nothing, Operations
from perdure_ops.http_api.values import json_of, raw_values
from perdure_ops.http_api.views import FailureView, failure_view
from perdure_ops.http_api.workflows import StartBody, Started, start_options
from perdure_schemas.limits import HTTP_WAIT_MS_MAX
from perdure_schemas.records import (
    AwaitUpdate,
    UpdateAnswer,
    UpdateRequest,
    UpdateStage,
    UpdateWorkflow,
)

__all__ = ["operation"]

operation = Operations("Messages", "Signals, queries and updates, also those that start the workflow they are for.")

_QUERY_MS = 10_000
_STACK_TRACE = "__stack_trace"
_QUERY_STATUSES = {409: "Rejected because of the status.", 422: "The handler failed."}


# --- signals --------------------------------------------------------------------------------------------------------


class SignalFields(fields.Body, kw_only=True):
    """A signal."""

    signal: fields.Name
    args: fields.Arguments = []


class SignalBody(SignalFields, kw_only=True):
    """A signal, and the run it is for."""

    run_id: fields.RunId = ""


class SignalWithStartBody(fields.Body, kw_only=True):
    """A workflow to start if it does not run, and the signal for it."""

    start: StartBody
    signal: SignalFields


@operation("POST", "/workflows/{workflow_id}/signal")
async def signal_workflow(api: Api, workflow_id: str, body: SignalBody) -> Nothing:
    """Send a signal. Answers when it stands in the log, not when it was handled."""
    handle = api.client.get_workflow_handle(workflow_id, run_id=body.run_id or None)
    await handle.signal(body.signal, args=raw_values(body.args, "args"))
    return Nothing()


@operation("POST", "/workflows/{workflow_id}/signal-with-start", {201: "It runs, and the signal was taken."})
async def signal_with_start(api: Api, workflow_id: str, body: SignalWithStartBody) -> Started:
    """Send a signal to a workflow, and start it if it does not run: both or neither."""
    handle = await api.client.start_workflow(
        body.start.workflow_type,
        id=workflow_id,
        start_signal=body.signal.signal,
        start_signal_args=raw_values(body.signal.args, "signal.args"),
        **start_options(body.start),
    )
    return Started(workflow_id=workflow_id, run_id=handle.result_run_id or "")


# --- queries --------------------------------------------------------------------------------------------------------


class QueryBody(fields.RunBody, kw_only=True):
    """A query. ``__stack_trace`` is answered by every workflow."""

    query: fields.Name
    args: fields.Arguments = []
    reject_condition: Annotated[
        str, Meta(pattern="^(NONE|NOT_OPEN|NOT_COMPLETED_CLEANLY)$", description="When not to answer.")
    ] = "NONE"
    wait_ms: fields.WaitMs = _QUERY_MS


class QueryAnswerView(Answer, kw_only=True):
    """What the workflow's code answered."""

    result: msgspec.Raw


class StackTrace(Answer, kw_only=True):
    """Where the workflow's code waits."""

    stack_trace: str


@operation("POST", "/workflows/{workflow_id}/query", _QUERY_STATUSES)
async def query_workflow(api: Api, workflow_id: str, body: QueryBody) -> QueryAnswerView:
    """Ask the workflow's code for a view of its state; a worker answers. Works on closed workflows, too."""
    handle = api.client.get_workflow_handle(workflow_id, run_id=body.run_id or None)
    answer: RawValue | None = await handle.query(
        body.query,
        args=raw_values(body.args, "args"),
        result_type=RawValue,
        reject_condition=QueryRejectCondition[body.reject_condition],
        rpc_timeout=timedelta(milliseconds=max(1, body.wait_ms)),
    )
    return QueryAnswerView(result=json_of(None if answer is None else answer.payload))


@operation("GET", "/workflows/{workflow_id}/stack-trace", {422: "A worker could not tell."})
async def get_stack_trace(api: Api, workflow_id: str, query: fields.RunQuery) -> StackTrace:
    """Show where the workflow's code waits; a worker answers."""
    handle = api.client.get_workflow_handle(workflow_id, run_id=query.run_id or None)
    return StackTrace(stack_trace=await handle.query(_STACK_TRACE, result_type=str))


# --- updates --------------------------------------------------------------------------------------------------------


class UpdateFields(fields.Body, kw_only=True):
    """An update. The same ``update_id`` is the same update, with one outcome; a random one if not given."""

    update: fields.Name
    args: fields.Arguments = []
    update_id: fields.Name | None = None
    wait_for_stage: Annotated[UpdateStage, Meta(description="How far to wait.")] = UpdateStage.COMPLETED
    wait_ms: Annotated[
        int, Meta(ge=1, le=HTTP_WAIT_MS_MAX, description="How long to wait at most, in milliseconds.")
    ] = int(REQUEST_S * 1000)


class UpdateBody(UpdateFields, kw_only=True):
    """An update, and the run it is for."""

    run_id: fields.RunId = ""


class UpdateWithStartBody(fields.Body, kw_only=True):
    """A workflow to start if it does not run, and the update for it.

    The start must give ``id_conflict_policy``: USE_EXISTING or FAIL.
    """

    start: StartBody
    update: UpdateFields


class Update(Answer, kw_only=True):
    """How far an update has come, and with stage COMPLETED how it ended."""

    workflow_id: str
    run_id: str
    update_id: str
    stage: UpdateStage
    result: msgspec.Raw
    failure: FailureView | None


class UpdateQuery(fields.RunQuery, kw_only=True):
    """Which run, how far to wait, and how long."""

    wait_for_stage: Annotated[UpdateStage, Meta(description="How far to wait.")] = UpdateStage.COMPLETED
    wait_ms: Annotated[
        int, Meta(ge=1, le=HTTP_WAIT_MS_MAX, description="How long to wait at most, in milliseconds.")
    ] = HTTP_WAIT_MS_MAX


@operation("POST", "/workflows/{workflow_id}/update", {504: "It has not come so far in time; it may still."})
async def update_workflow(api: Api, workflow_id: str, body: UpdateBody) -> Update:
    """Send an update and wait until it has come as far as is asked for.

    An update that failed or was rejected is an answer with its failure. After a 504 send it again with the same
    ``update_id``, or ask for it.
    """
    connection = await api.client.connection()
    request = UpdateRequest(
        update_id=body.update_id or new_id(),
        name=body.update,
        input=[value.payload for value in raw_values(body.args, "args")],
        identity=api.client.identity,
    )
    command = UpdateWorkflow(
        request=request, wait_stage=body.wait_for_stage, expires_at_ms=connection.now_ms() + body.wait_ms
    )
    return await _run(api, workflow_id, body.run_id, command, request.update_id, body.wait_for_stage, body.wait_ms)


@operation("GET", "/workflows/{workflow_id}/updates/{update_id}", {504: "It has not come so far in time."})
async def get_update(api: Api, workflow_id: str, update_id: str, query: UpdateQuery) -> Update:
    """Wait for an accepted update (long poll)."""
    command = AwaitUpdate(update_id=update_id, wait_stage=query.wait_for_stage)
    return await _run(api, workflow_id, query.run_id, command, update_id, query.wait_for_stage, query.wait_ms)


async def _run(
    api: Api,
    workflow_id: str,
    run_id: str,
    command: UpdateWorkflow | AwaitUpdate,
    update_id: str,
    stage: UpdateStage,
    wait_ms: int,
) -> Update:
    answer = await run_update(
        await api.client.connection(),
        workflow_id,
        run_id,
        command,
        update_id=update_id,
        stage=stage,
        accept_timeout_s=wait_ms / 1000,
        total_timeout_s=wait_ms / 1000,
    )
    return _view(workflow_id, answer)


def _view(workflow_id: str, answer: UpdateAnswer) -> Update:
    return Update(
        workflow_id=workflow_id,
        run_id=answer.run_id,
        update_id=answer.update_id,
        stage=answer.stage,
        result=json_of(next(iter(answer.result), None)),
        failure=failure_view(answer.failure),
    )


@operation("POST", "/workflows/{workflow_id}/update-with-start", {504: "It has not come so far in time; it may still."})
async def update_with_start(api: Api, workflow_id: str, body: UpdateWithStartBody) -> Update:
    """Send an update to a workflow, and start it if it does not run: one request, both are taken or neither."""
    options = start_options(body.start)
    policy: WorkflowIDConflictPolicy = options.pop("id_conflict_policy")
    start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        body.start.workflow_type, id=workflow_id, id_conflict_policy=policy, **options
    )
    update = body.update
    update_id = update.update_id or new_id()
    completed = update.wait_for_stage is UpdateStage.COMPLETED
    handle = await api.client.start_update_with_start_workflow(
        update.update,
        args=raw_values(update.args, "update.args"),
        start_workflow_operation=start,
        wait_for_stage=WorkflowUpdateStage.COMPLETED if completed else WorkflowUpdateStage.ACCEPTED,
        id=update_id,
        rpc_timeout=timedelta(milliseconds=update.wait_ms),
    )
    command = AwaitUpdate(update_id=update_id, wait_stage=update.wait_for_stage)
    run_id = handle.workflow_run_id or ""
    return await _run(api, workflow_id, run_id, command, update_id, update.wait_for_stage, update.wait_ms)
