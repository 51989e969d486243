"""Encrypted payloads against a running engine: nothing of them can be read outside of clients and workers."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rocksdict import AccessType, Options, Rdict

from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError, WorkflowQueryFailedError, WorkflowUpdateFailedError
from perdure.common import RetryPolicy
from perdure.contrib.encryption import EncryptionCodec
from perdure.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes
from perdure.exceptions import ActivityError, ApplicationError
from perdure.worker import Worker
from perdure_ops.roles import ROLE_NAMES, make_roles
from perdure_runtime.connect import create_platform_topics
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.engine import Engine
from perdure_schemas.topics import TopicNames

SECRET = "marker-7f3a9c"
KEYS = {"old": bytes(range(32)), "new": bytes(range(32, 64))}
_OPTIONS: dict[str, Any] = {"start_to_close_timeout": timedelta(seconds=20)}


def _converter(active: str = "new", **keys: bytes) -> DataConverter:
    return dataclasses.replace(
        DataConverter.default,
        payload_codec=EncryptionCodec(keys or KEYS, active),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


def _client_with(base: Client, converter: DataConverter) -> Client:
    found = base._connection
    assert found is not None
    return Client.from_log(found.log, namespace=base.namespace, names=found.names, data_converter=converter)


@activity.defn
async def echo(text: str) -> str:
    activity.heartbeat(f"{text} on the way")
    if activity.info().attempt == 1:
        raise ApplicationError(f"not yet: {text}", text)
    assert list(activity.info().heartbeat_details) == [f"{text} on the way"]
    return text


@activity.defn
def refuse_in_thread(text: str) -> None:
    activity.heartbeat(text)
    raise ApplicationError(f"refused: {text}", {"detail": text}, type="Refused", non_retryable=True)


@workflow.defn
class Secrets:
    def __init__(self) -> None:
        self.received: list[str] = []

    @workflow.run
    async def run(self, text: str) -> str:
        await workflow.wait_condition(lambda: bool(self.received))
        retry = RetryPolicy(initial_interval=timedelta(milliseconds=10))
        echoed = await workflow.execute_activity(echo, text, retry_policy=retry, summary=text, **_OPTIONS)
        assert workflow.memo_value("note") == text
        if workflow.patched("refuse"):
            await workflow.sleep(0.01, summary=text)
            await workflow.execute_activity(refuse_in_thread, echoed, **_OPTIONS)
        return echoed

    @workflow.signal
    def receive(self, text: str) -> None:
        self.received.append(text)

    @workflow.query
    def show(self, text: str) -> list[str]:
        if text == f"fail {SECRET}":
            raise ValueError(f"no answer about {SECRET}")
        return [*self.received, text]


async def test_a_marker_is_found_in_no_topic_no_state_and_no_log_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    names = TopicNames(partitions=2)
    log = EmbeddedLog(tmp_path / "log")
    create_platform_topics(log, names)
    engine = Engine(log, names, tmp_path / "state", make_roles(ROLE_NAMES, names), instance="secret")
    engine.start()
    try:
        assert engine.wait_ready(30)
        client = Client.from_log(log, names=names, data_converter=_converter())
        async with _worker(client, "secrets"):
            await _life_of_a_secret(client)
    finally:
        engine.stop()
        log.close()
    contents = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    contents |= {folder: _everything_in(folder) for folder in {path.parent for path in tmp_path.rglob("CURRENT")}}
    assert any(b"binary/encrypted" in content for content in contents.values())
    assert any(b"Secrets" in content for content in contents.values()), "what is not encrypted can be found this way"
    leaks = [str(path.relative_to(tmp_path)) for path, content in contents.items() if SECRET.encode() in content]
    assert leaks == []
    text = caplog.text + "".join(str(record.args) for record in caplog.records)
    assert "event=activity_failed" in text
    assert SECRET not in text


def _everything_in(folder: Path) -> bytes:
    """All keys and values of a RocksDB folder, whose files are compressed."""
    found = bytearray()
    for family in Rdict.list_cf(str(folder)):
        families = {name: Options(raw_mode=True) for name in Rdict.list_cf(str(folder))}
        database = Rdict(str(folder), Options(raw_mode=True), families, access_type=AccessType.read_only())
        for key, value in database.get_column_family(family).items():
            found += key + b"\n" + value + b"\n"
        database.close()
    return bytes(found)


def _worker(client: Client, task_queue: str, **options: Any) -> Worker:
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[Secrets],
        activities=[echo, refuse_in_thread],
        activity_executor=ThreadPoolExecutor(2),
        **options,
    )


async def _life_of_a_secret(client: Client) -> None:
    handle = await client.start_workflow(
        Secrets.run, SECRET, id="secret", task_queue="secrets", memo={"note": SECRET}, start_signal="receive",
        start_signal_args=[f"{SECRET} at start"],
    )  # fmt: skip
    await handle.signal(Secrets.receive, f"{SECRET} later")
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, ActivityError)
    refused = caught.value.cause.cause
    assert isinstance(refused, ApplicationError)
    assert (refused.message, refused.details) == (f"refused: {SECRET}", ({"detail": SECRET},))
    assert await handle.query(Secrets.show, SECRET) == [f"{SECRET} at start", f"{SECRET} later", SECRET]
    with pytest.raises(WorkflowQueryFailedError, match=f"no answer about {SECRET}"):
        await handle.query(Secrets.show, f"fail {SECRET}")
    assert await (await handle.describe()).memo_value("note") == SECRET
    history = await handle.fetch_history()
    assert SECRET not in history.to_json()
    decoded = await history.decoded(client.data_converter)
    inputs = decoded.events[0].attributes.input  # type: ignore[union-attr]
    assert client.data_converter.payload_converter.from_payloads(inputs) == [SECRET]


async def test_keys_can_be_changed_while_a_workflow_runs(client: Client, task_queue: str) -> None:
    before = _client_with(client, _converter("old"))
    after = _client_with(client, _converter("new"))
    handle = await before.start_workflow(
        Secrets.run, "value", id=task_queue, task_queue=task_queue, memo={"note": "value"}
    )
    async with _worker(after, task_queue, max_cached_workflows=0):
        await after.get_workflow_handle(task_queue).signal(Secrets.receive, "go")
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
        assert isinstance(caught.value.cause, ActivityError)


async def test_a_worker_without_the_key_says_so_and_one_with_it_goes_on(
    embedded_client: Client, task_queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    with_key = _client_with(embedded_client, _converter("new"))
    without_key = _client_with(embedded_client, _converter("other", other=bytes(16)))
    handle = await with_key.start_workflow(
        Secrets.run, "value", id=task_queue, task_queue=task_queue, memo={"note": "value"}, start_signal="receive",
        start_signal_args=["go"],
    )  # fmt: skip
    failed = asyncio.Event()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "payload_codec_failed" in record.getMessage():
                loop.call_soon_threadsafe(failed.set)

    loop = asyncio.get_running_loop()
    watch = Watch()
    logging.getLogger("perdure.worker").addHandler(watch)
    try:
        async with _worker(without_key, task_queue):
            await asyncio.wait_for(failed.wait(), 20)
    finally:
        logging.getLogger("perdure.worker").removeHandler(watch)
    async with _worker(with_key, task_queue):
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, ActivityError)
    history = (await handle.fetch_history()).to_json()
    assert "encrypted with the key 'new', which is not known here; known are: other" in history


async def test_a_slow_codec_holds_up_no_other_task(embedded_client: Client, task_queue: str) -> None:
    """The first workflow's codec call waits until the second workflow is done."""
    second_done = asyncio.Event()

    class Waiting(EncryptionCodec):
        async def decode(self, payloads: Any) -> Any:
            decoded = await super().decode(payloads)
            if any(payload.data == b'"first"' for payload in decoded):
                await asyncio.wait_for(second_done.wait(), 20)
            return decoded

    converter = dataclasses.replace(DataConverter.default, payload_codec=Waiting(KEYS, "new"))
    client = _client_with(embedded_client, converter)

    async with Worker(client, task_queue=task_queue, workflows=[Length]):
        first = await client.start_workflow(Length.run, "first", id=f"{task_queue}-1", task_queue=task_queue)
        assert await client.execute_workflow(Length.run, "second", id=f"{task_queue}-2", task_queue=task_queue) == 6
        second_done.set()
        assert await first.result() == 5


@workflow.defn
class Length:
    @workflow.run
    async def run(self, text: str) -> int:
        return len(text)


@workflow.defn
class Everything:
    """Sends payloads in every way there is; the codec refuses any that is not encrypted."""

    def __init__(self) -> None:
        self.updated: str | None = None

    @workflow.run
    async def run(self, text: str, is_first: bool) -> str:
        if is_first:
            workflow.continue_as_new(args=[text, False], memo={"note": text})
        await workflow.wait_condition(lambda: self.updated is not None)
        child = await workflow.start_child_workflow(Child.run, text)
        await child.signal(Child.go, text)
        local = await workflow.execute_local_activity(echo_now, text, start_to_close_timeout=timedelta(seconds=20))
        await workflow.sleep(0.01)
        return f"{await child} {local} {self.updated} {workflow.memo_value('note')}"

    @workflow.update
    async def update(self, text: str) -> str:
        await workflow.sleep(0.01)
        self.updated = text
        return text

    @update.validator
    def check(self, text: str) -> None:
        if text == "bad":
            raise ApplicationError("refused", text)


@workflow.defn
class Child:
    def __init__(self) -> None:
        self.signaled: str | None = None

    @workflow.run
    async def run(self, text: str) -> str:
        await workflow.wait_condition(lambda: self.signaled is not None)
        return f"{text}{self.signaled}"

    @workflow.signal
    def go(self, text: str) -> None:
        self.signaled = text


@activity.defn
async def echo_now(text: str) -> str:
    return text


async def test_every_way_of_sending_a_payload_goes_through_the_codec(embedded_client: Client, task_queue: str) -> None:
    strict = EncryptionCodec(KEYS, "new", require_encrypted=True)
    client = _client_with(embedded_client, dataclasses.replace(DataConverter.default, payload_codec=strict))
    async with Worker(
        client,
        task_queue=task_queue,
        workflows=[Everything, Child],
        activities=[echo_now],
        max_cached_workflows=0,
    ):
        handle = await client.start_workflow(
            Everything.run, args=["x", True], id=task_queue, task_queue=task_queue, static_summary="x"
        )
        assert await handle.execute_update(Everything.update, "u") == "u"
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update(Everything.update, "bad")
        assert isinstance(caught.value.cause, ApplicationError)
        assert caught.value.cause.details == ("bad",)
        assert await handle.result() == "xx x u x"
