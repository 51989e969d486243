"""Interceptors against a running engine: every call passes through them, and headers travel with every message."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity, client, worker, workflow
from perdure.client import Client
from perdure.common import Payload
from perdure.converter import PayloadConverter
from perdure.worker import Worker

HEADER = "tenant"
tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
_OPTIONS: dict[str, Any] = {"start_to_close_timeout": timedelta(seconds=20)}


def _with_tenant(headers: Any) -> dict[str, Payload]:
    return {**headers, HEADER: PayloadConverter.default.to_payload(tenant.get())}


@contextmanager
def _tenant_of(headers: Any) -> Iterator[None]:
    if HEADER not in headers:
        yield
        return
    token = tenant.set(PayloadConverter.default.from_payload(headers[HEADER], str))
    try:
        yield
    finally:
        tenant.reset(token)


class PropagatingOutbound(client.OutboundInterceptor):
    """The client's side: the context variable becomes a header."""

    async def start_workflow(self, input: client.StartWorkflowInput) -> Any:
        input.headers = _with_tenant(input.headers)
        return await super().start_workflow(input)

    async def signal_workflow(self, input: client.SignalWorkflowInput) -> None:
        input.headers = _with_tenant(input.headers)
        await super().signal_workflow(input)

    async def query_workflow(self, input: client.QueryWorkflowInput) -> Any:
        input.headers = _with_tenant(input.headers)
        return await super().query_workflow(input)

    async def start_workflow_update(self, input: client.StartWorkflowUpdateInput) -> Any:
        input.headers = _with_tenant(input.headers)
        return await super().start_workflow_update(input)


class PropagatingWorkflowInbound(worker.WorkflowInboundInterceptor):
    def init(self, outbound: worker.WorkflowOutboundInterceptor) -> None:
        super().init(PropagatingWorkflowOutbound(outbound))

    async def execute_workflow(self, input: worker.ExecuteWorkflowInput) -> Any:
        with _tenant_of(input.headers):
            return await super().execute_workflow(input)

    async def handle_signal(self, input: worker.HandleSignalInput) -> None:
        with _tenant_of(input.headers):
            await super().handle_signal(input)

    async def handle_query(self, input: worker.HandleQueryInput) -> Any:
        with _tenant_of(input.headers):
            return await super().handle_query(input)

    def handle_update_validator(self, input: worker.HandleUpdateInput) -> None:
        with _tenant_of(input.headers):
            super().handle_update_validator(input)

    async def handle_update_handler(self, input: worker.HandleUpdateInput) -> Any:
        with _tenant_of(input.headers):
            return await super().handle_update_handler(input)


class PropagatingWorkflowOutbound(worker.WorkflowOutboundInterceptor):
    def start_activity(self, input: worker.StartActivityInput) -> Any:
        input.headers = _with_tenant(input.headers)
        return super().start_activity(input)

    async def start_child_workflow(self, input: worker.StartChildWorkflowInput) -> Any:
        input.headers = _with_tenant(input.headers)
        return await super().start_child_workflow(input)

    async def signal_child_workflow(self, input: worker.SignalChildWorkflowInput) -> None:
        input.headers = _with_tenant(input.headers)
        await super().signal_child_workflow(input)

    async def signal_external_workflow(self, input: worker.SignalExternalWorkflowInput) -> None:
        input.headers = _with_tenant(input.headers)
        await super().signal_external_workflow(input)


class PropagatingActivityInbound(worker.ActivityInboundInterceptor):
    async def execute_activity(self, input: worker.ExecuteActivityInput) -> Any:
        with _tenant_of(input.headers):
            return await super().execute_activity(input)


class ContextPropagation(client.Interceptor, worker.Interceptor):
    """Carries a context variable from the client through workflows to their activities."""

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:
        return PropagatingOutbound(next)

    def intercept_activity(self, next: worker.ActivityInboundInterceptor) -> worker.ActivityInboundInterceptor:
        return PropagatingActivityInbound(next)

    def workflow_interceptor_class(
        self, input: worker.WorkflowInterceptorClassInput
    ) -> type[worker.WorkflowInboundInterceptor]:
        return PropagatingWorkflowInbound


@activity.defn
async def tenant_on_loop() -> str:
    return tenant.get()


@activity.defn
def tenant_in_thread() -> str:
    return tenant.get()


@workflow.defn
class Tenants:
    def __init__(self) -> None:
        self.signaled: str | None = None

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.signaled is not None)
        return [
            tenant.get(),
            await workflow.execute_activity(tenant_on_loop, **_OPTIONS),
            await workflow.start_activity(tenant_in_thread, **_OPTIONS),
            str(self.signaled),
        ]

    @workflow.signal
    def mark(self) -> None:
        self.signaled = tenant.get()

    @workflow.query
    def asked_by(self) -> str:
        return tenant.get()


@workflow.defn
class ChildTenant:
    def __init__(self) -> None:
        self.signaled: list[str] = []

    @workflow.run
    async def run(self, signals: int) -> list[str]:
        await workflow.wait_condition(lambda: len(self.signaled) == signals)
        return [tenant.get(), *self.signaled]

    @workflow.signal
    def mark(self) -> None:
        self.signaled.append(tenant.get())


@workflow.defn
class ParentOfTenants:
    @workflow.run
    async def run(self) -> list[str]:
        child = await workflow.start_child_workflow(ChildTenant.run, 2, id=f"{workflow.info().workflow_id}-child")
        await child.signal(ChildTenant.mark)
        await workflow.get_external_workflow_handle(child.id).signal(ChildTenant.mark)
        return [*await child, *await workflow.execute_child_workflow(ChildTenant.run, 0)]


@workflow.defn
class UpdatedTenant:
    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: len(self.seen) == 2)
        return self.seen

    @workflow.update
    def mark(self) -> str:
        self.seen.append(tenant.get())
        return tenant.get()

    @mark.validator
    def only_known(self) -> None:
        if tenant.get() == "nobody":
            raise ValueError("nobody may not")


def _client_with(base: Client, *interceptors: client.Interceptor) -> Client:
    found = base._connection
    assert found is not None
    return Client.from_log(found.log, namespace=base.namespace, names=found.names, interceptors=interceptors)


async def test_a_context_variable_follows_the_calls_through_headers(client: Client, task_queue: str) -> None:
    with_interceptor = _client_with(client, ContextPropagation())
    async with Worker(
        with_interceptor,
        task_queue=task_queue,
        workflows=[Tenants],
        activities=[tenant_on_loop, tenant_in_thread],
        activity_executor=ThreadPoolExecutor(1),
        max_cached_workflows=0,  # every task is replayed, also with interceptors
    ):
        tenant.set("blue")
        handle = await with_interceptor.start_workflow(Tenants.run, id=task_queue, task_queue=task_queue)
        tenant.set("green")
        await handle.signal(Tenants.mark)
        assert await handle.result() == ["blue", "blue", "blue", "green"]
        tenant.set("red")
        assert await handle.query(Tenants.asked_by) == "red"
        # A client without the interceptor sends no header.
        assert await client.get_workflow_handle(task_queue).query(Tenants.asked_by) == "nobody"


async def test_headers_go_to_children_and_with_signals_of_workflows(embedded_client: Client, task_queue: str) -> None:
    intercepted = _client_with(embedded_client, ContextPropagation())
    tenant.set("blue")
    async with Worker(
        intercepted, task_queue=task_queue, workflows=[ParentOfTenants, ChildTenant], max_cached_workflows=0
    ):
        result = await intercepted.execute_workflow(ParentOfTenants.run, id=task_queue, task_queue=task_queue)
    assert result == ["blue", "blue", "blue", "blue"]


async def test_headers_go_with_updates(embedded_client: Client, task_queue: str) -> None:
    intercepted = _client_with(embedded_client, ContextPropagation())
    async with Worker(intercepted, task_queue=task_queue, workflows=[UpdatedTenant], max_cached_workflows=0):
        tenant.set("nobody")
        handle = await intercepted.start_workflow(UpdatedTenant.run, id=task_queue, task_queue=task_queue)
        with pytest.raises(client.WorkflowUpdateFailedError):
            await handle.execute_update(UpdatedTenant.mark)
        for name in ("green", "red"):
            tenant.set(name)
            assert await handle.execute_update(UpdatedTenant.mark) == name
        assert await handle.result() == ["green", "red"]


class Recording(client.Interceptor, worker.Interceptor):
    """Notes every call, with a name in front, so that the order of several shows."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name = name
        self.calls = calls

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:
        note = self._note

        class Outbound(client.OutboundInterceptor):
            def __getattribute__(self, name: str) -> Any:
                if name in ("next", "__class__") or name.startswith("__"):
                    return super().__getattribute__(name)
                note(name)
                return super().__getattribute__(name)

        return Outbound(next)

    def intercept_activity(self, next: worker.ActivityInboundInterceptor) -> worker.ActivityInboundInterceptor:
        note = self._note

        class Outbound(worker.ActivityOutboundInterceptor):
            def heartbeat(self, *details: Any) -> None:
                note(f"heartbeat {details}")
                super().heartbeat(*details)

            def info(self) -> activity.Info:
                note("info")
                return super().info()

        class Inbound(worker.ActivityInboundInterceptor):
            def init(self, outbound: worker.ActivityOutboundInterceptor) -> None:
                super().init(Outbound(outbound))

            async def execute_activity(self, input: worker.ExecuteActivityInput) -> Any:
                note(f"execute_activity {list(input.args)}")
                return await super().execute_activity(input)

        return Inbound(next)

    def _note(self, call: str) -> None:
        self.calls.append(f"{self.name} {call}")


@activity.defn
async def beating(number: int) -> int:
    activity.heartbeat(number)
    return activity.info().attempt + number


@workflow.defn
class Beating:
    @workflow.run
    async def run(self, number: int) -> int:
        return await workflow.execute_activity(beating, number, **_OPTIONS)


async def test_interceptors_nest_in_the_order_given(embedded_client: Client, task_queue: str) -> None:
    calls: list[str] = []
    intercepted = _client_with(embedded_client, Recording("outer", calls))
    async with Worker(
        intercepted,
        task_queue=task_queue,
        workflows=[Beating],
        activities=[beating],
        interceptors=[Recording("inner", calls)],
    ):
        assert await intercepted.execute_workflow(Beating.run, 4, id=task_queue, task_queue=task_queue) == 5
        handle = intercepted.get_workflow_handle(task_queue)
        assert (await handle.describe()).id == task_queue
        assert [run.id async for run in intercepted.list_workflows()] == [task_queue]
        assert (await intercepted.count_workflows()).count == 1
        history = await handle.fetch_history()
        assert history.events and history.run_id
    executed = [call for call in calls if "activity" in call]
    assert executed == ["outer execute_activity [4]", "inner execute_activity [4]"]
    # What comes out of the activity meets the innermost first.
    assert [call for call in calls if "heartbeat" in call] == ["inner heartbeat (4,)", "outer heartbeat (4,)"]
    for name in ("start_workflow", "describe_workflow", "list_workflows", "count_workflows"):
        assert f"outer {name}" in calls
    assert "outer fetch_workflow_history_events" in calls


class Changing(client.Interceptor, worker.Interceptor):
    """Changes what passes through."""

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:
        class Outbound(client.OutboundInterceptor):
            async def start_workflow(self, input: client.StartWorkflowInput) -> Any:
                input.args = [input.args[0] + 1]
                input.memo = {"changed": True}
                return await super().start_workflow(input)

        return Outbound(next)

    def workflow_interceptor_class(
        self, input: worker.WorkflowInterceptorClassInput
    ) -> type[worker.WorkflowInboundInterceptor]:
        input.unsafe_extern_functions["ten_times"] = lambda number: number * 10

        class Inbound(worker.WorkflowInboundInterceptor):
            async def execute_workflow(self, input: worker.ExecuteWorkflowInput) -> Any:
                return workflow.extern_functions()["ten_times"](await super().execute_workflow(input))

        return Inbound


async def test_interceptors_may_change_arguments_options_and_results(embedded_client: Client, task_queue: str) -> None:
    intercepted = _client_with(embedded_client, Changing())
    async with Worker(intercepted, task_queue=task_queue, workflows=[Beating], activities=[beating]):
        assert await intercepted.execute_workflow(Beating.run, 1, id=task_queue, task_queue=task_queue) == 30
        description = await intercepted.get_workflow_handle(task_queue).describe()
        assert await description.memo() == {"changed": True}


async def test_what_is_no_interceptor_is_refused(embedded_client: Client, task_queue: str) -> None:
    with pytest.raises(TypeError, match=r"perdure\.worker\.Interceptor"):
        Worker(embedded_client, task_queue=task_queue, workflows=[Beating], interceptors=[object()])  # type: ignore[list-item]
