"""The innermost of a client's interceptors: makes commands of what it is given, sends them, and reads the answers.

Invariant: each method is one request to the engine (fetching a history pages). What is checked is checked here, so that
it holds for what interceptors changed, too. Made by the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure._callables import UNSET
from perdure._limits import check_name, check_payloads, check_reason
from perdure._requests import command_id_of
from perdure.client import _async_activity as async_activity
from perdure.client._description import (
    WorkflowExecutionCount,
    WorkflowExecutionCountAggregationGroup,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    description_of,
)
from perdure.client._errors import WorkflowQueryFailedError, WorkflowQueryRejectedError
from perdure.client._executions import WorkflowExecutionAsyncIterator
from perdure.client._handle import WorkflowHandle
from perdure.client._history import HistoryEvents
from perdure.client._interceptor import (
    CancelWorkflowInput,
    CompleteAsyncActivityInput,
    CountWorkflowsInput,
    DescribeWorkflowInput,
    FailAsyncActivityInput,
    FetchWorkflowHistoryEventsInput,
    HeartbeatAsyncActivityInput,
    ListWorkflowsInput,
    QueryWorkflowInput,
    ReportCancellationAsyncActivityInput,
    SignalWorkflowInput,
    StartWorkflowInput,
    StartWorkflowUpdateInput,
    StartWorkflowUpdateWithStartInput,
    TerminateWorkflowInput,
)
from perdure.client._replies import QUERY_TIMEOUT, REQUEST_TIMEOUT, expect, first_value
from perdure.client._scheduling import ScheduleOutbound
from perdure.client._start import options_of, start_request
from perdure.client._starting import started_of
from perdure.client._update import WorkflowUpdateHandle
from perdure.client._update_sending import send_update, send_update_with_start
from perdure.common import QueryRejectCondition, require_unused
from perdure.exceptions import FailureError
from perdure.service import RPCError, RPCStatusCode
from perdure_schemas.records import (
    CancelWorkflow,
    CommandBody,
    CountExecutions,
    Described,
    DescribeWorkflow,
    Done,
    ExecutionsCount,
    QueryAnswer,
    QueryWorkflow,
    ReplyBody,
    SignalInput,
    SignalWorkflow,
    TerminateWorkflow,
)

if TYPE_CHECKING:
    from perdure.client._client import Client


class ClientOutbound(ScheduleOutbound):
    """See the module.

    Args:
        client: The client.
    """

    def __init__(self, client: Client) -> None:
        # No super().__init__: there is no next one.
        self._client = client

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        """Send a start."""
        request = await start_request(
            self._client.data_converter,
            input.workflow,
            UNSET,
            input.args,
            input.id,
            input.task_queue,
            input.ret_type,
            options_of(input),
            await_result=False,
            header=input.headers,
        )
        timeout_s = (request.rpc_timeout or REQUEST_TIMEOUT).total_seconds()
        reply = await self._ask(input.id, "", request.command, timeout_s, "the start", request.command_id)
        started = started_of(reply, request)
        return WorkflowHandle(
            self._client,
            input.id,
            result_run_id=started.run_id,
            first_execution_run_id=started.first_execution_run_id,
            result_type=request.result_type,
        )

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        """Send an update."""
        return await send_update(self._client, input)

    async def start_update_with_start_workflow(
        self, input: StartWorkflowUpdateWithStartInput
    ) -> WorkflowUpdateHandle[Any]:
        """Send a start and an update in one."""
        return await send_update_with_start(self._client, input)

    async def cancel_workflow(self, input: CancelWorkflowInput) -> None:
        """Send a request to stop."""
        check_reason(input.reason)
        body = CancelWorkflow(reason=input.reason, first_execution_run_id=input.first_execution_run_id or "")
        run_id = input.run_id or ""
        await self._change(input.id, run_id, body, "the cancellation", input.rpc_metadata, input.rpc_timeout)

    async def terminate_workflow(self, input: TerminateWorkflowInput) -> None:
        """Send a termination."""
        details = await self._client.data_converter.encode(input.args)
        check_payloads(details, "the details of the termination")
        check_reason(input.reason or "")
        body = TerminateWorkflow(
            reason=input.reason or "",
            details=details,
            first_execution_run_id=input.first_execution_run_id or "",
        )
        await self._change(input.id, input.run_id or "", body, "the termination", input.rpc_metadata, input.rpc_timeout)

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        """Send a signal."""
        what = f"signal {input.signal!r}"
        payloads = await self._client.data_converter.encode(input.args)
        check_payloads([*payloads, *input.headers.values()], what)
        check_name(input.signal, "signal name")
        signal = SignalInput(signal_name=input.signal, input=payloads, header=dict(input.headers))
        body = SignalWorkflow(signal=signal)
        command_id = command_id_of(input.request_id)
        run_id = input.run_id or ""
        await self._change(input.id, run_id, body, what, input.rpc_metadata, input.rpc_timeout, command_id)

    async def query_workflow(self, input: QueryWorkflowInput) -> Any:
        """Send a query and decode its answer."""
        require_unused({"rpc_metadata": input.rpc_metadata}, "a client request")
        what = f"query {input.query!r}"
        converter = self._client.data_converter
        payloads = await converter.encode(input.args)
        check_payloads([*payloads, *input.headers.values()], what)
        check_name(input.query, "query name")
        condition = (
            input.reject_condition or self._client.default_workflow_query_reject_condition or QueryRejectCondition.NONE
        )
        timeout_s = (input.rpc_timeout or QUERY_TIMEOUT).total_seconds()
        body = QueryWorkflow(
            query_type=input.query,
            args=payloads,
            header=dict(input.headers),
            reject_condition=condition.name,
            expires_at_ms=(await self._client.connection()).now_ms() + int(timeout_s * 1000),
        )
        try:
            reply = await self._ask(input.id, input.run_id or "", body, timeout_s, what)
        except RPCError as error:
            if error.status is RPCStatusCode.DEADLINE_EXCEEDED:
                raise RPCError(
                    f"{error.message}. Most likely no worker polls the workflow's task queue", error.status
                ) from None
            raise
        answer = expect(reply, QueryAnswer)
        if answer.rejected_status is not None:
            raise WorkflowQueryRejectedError(WorkflowExecutionStatus.of_record(answer.rejected_status))
        if answer.failure is not None:
            cause = await converter.decode_failure(answer.failure)
            message = cause.message if isinstance(cause, FailureError) else answer.failure.message
            raise WorkflowQueryFailedError(message) from cause
        return await first_value(answer.result, converter, input.ret_type)

    async def describe_workflow(self, input: DescribeWorkflowInput) -> WorkflowExecutionDescription:
        """Ask the engine what it knows."""
        require_unused({"rpc_metadata": input.rpc_metadata}, "a client request")
        timeout_s = (input.rpc_timeout or REQUEST_TIMEOUT).total_seconds()
        reply = await self._ask(input.id, input.run_id or "", DescribeWorkflow(), timeout_s, "the description")
        return description_of(expect(reply, Described), self._client.namespace, self._client.data_converter)

    def fetch_workflow_history_events(self, input: FetchWorkflowHistoryEventsInput) -> HistoryEvents:
        """The pages of a history, event by event."""
        require_unused(
            {
                "next_page_token": input.next_page_token,
                "wait_new_event": input.wait_new_event,
                "rpc_metadata": input.rpc_metadata,
            },
            "fetching a history",
        )
        timeout_s = (input.rpc_timeout or REQUEST_TIMEOUT).total_seconds()

        async def fetch(run_id: str, body: CommandBody) -> ReplyBody:
            return await self._ask(input.id, run_id, body, timeout_s, "the history")

        return HistoryEvents(fetch, input.id, input.run_id or "", input.event_filter_type)

    def list_workflows(self, input: ListWorkflowsInput) -> WorkflowExecutionAsyncIterator:
        """Ask the read side, page by page."""
        require_unused({"rpc_metadata": input.rpc_metadata}, "list_workflows")
        if input.page_size < 1:
            raise ValueError(f"page_size is {input.page_size}; a page has at least one run")
        return WorkflowExecutionAsyncIterator(self._client, input)

    async def count_workflows(self, input: CountWorkflowsInput) -> WorkflowExecutionCount:
        """Ask the read side."""
        require_unused({"rpc_metadata": input.rpc_metadata}, "count_workflows")
        timeout_s = (input.rpc_timeout or REQUEST_TIMEOUT).total_seconds()
        connection = await self._client.connection()
        question = CountExecutions(query=input.query or "")
        answer = expect(await connection.ask_read_side(question, timeout_s, "the count of workflows"), ExecutionsCount)
        groups = [WorkflowExecutionCountAggregationGroup(group.count, group.values) for group in answer.groups]
        return WorkflowExecutionCount(answer.count, groups)

    async def heartbeat_async_activity(self, input: HeartbeatAsyncActivityInput) -> None:
        """Send a heartbeat of an activity that left its worker."""
        await async_activity.heartbeat(self._client, input)

    async def complete_async_activity(self, input: CompleteAsyncActivityInput) -> None:
        """Send the result of an activity that left its worker."""
        await async_activity.complete(self._client, input)

    async def fail_async_activity(self, input: FailAsyncActivityInput) -> None:
        """Send the failure of an activity that left its worker."""
        await async_activity.fail(self._client, input)

    async def report_cancellation_async_activity(self, input: ReportCancellationAsyncActivityInput) -> None:
        """Say that an activity that left its worker stopped."""
        await async_activity.report_cancellation(self._client, input)

    async def _ask(
        self,
        workflow_id: str,
        run_id: str,
        body: CommandBody,
        timeout_s: float | None,
        what: str,
        command_id: str = "",
    ) -> ReplyBody:
        connection = await self._client.connection()
        what = f"{what} of workflow {workflow_id!r}"
        return await connection.ask(workflow_id, run_id, body, timeout_s, what, command_id)

    async def _change(
        self,
        workflow_id: str,
        run_id: str,
        body: CommandBody,
        what: str,
        rpc_metadata: Mapping[str, str | bytes],
        rpc_timeout: timedelta | None,
        command_id: str = "",
    ) -> None:
        require_unused({"rpc_metadata": rpc_metadata}, "a client request")
        timeout_s = (rpc_timeout or REQUEST_TIMEOUT).total_seconds()
        expect(await self._ask(workflow_id, run_id, body, timeout_s, what, command_id), Done)
