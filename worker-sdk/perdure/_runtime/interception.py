"""The interceptors of one run: made with its instance, if the worker has any, and kept as long as that.

Invariant: the innermost interceptors do what happens without any, at the same place in the order of the workflow's
steps, so that adding one to a worker does not break replays. Called by the instance, its handlers and the functions of
:mod:`perdure.workflow`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from perdure._interceptors import (
    ContinueAsNewInput,
    ExecuteWorkflowInput,
    HandleQueryInput,
    HandleSignalInput,
    HandleUpdateInput,
    SignalChildWorkflowInput,
    SignalExternalWorkflowInput,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowOutboundInterceptor,
)
from perdure._runtime.activities import ActivityTask, activity_name_and_result_type
from perdure._runtime.continuing import raise_continue_as_new
from perdure._runtime.errors import UnsupportedInWorkflowError
from perdure._runtime.local_activities import LocalActivityTask
from perdure.common import Payload

if TYPE_CHECKING:
    from perdure._runtime.info import Info
    from perdure._runtime.instance import WorkflowInstance


class Interception:
    """See the module.

    Args:
        instance: The run.
        classes: The interceptors' classes, the outermost first.
    """

    def __init__(self, instance: WorkflowInstance, classes: Sequence[type[WorkflowInboundInterceptor]]) -> None:
        self._instance = instance
        innermost = _Inbound(instance)
        self.inbound: WorkflowInboundInterceptor = innermost
        for interceptor_class in reversed(classes):
            self.inbound = interceptor_class(self.inbound)
        self.inbound.init(_Outbound(instance))
        self.outbound = innermost.outbound

    async def execute_workflow(self, args: Sequence[Any]) -> Any:
        """Run the run method."""
        definition, headers = self._instance.definition, self._instance.info.headers
        return await self.inbound.execute_workflow(
            ExecuteWorkflowInput(type=definition.cls, run_fn=definition.run_fn, args=args, headers=headers)
        )

    async def handle_signal(self, name: str, headers: Mapping[str, Payload], *args: Any) -> None:
        """Handle a signal whose arguments are decoded."""
        await self.inbound.handle_signal(HandleSignalInput(signal=name, args=args, headers=headers))

    def answer_query(self, query_id: str, name: str, args: Sequence[Any], headers: Mapping[str, Payload]) -> Any:
        """Answer a query whose arguments are decoded.

        Raises:
            UnsupportedInWorkflowError: an interceptor waits for something.
        """
        answering: Any = self.inbound.handle_query(
            HandleQueryInput(id=query_id, query=name, args=args, headers=headers)
        )
        return _without_waiting(answering, name)

    def validate_update(self, update_id: str, name: str, args: Sequence[Any], headers: Mapping[str, Payload]) -> None:
        """Validate an update whose arguments are decoded; what is raised rejects it."""
        self.inbound.handle_update_validator(HandleUpdateInput(id=update_id, update=name, args=args, headers=headers))

    async def handle_update(self, update_id: str, name: str, headers: Mapping[str, Payload], *args: Any) -> Any:
        """Handle an update whose arguments are decoded."""
        return await self.inbound.handle_update_handler(
            HandleUpdateInput(id=update_id, update=name, args=args, headers=headers)
        )

    def start_activity(self, activity: Any, args: list[Any], result_type: Any, options: Mapping[str, Any]) -> Any:
        """Start an activity; what is returned can be awaited for its result."""
        name, known_result_type = activity_name_and_result_type(activity)
        return self.outbound.start_activity(
            StartActivityInput(
                activity=name,
                args=args,
                headers={},
                ret_type=known_result_type if result_type is None else result_type,
                **options,
            )
        )

    def start_local_activity(self, activity: Any, args: list[Any], result_type: Any, options: Mapping[str, Any]) -> Any:
        """Start a local activity; what is returned can be awaited for its result."""
        name, known_result_type = activity_name_and_result_type(activity)
        return self.outbound.start_local_activity(
            StartLocalActivityInput(
                activity=name,
                args=args,
                headers={},
                ret_type=known_result_type if result_type is None else result_type,
                **options,
            )
        )


def _without_waiting(coroutine: Coroutine[Any, Any, Any], query: str) -> Any:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    coroutine.close()
    raise UnsupportedInWorkflowError(f"an interceptor waits while query {query!r} is answered; queries cannot wait")


class _Inbound(WorkflowInboundInterceptor):
    """The innermost: the workflow's own code."""

    outbound: WorkflowOutboundInterceptor

    def __init__(self, instance: WorkflowInstance) -> None:
        # No super().__init__: there is no next one.
        self._instance = instance

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        self.outbound = outbound

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        return await input.run_fn(self._instance.object, *input.args)

    async def handle_signal(self, input: HandleSignalInput) -> None:
        result = self._handler("signal", input.signal)(*input.args)
        if asyncio.iscoroutine(result):
            await result

    async def handle_query(self, input: HandleQueryInput) -> Any:
        return self._handler("query", input.query)(*input.args)

    def handle_update_validator(self, input: HandleUpdateInput) -> None:
        self._instance.updates.validate(input.update, list(input.args))

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        updates = self._instance.updates
        handler = updates.handler(input.update) or updates.handler(None)
        if handler is None:
            raise UnsupportedInWorkflowError(
                f"an interceptor made an update {input.update!r}, for which there is no handler"
            )
        result = handler(*input.args)
        return await result if asyncio.iscoroutine(result) else result

    def _handler(self, what: str, name: str) -> Callable[..., Any]:
        handlers = self._instance.handlers
        find = handlers.signal_handler if what == "signal" else handlers.query_handler
        handler = find(name) or find(None)
        if handler is None:
            raise UnsupportedInWorkflowError(f"an interceptor made a {what} {name!r}, for which there is no handler")
        return handler


class _Outbound(WorkflowOutboundInterceptor):
    """The innermost: the run itself."""

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance

    def info(self) -> Info:
        return self._instance.info

    def start_activity(self, input: StartActivityInput) -> Any:
        future = self._instance.activities.schedule(
            input.activity,
            list(input.args),
            task_queue=input.task_queue,
            result_type=input.ret_type,
            schedule_to_close_timeout=input.schedule_to_close_timeout,
            schedule_to_start_timeout=input.schedule_to_start_timeout,
            start_to_close_timeout=input.start_to_close_timeout,
            heartbeat_timeout=input.heartbeat_timeout,
            retry_policy=input.retry_policy,
            cancellation_type=input.cancellation_type,
            activity_id=input.activity_id,
            summary=input.summary,
            priority=input.priority,
            start_delay=input.start_delay,
            headers=input.headers,
        )
        return ActivityTask(future, self._instance.loop)

    def start_local_activity(self, input: StartLocalActivityInput) -> Any:
        future = self._instance.local_activities.schedule(
            input.activity,
            list(input.args),
            result_type=input.ret_type,
            schedule_to_close_timeout=input.schedule_to_close_timeout,
            schedule_to_start_timeout=input.schedule_to_start_timeout,
            start_to_close_timeout=input.start_to_close_timeout,
            retry_policy=input.retry_policy,
            local_retry_threshold=input.local_retry_threshold,
            cancellation_type=input.cancellation_type,
            activity_id=input.activity_id,
            summary=input.summary,
            headers=input.headers,
        )
        return LocalActivityTask(future, self._instance)

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        raise_continue_as_new(self._instance, input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> Any:
        return await input._start(input)

    async def signal_child_workflow(self, input: SignalChildWorkflowInput) -> None:
        await input._send(input)

    async def signal_external_workflow(self, input: SignalExternalWorkflowInput) -> None:
        await self._instance.external.signal(
            input.workflow_id, input.signal, input.args, run_id=input.workflow_run_id or "", headers=input.headers
        )
