"""From the engine's replies to results and errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from perdure._connection import Connection
from perdure._pending import Pending, rejecter
from perdure.client._errors import WorkflowContinuedAsNewError, WorkflowFailureError, rpc_error
from perdure.converter import DataConverter
from perdure.exceptions import CancelledError, TerminatedError, TimeoutError, TimeoutType
from perdure.service import RPCError, RPCStatusCode
from perdure_schemas.records import (
    AwaitResult,
    CommandBody,
    Payload,
    Rejected,
    ReplyBody,
    WorkflowClosed,
    WorkflowStatus,
)

_T = TypeVar("_T")

#: How long a request may take that gives no ``rpc_timeout``.
REQUEST_TIMEOUT = timedelta(seconds=30)
QUERY_TIMEOUT = timedelta(seconds=10)


async def start_and_wait(
    connection: Connection,
    workflow_id: str,
    command: CommandBody,
    timeout_s: float,
    take_start: Callable[[ReplyBody], str],
    command_id: str = "",
) -> WorkflowClosed:
    """Start a workflow and wait for its end, with one request for both.

    Args:
        connection: The connection.
        workflow_id: Workflow id.
        command: The start, with ``await_result``.
        timeout_s: How long the engine has to answer the start.
        take_start: Checks the answer of the start, and gives the run to wait for.
        command_id: The command's id, if its asker has named the request.
    """
    loop = asyncio.get_running_loop()
    started: asyncio.Future[ReplyBody] = loop.create_future()
    closed: asyncio.Future[ReplyBody] = loop.create_future()

    def take(body: ReplyBody) -> None:
        if isinstance(body, WorkflowClosed) and not closed.done():
            closed.set_result(body)
        if not started.done():
            started.set_result(body)  # the end says that there was a start, too

    connection.result_waits.add(closed)
    pending: Pending | None = None
    try:
        pending = await connection.open(workflow_id, "", command, take, rejecter(started, closed), command_id)
        reply = await connection.within(started, timeout_s, f"the start of workflow {workflow_id!r}")
        if not isinstance(reply, WorkflowClosed):
            # Should the engine's answer get lost, the question is asked again, not the start repeated.
            connection.turn_into(pending, workflow_id, take_start(reply), AwaitResult())
        return expect(await closed, WorkflowClosed)
    finally:
        connection.result_waits.discard(closed)
        if pending is not None:
            connection.forget(pending)
        closed.cancel()


async def result_of(closed: WorkflowClosed, converter: DataConverter, result_type: Any) -> Any:
    """The result of a closed run.

    Raises:
        WorkflowFailureError, WorkflowContinuedAsNewError: see :meth:`WorkflowHandle.result`.
    """
    if closed.status is WorkflowStatus.COMPLETED:
        return await first_value(closed.result, converter, result_type)
    if closed.status is WorkflowStatus.CONTINUED_AS_NEW:
        raise WorkflowContinuedAsNewError(closed.new_run_id)
    cause: BaseException
    if closed.failure is not None:
        cause = await converter.decode_failure(closed.failure)
    elif closed.status is WorkflowStatus.CANCELED:
        cause = CancelledError("Workflow cancelled", *await converter.decode(closed.result))
    elif closed.status is WorkflowStatus.TERMINATED:
        cause = TerminatedError("Workflow terminated", *await converter.decode(closed.result))
    elif closed.status is WorkflowStatus.TIMED_OUT:
        cause = TimeoutError("Workflow timed out", type=TimeoutType.START_TO_CLOSE, last_heartbeat_details=[])
    else:
        cause = RPCError(f"the run closed as {closed.status} without a failure", RPCStatusCode.INTERNAL)
    raise WorkflowFailureError(cause=cause)


def expect(body: ReplyBody, kind: type[_T]) -> _T:
    """A reply that must be of one kind.

    Raises:
        RPCError: it is a refusal, or of another kind.
    """
    if isinstance(body, kind):
        return body
    if isinstance(body, Rejected):
        raise rpc_error(body)
    raise RPCError(
        f"the engine answered with a {type(body).__name__} instead of a {kind.__name__}", RPCStatusCode.INTERNAL
    )


async def first_value(payloads: Sequence[Payload], converter: DataConverter, type_hint: Any) -> Any:
    """The first of some payloads, as ``type_hint`` wants it; ``None`` if there are none."""
    if not payloads:
        return None
    hints = [type_hint] + [None] * (len(payloads) - 1) if type_hint is not None else None
    return (await converter.decode(payloads, hints))[0]
