"""Plugins of clients, workers and replayers, against an engine in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity, client, worker, workflow
from perdure.client import Client, WorkflowFailureError
from perdure.contrib.encryption import EncryptionCodec
from perdure.converter import DataConverter
from perdure.plugin import SimplePlugin
from perdure.testing import WorkflowEnvironment
from perdure.worker import Replayer, Worker


@activity.defn
async def of_the_plugin(number: int) -> int:
    return number * 2


@activity.defn
async def of_the_worker(number: int) -> int:
    return number + 1


@workflow.defn
class Both:
    @workflow.run
    async def run(self, number: int) -> int:
        options: Any = {"start_to_close_timeout": timedelta(seconds=30)}
        doubled = await workflow.execute_activity(of_the_plugin, number, **options)
        return await workflow.execute_activity(of_the_worker, doubled, **options)


@workflow.defn
class Failing:
    @workflow.run
    async def run(self) -> None:
        raise LookupError("nothing there")


class Counting(client.Interceptor, worker.Interceptor):
    def __init__(self) -> None:
        self.starts: list[str] = []
        self.activities = 0

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:
        starts = self.starts

        class Outbound(client.OutboundInterceptor):
            async def start_workflow(self, input: client.StartWorkflowInput) -> Any:
                starts.append(input.workflow)
                return await super().start_workflow(input)

        return Outbound(next)

    def intercept_activity(self, next: worker.ActivityInboundInterceptor) -> worker.ActivityInboundInterceptor:
        self.activities += 1
        return next


def _client_with(base: Client, *plugins: Any) -> Client:
    found = base._connection
    assert found is not None
    return Client.from_log(found.log, namespace=base.namespace, names=found.names, plugins=plugins)


async def test_one_plugin_of_the_client_serves_its_workers_and_replayers(
    embedded_client: Client, task_queue: str
) -> None:
    counting, life = Counting(), list[str]()

    @asynccontextmanager
    async def context() -> AsyncIterator[None]:
        life.append("begin")
        yield
        life.append("end")

    plugin = SimplePlugin(
        "all in one",
        data_converter=lambda given: dataclasses.replace(
            given or DataConverter.default, payload_codec=EncryptionCodec({"k": bytes(32)}, "k")
        ),
        interceptors=[counting],
        activities=[of_the_plugin],
        workflows=[Both, Failing],
        workflow_failure_exception_types=[LookupError],
        run_context=context,
    )
    assert plugin.name() == "all in one"
    connected = _client_with(embedded_client, plugin)
    assert list(connected.config()["interceptors"]) == []
    assert list(connected.config(active_config=True)["interceptors"]) == [counting]
    async with Worker(connected, task_queue=task_queue, activities=[of_the_worker]) as running:
        assert life == ["begin"]
        assert running.is_running
        assert await connected.execute_workflow(Both.run, 4, id=task_queue, task_queue=task_queue) == 9
        with pytest.raises(WorkflowFailureError):
            await connected.execute_workflow(Failing.run, id=f"{task_queue}-2", task_queue=task_queue)
    assert running.is_shutdown
    assert life == ["begin", "end"]
    assert counting.starts == ["Both", "Failing"]
    assert counting.activities == 2  # though the interceptor came by the client, and by its plugin to the worker
    history = await embedded_client.get_workflow_handle(task_queue).fetch_history()
    assert "binary/encrypted" in history.to_json() or "encrypted" in str(history.events)
    replayer = Replayer(workflows=[], plugins=[plugin])
    assert (await replayer.replay_workflow(history)).replay_failure is None
    assert (await replayer.replay_workflows([history, history])).replay_failures == {}
    assert life == ["begin", "end"] * 3


class Noting(worker.Plugin):
    def __init__(self, name: str, calls: list[str]) -> None:
        self._name = name
        self._calls = calls

    def configure_worker(self, config: worker.WorkerConfig) -> worker.WorkerConfig:
        self._calls.append(f"{self._name} configures")
        config["identity"] = f"{config['identity'] or ''}{self._name}"
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        self._calls.append(f"{self._name} begins")
        await next(worker)
        self._calls.append(f"{self._name} ends")


async def test_plugins_of_a_worker_nest_in_the_order_given(embedded_client: Client, task_queue: str) -> None:
    calls: list[str] = []
    plugins = [Noting("a", calls), Noting("b", calls)]
    running = Worker(embedded_client, task_queue=task_queue, activities=[of_the_worker], plugins=plugins)
    assert running.identity == "ab"
    async with running:
        assert calls == ["a configures", "b configures", "a begins", "b begins"]
    assert calls[4:] == ["b ends", "a ends"]


class Refusing(worker.Plugin):
    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        raise PermissionError("not on this host")


class Forgetting(worker.Plugin):
    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        return None


async def test_a_plugin_that_does_not_run_the_worker_is_an_error(embedded_client: Client, task_queue: str) -> None:
    with pytest.raises(PermissionError, match="not on this host"):
        async with Worker(embedded_client, task_queue=task_queue, activities=[of_the_worker], plugins=[Refusing()]):
            pytest.fail("the worker runs")
    with pytest.raises(RuntimeError, match="its run_worker has to call next"):
        async with Worker(embedded_client, task_queue=task_queue, activities=[of_the_worker], plugins=[Forgetting()]):
            pytest.fail("the worker runs")


async def test_what_is_no_plugin_is_refused(embedded_client: Client, task_queue: str) -> None:
    with pytest.raises(TypeError, match=r"no perdure\.worker\.Plugin"):
        Worker(embedded_client, task_queue=task_queue, activities=[of_the_worker], plugins=[object()])
    with pytest.raises(TypeError, match=r"no perdure\.client\.Plugin"):
        _client_with(embedded_client, object())
    with pytest.raises(TypeError, match="unexpected keyword argument 'speed'"):
        Worker(embedded_client, task_queue=task_queue, activities=[of_the_worker], plugins=[Misspelling()])


class Misspelling(worker.Plugin):
    def configure_worker(self, config: worker.WorkerConfig) -> worker.WorkerConfig:
        config["speed"] = 7  # type: ignore[typeddict-unknown-key]
        return config


async def test_environments_for_tests_take_interceptors_and_plugins(task_queue: str) -> None:
    counting, of_plugin = Counting(), Counting()
    plugin = SimplePlugin("more", interceptors=[of_plugin], activities=[of_the_plugin, of_the_worker])
    async with (
        await WorkflowEnvironment.start_time_skipping(interceptors=[counting], plugins=[plugin]) as environment,
        Worker(environment.client, task_queue=task_queue, workflows=[Both]),
    ):
        assert await environment.client.execute_workflow(Both.run, 1, id="w", task_queue=task_queue) == 3
    assert counting.starts == of_plugin.starts == ["Both"]
    assert counting.activities == of_plugin.activities == 2
