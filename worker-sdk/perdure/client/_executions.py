"""The list of workflow runs as a client iterates over it, and their histories with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from perdure.client._description import WorkflowExecution
from perdure.client._history import WorkflowHistory, WorkflowHistoryEventFilterType

if TYPE_CHECKING:
    from perdure.client._client import Client


class WorkflowExecutionAsyncIterator:
    """What :meth:`perdure.client.Client.list_workflows` returns: iterate with ``async for``, once.

    Args:
        client: The client.
        executions: The runs.
    """

    def __init__(self, client: Client, executions: AsyncIterator[WorkflowExecution]) -> None:
        self._client = client
        self._executions = executions

    def __aiter__(self) -> WorkflowExecutionAsyncIterator:
        """The iterator itself."""
        return self

    async def __anext__(self) -> WorkflowExecution:
        """The next run."""
        return await self._executions.__anext__()

    async def map_histories(
        self,
        *,
        event_filter_type: WorkflowHistoryEventFilterType = WorkflowHistoryEventFilterType.ALL_EVENT,
        skip_archival: bool = False,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> AsyncIterator[WorkflowHistory]:
        """The histories of the runs, each fetched when it is asked for; for :class:`perdure.worker.Replayer`.

        Args:
            event_filter_type, skip_archival, rpc_metadata, rpc_timeout: As ``WorkflowHandle.fetch_history``.
        """
        async for execution in self:
            handle = self._client.get_workflow_handle(execution.id, run_id=execution.run_id)
            yield await handle.fetch_history(
                event_filter_type=event_filter_type,
                skip_archival=skip_archival,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
            )
