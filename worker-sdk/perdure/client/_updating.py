"""The part of the workflow handle that sends updates, with its typed overloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, overload

from perdure._callables import UNSET, arguments_of
from perdure._runtime.update_definition import UpdateMethodMultiParam, update_name_and_result_type
from perdure.client._interceptor import StartWorkflowUpdateInput
from perdure.client._update import WorkflowUpdateHandle, WorkflowUpdateStage
from perdure.types import LocalReturnType, MultiParamSpec, ParamType, SelfType

if TYPE_CHECKING:
    from perdure.client._client import Client


class UpdatesWorkflow(Generic[SelfType]):
    """The base of :class:`perdure.client.WorkflowHandle` that sends updates."""

    _client: Client
    _id: str
    _run_id: str | None
    _first_execution_run_id: str | None

    @overload
    async def execute_update(
        self,
        update: UpdateMethodMultiParam[[SelfType], LocalReturnType],
        *,
        id: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> LocalReturnType: ...

    @overload
    async def execute_update(
        self,
        update: UpdateMethodMultiParam[[SelfType, ParamType], LocalReturnType],
        arg: ParamType,
        *,
        id: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> LocalReturnType: ...

    @overload
    async def execute_update(
        self,
        update: UpdateMethodMultiParam[Concatenate[SelfType, MultiParamSpec], LocalReturnType],
        *,
        args: Sequence[Any],
        id: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> LocalReturnType: ...

    @overload
    async def execute_update(
        self,
        update: str,
        arg: Any = ...,
        *,
        args: Sequence[Any] = [],
        id: str | None = None,
        result_type: Any = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> Any: ...

    async def execute_update(
        self,
        update: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = [],
        id: str | None = None,
        result_type: Any = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> Any:
        """Send an update and wait for its result: :meth:`start_update` and :meth:`WorkflowUpdateHandle.result` in one.

        Without ``rpc_timeout`` it may take 30 s to be accepted, and any time to complete.

        Raises:
            WorkflowUpdateFailedError: its handler failed, or it was rejected; its ``cause`` says why. And what
                :meth:`start_update` raises.
        """
        handle: WorkflowUpdateHandle[Any] = await self._start_update(
            update, arg, args, id, result_type, WorkflowUpdateStage.COMPLETED, rpc_metadata, rpc_timeout
        )
        return await handle.result()

    @overload
    async def start_update(
        self,
        update: UpdateMethodMultiParam[[SelfType], LocalReturnType],
        *,
        wait_for_stage: WorkflowUpdateStage,
        id: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowUpdateHandle[LocalReturnType]: ...

    @overload
    async def start_update(
        self,
        update: UpdateMethodMultiParam[[SelfType, ParamType], LocalReturnType],
        arg: ParamType,
        *,
        wait_for_stage: WorkflowUpdateStage,
        id: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowUpdateHandle[LocalReturnType]: ...

    @overload
    async def start_update(
        self,
        update: UpdateMethodMultiParam[Concatenate[SelfType, MultiParamSpec], LocalReturnType],
        *,
        args: Sequence[Any],
        wait_for_stage: WorkflowUpdateStage,
        id: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowUpdateHandle[LocalReturnType]: ...

    @overload
    async def start_update(
        self,
        update: str,
        arg: Any = ...,
        *,
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any] = [],
        id: str | None = None,
        result_type: Any = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowUpdateHandle[Any]: ...

    async def start_update(
        self,
        update: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any] = [],
        id: str | None = None,
        result_type: Any = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowUpdateHandle[Any]:
        """Send an update and wait until it has come as far as is asked for. A rejected one raises in ``result()``.

        Args:
            update: The handler method, or the update's name.
            arg: Its only argument.
            args: Its arguments, if there are several.
            wait_for_stage: ``ACCEPTED`` or ``COMPLETED``.
            id: The update's id; a random one if not given. The same id is the same update, with one outcome.
            result_type: The type to convert the result to, where the handler is not given.
            rpc_metadata: Not supported.
            rpc_timeout: How long to wait; 30 s if not given.

        Raises:
            WorkflowUpdateRPCTimeoutOrCancelledError: it took too long (most likely no worker polls the task queue), or
                the waiting was cancelled. The update may still be taken.
            RPCError: the workflow does not exist, is closed, or takes no more updates.
            ValueError: ``ADMITTED`` cannot be waited for.
        """
        return await self._start_update(update, arg, args, id, result_type, wait_for_stage, rpc_metadata, rpc_timeout)

    async def _start_update(
        self,
        update: str | Callable[..., Any],
        arg: Any,
        args: Sequence[Any],
        id: str | None,
        result_type: Any,
        wait_for_stage: WorkflowUpdateStage,
        rpc_metadata: Mapping[str, str | bytes],
        rpc_timeout: timedelta | None,
    ) -> WorkflowUpdateHandle[Any]:
        if wait_for_stage is WorkflowUpdateStage.ADMITTED:
            raise ValueError(
                "an update cannot be waited for until it is ADMITTED, since that is not durable; wait for ACCEPTED"
            )
        name, annotated_type = update_name_and_result_type(update)
        return await self._client.outbound.start_workflow_update(
            StartWorkflowUpdateInput(
                id=self._id,
                run_id=self._run_id,
                first_execution_run_id=self._first_execution_run_id,
                update_id=id,
                update=name,
                args=arguments_of(arg, args),
                wait_for_stage=wait_for_stage,
                headers={},
                ret_type=annotated_type if result_type is None else result_type,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
            )
        )

    def get_update_handle(
        self, id: str, *, workflow_run_id: str | None = None, result_type: Any = None
    ) -> WorkflowUpdateHandle[Any]:
        """The handle of an update that was sent before; whether it exists is not checked here.

        Args:
            id: The update's id.
            workflow_run_id: The run that took it; this handle's, or the current one, if not given.
            result_type: The type to convert the result to.
        """
        return WorkflowUpdateHandle(
            self._client, id, self._id, workflow_run_id=workflow_run_id or self._run_id, result_type=result_type
        )

    def get_update_handle_for(
        self,
        update: UpdateMethodMultiParam[Any, LocalReturnType],
        id: str,
        *,
        workflow_run_id: str | None = None,
    ) -> WorkflowUpdateHandle[LocalReturnType]:
        """As :meth:`get_update_handle`, with the types of an update's handler.

        Raises:
            TypeError: ``update`` is no update handler.
        """
        _, result_type = update_name_and_result_type(update)
        return self.get_update_handle(id, workflow_run_id=workflow_run_id, result_type=result_type)
