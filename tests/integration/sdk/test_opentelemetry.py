"""Traces against a running engine: the spans of a workflow, their parents, and none of them twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from perdure import activity, workflow
from perdure.client import Client, WithStartWorkflowOperation, WorkflowFailureError
from perdure.common import WorkflowIDConflictPolicy
from perdure.contrib.opentelemetry import TracingInterceptor
from perdure.exceptions import ApplicationError
from perdure.worker import Worker

_OPTIONS: dict[str, Any] = {"start_to_close_timeout": timedelta(seconds=20)}


@activity.defn
async def greet(name: str) -> str:
    if name == "nobody":
        raise ApplicationError("whom?", non_retryable=True)
    return f"hello {name}"


@workflow.defn
class Greeting:
    def __init__(self) -> None:
        self.name: str | None = None

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self.name is not None)
        first = await workflow.execute_activity(greet, self.name, **_OPTIONS)
        return first + await workflow.execute_activity(greet, "again", **_OPTIONS)

    @workflow.signal
    def set_name(self, name: str) -> None:
        self.name = name

    @workflow.query
    def current(self) -> str | None:
        return self.name


@workflow.defn
class Parent:
    """A child, which goes on as a new run, and a local activity; both after an update."""

    def __init__(self) -> None:
        self.name: str | None = None

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self.name is not None)
        said = await workflow.execute_local_activity(greet, self.name, **_OPTIONS)
        return said + await workflow.execute_child_workflow(Child.run, True, id=f"{workflow.info().workflow_id}/child")

    @workflow.update
    async def set_name(self, name: str) -> str:
        self.name = name
        return name


@workflow.defn
class Child:
    @workflow.run
    async def run(self, again: bool) -> str:
        if again:
            workflow.continue_as_new(False)
        return await workflow.execute_activity(greet, "child", **_OPTIONS)


class Traced:
    """A client with tracing, and the spans it and its workers made."""

    def __init__(self, base: Client) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("test")
        found = base._connection
        assert found is not None
        self.client = Client.from_log(
            found.log, namespace=base.namespace, names=found.names, interceptors=[TracingInterceptor(self.tracer)]
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def tree(self) -> list[tuple[str, str | None]]:
        """Each span with its parent's name, sorted."""
        names = {span.context.span_id: span.name for span in self.spans if span.context is not None}
        return sorted(
            (span.name, None if span.parent is None else names.get(span.parent.span_id)) for span in self.spans
        )


async def test_one_trace_from_the_client_to_the_activity_and_no_span_twice(client: Client, task_queue: str) -> None:
    traced = Traced(client)
    async with Worker(
        traced.client,
        task_queue=task_queue,
        workflows=[Greeting],
        activities=[greet],
        max_cached_workflows=0,  # each workflow task replays all before it
    ):
        with traced.tracer.start_as_current_span("user code"):
            handle = await traced.client.start_workflow(Greeting.run, id=task_queue, task_queue=task_queue)
            await handle.signal(Greeting.set_name, "you")
            assert await handle.result() == "hello youhello again"
            assert await handle.query(Greeting.current) == "you"
    start = "StartWorkflow:Greeting"
    assert traced.tree() == sorted(
        [
            ("user code", None),
            (start, "user code"),
            ("RunWorkflow:Greeting", start),
            ("SignalWorkflow:set_name", "user code"),
            ("HandleSignal:set_name", start),
            ("StartActivity:greet", start),
            ("RunActivity:greet", "StartActivity:greet"),
            ("StartActivity:greet", start),
            ("RunActivity:greet", "StartActivity:greet"),
            ("CompleteWorkflow:Greeting", start),
            ("QueryWorkflow:current", "user code"),
            ("HandleQuery:current", "QueryWorkflow:current"),
        ],
        key=lambda entry: (entry[0], str(entry[1])),
    )
    assert len({span.context.trace_id for span in traced.spans if span.context is not None}) == 1
    (run,) = [span for span in traced.spans if span.name == "RunActivity:greet"][:1]
    assert run.attributes is not None and run.attributes["temporalWorkflowID"] == task_queue
    (handled,) = [span for span in traced.spans if span.name == "HandleSignal:set_name"]
    (sent,) = [span for span in traced.spans if span.name == "SignalWorkflow:set_name"]
    assert sent.context is not None
    assert [link.context.span_id for link in handled.links] == [sent.context.span_id]


async def test_failures_are_errors_of_their_spans(embedded_client: Client, task_queue: str) -> None:
    traced = Traced(embedded_client)
    async with Worker(traced.client, task_queue=task_queue, workflows=[Greeting], activities=[greet]):
        handle = await traced.client.start_workflow(Greeting.run, id=task_queue, task_queue=task_queue)
        await handle.signal(Greeting.set_name, "nobody")
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    status = {span.name: span.status.status_code for span in traced.spans}
    assert status["RunActivity:greet"] is StatusCode.ERROR
    assert status["CompleteWorkflow:Greeting"] is StatusCode.ERROR
    assert status["StartWorkflow:Greeting"] is StatusCode.UNSET


async def test_a_workflow_started_without_tracing_makes_no_spans_of_its_own(
    embedded_client: Client, task_queue: str
) -> None:
    traced = Traced(embedded_client)
    async with Worker(traced.client, task_queue=task_queue, workflows=[Greeting], activities=[greet]):
        handle = await embedded_client.start_workflow(Greeting.run, id=task_queue, task_queue=task_queue)
        await handle.signal(Greeting.set_name, "you")
        await handle.result()
    assert {span.name for span in traced.spans} == {"RunActivity:greet"}


async def test_local_activities_children_and_the_runs_they_go_on_as_are_in_the_trace(
    embedded_client: Client, task_queue: str
) -> None:
    traced = Traced(embedded_client)
    async with Worker(traced.client, task_queue=task_queue, workflows=[Parent, Child], activities=[greet]):
        start = WithStartWorkflowOperation(
            Parent.run, id=task_queue, task_queue=task_queue, id_conflict_policy=WorkflowIDConflictPolicy.FAIL
        )
        update = traced.client.execute_update_with_start_workflow
        assert await update(Parent.set_name, "you", start_workflow_operation=start) == "you"
        assert await (await start.workflow_handle()).result() == "hello youhello child"
    root = "StartUpdateWithStartWorkflow:Parent"
    child = "StartChildWorkflow:Child"
    assert traced.tree() == sorted(
        [
            (root, None),
            ("RunWorkflow:Parent", root),
            ("ValidateUpdate:set_name", root),
            ("HandleUpdate:set_name", root),
            ("StartActivity:greet", root),
            ("RunActivity:greet", "StartActivity:greet"),
            (child, root),
            ("RunWorkflow:Child", child),
            ("RunWorkflow:Child", child),
            ("StartActivity:greet", child),
            ("RunActivity:greet", "StartActivity:greet"),
            ("CompleteWorkflow:Child", child),
            ("CompleteWorkflow:Parent", root),
        ],
        key=lambda entry: (entry[0], str(entry[1])),
    )
    assert len({span.context.trace_id for span in traced.spans if span.context is not None}) == 1
