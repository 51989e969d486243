"""The handle of a workflow: everything a client can do with one that exists.

Invariant: each method is one request to the engine (``result`` follows runs, ``fetch_history`` pages); reads see
everything this client wrote before, because they are commands in the same partition of the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, cast, overload

from perdure._callables import UNSET, arguments_of
from perdure._runtime.handler_definitions import query_name_and_result_type, signal_name
from perdure.client._description import WorkflowExecutionDescription
from perdure.client._history import HistoryEvents, WorkflowHistory, WorkflowHistoryEventFilterType
from perdure.client._interceptor import (
    CancelWorkflowInput,
    DescribeWorkflowInput,
    FetchWorkflowHistoryEventsInput,
    QueryWorkflowInput,
    SignalWorkflowInput,
    TerminateWorkflowInput,
)
from perdure.client._operations import OperatesWorkflow
from perdure.client._replies import expect, result_of
from perdure.client._updating import UpdatesWorkflow
from perdure.common import QueryRejectCondition, require_unused
from perdure.types import (
    LocalReturnType,
    MethodSyncOrAsyncNoParam,
    MethodSyncOrAsyncSingleParam,
    MultiParamSpec,
    ParamType,
    ReturnType,
    SelfType,
)
from perdure_schemas.records import (
    AwaitResult,
    CommandBody,
    Event,
    ReplyBody,
    WorkflowClosed,
)

if TYPE_CHECKING:
    from perdure.client._client import Client


class WorkflowHandle(OperatesWorkflow, UpdatesWorkflow[SelfType], Generic[SelfType, ReturnType]):
    """A workflow that exists. Made by :meth:`Client.start_workflow` or :meth:`Client.get_workflow_handle`.

    Every method takes ``rpc_timeout``, how long the engine has to answer (30 s if not given, 10 s for queries), and
    raises :class:`perdure.service.RPCError` if it does not, or refuses: ``NOT_FOUND`` for a workflow that does not
    exist or, where it must be running, that is closed. ``rpc_metadata`` has no meaning here and is refused.
    """

    def __init__(
        self,
        client: Client,
        id: str,
        *,
        run_id: str | None = None,
        result_run_id: str | None = None,
        first_execution_run_id: str | None = None,
        result_type: Any = None,
    ) -> None:
        self._client = client
        self._id = id
        self._run_id = run_id
        self._result_run_id = result_run_id
        self._first_execution_run_id = first_execution_run_id
        self._result_type = result_type

    @property
    def id(self) -> str:
        """Workflow id."""
        return self._id

    @property
    def run_id(self) -> str | None:
        """The run that signals, queries and so on go to; ``None`` for the current one."""
        return self._run_id

    @property
    def result_run_id(self) -> str | None:
        """The run whose result is awaited; ``None`` for the current one."""
        return self._result_run_id

    @property
    def first_execution_run_id(self) -> str | None:
        """The first run of the chain that cancel and terminate are for, where known."""
        return self._first_execution_run_id

    async def result(
        self,
        *,
        follow_runs: bool = True,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> ReturnType:
        """Wait for the workflow's end.

        Args:
            follow_runs: If the run went on as a new one, wait for that one's result.
            rpc_metadata: Not supported.
            rpc_timeout: The longest time to wait; without limit if not given.

        Raises:
            WorkflowFailureError: it did not succeed; its ``cause`` says why.
            WorkflowContinuedAsNewError: it went on as a new run, and ``follow_runs`` is false.
        """
        require_unused({"rpc_metadata": rpc_metadata}, "a client request")
        timeout_s = None if rpc_timeout is None else rpc_timeout.total_seconds()
        run_id = self._result_run_id or self._run_id or ""
        while True:
            body = await self._ask(run_id, AwaitResult(), timeout_s, "the result")
            closed = expect(body, WorkflowClosed)
            if not (follow_runs and closed.new_run_id):
                return cast("ReturnType", await result_of(closed, self._client.data_converter, self._result_type))
            run_id = closed.new_run_id

    async def cancel(
        self,
        *,
        reason: str = "",
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Ask the workflow to stop. Its code decides how; this does not wait for it.

        Args:
            reason: Why; stands in the history.
            rpc_metadata: Not supported.
            rpc_timeout: See the class.
        """
        await self._client.outbound.cancel_workflow(
            CancelWorkflowInput(self._id, self._run_id, self._first_execution_run_id, reason, rpc_metadata, rpc_timeout)
        )

    async def terminate(
        self,
        *args: Any,
        reason: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Close the workflow now, without asking its code.

        Args:
            args: Details to keep in the history.
            reason: Why; stands in the history.
            rpc_metadata: Not supported.
            rpc_timeout: See the class.
        """
        await self._client.outbound.terminate_workflow(
            TerminateWorkflowInput(
                self._id, self._run_id, self._first_execution_run_id, args, reason, rpc_metadata, rpc_timeout
            )
        )

    @overload
    async def signal(
        self,
        signal: MethodSyncOrAsyncNoParam[SelfType, None],
        *,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
        request_id: str | None = None,
    ) -> None: ...

    @overload
    async def signal(
        self,
        signal: MethodSyncOrAsyncSingleParam[SelfType, ParamType, None],
        arg: ParamType,
        *,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
        request_id: str | None = None,
    ) -> None: ...

    @overload
    async def signal(
        self,
        signal: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[None] | None],
        *,
        args: Sequence[Any],
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
        request_id: str | None = None,
    ) -> None: ...

    @overload
    async def signal(
        self,
        signal: str,
        arg: Any = ...,
        *,
        args: Sequence[Any] = [],
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
        request_id: str | None = None,
    ) -> None: ...

    async def signal(
        self,
        signal: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = [],
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
        request_id: str | None = None,
    ) -> None:
        """Send a signal. Returns when it stands in the log, not when it was handled.

        Args:
            signal: The handler method, or the signal's name.
            arg: Its only argument.
            args: Its arguments, if there are several.
            rpc_metadata: Not supported.
            rpc_timeout: See the class.
            request_id: A name for this request, if the caller may repeat it later, for example after a crash: a signal
                to this workflow id under a name that it has taken already changes nothing.
        """
        await self._client.outbound.signal_workflow(
            SignalWorkflowInput(
                id=self._id,
                run_id=self._run_id,
                signal=signal_name(signal),
                args=arguments_of(arg, args),
                headers={},
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
                request_id=request_id,
            )
        )

    @overload
    async def query(
        self,
        query: MethodSyncOrAsyncNoParam[SelfType, LocalReturnType],
        *,
        reject_condition: QueryRejectCondition | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> LocalReturnType: ...

    @overload
    async def query(
        self,
        query: MethodSyncOrAsyncSingleParam[SelfType, ParamType, LocalReturnType],
        arg: ParamType,
        *,
        reject_condition: QueryRejectCondition | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> LocalReturnType: ...

    @overload
    async def query(
        self,
        query: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[LocalReturnType] | LocalReturnType],
        *,
        args: Sequence[Any],
        reject_condition: QueryRejectCondition | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> LocalReturnType: ...

    @overload
    async def query(
        self,
        query: str,
        arg: Any = ...,
        *,
        args: Sequence[Any] = [],
        result_type: Any = None,
        reject_condition: QueryRejectCondition | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> Any: ...

    async def query(
        self,
        query: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = [],
        result_type: Any = None,
        reject_condition: QueryRejectCondition | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> Any:
        """Ask the workflow's code for a view of its state; a worker answers. Works on closed workflows, too.

        Args:
            query: The handler method, or the query's name.
            arg: Its only argument.
            args: Its arguments, if there are several.
            result_type: The type to convert the answer to, where the handler is not given.
            reject_condition: In which states of the workflow not to answer.
            rpc_metadata: Not supported.
            rpc_timeout: See the class.

        Raises:
            WorkflowQueryFailedError: the handler raised. WorkflowQueryRejectedError: the workflow's status is rejected.
        """
        name, annotated_type = query_name_and_result_type(query)
        return await self._client.outbound.query_workflow(
            QueryWorkflowInput(
                id=self._id,
                run_id=self._run_id,
                query=name,
                args=arguments_of(arg, args),
                reject_condition=reject_condition,
                headers={},
                ret_type=annotated_type if result_type is None else result_type,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
            )
        )

    async def describe(
        self, *, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> WorkflowExecutionDescription:
        """What the engine knows of the workflow now.

        Args:
            rpc_metadata: Not supported.
            rpc_timeout: See the class.
        """
        return await self._client.outbound.describe_workflow(
            DescribeWorkflowInput(self._id, self._run_id, rpc_metadata, rpc_timeout)
        )

    async def fetch_history(
        self,
        *,
        event_filter_type: WorkflowHistoryEventFilterType = WorkflowHistoryEventFilterType.ALL_EVENT,
        skip_archival: bool = False,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowHistory:
        """The whole history.

        Args:
            event_filter_type: Which events.
            skip_archival: Without effect: there is no archive.
            rpc_metadata: Not supported.
            rpc_timeout: For each page; see the class.
        """
        found = self.fetch_history_events(
            event_filter_type=event_filter_type,
            skip_archival=skip_archival,
            rpc_metadata=rpc_metadata,
            rpc_timeout=rpc_timeout,
        )
        events = [event async for event in found]
        # An interceptor may have put an iterator of its own around it.
        run_id = found.run_id if isinstance(found, HistoryEvents) else self._run_id or ""
        return WorkflowHistory(self._id, events, run_id)

    def fetch_history_events(
        self,
        *,
        page_size: int | None = None,
        next_page_token: bytes | None = None,
        wait_new_event: bool = False,
        event_filter_type: WorkflowHistoryEventFilterType = WorkflowHistoryEventFilterType.ALL_EVENT,
        skip_archival: bool = False,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> AsyncIterator[Event]:
        """The history event by event, fetched in pages.

        Args:
            page_size: Without effect: pages are cut by bytes.
            next_page_token: Not supported.
            wait_new_event: Not supported yet.
            event_filter_type: Which events.
            skip_archival: Without effect: there is no archive.
            rpc_metadata: Not supported.
            rpc_timeout: For each page; see the class.
        """
        return self._client.outbound.fetch_workflow_history_events(
            FetchWorkflowHistoryEventsInput(
                id=self._id,
                run_id=self._run_id,
                page_size=page_size,
                next_page_token=next_page_token,
                wait_new_event=wait_new_event,
                event_filter_type=event_filter_type,
                skip_archival=skip_archival,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
            )
        )

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _ask(self, run_id: str, body: CommandBody, timeout_s: float | None, what: str) -> ReplyBody:
        connection = await self._client.connection()
        return await connection.ask(self._id, run_id, body, timeout_s, f"{what} of workflow {self._id!r}")
