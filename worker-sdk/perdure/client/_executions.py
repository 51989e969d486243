"""The list of workflow runs as a client iterates over it, page by page, and their histories with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from perdure.client._description import WorkflowExecution, execution_of
from perdure.client._history import WorkflowHistory, WorkflowHistoryEventFilterType
from perdure.client._interceptor import ListWorkflowsInput
from perdure.client._replies import REQUEST_TIMEOUT, expect
from perdure_schemas import codec
from perdure_schemas.records import ExecutionsPage, ExecutionSummary, ListExecutions

if TYPE_CHECKING:
    from perdure.client._client import Client


class WorkflowExecutionAsyncIterator:
    """What :meth:`perdure.client.Client.list_workflows` returns: iterate with ``async for``, once.

    Pages are fetched as they are needed. Each is the state at the time when it was asked for.

    Args:
        client: The client.
        input: What was asked for.
    """

    def __init__(self, client: Client, input: ListWorkflowsInput) -> None:
        self._client = client
        self._input = input
        self._next_page_token: bytes | None = input.next_page_token or b""
        self._current_page: Sequence[WorkflowExecution] | None = None
        self._current_page_index = 0
        self._left = input.limit

    @property
    def current_page_index(self) -> int:
        """Which run of the current page is next."""
        return self._current_page_index

    @property
    def current_page(self) -> Sequence[WorkflowExecution] | None:
        """The page that was fetched last; ``None`` before the first."""
        return self._current_page

    @property
    def next_page_token(self) -> bytes | None:
        """The token of the next page; ``None`` if there is none."""
        return self._next_page_token

    async def fetch_next_page(self, *, page_size: int | None = None) -> None:
        """Fetch the next page; it becomes the current one. Without a next page the current one is empty.

        Args:
            page_size: How many runs it may have; as the list was asked for if not given.

        Raises:
            RPCError: the filter makes no sense (``INVALID_ARGUMENT``), or nobody answered (``DEADLINE_EXCEEDED``).
        """
        self._current_page, self._current_page_index = [], 0
        if self._next_page_token is None:
            return
        question = ListExecutions(
            query=self._input.query or "",
            page_size=page_size or self._input.page_size,
            page_token=self._next_page_token,
        )
        timeout_s = (self._input.rpc_timeout or REQUEST_TIMEOUT).total_seconds()
        connection = await self._client.connection()
        page = expect(await connection.ask_read_side(question, timeout_s, "the list of workflows"), ExecutionsPage)
        self._next_page_token = page.next_page_token or None
        summaries = [codec.decode_as(value, ExecutionSummary) for value in page.summaries]
        self._current_page = [
            execution_of(summary, self._client.namespace, self._client.data_converter) for summary in summaries
        ]

    def __aiter__(self) -> WorkflowExecutionAsyncIterator:
        """The iterator itself."""
        return self

    async def __anext__(self) -> WorkflowExecution:
        """The next run."""
        if self._left is not None and self._left <= 0:
            raise StopAsyncIteration
        while self._current_page is None or self._current_page_index >= len(self._current_page):
            if self._next_page_token is None:
                raise StopAsyncIteration
            await self.fetch_next_page()
        execution = self._current_page[self._current_page_index]
        self._current_page_index += 1
        if self._left is not None:
            self._left -= 1
        return execution

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
