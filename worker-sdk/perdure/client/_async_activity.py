"""Activities that are completed from outside of their worker: their handle, and who is told that they were cancelled.

Invariant: each method is one request to the engine; one about an attempt that is over raises ``RPCError`` with
``NOT_FOUND``. Made by :meth:`Client.get_async_activity_handle`.
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
        if isinstance(id_or_token, bytes):
            token = TaskToken.decode(id_or_token)
            if token.namespace != client.namespace:
                raise ValueError(
                    f"the task token is of namespace {token.namespace!r}, the client of {client.namespace!r}"
                )
            self._workflow_id, self._run_id = token.workflow_id, token.run_id
            self._reference: dict[str, Any] = {
                "activity_id": token.activity_id,
                "scheduled_event_id": token.scheduled_event_id,
                "attempt": token.attempt,
            }
        else:
            self._workflow_id, self._run_id = id_or_token.workflow_id, id_or_token.run_id or ""
            self._reference = {"activity_id": id_or_token.activity_id}

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
        payloads = await self._encode(details, "the heartbeat")
        answer = expect(
            await self._ask(HeartbeatActivity(**self._reference, details=payloads), rpc_metadata, rpc_timeout),
            ActivityHeartbeatAnswer,
        )
        if answer.cancel_requested or answer.paused:
            raise AsyncActivityCancelledError(
                ActivityCancellationDetails(cancel_requested=answer.cancel_requested, paused=answer.paused)
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
        payloads = await self._encode([None if result is UNSET else result], "the result")
        expect(await self._ask(CompleteActivity(**self._reference, result=payloads), rpc_metadata, rpc_timeout), Done)

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
        failure = await self._client.data_converter.encode_failure(error)
        details = await self._encode(last_heartbeat_details, "the heartbeat") if last_heartbeat_details else None
        body = FailActivity(**self._reference, failure=failure, heartbeat_details=details)
        expect(await self._ask(body, rpc_metadata, rpc_timeout), Done)

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
        payloads = await self._encode(details, "the cancellation")
        body = ReportActivityCanceled(**self._reference, details=payloads)
        expect(await self._ask(body, rpc_metadata, rpc_timeout), Done)

    async def _encode(self, values: Sequence[Any], what: str) -> list[Payload]:
        if not values:
            return []
        payloads = await self._client.data_converter.encode(values)
        check_payloads(payloads, f"{what} of activity {self._reference['activity_id']!r}")
        return payloads

    async def _ask(
        self, body: CommandBody, rpc_metadata: Mapping[str, str | bytes], rpc_timeout: timedelta | None
    ) -> ReplyBody:
        require_unused({"rpc_metadata": rpc_metadata}, "a client request")
        connection = await self._client.connection()
        timeout_s = (rpc_timeout or REQUEST_TIMEOUT).total_seconds()
        what = f"a {type(body).__name__} for workflow {self._workflow_id!r}"
        return await connection.ask(self._workflow_id, self._run_id, body, timeout_s, what)


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
