"""From the arguments of ``start_workflow`` to the command that starts one. Checks what can be checked on this side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict, cast

from perdure._callables import arguments_of
from perdure._ids import new_run_id
from perdure._limits import (
    check_memo,
    check_name,
    check_payloads,
    check_search_attributes,
    check_static_text,
    check_workflow_id,
)
from perdure._requests import command_id_of
from perdure._runtime.definition import workflow_name_and_result_type
from perdure._runtime.handler_definitions import signal_name
from perdure._search_attributes import TypedSearchAttributes, encode_search_attributes
from perdure._versioning import VersioningOverride, override_record
from perdure.client._interceptor import StartWorkflowInput
from perdure.common import (
    Priority,
    RetryPolicy,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
    require_unused,
    to_milliseconds,
)
from perdure.converter import DataConverter
from perdure_schemas.keys import requested_run_id
from perdure_schemas.records import (
    IdConflictPolicy,
    IdReusePolicy,
    Payload,
    SignalInput,
    StartWorkflow,
    UpdateRequest,
    UpdateStage,
)

_TASK_TIMEOUT_DEFAULT_MS = 10_000


class StartOptions(TypedDict, total=False):
    """The options that ``start_workflow`` and ``execute_workflow`` share; see :meth:`Client.start_workflow`."""

    execution_timeout: timedelta | None
    run_timeout: timedelta | None
    task_timeout: timedelta | None
    id_reuse_policy: WorkflowIDReusePolicy
    id_conflict_policy: WorkflowIDConflictPolicy
    retry_policy: RetryPolicy | None
    cron_schedule: str
    memo: Mapping[str, Any] | None
    search_attributes: TypedSearchAttributes | None
    static_summary: str | None
    static_details: str | None
    start_delay: timedelta | None
    start_signal: str | None
    start_signal_args: Sequence[Any]
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None
    request_eager_start: bool
    priority: Priority
    versioning_override: VersioningOverride | None
    request_id: str | None


_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(StartOptions.__annotations__),
    "id_reuse_policy": WorkflowIDReusePolicy.ALLOW_DUPLICATE,
    "id_conflict_policy": WorkflowIDConflictPolicy.UNSPECIFIED,
    "cron_schedule": "",
    "start_signal_args": (),
    "rpc_metadata": {},
    "request_eager_start": False,
    "priority": Priority.default,
}


@dataclass(frozen=True)
class StartRequest:
    """A start, ready to be sent."""

    workflow_id: str
    command: StartWorkflow
    command_id: str
    result_type: Any
    rpc_timeout: timedelta | None


async def start_request(
    converter: DataConverter,
    workflow: str | Callable[..., Any],
    arg: Any,
    args: Sequence[Any],
    workflow_id: str,
    task_queue: str,
    result_type: Any,
    options: StartOptions,
    *,
    await_result: bool,
    start_answer_delay_ms: int = 0,
    header: Mapping[str, Payload] = {},
    update: UpdateRequest | None = None,
    update_wait_stage: UpdateStage = UpdateStage.COMPLETED,
    update_expires_at_ms: int = 0,
) -> StartRequest:
    """Check the arguments of a start and encode its values.

    Raises:
        NotImplementedError: an option is not supported yet. TypeError, ValueError: an argument makes no sense.
    """
    _require_supported(options)
    check_workflow_id(workflow_id)
    check_name(task_queue, "task queue")
    name, annotated_type = workflow_name_and_result_type(workflow)
    check_name(name, "workflow type")
    payloads = await converter.encode(arguments_of(arg, args))
    check_payloads([*payloads, *header.values()], f"the input of workflow {workflow_id!r}")
    search_attributes = encode_search_attributes(options.get("search_attributes"))
    check_search_attributes(search_attributes)
    reuse = options.get("id_reuse_policy", WorkflowIDReusePolicy.ALLOW_DUPLICATE)
    conflict = options.get("id_conflict_policy", WorkflowIDConflictPolicy.UNSPECIFIED)
    retry_policy = options.get("retry_policy")
    request_id = options.get("request_id")
    command_id = command_id_of(request_id)
    command = StartWorkflow(
        run_id=new_run_id() if request_id is None else requested_run_id(workflow_id, request_id),
        workflow_type=name,
        task_queue=task_queue,
        input=payloads,
        header=dict(header),
        execution_timeout_ms=_timeout_ms(options.get("execution_timeout"), "execution_timeout"),
        run_timeout_ms=_timeout_ms(options.get("run_timeout"), "run_timeout"),
        task_timeout_ms=_timeout_ms(options.get("task_timeout"), "task_timeout") or _TASK_TIMEOUT_DEFAULT_MS,
        id_reuse_policy=IdReusePolicy[WorkflowIDReusePolicy(reuse).name],
        id_conflict_policy=IdConflictPolicy[WorkflowIDConflictPolicy(conflict).name],
        memo=await _memo(converter, options.get("memo"), workflow_id),
        signal=await _signal(converter, options, workflow_id, header),
        await_result=await_result,
        start_answer_delay_ms=start_answer_delay_ms,
        update=update,
        update_wait_stage=update_wait_stage,
        update_expires_at_ms=update_expires_at_ms,
        retry_policy=None if retry_policy is None else retry_policy.to_record(),
        cron_schedule=options.get("cron_schedule", ""),
        start_delay_ms=_timeout_ms(options.get("start_delay"), "start_delay") or 0,
        search_attributes=search_attributes,
        static_summary=await _text(converter, options.get("static_summary"), "static_summary"),
        static_details=await _text(converter, options.get("static_details"), "static_details"),
        priority=options.get("priority", Priority.default).to_record(),
        versioning_override=override_record(options.get("versioning_override")),
    )
    return StartRequest(
        workflow_id,
        command,
        command_id,
        annotated_type if result_type is None else result_type,
        options.get("rpc_timeout"),
    )


def start_input(
    workflow: str | Callable[..., Any],
    arg: Any,
    args: Sequence[Any],
    workflow_id: str,
    task_queue: str,
    result_type: Any,
    options: StartOptions,
) -> StartWorkflowInput:
    """What interceptors see of a start.

    Raises:
        TypeError, ValueError: an argument makes no sense.
    """
    _require_known(options)
    name, annotated_type = workflow_name_and_result_type(workflow)
    given = {**_DEFAULTS, **options}
    signal = given["start_signal"]
    given["start_signal"] = None if signal is None else signal_name(signal)
    return StartWorkflowInput(
        workflow=name,
        args=arguments_of(arg, args),
        id=workflow_id,
        task_queue=task_queue,
        ret_type=annotated_type if result_type is None else result_type,
        headers={},
        **given,
    )


def options_of(input: StartWorkflowInput) -> StartOptions:
    """The options in what went through the interceptors."""
    return cast("StartOptions", {name: getattr(input, name) for name in _DEFAULTS})


def _require_known(options: StartOptions) -> None:
    unknown = sorted(options.keys() - StartOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"starting a workflow has no option {', '.join(unknown)}")


def _require_supported(options: StartOptions) -> None:
    _require_known(options)
    if options.get("cron_schedule") and options.get("start_delay"):
        raise ValueError("cron_schedule and start_delay cannot be combined; leave one of them out")
    require_unused(
        {
            "rpc_metadata": options.get("rpc_metadata"),
            "request_eager_start": options.get("request_eager_start"),
        },
        "starting a workflow",
    )


def _timeout_ms(timeout: timedelta | None, name: str) -> int | None:
    return None if timeout is None else to_milliseconds(timeout, name) or None


async def _text(converter: DataConverter, text: str | None, what: str) -> Payload | None:
    if text is None:
        return None
    payload = (await converter.encode([text]))[0]
    check_static_text(payload, what)
    return payload


async def _memo(converter: DataConverter, memo: Mapping[str, Any] | None, workflow_id: str) -> dict[str, Payload]:
    encoded = {key: (await converter.encode([value]))[0] for key, value in (memo or {}).items()}
    check_memo(encoded, f"the memo of workflow {workflow_id!r}")
    return encoded


async def _signal(
    converter: DataConverter, options: StartOptions, workflow_id: str, header: Mapping[str, Payload]
) -> SignalInput | None:
    signal = options.get("start_signal")
    arguments = options.get("start_signal_args") or []
    if signal is None:
        if arguments:
            raise ValueError("start_signal_args were given without a start_signal")
        return None
    payloads = await converter.encode(list(arguments))
    check_payloads([*payloads, *header.values()], f"the start signal of workflow {workflow_id!r}")
    check_name(signal_name(signal), "signal name")
    return SignalInput(signal_name=signal_name(signal), input=payloads, header=dict(header))
