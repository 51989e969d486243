"""Other workflows from workflow code: signalling and cancelling those that are no children.

Names, parameters and defaults are those of ``temporalio.workflow``. Called by user code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Concatenate, Generic, overload

from perdure._callables import UNSET, arguments_of
from perdure._interceptors import SignalExternalWorkflowInput
from perdure._limits import check_workflow_id
from perdure._runtime.context import current_instance
from perdure._runtime.definition import workflow_name_and_result_type
from perdure._runtime.handler_definitions import signal_name
from perdure.types import (
    MethodAsyncNoParam,
    MethodAsyncSingleParam,
    MethodSyncOrAsyncNoParam,
    MethodSyncOrAsyncSingleParam,
    MultiParamSpec,
    ParamType,
    SelfType,
)

__all__ = ["ExternalWorkflowHandle", "get_external_workflow_handle", "get_external_workflow_handle_for"]


class ExternalWorkflowHandle(Generic[SelfType]):
    """Another workflow, to be signalled or cancelled. Made by :func:`get_external_workflow_handle`."""

    def __init__(self, workflow_id: str, run_id: str | None) -> None:
        self._workflow_id = workflow_id
        self._run_id = run_id

    @property
    def id(self) -> str:
        """The workflow's id."""
        return self._workflow_id

    @property
    def run_id(self) -> str | None:
        """The run that is meant; ``None``: whichever is running."""
        return self._run_id

    @overload
    async def signal(self, signal: MethodSyncOrAsyncNoParam[SelfType, None]) -> None: ...

    @overload
    async def signal(self, signal: MethodSyncOrAsyncSingleParam[SelfType, ParamType, None], arg: ParamType) -> None: ...

    @overload
    async def signal(
        self, signal: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[None] | None], *, args: Sequence[Any]
    ) -> None: ...

    @overload
    async def signal(self, signal: str, arg: Any = ..., *, args: Sequence[Any] = []) -> None: ...

    async def signal(self, signal: str | Callable[..., Any], arg: Any = UNSET, *, args: Sequence[Any] = []) -> None:
        """Signal the workflow, and wait until it has got the signal.

        A cancellation while it waits does not take the signal back, unless it comes in the same workflow task.

        Args:
            signal: The signal handler, or its name.
            arg: Its only argument.
            args: Its arguments, if there are several.

        Raises:
            ApplicationError: there is no such open workflow. TypeError: the function is no signal handler.
        """
        name, values = signal_name(signal), arguments_of(arg, args)
        instance = current_instance()
        if instance.interception is None:
            await instance.external.signal(self._workflow_id, name, values, run_id=self._run_id or "")
            return
        await instance.interception.outbound.signal_external_workflow(
            SignalExternalWorkflowInput(
                name, values, instance.info.namespace, self._workflow_id, self._run_id, headers={}
            )
        )

    async def cancel(self, *, reason: str = "") -> None:
        """Ask the workflow to stop, and wait until it has got the request; not until it has stopped.

        Args:
            reason: Why; the other workflow's code can read it.

        Raises:
            ApplicationError: there is no such open workflow.
        """
        await current_instance().external.cancel(self._workflow_id, run_id=self._run_id or "", reason=reason)


def get_external_workflow_handle(workflow_id: str, *, run_id: str | None = None) -> ExternalWorkflowHandle[Any]:
    """A handle of another workflow. Whether it exists shows when the handle is used.

    Args:
        workflow_id: Its workflow id.
        run_id: The run that is meant; whichever is running if not given.

    Raises:
        NotInWorkflowError: not called from workflow code. TypeError, ValueError: the id is none.
    """
    current_instance()
    check_workflow_id(workflow_id)
    return ExternalWorkflowHandle(workflow_id, run_id)


def get_external_workflow_handle_for(
    workflow: MethodAsyncNoParam[SelfType, Any] | MethodAsyncSingleParam[SelfType, Any, Any],
    workflow_id: str,
    *,
    run_id: str | None = None,
) -> ExternalWorkflowHandle[SelfType]:
    """As :func:`get_external_workflow_handle`, typed by the other workflow's run method.

    Args:
        workflow: The run method; only for the type of the handle.
        workflow_id: Its workflow id.
        run_id: The run that is meant; whichever is running if not given.
    """
    workflow_name_and_result_type(workflow)
    handle: ExternalWorkflowHandle[SelfType] = get_external_workflow_handle(workflow_id, run_id=run_id)
    return handle
