"""Interceptors of clients: code around every request to the engine.

Names are those of ``temporalio.client``. Invariants: the first interceptor given is the outermost; each is made of the
next one and passes on what it does not change; the innermost (:mod:`perdure.client._outbound`) sends the request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure._versioning import VersioningOverride
from perdure.client._schedule_interceptor import ScheduleInterceptor
from perdure.common import (
    Payload,
    Priority,
    QueryRejectCondition,
    RetryPolicy,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)

if TYPE_CHECKING:
    from perdure.client._async_activity import AsyncActivityIDReference
    from perdure.client._description import (
        WorkflowExecutionCount,
        WorkflowExecutionDescription,
    )
    from perdure.client._executions import WorkflowExecutionAsyncIterator
    from perdure.client._handle import WorkflowHandle
    from perdure.client._history import WorkflowHistoryEventFilterType
    from perdure.client._update import WorkflowUpdateHandle, WorkflowUpdateStage
    from perdure_schemas.records import Event


@dataclass
class StartWorkflowInput:
    """A workflow that is to be started. What is not described here is what was given to ``start_workflow``.

    Attributes:
        workflow: Its name.
        args: Its arguments.
        ret_type: The type of its result, where known.
        headers: Sent along; the workflow sees them as ``workflow.info().headers`` and in its interceptors. They go with
            the start signal, too, if there is one.
        start_signal: The name of the signal sent with the start, if there is one.
    """

    workflow: str
    args: Sequence[Any]
    id: str
    task_queue: str
    ret_type: Any
    headers: Mapping[str, Payload]
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None
    execution_timeout: timedelta | None
    run_timeout: timedelta | None
    task_timeout: timedelta | None
    id_reuse_policy: WorkflowIDReusePolicy
    id_conflict_policy: WorkflowIDConflictPolicy
    retry_policy: RetryPolicy | None
    cron_schedule: str
    memo: Mapping[str, Any] | None
    search_attributes: Any
    start_delay: timedelta | None
    start_signal: str | None
    start_signal_args: Sequence[Any]
    static_summary: str | None
    static_details: str | None
    request_eager_start: bool
    priority: Priority
    versioning_override: VersioningOverride | None
    request_id: str | None = None


@dataclass
class CancelWorkflowInput:
    """A workflow that is asked to stop."""

    id: str
    run_id: str | None
    first_execution_run_id: str | None
    reason: str
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class DescribeWorkflowInput:
    """A workflow that is to be described."""

    id: str
    run_id: str | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class FetchWorkflowHistoryEventsInput:
    """A history that is to be fetched."""

    id: str
    run_id: str | None
    page_size: int | None
    next_page_token: bytes | None
    wait_new_event: bool
    event_filter_type: WorkflowHistoryEventFilterType
    skip_archival: bool
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class QueryWorkflowInput:
    """A query."""

    id: str
    run_id: str | None
    query: str
    args: Sequence[Any]
    reject_condition: QueryRejectCondition | None
    headers: Mapping[str, Payload]
    ret_type: Any
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class SignalWorkflowInput:
    """A signal."""

    id: str
    run_id: str | None
    signal: str
    args: Sequence[Any]
    headers: Mapping[str, Payload]
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None
    request_id: str | None = None


@dataclass
class TerminateWorkflowInput:
    """A workflow that is to be closed."""

    id: str
    run_id: str | None
    first_execution_run_id: str | None
    args: Sequence[Any]
    reason: str | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class ListWorkflowsInput:
    """A list of workflows."""

    query: str | None
    page_size: int
    next_page_token: bytes | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None
    limit: int | None


@dataclass
class CountWorkflowsInput:
    """A count of workflows."""

    query: str | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class StartWorkflowUpdateInput:
    """An update that is to be sent."""

    id: str
    run_id: str | None
    first_execution_run_id: str | None
    update_id: str | None
    update: str
    args: Sequence[Any]
    wait_for_stage: WorkflowUpdateStage
    headers: Mapping[str, Payload]
    ret_type: Any
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


#: The parts of an update-with-start, by the names they have elsewhere.
UpdateWithStartStartWorkflowInput = StartWorkflowInput
UpdateWithStartUpdateWorkflowInput = StartWorkflowUpdateInput


@dataclass
class StartWorkflowUpdateWithStartInput:
    """A workflow that is to be started, if it does not run, and an update for it; one request for both.

    Attributes:
        start_workflow_input: The start.
        update_workflow_input: The update. Its ``id`` is the one of the start.
        on_start: Takes the workflow's handle as soon as the start is answered.
        on_start_error: Takes why the start failed.
    """

    start_workflow_input: StartWorkflowInput
    update_workflow_input: StartWorkflowUpdateInput
    on_start: Callable[[WorkflowHandle[Any, Any]], None]
    on_start_error: Callable[[BaseException], None]


@dataclass
class HeartbeatAsyncActivityInput:
    """A heartbeat of an activity that left its worker."""

    id_or_token: AsyncActivityIDReference | bytes
    details: Sequence[Any]
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class CompleteAsyncActivityInput:
    """The result of an activity that left its worker."""

    id_or_token: AsyncActivityIDReference | bytes
    result: Any | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class FailAsyncActivityInput:
    """Why an activity that left its worker failed."""

    id_or_token: AsyncActivityIDReference | bytes
    error: Exception
    last_heartbeat_details: Sequence[Any]
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class ReportCancellationAsyncActivityInput:
    """An activity that left its worker stopped, because it was asked to."""

    id_or_token: AsyncActivityIDReference | bytes
    details: Sequence[Any]
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


class OutboundInterceptor(ScheduleInterceptor["OutboundInterceptor"]):
    """Around what a client asks for. Made once for each client."""

    def __init__(self, next: OutboundInterceptor) -> None:
        self.next = next

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        """For ``Client.start_workflow`` and ``Client.execute_workflow``."""
        return await self.next.start_workflow(input)

    async def cancel_workflow(self, input: CancelWorkflowInput) -> None:
        """For ``WorkflowHandle.cancel``."""
        await self.next.cancel_workflow(input)

    async def describe_workflow(self, input: DescribeWorkflowInput) -> WorkflowExecutionDescription:
        """For ``WorkflowHandle.describe``."""
        return await self.next.describe_workflow(input)

    def fetch_workflow_history_events(self, input: FetchWorkflowHistoryEventsInput) -> AsyncIterator[Event]:
        """For ``WorkflowHandle.fetch_history_events`` and ``WorkflowHandle.fetch_history``."""
        return self.next.fetch_workflow_history_events(input)

    def list_workflows(self, input: ListWorkflowsInput) -> WorkflowExecutionAsyncIterator:
        """For ``Client.list_workflows``."""
        return self.next.list_workflows(input)

    async def count_workflows(self, input: CountWorkflowsInput) -> WorkflowExecutionCount:
        """For ``Client.count_workflows``."""
        return await self.next.count_workflows(input)

    async def query_workflow(self, input: QueryWorkflowInput) -> Any:
        """For ``WorkflowHandle.query``."""
        return await self.next.query_workflow(input)

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        """For ``WorkflowHandle.signal``."""
        await self.next.signal_workflow(input)

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        """For ``WorkflowHandle.start_update`` and ``WorkflowHandle.execute_update``."""
        return await self.next.start_workflow_update(input)

    async def start_update_with_start_workflow(
        self, input: StartWorkflowUpdateWithStartInput
    ) -> WorkflowUpdateHandle[Any]:
        """For ``Client.start_update_with_start_workflow`` and ``Client.execute_update_with_start_workflow``."""
        return await self.next.start_update_with_start_workflow(input)

    async def terminate_workflow(self, input: TerminateWorkflowInput) -> None:
        """For ``WorkflowHandle.terminate``."""
        await self.next.terminate_workflow(input)

    async def heartbeat_async_activity(self, input: HeartbeatAsyncActivityInput) -> None:
        """For ``AsyncActivityHandle.heartbeat``."""
        await self.next.heartbeat_async_activity(input)

    async def complete_async_activity(self, input: CompleteAsyncActivityInput) -> None:
        """For ``AsyncActivityHandle.complete``."""
        await self.next.complete_async_activity(input)

    async def fail_async_activity(self, input: FailAsyncActivityInput) -> None:
        """For ``AsyncActivityHandle.fail``."""
        await self.next.fail_async_activity(input)

    async def report_cancellation_async_activity(self, input: ReportCancellationAsyncActivityInput) -> None:
        """For ``AsyncActivityHandle.report_cancellation``."""
        await self.next.report_cancellation_async_activity(input)


class Interceptor:
    """The interceptor of a client. Give it as ``Client.connect(interceptors=[…])``."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """Called once for each client: wrap ``next``, or return it as it is."""
        return next
