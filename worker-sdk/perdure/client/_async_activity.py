"""Activities that are completed from outside of their worker: their handle, and who is told that they were cancelled.

Invariant: each method is one request to the engine; one about an attempt that is over raises ``RPCError`` with
``NOT_FOUND``. The handle is made by :meth:`Client.get_async_activity_handle` and asks through the client's
interceptors; the functions behind it are called by the innermost of them (:mod:`perdure.client._outbound`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure._callables import UNSET
from perdure._limits import check_payloads
from perdure._task_token import TaskToken
from perdure.activity import ActivityCancellationDetails
from perdure.client._interceptor import (
    CompleteAsyncActivityInput,
    FailAsyncActivityInput,
    HeartbeatAsyncActivityInput,
    ReportCancellationAsyncActivityInput,
)
from perdure.client._replies import REQUEST_TIMEOUT, expect
from perdure.common import Payload, require_unused
from perdure.exceptions import PerdureError
from perdure_schemas.records import (
    ActivityHeartbeatAnswer,
    CommandBody,
    CompleteActivity,
    Done,
    FailActivity,
    HeartbeatActivity,
    ReplyBody,
    ReportActivityCanceled,
)

if TYPE_CHECKING:
    from perdure.client._client import Client


@dataclass(frozen=True)
class AsyncActivityIDReference:
    """An activity by the ids of its workflow and the workflow's own id for it; the attempt that is open is meant."""

    workflow_id: str
    run_id: str | None
    activity_id: str


class AsyncActivityCancelledError(PerdureError):
    """A heartbeat was answered with the request to stop."""

    def __init__(self, details: ActivityCancellationDetails | None = None) -> None:
        super().__init__("Activity cancelled")
        self.details = details


class AsyncActivityHandle:
    """An activity that left its worker with ``activity.raise_complete_async()``.

    Every method takes ``rpc_timeout``, how long the engine has to answer (30 s if not given), and raises
    :class:`perdure.service.RPCError`: ``NOT_FOUND`` if the attempt is over. ``rpc_metadata`` is refused.
    """

    def __init__(self, client: Client, id_or_token: AsyncActivityIDReference | bytes) -> None:
        self._client = client
        self._id_or_token = id_or_token
        if isinstance(id_or_token, bytes):
            _target_of(client, id_or_token)  # what is no token of the namespace is refused at once

    async def heartbeat(
        self,
        *details: Any,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Say that the activity lives, and how far it is.

        Raises:
            AsyncActivityCancelledError: the activity was asked to stop; its ``details`` say why.
        """
        await self._client.outbound.heartbeat_async_activity(
            HeartbeatAsyncActivityInput(self._id_or_token, details, rpc_metadata, rpc_timeout)
        )

    async def complete(
        self,
        result: Any = UNSET,
        *,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Complete the activity.

        Args:
            result: What it returned; ``None`` if not given.
            rpc_metadata: Not supported.
            rpc_timeout: How long the engine has to answer.
        """
        given = None if result is UNSET else result
        await self._client.outbound.complete_async_activity(
            CompleteAsyncActivityInput(self._id_or_token, given, rpc_metadata, rpc_timeout)
        )

    async def fail(
        self,
        error: Exception,
        *,
        last_heartbeat_details: Sequence[Any] = [],
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Fail the activity; its retry policy applies.

        Args:
            error: Why.
            last_heartbeat_details: Details for the next attempt; those of the last heartbeat if there are none.
            rpc_metadata: Not supported.
            rpc_timeout: How long the engine has to answer.
        """
        await self._client.outbound.fail_async_activity(
            FailAsyncActivityInput(self._id_or_token, error, last_heartbeat_details, rpc_metadata, rpc_timeout)
        )

    async def report_cancellation(
        self,
        *details: Any,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Say that the activity stopped because it was asked to.

        Raises:
            RPCError: ``FAILED_PRECONDITION``: it was not asked to.
        """
        await self._client.outbound.report_cancellation_async_activity(
            ReportCancellationAsyncActivityInput(self._id_or_token, details, rpc_metadata, rpc_timeout)
        )


async def heartbeat(client: Client, input: HeartbeatAsyncActivityInput) -> None:
    """Send a heartbeat, behind the interceptors.

    Raises:
        AsyncActivityCancelledError: the activity was asked to stop.
    """
    target = _target_of(client, input.id_or_token)
    body = HeartbeatActivity(**target.reference, details=await _encode(client, target, input.details, "the heartbeat"))
    answer = expect(await _ask(client, target, body, input.rpc_metadata, input.rpc_timeout), ActivityHeartbeatAnswer)
    if answer.cancel_requested or answer.paused or answer.reset:
        raise AsyncActivityCancelledError(
            ActivityCancellationDetails(
                cancel_requested=answer.cancel_requested, paused=answer.paused, reset=answer.reset
            )
        )


async def complete(client: Client, input: CompleteAsyncActivityInput) -> None:
    """Send a result, behind the interceptors."""
    target = _target_of(client, input.id_or_token)
    body = CompleteActivity(**target.reference, result=await _encode(client, target, [input.result], "the result"))
    expect(await _ask(client, target, body, input.rpc_metadata, input.rpc_timeout), Done)


async def fail(client: Client, input: FailAsyncActivityInput) -> None:
    """Send a failure, behind the interceptors."""
    target = _target_of(client, input.id_or_token)
    failure = await client.data_converter.encode_failure(input.error)
    given = input.last_heartbeat_details
    details = await _encode(client, target, given, "the heartbeat") if given else None
    body = FailActivity(**target.reference, failure=failure, heartbeat_details=details)
    expect(await _ask(client, target, body, input.rpc_metadata, input.rpc_timeout), Done)


async def report_cancellation(client: Client, input: ReportCancellationAsyncActivityInput) -> None:
    """Send that the activity stopped, behind the interceptors."""
    target = _target_of(client, input.id_or_token)
    details = await _encode(client, target, input.details, "the cancellation")
    body = ReportActivityCanceled(**target.reference, details=details)
    expect(await _ask(client, target, body, input.rpc_metadata, input.rpc_timeout), Done)


@dataclass(frozen=True)
class _Target:
    """Where a request about an activity goes, and how its body names the activity."""

    workflow_id: str
    run_id: str
    reference: dict[str, Any]


def _target_of(client: Client, id_or_token: AsyncActivityIDReference | bytes) -> _Target:
    if not isinstance(id_or_token, bytes):
        return _Target(id_or_token.workflow_id, id_or_token.run_id or "", {"activity_id": id_or_token.activity_id})
    token = TaskToken.decode(id_or_token)
    if token.namespace != client.namespace:
        raise ValueError(f"the task token is of namespace {token.namespace!r}, the client of {client.namespace!r}")
    reference = {
        "activity_id": token.activity_id,
        "scheduled_event_id": token.scheduled_event_id,
        "attempt": token.attempt,
    }
    return _Target(token.workflow_id, token.run_id, reference)


async def _encode(client: Client, target: _Target, values: Sequence[Any], what: str) -> list[Payload]:
    if not values:
        return []
    payloads = await client.data_converter.encode(values)
    check_payloads(payloads, f"{what} of activity {target.reference['activity_id']!r}")
    return payloads


async def _ask(
    client: Client,
    target: _Target,
    body: CommandBody,
    rpc_metadata: Mapping[str, str | bytes],
    rpc_timeout: timedelta | None,
) -> ReplyBody:
    require_unused({"rpc_metadata": rpc_metadata}, "a client request")
    connection = await client.connection()
    timeout_s = (rpc_timeout or REQUEST_TIMEOUT).total_seconds()
    what = f"a {type(body).__name__} for workflow {target.workflow_id!r}"
    return await connection.ask(target.workflow_id, target.run_id, body, timeout_s, what)


def activity_reference(
    workflow_id: str | None, run_id: str | None, activity_id: str | None, task_token: bytes | None
) -> AsyncActivityIDReference | bytes:
    """What names an activity: a task token, or ids.

    Raises:
        ValueError: neither is given, both are, or an id is missing.
    """
    if task_token is not None:
        if workflow_id is not None or run_id is not None or activity_id is not None:
            raise ValueError("give either task_token or workflow_id and activity_id, not both")
        return task_token
    if workflow_id is None:
        raise ValueError("an activity is named by task_token, or by workflow_id and activity_id")
    if activity_id is None:
        raise ValueError("activity_id is needed with workflow_id")
    return AsyncActivityIDReference(workflow_id=workflow_id, run_id=run_id, activity_id=activity_id)
