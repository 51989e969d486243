"""Updates: the handle of one, and the request that sends it and waits for it.

Invariants: an update keeps its id however often it is sent, so it is one update; once it is accepted its run is fixed,
and what is asked again from then on is how it stands. Called by the innermost interceptor and by handles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Generic, cast

from perdure._connection import Connection
from perdure._pending import rejecter
from perdure.client._errors import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from perdure.client._replies import REQUEST_TIMEOUT, expect, first_value
from perdure.common import require_unused
from perdure.service import RPCError, RPCStatusCode
from perdure.types import LocalReturnType
from perdure_schemas.records import (
    AwaitUpdate,
    CommandBody,
    Rejected,
    ReplyBody,
    Started,
    UpdateAnswer,
    UpdateStage,
    WorkflowStatus,
)

if TYPE_CHECKING:
    from perdure.client._client import Client


class WorkflowUpdateStage(IntEnum):
    """How far an update has come."""

    ADMITTED = 1
    ACCEPTED = 2
    COMPLETED = 3


class WorkflowUpdateHandle(Generic[LocalReturnType]):
    """An update that was sent.

    Made by :meth:`WorkflowHandle.start_update` or :meth:`WorkflowHandle.get_update_handle`.
    """

    def __init__(
        self,
        client: Client,
        id: str,
        workflow_id: str,
        *,
        workflow_run_id: str | None = None,
        result_type: Any = None,
        known_outcome: UpdateAnswer | None = None,
    ) -> None:
        self._client = client
        self._id = id
        self._workflow_id = workflow_id
        self._workflow_run_id = workflow_run_id
        self._result_type = result_type
        self._known_outcome = known_outcome

    @property
    def id(self) -> str:
        """The update's id."""
        return self._id

    @property
    def workflow_id(self) -> str:
        """The workflow's id."""
        return self._workflow_id

    @property
    def workflow_run_id(self) -> str | None:
        """The run that took the update, where known; else the current one is asked."""
        return self._workflow_run_id

    async def result(
        self, *, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> LocalReturnType:
        """Wait for the update's result.

        Args:
            rpc_metadata: Not supported.
            rpc_timeout: The longest time to wait; without limit if not given.

        Raises:
            WorkflowUpdateFailedError: its handler failed, or it was rejected; its ``cause`` says why.
            WorkflowUpdateRPCTimeoutOrCancelledError: it took too long, or the waiting was cancelled.
            RPCError: the workflow has accepted no update of that id.
        """
        require_unused({"rpc_metadata": rpc_metadata}, "a client request")
        outcome = self._known_outcome
        if outcome is None:
            outcome = await run_update(
                await self._client.connection(),
                self._workflow_id,
                self._workflow_run_id or "",
                AwaitUpdate(update_id=self._id),
                update_id=self._id,
                stage=UpdateStage.COMPLETED,
                accept_timeout_s=None if rpc_timeout is None else rpc_timeout.total_seconds(),
                total_timeout_s=None if rpc_timeout is None else rpc_timeout.total_seconds(),
            )
            self._known_outcome = outcome
        converter = self._client.data_converter
        if outcome.failure is not None:
            raise WorkflowUpdateFailedError(await converter.decode_failure(outcome.failure))
        return cast("LocalReturnType", await first_value(outcome.result, converter, self._result_type))


def acceptance_timeout(rpc_timeout: timedelta | None) -> timedelta:
    """How long an update may take to be accepted."""
    return REQUEST_TIMEOUT if rpc_timeout is None else rpc_timeout


async def run_update(
    connection: Connection,
    workflow_id: str,
    run_id: str,
    body: CommandBody,
    *,
    update_id: str,
    stage: UpdateStage,
    accept_timeout_s: float | None,
    total_timeout_s: float | None,
    take_start: Callable[[ReplyBody], None] | None = None,
) -> UpdateAnswer:
    """Send an update, or ask for one, and wait until it has come as far as ``stage``.

    Args:
        connection: The connection.
        workflow_id: Workflow id.
        run_id: Its run; empty for the current one.
        body: The command.
        update_id: The update.
        stage: How far to wait.
        accept_timeout_s: How long it may take to be accepted; ``None`` without limit.
        total_timeout_s: How long all of it may take; ``None`` without limit.
        take_start: Takes the answer of the start that goes with the update, if there is one.

    Raises:
        WorkflowUpdateRPCTimeoutOrCancelledError: it took too long, or the waiting was cancelled.
        RPCError: the engine refused.
    """
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    what = f"update {update_id!r} of workflow {workflow_id!r}"
    while True:
        accepted: asyncio.Future[ReplyBody] = loop.create_future()
        completed: asyncio.Future[ReplyBody] = loop.create_future()
        take = _taker(accepted, completed, take_start)
        try:
            pending = await connection.open(workflow_id, run_id, body, take, rejecter(accepted, completed))
            try:
                reply = await connection.within(accepted, accept_timeout_s, what)
                if isinstance(reply, UpdateAnswer) and stage is UpdateStage.COMPLETED and not completed.done():
                    # From here on the run is fixed: what is repeated is the question, not the update.
                    connection.turn_into(pending, workflow_id, reply.run_id, AwaitUpdate(update_id=update_id))
                    left_s = None if total_timeout_s is None else total_timeout_s - (loop.time() - began_s)
                    reply = await connection.within(completed, left_s, what)
                elif completed.done():
                    reply = completed.result()
            finally:
                connection.forget(pending)
                for future in (accepted, completed):
                    if future.done() and not future.cancelled():
                        future.exception()  # both get an error of the connection, and one is looked at
                    future.cancel()
        except RPCError as error:
            if error.status is not RPCStatusCode.DEADLINE_EXCEEDED:
                raise
            advice = "" if accepted.done() and not accepted.cancelled() and accepted.exception() is None else _ADVICE
            raise WorkflowUpdateRPCTimeoutOrCancelledError(error.message + advice) from error
        except asyncio.CancelledError as error:
            raise WorkflowUpdateRPCTimeoutOrCancelledError(f"waiting for {what} was cancelled") from error
        moved_on = isinstance(reply, Rejected) and reply.status is WorkflowStatus.CONTINUED_AS_NEW
        if moved_on and not run_id and not isinstance(body, AwaitUpdate):
            continue  # the run closed before it took the update: the next one gets it
        return expect(reply, UpdateAnswer)


_ADVICE = ". Most likely no worker polls the workflow's task queue, or its workflow task keeps failing"


def _taker(
    accepted: asyncio.Future[ReplyBody],
    completed: asyncio.Future[ReplyBody],
    take_start: Callable[[ReplyBody], None] | None,
) -> Callable[[ReplyBody], None]:
    def take(body: ReplyBody) -> None:
        if take_start is not None and isinstance(body, (Started, Rejected)):
            take_start(body)
        if isinstance(body, Started):
            return
        if not accepted.done():
            accepted.set_result(body)
        if not completed.done() and not (isinstance(body, UpdateAnswer) and body.stage is UpdateStage.ACCEPTED):
            completed.set_result(body)

    return take
