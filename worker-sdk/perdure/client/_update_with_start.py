"""Update-with-start: an update for a workflow that is started if it does not run, in one request."""

from __future__ import annotations

import asyncio
from abc import ABC
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Concatenate, Generic, TypedDict, Unpack, overload

from perdure._callables import UNSET, arguments_of
from perdure._runtime.update_definition import UpdateMethodMultiParam, update_name_and_result_type
from perdure._search_attributes import TypedSearchAttributes
from perdure._versioning import VersioningOverride
from perdure.client._handle import WorkflowHandle
from perdure.client._interceptor import (
    OutboundInterceptor,
    StartWorkflowUpdateInput,
    StartWorkflowUpdateWithStartInput,
)
from perdure.client._start import start_input
from perdure.client._update import WorkflowUpdateHandle, WorkflowUpdateStage
from perdure.common import Priority, RetryPolicy, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from perdure.types import (
    LocalReturnType,
    MethodAsyncNoParam,
    MethodAsyncSingleParam,
    MultiParamSpec,
    ParamType,
    ReturnType,
    SelfType,
)


class WithStartOptions(TypedDict, total=False):
    """The options of the start; see :meth:`Client.start_workflow`."""

    execution_timeout: timedelta | None
    run_timeout: timedelta | None
    task_timeout: timedelta | None
    id_reuse_policy: WorkflowIDReusePolicy
    retry_policy: RetryPolicy | None
    cron_schedule: str
    memo: Mapping[str, Any] | None
    search_attributes: TypedSearchAttributes | None
    static_summary: str | None
    static_details: str | None
    start_delay: timedelta | None
    priority: Priority
    versioning_override: VersioningOverride | None


class WithStartWorkflowOperation(Generic[SelfType, ReturnType]):
    """The start in an update-with-start. To be used once.

    ``id_conflict_policy`` must be given: ``USE_EXISTING`` sends the update to a running workflow of that id, ``FAIL``
    refuses both. All other arguments are those of :meth:`Client.start_workflow`.

    Raises:
        ValueError: the conflict policy is neither of them.
    """

    @overload
    def __init__(
        self,
        workflow: MethodAsyncNoParam[SelfType, ReturnType],
        *,
        id: str,
        task_queue: str,
        id_conflict_policy: WorkflowIDConflictPolicy,
        **options: Unpack[WithStartOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
        arg: ParamType,
        *,
        id: str,
        task_queue: str,
        id_conflict_policy: WorkflowIDConflictPolicy,
        **options: Unpack[WithStartOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        id: str,
        task_queue: str,
        id_conflict_policy: WorkflowIDConflictPolicy,
        **options: Unpack[WithStartOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        workflow: str,
        arg: Any = ...,
        *,
        args: Sequence[Any] = [],
        id: str,
        task_queue: str,
        id_conflict_policy: WorkflowIDConflictPolicy,
        result_type: Any = None,
        **options: Unpack[WithStartOptions],
    ) -> None: ...

    def __init__(
        self,
        workflow: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = [],
        id: str,
        task_queue: str,
        id_conflict_policy: WorkflowIDConflictPolicy,
        result_type: Any = None,
        **options: Any,
    ) -> None:
        if id_conflict_policy not in (WorkflowIDConflictPolicy.FAIL, WorkflowIDConflictPolicy.USE_EXISTING):
            raise ValueError("id_conflict_policy of an update-with-start must be FAIL or USE_EXISTING")
        unknown = sorted(options.keys() - WithStartOptions.__annotations__.keys())
        if unknown:
            raise TypeError(f"the start of an update-with-start has no option {', '.join(unknown)}")
        given: Any = {**options, "id_conflict_policy": id_conflict_policy}
        self._start = start_input(workflow, arg, args, id, task_queue, result_type, given)
        self._is_used = False
        self._handle: asyncio.Future[WorkflowHandle[SelfType, ReturnType]] | None = None

    async def workflow_handle(self) -> WorkflowHandle[SelfType, ReturnType]:
        """The workflow's handle, once the update-with-start was sent and the start is answered.

        Raises:
            What made the start fail.
        """
        return await asyncio.shield(self._handle_future())

    def _handle_future(self) -> asyncio.Future[WorkflowHandle[SelfType, ReturnType]]:
        if self._handle is None:
            self._handle = asyncio.get_running_loop().create_future()
        return self._handle

    def _input(self, update: StartWorkflowUpdateInput) -> StartWorkflowUpdateWithStartInput:
        """What is to be sent.

        Raises:
            RuntimeError: it was used before.
        """
        if self._is_used:
            raise RuntimeError("this WithStartWorkflowOperation was used already; make a new one")
        self._is_used = True
        handle = self._handle_future()

        def fail(error: BaseException) -> None:
            if not handle.done():
                handle.set_exception(error)
                handle.exception()  # whoever asks for the handle sees it; nobody has to

        def succeed(started: WorkflowHandle[Any, Any]) -> None:
            if not handle.done():
                handle.set_result(started)

        return StartWorkflowUpdateWithStartInput(self._start, update, succeed, fail)


class UpdatesWithStart(ABC):
    """The base of :class:`perdure.client.Client` that sends updates with starts."""

    outbound: OutboundInterceptor

    @overload
    async def start_update_with_start_workflow(
        self,
        update: UpdateMethodMultiParam[[SelfType], LocalReturnType],
        *,
        start_workflow_operation: WithStartWorkflowOperation[SelfType, Any],
        wait_for_stage: WorkflowUpdateStage,
        id: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowUpdateHandle[LocalReturnType]: ...

    @overload
    async def start_update_with_start_workflow(
        self,
        update: UpdateMethodMultiParam[[SelfType, ParamType], LocalReturnType],
        arg: ParamType,
        *,
        start_workflow_operation: WithStartWorkflowOperation[SelfType, Any],
        wait_for_stage: WorkflowUpdateStage,
        id: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowUpdateHandle[LocalReturnType]: ...

    @overload
    async def start_update_with_start_workflow(
        self,
        update: str | UpdateMethodMultiParam[Concatenate[SelfType, MultiParamSpec], LocalReturnType],
        arg: Any = ...,
        *,
        start_workflow_operation: WithStartWorkflowOperation[SelfType, Any],
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any] = [],
        id: str | None = None,
        result_type: Any = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowUpdateHandle[Any]: ...

    async def start_update_with_start_workflow(
        self,
        update: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        start_workflow_operation: WithStartWorkflowOperation[Any, Any],
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any] = [],
        id: str | None = None,
        result_type: Any = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowUpdateHandle[Any]:
        """Send an update to a workflow, and start it if it does not run: one request, both are taken or neither.

        Args:
            update: The handler method, or the update's name.
            arg: Its only argument.
            args: Its arguments, if there are several.
            start_workflow_operation: The start; its ``workflow_handle()`` gives the workflow's handle.
            wait_for_stage: ``ACCEPTED`` or ``COMPLETED``.
            id: The update's id; a random one if not given. The same id is the same update, with one outcome.
            result_type: The type to convert the result to, where the handler is not given.
            rpc_metadata: Not supported.
            rpc_timeout: How long to wait; 30 s if not given.

        Raises:
            WorkflowAlreadyStartedError: the id is taken, and the policies do not allow another, nor to use it.
            And what :meth:`WorkflowHandle.start_update` raises.
        """
        if wait_for_stage is WorkflowUpdateStage.ADMITTED:
            raise ValueError(
                "an update cannot be waited for until it is ADMITTED, since that is not durable; wait for ACCEPTED"
            )
        name, annotated_type = update_name_and_result_type(update)
        update_input = StartWorkflowUpdateInput(
            id=start_workflow_operation._start.id,
            run_id=None,
            first_execution_run_id=None,
            update_id=id,
            update=name,
            args=arguments_of(arg, args),
            wait_for_stage=wait_for_stage,
            headers={},
            ret_type=annotated_type if result_type is None else result_type,
            rpc_metadata=rpc_metadata,
            rpc_timeout=rpc_timeout,
        )
        return await self.outbound.start_update_with_start_workflow(start_workflow_operation._input(update_input))

    @overload
    async def execute_update_with_start_workflow(
        self,
        update: UpdateMethodMultiParam[[SelfType], LocalReturnType],
        *,
        start_workflow_operation: WithStartWorkflowOperation[SelfType, Any],
        id: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> LocalReturnType: ...

    @overload
    async def execute_update_with_start_workflow(
        self,
        update: UpdateMethodMultiParam[[SelfType, ParamType], LocalReturnType],
        arg: ParamType,
        *,
        start_workflow_operation: WithStartWorkflowOperation[SelfType, Any],
        id: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> LocalReturnType: ...

    @overload
    async def execute_update_with_start_workflow(
        self,
        update: str | UpdateMethodMultiParam[Concatenate[SelfType, MultiParamSpec], LocalReturnType],
        arg: Any = ...,
        *,
        start_workflow_operation: WithStartWorkflowOperation[SelfType, Any],
        args: Sequence[Any] = [],
        id: str | None = None,
        result_type: Any = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> Any: ...

    async def execute_update_with_start_workflow(
        self,
        update: Any,
        arg: Any = UNSET,
        *,
        start_workflow_operation: WithStartWorkflowOperation[Any, Any],
        args: Sequence[Any] = [],
        id: str | None = None,
        result_type: Any = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> Any:
        """As :meth:`start_update_with_start_workflow`, and wait for the update's result.

        Raises:
            WorkflowUpdateFailedError: its handler failed, or it was rejected; its ``cause`` says why. And what
                :meth:`start_update_with_start_workflow` raises.
        """
        handle: WorkflowUpdateHandle[Any] = await self.start_update_with_start_workflow(
            update,
            arg,
            start_workflow_operation=start_workflow_operation,
            wait_for_stage=WorkflowUpdateStage.COMPLETED,
            args=args,
            id=id,
            result_type=result_type,
            rpc_metadata=rpc_metadata,
            rpc_timeout=rpc_timeout,
        )
        return await handle.result()
