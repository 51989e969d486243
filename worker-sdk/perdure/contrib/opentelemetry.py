"""Traces with OpenTelemetry across clients, workflows and activities, with the names of
``temporalio.contrib.opentelemetry``.

Give ``TracingInterceptor()`` to the client; its workers use it, too. Spans are named ``StartWorkflow:X``,
``RunWorkflow:X``, ``StartActivity:X``, ``RunActivity:X`` and so on; the context travels in the header ``_tracer-data``.

Invariants: a replay makes no spans, except those of a query; a span of workflow code begins and ends at one moment of
the workflow's time, because what waits in a workflow may wait in another process by then; the parent of every span of a
run is the context its start brought along, so that parents do not depend on which worker runs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import opentelemetry.context as otel_context
from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from perdure import activity, client, worker, workflow
from perdure.common import Payload
from perdure.converter import PayloadConverter
from perdure.exceptions import ApplicationError, ApplicationErrorCategory

_Attributes = dict[str, str]


class TracingInterceptor(client.Interceptor, worker.Interceptor):
    """Makes spans of what clients, workflows and activities do.

    Attributes ``text_map_propagator``, ``header_key`` and ``payload_converter`` may be set in a subclass.

    Args:
        tracer: Makes the spans; the global provider's if not given.
        always_create_workflow_spans: Make spans in workflows also if the client sent no context along.
    """

    #: Writes the context into the header.
    text_map_propagator: TextMapPropagator = CompositePropagator(
        [TraceContextTextMapPropagator(), W3CBaggagePropagator()]
    )
    header_key: str = "_tracer-data"
    payload_converter: PayloadConverter = PayloadConverter.default

    def __init__(self, tracer: trace.Tracer | None = None, *, always_create_workflow_spans: bool = False) -> None:
        self.tracer = tracer or trace.get_tracer(__name__)
        self.always_create_workflow_spans = always_create_workflow_spans

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:
        """See the base class."""
        return _ClientOutbound(next, self)

    def intercept_activity(self, next: worker.ActivityInboundInterceptor) -> worker.ActivityInboundInterceptor:
        """See the base class."""
        return _ActivityInbound(next, self)

    def workflow_interceptor_class(
        self, input: worker.WorkflowInterceptorClassInput
    ) -> type[worker.WorkflowInboundInterceptor]:
        """See the base class."""
        root = self

        class TracingWorkflowInboundInterceptor(_WorkflowInbound):
            interceptor = root

        return TracingWorkflowInboundInterceptor

    def with_context(self, headers: Mapping[str, Payload], context: Context | None = None) -> dict[str, Payload]:
        """Headers with a context added, the current one if none is given."""
        carrier: dict[str, str] = {}
        self.text_map_propagator.inject(carrier, context)
        return {**headers, self.header_key: self.payload_converter.to_payload(carrier)} if carrier else dict(headers)

    def context_of(self, headers: Mapping[str, Payload]) -> Context | None:
        """The context in headers, if there is one."""
        payload = headers.get(self.header_key)
        if payload is None:
            return None
        return self.text_map_propagator.extract(self.payload_converter.from_payload(payload), Context())

    @contextmanager
    def span(
        self, name: str, kind: SpanKind, attributes: _Attributes, context: Context | None = None
    ) -> Iterator[None]:
        """A span around what happens in the block, current in it."""
        with self.tracer.start_as_current_span(
            name, context=context, kind=kind, attributes=attributes, set_status_on_exception=False
        ) as span:
            try:
                yield None
            except Exception as error:
                if not _is_benign(error):
                    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
                raise


def _is_benign(error: BaseException) -> bool:
    return isinstance(error, ApplicationError) and error.category is ApplicationErrorCategory.BENIGN


class _ClientOutbound(client.OutboundInterceptor):
    def __init__(self, next: client.OutboundInterceptor, interceptor: TracingInterceptor) -> None:
        super().__init__(next)
        self._interceptor = interceptor

    async def start_workflow(self, input: client.StartWorkflowInput) -> client.WorkflowHandle[Any, Any]:
        prefix = "SignalWithStartWorkflow" if input.start_signal else "StartWorkflow"
        with self._span(f"{prefix}:{input.workflow}", input):
            return await super().start_workflow(input)

    async def signal_workflow(self, input: client.SignalWorkflowInput) -> None:
        with self._span(f"SignalWorkflow:{input.signal}", input):
            await super().signal_workflow(input)

    async def query_workflow(self, input: client.QueryWorkflowInput) -> Any:
        with self._span(f"QueryWorkflow:{input.query}", input):
            return await super().query_workflow(input)

    async def start_workflow_update(self, input: client.StartWorkflowUpdateInput) -> client.WorkflowUpdateHandle[Any]:
        with self._span(f"StartWorkflowUpdate:{input.update}", input):
            return await super().start_workflow_update(input)

    async def start_update_with_start_workflow(
        self, input: client.StartWorkflowUpdateWithStartInput
    ) -> client.WorkflowUpdateHandle[Any]:
        start, update = input.start_workflow_input, input.update_workflow_input
        with self._span(f"StartUpdateWithStartWorkflow:{start.workflow}", start):
            update.headers = self._interceptor.with_context(update.headers)
            return await super().start_update_with_start_workflow(input)

    @contextmanager
    def _span(
        self,
        name: str,
        input: (
            client.StartWorkflowInput
            | client.SignalWorkflowInput
            | client.QueryWorkflowInput
            | client.StartWorkflowUpdateInput
        ),
    ) -> Iterator[None]:
        with self._interceptor.span(name, SpanKind.CLIENT, {"temporalWorkflowID": input.id}):
            input.headers = self._interceptor.with_context(input.headers)
            yield None


class _ActivityInbound(worker.ActivityInboundInterceptor):
    def __init__(self, next: worker.ActivityInboundInterceptor, interceptor: TracingInterceptor) -> None:
        super().__init__(next)
        self._interceptor = interceptor

    async def execute_activity(self, input: worker.ExecuteActivityInput) -> Any:
        info = activity.info()
        attributes = {
            "temporalWorkflowID": info.workflow_id or "",
            "temporalRunID": info.workflow_run_id or "",
            "temporalActivityID": info.activity_id,
        }
        context = self._interceptor.context_of(input.headers)
        with self._interceptor.span(f"RunActivity:{info.activity_type}", SpanKind.SERVER, attributes, context):
            return await super().execute_activity(input)


class _WorkflowInbound(worker.WorkflowInboundInterceptor):
    """One for each run in memory."""

    interceptor: TracingInterceptor

    def __init__(self, next: worker.WorkflowInboundInterceptor) -> None:
        super().__init__(next)
        self._context: Context | None = None

    def init(self, outbound: worker.WorkflowOutboundInterceptor) -> None:
        super().init(_WorkflowOutbound(outbound, self))

    async def execute_workflow(self, input: worker.ExecuteWorkflowInput) -> Any:
        name = workflow.info().workflow_type
        with _attached(self._run_context()):
            self.completed_span(f"RunWorkflow:{name}", SpanKind.SERVER)
            try:
                result = await super().execute_workflow(input)
            except Exception as error:
                self.completed_span(f"CompleteWorkflow:{name}", SpanKind.INTERNAL, error=error)
                raise
            self.completed_span(f"CompleteWorkflow:{name}", SpanKind.INTERNAL)
            return result

    async def handle_signal(self, input: worker.HandleSignalInput) -> None:
        with _attached(self._run_context()):
            sent_in = self.interceptor.context_of(input.headers)
            self.completed_span(f"HandleSignal:{input.signal}", SpanKind.SERVER, linked=sent_in)
            await super().handle_signal(input)

    def handle_update_validator(self, input: worker.HandleUpdateInput) -> None:
        with _attached(self._run_context()):
            sent_in = self.interceptor.context_of(input.headers)
            self.completed_span(f"ValidateUpdate:{input.update}", SpanKind.SERVER, linked=sent_in)
            super().handle_update_validator(input)

    async def handle_update_handler(self, input: worker.HandleUpdateInput) -> Any:
        with _attached(self._run_context()):
            sent_in = self.interceptor.context_of(input.headers)
            self.completed_span(f"HandleUpdate:{input.update}", SpanKind.SERVER, linked=sent_in)
            return await super().handle_update_handler(input)

    async def handle_query(self, input: worker.HandleQueryInput) -> Any:
        asked_in = self.interceptor.context_of(input.headers)
        context = self._run_context() if asked_in is None else asked_in
        self.completed_span(
            f"HandleQuery:{input.query}",
            SpanKind.SERVER,
            context=context,
            linked=None if asked_in is None else self._run_context(),
            also_on_replay=True,
        )
        with _attached(context):
            return await super().handle_query(input)

    def completed_span(
        self,
        name: str,
        kind: SpanKind,
        *,
        context: Context | None = None,
        linked: Context | None = None,
        error: BaseException | None = None,
        also_on_replay: bool = False,
    ) -> Context | None:
        """A span of no length at the workflow's time, and the context in which it is current; ``None`` on replay."""
        if workflow.unsafe.is_replaying() and not also_on_replay:
            return None
        parent = otel_context.get_current() if context is None else context
        if not self.interceptor.always_create_workflow_spans and not _has_span(parent):
            return None
        info = workflow.info()
        now_ns = workflow.time_ns()
        span = self.interceptor.tracer.start_span(
            name,
            parent,
            kind=kind,
            attributes={"temporalWorkflowID": info.workflow_id, "temporalRunID": info.run_id},
            links=_links(linked),
            start_time=now_ns,
        )
        if error is not None:
            span.record_exception(error, timestamp=now_ns)
            if not _is_benign(error):
                span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        span.end(end_time=now_ns)
        return trace.set_span_in_context(span, parent)

    def _run_context(self) -> Context:
        if self._context is None:
            found = self.interceptor.context_of(workflow.info().headers)
            self._context = Context() if found is None else found
        return self._context


class _WorkflowOutbound(worker.WorkflowOutboundInterceptor):
    def __init__(self, next: worker.WorkflowOutboundInterceptor, inbound: _WorkflowInbound) -> None:
        super().__init__(next)
        self._inbound = inbound

    def start_activity(self, input: worker.StartActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = self._headers(f"StartActivity:{input.activity}", input.headers)
        return super().start_activity(input)

    def start_local_activity(self, input: worker.StartLocalActivityInput) -> workflow.LocalActivityHandle[Any]:
        input.headers = self._headers(f"StartActivity:{input.activity}", input.headers)
        return super().start_local_activity(input)

    async def start_child_workflow(
        self, input: worker.StartChildWorkflowInput
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        input.headers = self._headers(f"StartChildWorkflow:{input.workflow}", input.headers)
        return await super().start_child_workflow(input)

    async def signal_child_workflow(self, input: worker.SignalChildWorkflowInput) -> None:
        input.headers = self._headers(f"SignalChildWorkflow:{input.signal}", input.headers)
        await super().signal_child_workflow(input)

    async def signal_external_workflow(self, input: worker.SignalExternalWorkflowInput) -> None:
        input.headers = self._headers(f"SignalExternalWorkflow:{input.signal}", input.headers)
        await super().signal_external_workflow(input)

    def _headers(self, span_name: str, headers: Mapping[str, Payload]) -> dict[str, Payload]:
        """The headers of something the workflow asks for, in a span of its own."""
        context = self._inbound.completed_span(span_name, SpanKind.CLIENT)
        return self._inbound.interceptor.with_context(headers, context)


def _has_span(context: Context) -> bool:
    return trace.get_current_span(context).get_span_context().is_valid


def _links(context: Context | None) -> Sequence[Link]:
    if context is None or not _has_span(context):
        return ()
    return (Link(trace.get_current_span(context).get_span_context()),)


@contextmanager
def _attached(context: Context) -> Iterator[None]:
    """Make a context current, for the block and the tasks that begin in it."""
    token = otel_context.attach(context)
    try:
        yield None
    except GeneratorExit:
        raise  # the run leaves memory, outside of its own context: there is nothing to restore
    except BaseException:
        otel_context.detach(token)
        raise
    else:
        otel_context.detach(token)
