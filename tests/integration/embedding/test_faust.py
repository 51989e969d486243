"""A worker as a service of a Faust app, on a real broker: agents start, signal and wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import workflow
from perdure.client import Client
from perdure.kafka import _running as running_module
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames
from tests.integration.triggers.conftest import Topics
from tests.support.waiting import until

faust = pytest.importorskip("faust", reason="faust-streaming is not installed: pip install perdure[faust]")

pytestmark = pytest.mark.kafka


@workflow.defn
class Order:
    def __init__(self) -> None:
        self._paid = False

    @workflow.run
    async def run(self, order: str) -> str:
        await workflow.wait_condition(lambda: self._paid)
        return f"{order} is paid"

    @workflow.signal
    def paid(self) -> None:
        self._paid = True


async def test_agents_start_signal_and_wait(
    kafka_engine: tuple[Log, TopicNames], kafka_bootstrap: str, task_queue: str
) -> None:
    from perdure.contrib.faust import PerdureService, request_id_of

    log, names = kafka_engine
    topics = Topics(log)
    orders, payments = topics.create(), topics.create()
    app: Any = faust.App(
        task_queue,
        broker=f"kafka://{kafka_bootstrap}",
        store="memory://",
        value_serializer="raw",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
    )

    async def connect() -> Client:
        return Client.from_log(log, namespace=names.namespace)

    perdure = PerdureService.of(app, connect, task_queue=task_queue, workflows=[Order])
    results: list[str] = []

    @app.agent(app.topic(orders))  # type: ignore[untyped-decorator]
    async def place(stream: Any) -> None:
        async for event in stream.events():
            client, order = await perdure.client(), event.value.decode()
            for _ in range(2):  # as if the event had come again
                await client.start_workflow(
                    Order.run, order, id=f"{task_queue}-{order}", task_queue=task_queue,
                    request_id=request_id_of(event.message, "place"),
                )  # fmt: skip

    @app.agent(app.topic(payments))  # type: ignore[untyped-decorator]
    async def pay(stream: Any) -> None:
        async for event in stream.events():
            handle: Any = (await perdure.client()).get_workflow_handle(f"{task_queue}-{event.value.decode()}")
            await handle.signal(Order.paid, request_id=request_id_of(event.message, "pay"))
            results.append(await handle.result())

    app.finalize()
    await app.start()
    try:
        topics.append(orders, *((f"o-{number}", f"o-{number}".encode()) for number in range(5)))
        client = await perdure.client()
        for number in range(5):
            await until_found(client, f"{task_queue}-o-{number}")
        topics.append(payments, *((f"o-{number}", f"o-{number}".encode()) for number in range(5)))
        await until(lambda: len(results) == 5, "the agents")
    finally:
        await app.stop()
        topics.close()
    assert results == [f"o-{number} is paid" for number in range(5)]


async def until_found(client: Client, workflow_id: str) -> None:
    from perdure.service import RPCError

    while True:
        try:
            await client.get_workflow_handle(workflow_id).describe()
        except RPCError:
            await asyncio.sleep(0.05)
        else:
            return


async def test_a_service_that_cannot_connect_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.contrib.faust import PerdureService

    async def connect() -> Client:
        raise ConnectionError("nobody is there")

    service = PerdureService(running_module.Services(connect))
    with pytest.raises(ConnectionError, match="nobody is there"):
        await service.start()
    await service.stop()
