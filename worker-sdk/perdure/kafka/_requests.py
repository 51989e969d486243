"""From a record to its request, and the request to the engine, through the client's interceptors.

Invariant: a request carries the record's identity (I3), so it may be sent any number of times. Called by the pipeline.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import opentelemetry.context as otel_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from perdure._callables import UNSET
from perdure.client import Client
from perdure.client._handle import WorkflowHandle
from perdure.client._interceptor import (
    SignalWorkflowInput,
    StartWorkflowInput,
    StartWorkflowUpdateInput,
    StartWorkflowUpdateWithStartInput,
)
from perdure.client._start import StartOptions, start_input
from perdure.client._update import WorkflowUpdateHandle, WorkflowUpdateStage
from perdure.common import Payload, WorkflowIDConflictPolicy
from perdure.kafka._definition import SKIP, Arguments, Skip, Trigger
from perdure.kafka._record import Record, RecordSource, time_of, workflow_headers
from perdure.kafka.core import identity
from perdure_runtime.log import LogRecord

_propagator = TraceContextTextMapPropagator()
_TRACE_HEADERS = ("traceparent", "tracestate")
#: In the memo of a batch's run: which records are in it.
BATCH_MEMO = "perdure-batch"


@dataclass
class Request:
    """What a record, or a batch of them, asks of the engine."""

    trigger: Trigger
    workflow_id: str
    request_id: str
    arguments: Sequence[Any]
    start_arguments: Sequence[Any]
    headers: dict[str, Payload]
    trace: dict[str, str]
    memo: dict[str, Any] | None = None


async def request_of(trigger: Trigger, group: str, found: LogRecord) -> Request | Skip:
    """What a record asks for.

    Raises:
        RetryRecordError: it cannot be told now. Exception: the deserializer or the function failed.
    """
    if not identity.is_for(group, trigger.name, found.headers):
        return SKIP
    origin = identity.origin_of(found.topic, found.partition, found.offset, found.timestamp_ms, found.headers)
    value: Any = None
    if found.value is not None:
        value = trigger.value(found.value)
        if inspect.isawaitable(value):
            value = await value
    time = time_of(found.timestamp_ms)
    record = Record(found.topic, found.partition, found.offset, found.key, value, found.headers, time, origin)
    mapped = trigger.function(record)
    if isinstance(mapped, Skip):
        return SKIP
    arguments = mapped if isinstance(mapped, Arguments) else (mapped,)
    source = RecordSource(found.topic, found.partition, found.offset, found.offset, found.timestamp_ms)
    workflow_id = identity.workflow_id(group, trigger.name, origin) if trigger.id is None else trigger.id(record)
    return Request(
        trigger=trigger,
        workflow_id=workflow_id,
        request_id=identity.request_id(group, trigger.name, origin),
        arguments=arguments,
        start_arguments=trigger.start_args(record),
        headers=workflow_headers(found.headers, source, trigger.headers),
        trace={name: content.decode(errors="replace") for name, content in found.headers if name in _TRACE_HEADERS},
    )


def batch_request(requests: Sequence[Request], first: LogRecord, last: LogRecord) -> Request:
    """The request of a batch: named by its first record, so that a batch cut otherwise has the same name."""
    one = requests[0]
    source = RecordSource(first.topic, first.partition, first.offset, last.offset, first.timestamp_ms)
    return Request(
        trigger=one.trigger,
        workflow_id=one.workflow_id,
        request_id=one.request_id,
        arguments=([request.arguments[0] for request in requests],),
        start_arguments=(),
        headers=workflow_headers((), source, ()),
        trace={},
        memo={BATCH_MEMO: last.offset},
    )


async def send(client: Client, request: Request) -> WorkflowHandle[Any, Any] | None:
    """Send a request, and wait for the engine's answer. Gives the handle of a workflow that was started.

    Raises:
        RPCError, WorkflowAlreadyStartedError: the engine refused, or did not answer. WorkflowUpdateFailedError: the
            workflow rejected the update. Exception: the request cannot be sent as it is.
    """
    trigger = request.trigger
    with _traced(request.trace):
        if trigger.update is not None:
            return await _send_update(client, request)
        if trigger.workflow is None:
            assert trigger.signal is not None
            await client.outbound.signal_workflow(
                SignalWorkflowInput(
                    id=request.workflow_id,
                    run_id=None,
                    signal=trigger.signal,
                    args=request.arguments,
                    headers=request.headers,
                    rpc_metadata={},
                    rpc_timeout=None,
                    request_id=request.request_id,
                )
            )
            return None
        options: StartOptions = {**trigger.start_options, "request_id": request.request_id}
        if trigger.signal is None:
            return await client.outbound.start_workflow(_start(request, request.arguments, options))
        options["start_signal"] = trigger.signal
        options["start_signal_args"] = request.arguments
        return await client.outbound.start_workflow(_start(request, request.start_arguments, options))


def _start(request: Request, arguments: Sequence[Any], options: StartOptions) -> StartWorkflowInput:
    trigger = request.trigger
    assert trigger.workflow is not None
    if request.memo is not None:
        options["memo"] = {**(options.get("memo") or {}), **request.memo}
    made = start_input(trigger.workflow, UNSET, arguments, request.workflow_id, trigger.task_queue, None, options)
    made.headers = request.headers
    return made


async def _send_update(client: Client, request: Request) -> WorkflowHandle[Any, Any] | None:
    trigger = request.trigger
    assert trigger.update is not None
    update = StartWorkflowUpdateInput(
        id=request.workflow_id,
        run_id=None,
        first_execution_run_id=None,
        update_id=request.request_id,
        update=trigger.update,
        args=request.arguments,
        wait_for_stage=WorkflowUpdateStage.ACCEPTED,
        headers=request.headers,
        ret_type=None,
        rpc_metadata={},
        rpc_timeout=None,
    )
    started: list[WorkflowHandle[Any, Any]] = []
    if trigger.workflow is None:
        await _raise_rejection(await client.outbound.start_workflow_update(update))
        return None
    options: StartOptions = {
        "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
        **trigger.start_options,
        "request_id": request.request_id,
    }
    both = StartWorkflowUpdateWithStartInput(
        start_workflow_input=_start(request, request.start_arguments, options),
        update_workflow_input=update,
        on_start=started.append,
        on_start_error=lambda _: None,
    )
    await _raise_rejection(await client.outbound.start_update_with_start_workflow(both))
    return started[0] if started else None


async def _raise_rejection(handle: WorkflowUpdateHandle[Any]) -> None:
    """An update that has ended already may have been rejected; one that goes on was accepted."""
    if handle._known_outcome is not None:
        await handle.result()


@contextmanager
def _traced(carrier: dict[str, str]) -> Iterator[None]:
    """Within, the record's trace is the current one."""
    if not carrier:
        yield None
        return
    token = otel_context.attach(_propagator.extract(carrier))
    try:
        yield None
    finally:
        otel_context.detach(token)
