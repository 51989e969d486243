"""Interceptors of workers: code around everything a workflow or an activity is asked to do and asks for.

Names are those of ``temporalio.worker``. Invariants: the first interceptor given is the outermost; each is made of the
next one and passes on what it does not change; without interceptors none of this is called. Public through
:mod:`perdure.worker`; here, because the workflow runtime needs it and must not import the worker.

Workflow interceptors are workflow code: they run in the workflow's event loop and must be as deterministic.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from perdure.common import Payload, Priority, RetryPolicy, WorkflowIDReusePolicy

if TYPE_CHECKING:
    from perdure import activity, workflow
    from perdure._runtime.activities import ActivityCancellationType
    from perdure._runtime.children import ChildWorkflowCancellationType, ParentClosePolicy


@dataclass
class ExecuteActivityInput:
    """An activity attempt that is about to run.

    Attributes:
        fn: The activity's function.
        args: Its arguments.
        executor: Where a synchronous one runs; ``None`` for an async one.
        headers: What the workflow's interceptors sent along.
    """

    fn: Callable[..., Any]
    args: Sequence[Any]
    executor: concurrent.futures.Executor | None
    headers: Mapping[str, Payload]


class ActivityInboundInterceptor:
    """Around what an activity is asked to do. One is made for each attempt."""

    def __init__(self, next: ActivityInboundInterceptor) -> None:
        self.next = next

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        """Called once before the attempt. Override it to wrap ``outbound``: ``super().init(Mine(outbound))``."""
        self.next.init(outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """Run the activity. On the event loop, also for a synchronous activity, in the activity's context."""
        return await self.next.execute_activity(input)


class ActivityOutboundInterceptor:
    """Around what an activity asks for."""

    def __init__(self, next: ActivityOutboundInterceptor) -> None:
        self.next = next

    def info(self) -> activity.Info:
        """For ``activity.info()``."""
        return self.next.info()

    def heartbeat(self, *details: Any) -> None:
        """For ``activity.heartbeat()``. In the thread of the activity's code."""
        self.next.heartbeat(*details)


@dataclass
class ExecuteWorkflowInput:
    """A run that is about to begin.

    Attributes:
        type: The workflow class.
        run_fn: Its run method, not bound.
        args: Its arguments.
        headers: What the client's interceptors sent along.
    """

    type: type
    run_fn: Callable[..., Awaitable[Any]]
    args: Sequence[Any]
    headers: Mapping[str, Payload]


@dataclass
class HandleSignalInput:
    """A signal that is about to be handled. A dynamic handler gets its name as the first argument."""

    signal: str
    args: Sequence[Any]
    headers: Mapping[str, Payload]


@dataclass
class HandleQueryInput:
    """A query that is about to be answered. A dynamic handler gets its name as the first argument."""

    id: str
    query: str
    args: Sequence[Any]
    headers: Mapping[str, Payload]


@dataclass
class HandleUpdateInput:
    """An update that is about to be validated or handled. A dynamic handler gets its name as the first argument."""

    id: str
    update: str
    args: Sequence[Any]
    headers: Mapping[str, Payload]


@dataclass
class StartActivityInput:
    """An activity that workflow code wants; see :func:`perdure.workflow.start_activity`."""

    activity: str
    args: Sequence[Any]
    activity_id: str | None
    task_queue: str | None
    schedule_to_close_timeout: timedelta | None
    schedule_to_start_timeout: timedelta | None
    start_to_close_timeout: timedelta | None
    heartbeat_timeout: timedelta | None
    retry_policy: RetryPolicy | None
    cancellation_type: ActivityCancellationType
    headers: Mapping[str, Payload]
    summary: str | None
    priority: Priority
    ret_type: Any
    start_delay: timedelta | None = None


@dataclass
class StartLocalActivityInput:
    """A local activity that workflow code wants; see :func:`perdure.workflow.start_local_activity`."""

    activity: str
    args: Sequence[Any]
    activity_id: str | None
    schedule_to_close_timeout: timedelta | None
    schedule_to_start_timeout: timedelta | None
    start_to_close_timeout: timedelta | None
    retry_policy: RetryPolicy | None
    local_retry_threshold: timedelta | None
    cancellation_type: ActivityCancellationType
    headers: Mapping[str, Payload]
    summary: str | None
    ret_type: Any


@dataclass
class ContinueAsNewInput:
    """A new run that workflow code wants to go on as; see :func:`perdure.workflow.continue_as_new`.

    What is ``None`` is as in this run. Without headers of its own the new run gets those of this run.
    """

    workflow: str | None
    args: Sequence[Any]
    task_queue: str | None
    run_timeout: timedelta | None
    task_timeout: timedelta | None
    backoff_start_interval: timedelta | None
    retry_policy: RetryPolicy | None
    memo: Mapping[str, Any] | None
    search_attributes: Any
    headers: Mapping[str, Payload]
    initial_versioning_behavior: Any


@dataclass
class StartChildWorkflowInput:
    """A child workflow that workflow code wants; see :func:`perdure.workflow.start_child_workflow`.

    What is ``None`` was not given.
    """

    workflow: str
    args: Sequence[Any]
    id: str
    headers: Mapping[str, Payload]
    ret_type: Any
    task_queue: str | None
    cancellation_type: ChildWorkflowCancellationType | None
    parent_close_policy: ParentClosePolicy | None
    execution_timeout: timedelta | None
    run_timeout: timedelta | None
    task_timeout: timedelta | None
    id_reuse_policy: WorkflowIDReusePolicy | None
    retry_policy: RetryPolicy | None
    cron_schedule: str | None
    memo: Mapping[str, Any] | None
    search_attributes: Any
    static_summary: str | None
    static_details: str | None
    priority: Priority | None
    _start: Callable[[StartChildWorkflowInput], Awaitable[Any]] = field(repr=False)


@dataclass
class SignalChildWorkflowInput:
    """A signal to a child workflow."""

    signal: str
    args: Sequence[Any]
    child_workflow_id: str
    headers: Mapping[str, Payload]
    _send: Callable[[SignalChildWorkflowInput], Awaitable[None]] = field(repr=False)


@dataclass
class SignalExternalWorkflowInput:
    """A signal to a workflow that is no child."""

    signal: str
    args: Sequence[Any]
    namespace: str
    workflow_id: str
    workflow_run_id: str | None
    headers: Mapping[str, Payload]


class WorkflowInboundInterceptor:
    """Around what a workflow is asked to do. One is made for each run in memory, of a class that the worker's
    interceptor names; it lives as long as that run and may keep state in it.
    """

    def __init__(self, next: WorkflowInboundInterceptor) -> None:
        self.next = next

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        """Called once before anything else. Override it to wrap ``outbound``: ``super().init(Mine(outbound))``."""
        self.next.init(outbound)

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        """Run the workflow; the result is the run's."""
        return await self.next.execute_workflow(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:
        """Handle a signal."""
        await self.next.handle_signal(input)

    async def handle_query(self, input: HandleQueryInput) -> Any:
        """Answer a query. It cannot wait for anything, though it is ``async``."""
        return await self.next.handle_query(input)

    def handle_update_validator(self, input: HandleUpdateInput) -> None:
        """Validate an update: raise to reject it."""
        self.next.handle_update_validator(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        """Handle an update that was accepted; the result is the update's."""
        return await self.next.handle_update_handler(input)


class WorkflowOutboundInterceptor:
    """Around what workflow code asks for."""

    def __init__(self, next: WorkflowOutboundInterceptor) -> None:
        self.next = next

    def info(self) -> workflow.Info:
        """For ``workflow.info()``."""
        return self.next.info()

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        """For ``workflow.start_activity`` and ``workflow.execute_activity`` in all their forms."""
        return self.next.start_activity(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.LocalActivityHandle[Any]:
        """For ``workflow.start_local_activity`` and ``workflow.execute_local_activity`` in all their forms."""
        return self.next.start_local_activity(input)

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        """For ``workflow.continue_as_new``. Leaves by raising, as that does."""
        self.next.continue_as_new(input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> workflow.ChildWorkflowHandle[Any, Any]:
        """For ``workflow.start_child_workflow`` and ``workflow.execute_child_workflow``."""
        return await self.next.start_child_workflow(input)

    async def signal_child_workflow(self, input: SignalChildWorkflowInput) -> None:
        """For ``ChildWorkflowHandle.signal``."""
        await self.next.signal_child_workflow(input)

    async def signal_external_workflow(self, input: SignalExternalWorkflowInput) -> None:
        """For ``ExternalWorkflowHandle.signal``."""
        await self.next.signal_external_workflow(input)


@dataclass(frozen=True)
class WorkflowInterceptorClassInput:
    """What :meth:`Interceptor.workflow_interceptor_class` is given.

    Attributes:
        unsafe_extern_functions: Functions put in here can be had from workflow interceptors by
            ``workflow.extern_functions()``: what they do is outside of what must be deterministic.
    """

    unsafe_extern_functions: MutableMapping[str, Callable[..., Any]]


class Interceptor:
    """The interceptor of a worker. Give it as ``Worker(interceptors=[…])``, or to the client, whose workers use it."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Called for each attempt of an activity: wrap ``next``, or return it as it is."""
        return next

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Called once: the class of which one is made for each workflow run, or ``None`` for none."""
        return None
