"""Workers inside programs without an event loop, and inside an ASGI service."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError
from perdure.kafka import BackgroundWorker, Record, on_record, request_id_of
from perdure.service import RPCError
from perdure.worker import Worker
from perdure_runtime.log import Log, NewRecord
from perdure_schemas.topics import Cleanup, TopicNames, TopicSpec
from tests.support.platform import embedded_platform


@activity.defn
async def double(number: int) -> int:
    return 2 * number


@workflow.defn
class Doubling:
    def __init__(self) -> None:
        self._more: list[int] = []

    @workflow.run
    async def run(self, number: int, waits: bool = False) -> int:
        if waits:
            await workflow.wait_condition(lambda: bool(self._more))
        total = number + sum(self._more)
        return await workflow.execute_activity(double, total, start_to_close_timeout=timedelta(seconds=30))

    @workflow.signal
    def add(self, number: int) -> None:
        self._more.append(number)

    @workflow.query
    def more(self) -> list[int]:
        return self._more


@workflow.defn
class Failing:
    @workflow.run
    async def run(self) -> None:
        from perdure.exceptions import ApplicationError

        raise ApplicationError("no")


@pytest.fixture(scope="module")
def platform() -> Iterator[tuple[Log, TopicNames]]:
    with embedded_platform() as running:
        yield running


def background(platform: tuple[Log, TopicNames], task_queue: str, **options: Any) -> BackgroundWorker:
    log, names = platform

    async def connect() -> Client:
        return Client.from_log(log, namespace=names.namespace)

    return BackgroundWorker(
        connect, task_queue=task_queue, workflows=[Doubling, Failing], activities=[double], **options
    )


class Message:
    """A record as confluent-kafka has it."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def topic(self) -> str:
        return "orders"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_123


class OtherMessage:
    """The same record as Faust has it."""

    topic, partition, offset, timestamp = "orders", 3, 7, 1_700_000_000.123


def test_a_record_has_one_request_id_in_every_library() -> None:
    assert request_id_of(Message(7), "c") == request_id_of(OtherMessage(), "c")
    assert request_id_of(Message(7), "c") != request_id_of(Message(8), "c")
    assert request_id_of(Message(7), "c") != request_id_of(Message(7), "d")


def test_a_plain_loop_starts_signals_asks_and_waits(platform: tuple[Log, TopicNames], task_queue: str) -> None:
    with background(platform, task_queue) as perdure:
        assert perdure.is_running
        assert perdure.execute_workflow(Doubling.run, 3, id=f"{task_queue}-0", task_queue=task_queue) == 6

        workflow_id, name = f"{task_queue}-1", request_id_of(Message(1), "loop")
        start: dict[str, Any] = {"id": workflow_id, "task_queue": task_queue, "request_id": name}
        run_id = perdure.start_workflow(Doubling.run, 1, True, **start)
        assert perdure.query_workflow(workflow_id, Doubling.more) == []
        for _ in range(2):  # the record is handled again, as after a crash
            perdure.signal_workflow(workflow_id, Doubling.add, 5, request_id=request_id_of(Message(2), "loop"))
        assert perdure.result_of(workflow_id) == 12
        assert perdure.start_workflow(Doubling.run, 1, True, **start) == run_id
        perdure.signal_workflow(workflow_id, Doubling.add, 5, request_id=request_id_of(Message(2), "loop"))
        with pytest.raises(RPCError, match="completed"):
            perdure.signal_workflow(workflow_id, Doubling.add, 5)

        many = [
            perdure.submit(
                lambda client, number=number: client.execute_workflow(  # type: ignore[misc]
                    Doubling.run, args=[number], id=f"{task_queue}-many-{number}", task_queue=task_queue
                )
            )
            for number in range(20)
        ]
        assert [each.result(60) for each in many] == [2 * number for number in range(20)]
        with pytest.raises(WorkflowFailureError):
            perdure.execute_workflow(Failing.run, id=f"{task_queue}-2", task_queue=task_queue)
    assert not perdure.is_running
    with pytest.raises(RuntimeError, match="not running"):
        perdure.query_workflow(workflow_id, Doubling.more)
    with pytest.raises(RuntimeError, match="started once"):
        perdure.start()


def test_triggers_run_in_the_background_too(platform: tuple[Log, TopicNames], task_queue: str) -> None:
    log, _ = platform
    topic = f"numbers-{uuid.uuid4().hex[:8]}"
    log.create_topics({topic: TopicSpec(topic, "key", "text", Cleanup.DELETE, (), (), ())}, 1)
    producer = log.producer("test")
    assert producer.append([NewRecord(topic, 0, b"k", b"21")]).wait(60)
    producer.close()

    @on_record(topic, workflow=Doubling.run, task_queue=task_queue, id=f"{task_queue}-{{key}}")
    def number_came(record: Record) -> int:
        number: int = record.value
        return number

    with background(platform, task_queue, triggers=[number_came], group=task_queue) as perdure:
        while True:
            with contextlib.suppress(RPCError):  # not started yet
                assert perdure.result_of(f"{task_queue}-k") == 42
                break


def test_what_cannot_start_says_why(task_queue: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(RPCError):
            BackgroundWorker(f"127.0.0.1:{port}", task_queue=task_queue, workflows=[Doubling]).start()
    with pytest.raises(ValueError, match="task_queue"):
        BackgroundWorker(workflows=[Doubling])
    with pytest.raises(ValueError, match="group"):
        BackgroundWorker(triggers=[on_record("t", signal="s", id="x")(lambda record: None)])


def test_an_error_of_the_worker_is_raised_by_the_next_call(
    platform: tuple[Log, TopicNames], task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    perdure = background(platform, task_queue).start()

    async def break_it(_: Client) -> None:
        raise KeyError("broken")

    with pytest.raises(KeyError):
        perdure.call(break_it)  # an error of a call is the caller's, and breaks nothing
    assert perdure.execute_workflow(Doubling.run, 1, id=f"{task_queue}-a", task_queue=task_queue) == 2
    perdure._failure = RuntimeError("the worker has ended")
    with pytest.raises(RuntimeError, match="has ended"):
        perdure.start_workflow(Doubling.run, 1, id=f"{task_queue}-b", task_queue=task_queue)
    with pytest.raises(RuntimeError, match="has ended"):
        perdure.stop()


async def test_a_worker_lives_in_an_asgi_service(platform: tuple[Log, TopicNames], task_queue: str) -> None:
    log, names = platform

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        client = Client.from_log(log, namespace=names.namespace)
        async with Worker(client, task_queue=task_queue, workflows=[Doubling], activities=[double]):
            app.state.client = client
            yield
        await client.close()

    async def doubled(request: Request) -> JSONResponse:
        number = int(request.path_params["number"])
        result = await request.app.state.client.execute_workflow(
            Doubling.run, args=[number], id=f"{task_queue}-{number}", task_queue=task_queue
        )
        return JSONResponse(result)

    app = Starlette(routes=[Route("/double/{number:int}", doubled)], lifespan=lifespan)
    async with lifespan(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
        answers = await asyncio.gather(*(http.get(f"/double/{number}") for number in range(5)))
        assert [answer.json() for answer in answers] == [0, 2, 4, 6, 8]
