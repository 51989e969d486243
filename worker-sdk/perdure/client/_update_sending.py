"""Makes requests of updates that went through the interceptors, and handles of the answers.

Invariant: what is checked is checked here, so that it holds for what interceptors changed, too. Called by the innermost
interceptor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure._callables import UNSET
from perdure._ids import new_id
from perdure._limits import check_name, check_payloads
from perdure.client._handle import WorkflowHandle
from perdure.client._interceptor import StartWorkflowUpdateInput, StartWorkflowUpdateWithStartInput
from perdure.client._start import options_of, start_request
from perdure.client._starting import started_of
from perdure.client._update import WorkflowUpdateHandle, WorkflowUpdateStage, acceptance_timeout, run_update
from perdure.common import require_unused, to_milliseconds
from perdure_schemas.limits import UPDATE_INPUT_BYTES_MAX
from perdure_schemas.records import ReplyBody, UpdateAnswer, UpdateRequest, UpdateStage, UpdateWorkflow

if TYPE_CHECKING:
    from perdure._connection import Connection
    from perdure.client._client import Client


async def send_update(client: Client, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
    """Send an update and wait until it has come as far as is asked for. See :meth:`WorkflowHandle.start_update`."""
    request = await _request(client, input)
    connection = await client.connection()
    stage = _stage(input.wait_for_stage)
    answer = await run_update(
        connection,
        input.id,
        input.run_id or "",
        UpdateWorkflow(request=request, wait_stage=stage, expires_at_ms=_expires_at_ms(connection, input)),
        update_id=request.update_id,
        stage=stage,
        accept_timeout_s=acceptance_timeout(input.rpc_timeout).total_seconds(),
        total_timeout_s=None if input.rpc_timeout is None else input.rpc_timeout.total_seconds(),
    )
    return _handle(client, input, answer)


async def send_update_with_start(client: Client, input: StartWorkflowUpdateWithStartInput) -> WorkflowUpdateHandle[Any]:
    """Send a start and an update in one. See :meth:`Client.start_update_with_start_workflow`."""
    start, update = input.start_workflow_input, input.update_workflow_input
    request = await _request(client, update)
    connection = await client.connection()
    stage = _stage(update.wait_for_stage)
    start_message = await start_request(
        client.data_converter,
        start.workflow,
        UNSET,
        start.args,
        start.id,
        start.task_queue,
        start.ret_type,
        options_of(start),
        await_result=False,
        header=start.headers,
        update=request,
        update_wait_stage=stage,
        update_expires_at_ms=_expires_at_ms(connection, update),
    )
    errors: list[BaseException] = []
    has_started = False

    def take_start(reply: ReplyBody) -> None:
        nonlocal has_started
        if has_started:
            return  # what is refused now is the update
        try:
            started = started_of(reply, start_message)
        except Exception as error:
            errors.append(error)
            return
        has_started = True
        input.on_start(
            WorkflowHandle(
                client,
                start.id,
                result_run_id=started.run_id,
                first_execution_run_id=started.first_execution_run_id,
                result_type=start_message.result_type,
            )
        )

    try:
        answer = await run_update(
            connection,
            start.id,
            "",
            start_message.command,
            update_id=request.update_id,
            stage=stage,
            accept_timeout_s=acceptance_timeout(update.rpc_timeout).total_seconds(),
            total_timeout_s=None if update.rpc_timeout is None else update.rpc_timeout.total_seconds(),
            take_start=take_start,
        )
    except BaseException as error:
        if not has_started:
            input.on_start_error(errors[0] if errors else error)
        if errors:
            raise errors[0] from None
        raise
    return _handle(client, update, answer)


async def _request(client: Client, input: StartWorkflowUpdateInput) -> UpdateRequest:
    require_unused({"rpc_metadata": input.rpc_metadata}, "a client request")
    check_name(input.update, "update name")
    update_id = input.update_id or new_id()
    check_name(update_id, "update id")
    payloads = await client.data_converter.encode(input.args)
    sent = [*payloads, *input.headers.values()]
    check_payloads(sent, f"the input of update {input.update!r}", UPDATE_INPUT_BYTES_MAX)
    return UpdateRequest(
        update_id=update_id, name=input.update, input=payloads, header=dict(input.headers), identity=client.identity
    )


def _expires_at_ms(connection: Connection, input: StartWorkflowUpdateInput) -> int:
    return connection.now_ms() + max(1, to_milliseconds(acceptance_timeout(input.rpc_timeout), "rpc_timeout"))


def _stage(stage: WorkflowUpdateStage) -> UpdateStage:
    return UpdateStage.COMPLETED if stage is WorkflowUpdateStage.COMPLETED else UpdateStage.ACCEPTED


def _handle(client: Client, input: StartWorkflowUpdateInput, answer: UpdateAnswer) -> WorkflowUpdateHandle[Any]:
    return WorkflowUpdateHandle(
        client,
        answer.update_id,
        input.id,
        workflow_run_id=answer.run_id,
        result_type=input.ret_type,
        known_outcome=answer if answer.stage is UpdateStage.COMPLETED else None,
    )
