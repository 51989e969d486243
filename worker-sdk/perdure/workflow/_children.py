"""Child workflows from workflow code: ``start_child_workflow`` and ``execute_child_workflow``.

Names, parameters and defaults are those of ``temporalio.workflow``. The overloads carry the parameter and result types
of a typed workflow through to the caller; options that all forms share are in :class:`ChildWorkflowConfig`. Called by
user code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, TypedDict, TypeVar, Unpack, cast, overload

from perdure._callables import UNSET, arguments_of
from perdure._interceptors import StartChildWorkflowInput
from perdure._limits import check_name, check_workflow_id
from perdure._runtime.children import (
    ChildFuture,
    ChildWorkflowCancellationType,
    ChildWorkflowTask,
    ParentClosePolicy,
)
from perdure._runtime.context import current_instance
from perdure._runtime.definition import workflow_name_and_result_type
from perdure._search_attributes import TypedSearchAttributes, encode_search_attributes
from perdure._versioning import VersioningOverride, override_record
from perdure.common import Priority, RetryPolicy, WorkflowIDReusePolicy, require_unused, to_milliseconds
from perdure.types import (
    MethodAsyncNoParam,
    MethodAsyncSingleParam,
    MethodSyncOrAsyncNoParam,
    MethodSyncOrAsyncSingleParam,
    MultiParamSpec,
    ParamType,
    ReturnType,
    SelfType,
)
from perdure.workflow._context import uuid4
from perdure_schemas.records import ChildWorkflowOptions, IdReusePolicy, Payload
from perdure_schemas.records import ParentClosePolicy as RecordedParentClosePolicy

__all__ = [
    "ChildWorkflowCancellationType",
    "ChildWorkflowConfig",
    "ChildWorkflowHandle",
    "ParentClosePolicy",
    "execute_child_workflow",
    "start_child_workflow",
]

_TASK_TIMEOUT_DEFAULT_MS = 10_000
#: What interceptors see and may change.
_INTERCEPTED_OPTIONS = (
    "id", "task_queue", "cancellation_type", "parent_close_policy", "execution_timeout", "run_timeout", "task_timeout",
    "id_reuse_policy", "retry_policy", "cron_schedule", "memo", "search_attributes", "static_summary",
    "static_details", "priority",
)  # fmt: skip

if TYPE_CHECKING:
    _ChildT = TypeVar("_ChildT")
    _ResultT = TypeVar("_ResultT")

    class ChildWorkflowHandle(asyncio.Task[_ResultT], Generic[_ChildT, _ResultT]):
        """A child workflow that has started: a task that ends with it.

        It raises :class:`perdure.exceptions.ChildWorkflowError` if the child does not succeed. Cancelling the task
        cancels the child as its cancellation type says.
        """

        @property
        def id(self) -> str:
            """The child's workflow id."""

        @property
        def first_execution_run_id(self) -> str | None:
            """The id of the child's first run."""

        @overload
        async def signal(self, signal: MethodSyncOrAsyncNoParam[_ChildT, None]) -> None: ...

        @overload
        async def signal(
            self, signal: MethodSyncOrAsyncSingleParam[_ChildT, ParamType, None], arg: ParamType
        ) -> None: ...

        @overload
        async def signal(
            self, signal: Callable[Concatenate[_ChildT, MultiParamSpec], Awaitable[None] | None], *, args: Sequence[Any]
        ) -> None: ...

        @overload
        async def signal(self, signal: str, arg: Any = ..., *, args: Sequence[Any] = []) -> None: ...

        async def signal(self, signal: str | Callable[..., Any], arg: Any = ..., *, args: Sequence[Any] = []) -> None:
            """Signal the child, and wait until it has got the signal.

            Args:
                signal: The signal handler, or its name.
                arg: Its only argument.
                args: Its arguments, if there are several.

            Raises:
                ApplicationError: the child is closed.
            """

else:
    ChildWorkflowHandle = ChildWorkflowTask


class ChildWorkflowConfig(TypedDict, total=False):
    """The options of a child workflow; see :func:`start_child_workflow`."""

    id: str | None
    task_queue: str | None
    cancellation_type: ChildWorkflowCancellationType
    parent_close_policy: ParentClosePolicy
    execution_timeout: timedelta | None
    run_timeout: timedelta | None
    task_timeout: timedelta | None
    id_reuse_policy: WorkflowIDReusePolicy
    retry_policy: RetryPolicy | None
    cron_schedule: str
    memo: Mapping[str, Any] | None
    search_attributes: TypedSearchAttributes | None
    versioning_intent: Any
    versioning_override: VersioningOverride | None
    static_summary: str | None
    static_details: str | None
    priority: Priority


async def _start_child(
    workflow: Any, arg: Any, args: Sequence[Any], result_type: Any, options: ChildWorkflowConfig
) -> Any:
    """A child that runs: its future, or what interceptors gave for it."""
    instance = current_instance()
    if instance.interception is None:
        child = _start(workflow, arg, args, result_type, options)
        await child.started
        return child

    async def start(input: StartChildWorkflowInput) -> ChildWorkflowHandle[Any, Any]:
        given = {name: getattr(input, name) for name in _INTERCEPTED_OPTIONS if getattr(input, name) is not None}
        merged = cast("ChildWorkflowConfig", {**rest, **given})
        child = _start(input.workflow, UNSET, input.args, input.ret_type, merged, headers=input.headers)
        await child.started
        handle: Any = ChildWorkflowTask(child, instance.loop)
        return handle  # type: ignore[no-any-return]

    rest = {name: value for name, value in options.items() if name not in _INTERCEPTED_OPTIONS}
    name, known_result_type = workflow_name_and_result_type(workflow)
    seen: dict[str, Any] = {option: options.get(option) for option in _INTERCEPTED_OPTIONS}
    seen["id"] = str(uuid4()) if seen["id"] is None else seen["id"]
    return await instance.interception.outbound.start_child_workflow(
        StartChildWorkflowInput(
            workflow=name,
            args=arguments_of(arg, args),
            headers={},
            ret_type=known_result_type if result_type is None else result_type,
            _start=start,
            **seen,
        )
    )


def _start(
    workflow: Any,
    arg: Any,
    args: Sequence[Any],
    result_type: Any,
    options: ChildWorkflowConfig,
    headers: Mapping[str, Payload] = {},
) -> ChildFuture:
    unknown = sorted(options.keys() - ChildWorkflowConfig.__annotations__.keys())
    if unknown:
        raise TypeError(f"starting a child workflow has no option {', '.join(unknown)}")
    require_unused({"versioning_intent": options.get("versioning_intent")}, "starting a child workflow")
    instance = current_instance()
    converter = instance.settings.payload_converter
    name, known_result_type = workflow_name_and_result_type(workflow)
    check_name(name, "workflow type")
    workflow_id = options.get("id")
    if workflow_id is None:
        workflow_id = str(uuid4())
    check_workflow_id(workflow_id)
    values = arguments_of(arg, args)
    retry_policy = options.get("retry_policy")
    close_policy = ParentClosePolicy(options.get("parent_close_policy", ParentClosePolicy.TERMINATE))
    summary, details = options.get("static_summary"), options.get("static_details")
    recorded = ChildWorkflowOptions(
        workflow_id=workflow_id,
        workflow_type=name,
        task_queue=options.get("task_queue") or instance.info.task_queue,
        input=converter.to_payloads(values) if values else [],
        header=dict(headers),
        execution_timeout_ms=_limit(options.get("execution_timeout"), "execution_timeout"),
        run_timeout_ms=_limit(options.get("run_timeout"), "run_timeout"),
        task_timeout_ms=_limit(options.get("task_timeout"), "task_timeout") or _TASK_TIMEOUT_DEFAULT_MS,
        parent_close_policy=RecordedParentClosePolicy[(close_policy or ParentClosePolicy.TERMINATE).name],
        id_reuse_policy=IdReusePolicy[
            WorkflowIDReusePolicy(options.get("id_reuse_policy", WorkflowIDReusePolicy.ALLOW_DUPLICATE)).name
        ],
        memo={key: converter.to_payload(value) for key, value in (options.get("memo") or {}).items()},
        retry_policy=None if retry_policy is None else retry_policy.to_record(),
        cron_schedule=options.get("cron_schedule", ""),
        search_attributes=encode_search_attributes(options.get("search_attributes")),
        static_summary=None if summary is None else converter.to_payload(summary),
        static_details=None if details is None else converter.to_payload(details),
        priority=options.get("priority", Priority.default).or_else(instance.info.priority).to_record(),
        versioning_override=override_record(options.get("versioning_override")),
    )
    return instance.children.start(
        recorded,
        known_result_type if result_type is None else result_type,
        options.get("cancellation_type", ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED),
    )


def _limit(timeout: timedelta | None, name: str) -> int | None:
    return None if timeout is None else to_milliseconds(timeout, name) or None


@overload
async def start_child_workflow(
    workflow: MethodAsyncNoParam[SelfType, ReturnType], **options: Unpack[ChildWorkflowConfig]
) -> ChildWorkflowHandle[SelfType, ReturnType]: ...


@overload
async def start_child_workflow(
    workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
    arg: ParamType,
    **options: Unpack[ChildWorkflowConfig],
) -> ChildWorkflowHandle[SelfType, ReturnType]: ...


@overload
async def start_child_workflow(
    workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
    *,
    args: Sequence[Any],
    **options: Unpack[ChildWorkflowConfig],
) -> ChildWorkflowHandle[SelfType, ReturnType]: ...


@overload
async def start_child_workflow(
    workflow: str,
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    result_type: type | None = ...,
    **options: Unpack[ChildWorkflowConfig],
) -> ChildWorkflowHandle[Any, Any]: ...


async def start_child_workflow(
    workflow: Any,
    arg: Any = UNSET,
    *,
    args: Sequence[Any] = [],
    result_type: type | None = None,
    **options: Unpack[ChildWorkflowConfig],
) -> ChildWorkflowHandle[Any, Any]:
    """Start a child workflow, wait until it runs, and return its handle, which can be awaited for the result.

    Args:
        workflow: The child's run method, or its name.
        arg: Its only argument.
        args: Its arguments, if there are several. Not together with ``arg``.
        result_type: By name only: the type to decode the result to.
        id: The child's workflow id; a random one if not given.
        task_queue: The queue of the workers that run it; the parent's own if not given.
        cancellation_type: What a cancellation waits for.
        parent_close_policy: What happens to the child if it is open when the parent closes.
        execution_timeout: Limit for all runs of the child together.
        run_timeout: Limit for one run.
        task_timeout: How long a worker has for one of its workflow tasks; 10 s if not given.
        id_reuse_policy: What to do if a closed workflow has that id.
        retry_policy: How a failed run of the child is repeated; not at all if not given.
        cron_schedule: When the child runs again and again.
        memo: Values to keep with the child, for lists and descriptions.
        search_attributes: Its search attributes.
        static_summary: A line that shows with it.
        static_details: Text that shows with it.
        priority: Its place among the tasks that wait on a queue; what is not set is as the parent has it.
        versioning_intent: Not supported.
        versioning_override: What counts instead of the versioning behavior in the child's code.

    Raises:
        WorkflowAlreadyStartedError: the id is taken.
        ChildWorkflowError: the child was cancelled before it ran, or could not be started.
        NotInWorkflowError: not called from workflow code.
        NotImplementedError: an option is not supported. TypeError, ValueError: an argument makes no sense.
    """
    child = await _start_child(workflow, arg, args, result_type, options)
    handle: Any = ChildWorkflowTask(child, current_instance().loop) if isinstance(child, ChildFuture) else child
    return handle  # type: ignore[no-any-return]


@overload
async def execute_child_workflow(
    workflow: MethodAsyncNoParam[SelfType, ReturnType], **options: Unpack[ChildWorkflowConfig]
) -> ReturnType: ...


@overload
async def execute_child_workflow(
    workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
    arg: ParamType,
    **options: Unpack[ChildWorkflowConfig],
) -> ReturnType: ...


@overload
async def execute_child_workflow(
    workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
    *,
    args: Sequence[Any],
    **options: Unpack[ChildWorkflowConfig],
) -> ReturnType: ...


@overload
async def execute_child_workflow(
    workflow: str,
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    result_type: type | None = ...,
    **options: Unpack[ChildWorkflowConfig],
) -> Any: ...


async def execute_child_workflow(
    workflow: Any,
    arg: Any = UNSET,
    *,
    args: Sequence[Any] = [],
    result_type: type | None = None,
    **options: Unpack[ChildWorkflowConfig],
) -> Any:
    """Run a child workflow and return its result: start it and await its handle in one.

    See :func:`start_child_workflow` for the parameters.

    Raises:
        ChildWorkflowError: it did not succeed, or was cancelled. And what :func:`start_child_workflow` raises.
    """
    child = await _start_child(workflow, arg, args, result_type, options)
    # Without the task around it, so that the order of steps is the same with and without interceptors.
    return await (child.detached() if isinstance(child, ChildWorkflowTask) else child)
