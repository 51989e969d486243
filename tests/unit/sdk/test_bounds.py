"""Bounds that are checked where the call is made: below, at and above each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from perdure import _limits
from perdure._connection import Connection
from perdure._runtime.info import Info
from perdure._task_token import TaskToken
from perdure.contrib.codec_server import CODEC_BODY_BYTES_MAX, codec_server
from perdure.contrib.encryption import EncryptionCodec
from perdure.converter import FailureConverter, PayloadConverter
from perdure.exceptions import ApplicationError
from perdure.service import RPCError, RPCStatusCode
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.embedded.log import PARTITIONS_MAX
from perdure_runtime.log import LogError
from perdure_runtime.remote.protocol import FrameReader, ProtocolError
from perdure_schemas import limits
from perdure_schemas.records import Command, Payload, SignalInput, SignalWorkflow
from perdure_schemas.topics import COMMANDS, TopicNames

around = pytest.mark.parametrize("surplus", [-1, 0, 1], ids=["below", "at", "above"])


def data(size_bytes: int) -> Payload:
    return Payload(data=b"x" * size_bytes)


def _taken(check: Callable[[], Any], surplus: int, says: str, error: type[Exception] = ValueError) -> None:
    if surplus <= 0:
        check()
    else:
        with pytest.raises(error, match=says):
            check()


@around
def test_payloads(surplus: int) -> None:
    bound = limits.PAYLOAD_BYTES_MAX
    _taken(lambda: _limits.check_payloads([data(bound - 9), data(9 + surplus)], "it"), surplus, f"{bound} are allowed")
    bound = limits.UPDATE_INPUT_BYTES_MAX
    _taken(lambda: _limits.check_payloads([data(bound + surplus)], "it", bound), surplus, f"{bound} are allowed")


@around
def test_names_ids_and_reasons(surplus: int) -> None:
    for check, bound in (
        (lambda text: _limits.check_name(text, "name"), limits.NAME_CHARS_MAX),
        (_limits.check_workflow_id, limits.WORKFLOW_ID_CHARS_MAX),
        (_limits.check_reason, limits.REASON_CHARS_MAX),
    ):
        _taken(lambda check=check, bound=bound: check("n" * (bound + surplus)), surplus, f"{bound} are allowed")


@around
def test_memos_search_attributes_and_static_texts(surplus: int) -> None:
    bound = limits.MEMO_BYTES_MAX
    _taken(lambda: _limits.check_memo({"m": data(bound - 1 + surplus)}, "the memo"), surplus, f"{bound} are allowed")
    bound = limits.STATIC_TEXT_BYTES_MAX
    _taken(lambda: _limits.check_static_text(data(bound + surplus), "it"), surplus, f"{bound} are allowed")
    each = limits.SEARCH_ATTRIBUTES_BYTES_MAX // 40
    for attributes, bound in (
        ({f"{n:04}": data(1) for n in range(limits.SEARCH_ATTRIBUTES_MAX + surplus)}, limits.SEARCH_ATTRIBUTES_MAX),
        ({"a": data(limits.SEARCH_ATTRIBUTE_BYTES_MAX + surplus)}, limits.SEARCH_ATTRIBUTE_BYTES_MAX),
        (
            {f"{n:04}": data(each - 4 + (surplus if n == 0 else 0)) for n in range(40)},
            limits.SEARCH_ATTRIBUTES_BYTES_MAX,
        ),
    ):
        _taken(
            lambda attributes=attributes: _limits.check_search_attributes(attributes), surplus, f"{bound} are allowed"
        )


@around
def test_commands(surplus: int) -> None:
    log = EmbeddedLog(None)
    connection = Connection(log, TopicNames(), identity="me", address="here", owns_log=True)
    try:

        def command(size: int) -> Command:
            signal = SignalInput(signal_name="s", input=[data(size)])
            return Command(command_id="c", workflow_id="w", body=SignalWorkflow(signal=signal))

        size = limits.COMMAND_BYTES_MAX
        size -= len(connection.record_of(command(size - 1_000)).value or b"") - (size - 1_000)
        if surplus <= 0:
            assert len(connection.record_of(command(size + surplus)).value or b"") == limits.COMMAND_BYTES_MAX + surplus
        else:
            with pytest.raises(RPCError, match=f"{limits.COMMAND_BYTES_MAX} are allowed") as refused:
                connection.record_of(command(size + surplus))
            assert refused.value.status is RPCStatusCode.RESOURCE_EXHAUSTED
    finally:
        connection.close()


@around
def test_partitions(surplus: int) -> None:
    log = EmbeddedLog(None)
    try:
        if surplus <= 0:
            log.create_topics({"t": COMMANDS}, PARTITIONS_MAX + surplus)
            assert log.describe_topics(["t"])["t"].partitions == limits.PARTITIONS_MAX + surplus
        else:
            with pytest.raises(LogError, match=f"choose 1 to {limits.PARTITIONS_MAX}"):
                log.create_topics({"t": COMMANDS}, limits.PARTITIONS_MAX + surplus)
    finally:
        log.close()


class _Socket:
    def __init__(self, sent: bytes) -> None:
        self._sent = sent

    def recv(self, size: int) -> bytes:
        part, self._sent = self._sent[:size], self._sent[size:]
        return part


@around
@pytest.mark.parametrize("bound", [limits.HELLO_BYTES_MAX, limits.FRAME_BYTES_MAX], ids=["hello", "frame"])
def test_frames(surplus: int, bound: int) -> None:
    size = bound + surplus
    frames = FrameReader(_Socket(size.to_bytes(4, "big") + bytes(size)), bound)  # type: ignore[arg-type]
    if surplus <= 0:
        assert len(frames.next() or b"") == size
    else:
        with pytest.raises(ProtocolError, match=f"longer than {bound} bytes"):
            frames.next()


@around
def test_task_tokens(surplus: int) -> None:
    empty = len(TaskToken("", "w" * 300, "", 1, 1, "a" * 70_000).encode()) - 70_000
    size = limits.TASK_TOKEN_BYTES_MAX - empty + 2 + surplus
    token = TaskToken("", "w" * 300, "", 1, 1, "a" * size)
    assert len(token.encode()) == limits.TASK_TOKEN_BYTES_MAX + surplus
    if surplus <= 0:
        assert TaskToken.decode(token.encode()) == token
    else:
        with pytest.raises(ValueError, match="no task token"):
            TaskToken.decode(token.encode())


@around
def test_the_queues_part_of_a_topic_name(surplus: int) -> None:
    queue = "q" * (limits.QUEUE_TOPIC_CHARS_MAX + surplus)
    topic = TopicNames().work(queue)
    assert len(topic) <= 249
    assert topic.endswith(queue) is (surplus <= 0)


@around
def test_bodies_of_the_codec_server(surplus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CODEC_BODY_BYTES_MAX == limits.CODEC_BODY_BYTES_MAX
    monkeypatch.setattr("perdure.contrib.codec_server.CODEC_BODY_BYTES_MAX", 1_000)
    codec = EncryptionCodec({"k": bytes(32)}, "k")
    body = b'{"payloads":[]}'.ljust(1_000 + surplus)

    def parts() -> Any:
        yield body[:500]
        yield body[500:]

    with TestClient(codec_server(codec)) as client:
        for content in (body, parts()):  # with its length told, and without
            answer = client.post("/decode", content=content)
            assert answer.status_code == (200 if surplus <= 0 else 413)


@around
def test_causes_of_an_exception(surplus: int) -> None:
    error: BaseException = ValueError("root")
    for number in range(limits.FAILURE_CAUSES_MAX + surplus):
        outer = ValueError(str(number))
        outer.__cause__ = error
        error = outer
    failure = FailureConverter.default.to_failure(error, PayloadConverter.default)
    count = 0
    while failure.cause is not None:
        failure = failure.cause
        count += 1
    assert count == min(limits.FAILURE_CAUSES_MAX, limits.FAILURE_CAUSES_MAX + surplus)
    assert (failure.message == "root") is (surplus <= 0)


def test_causes_that_add_up_over_workflows_and_their_children_are_cut() -> None:
    converter, payloads = FailureConverter.default, PayloadConverter.default
    failure = converter.to_failure(ApplicationError("root"), payloads)
    for number in range(3 * limits.FAILURE_CHAIN_MAX):
        try:
            raise ApplicationError(str(number)) from converter.from_failure(failure, payloads)
        except ApplicationError as error:
            failure = converter.to_failure(error, payloads)
    count = 0
    link = failure
    while link.cause is not None:
        link = link.cause
        count += 1
    assert count <= limits.FAILURE_CHAIN_MAX
    assert failure.message == str(3 * limits.FAILURE_CHAIN_MAX - 1)


@around
def test_texts_of_an_exception(surplus: int) -> None:
    bound = limits.FAILURE_MESSAGE_CHARS_MAX
    message = "m" * (bound + surplus)
    failure = FailureConverter.default.to_failure(ApplicationError(message), PayloadConverter.default)
    assert (failure.message == message) is (surplus <= 0)
    assert len(failure.message) < bound + 100
    assert bound == limits.FAILURE_STACK_TRACE_CHARS_MAX


@around
def test_when_a_run_should_continue_as_new(surplus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Instance:
        history_length = 0
        history_bytes = 0

    instance = Instance()
    monkeypatch.setattr("perdure._runtime.info.current_instance", lambda: instance)
    suggested = Info.is_continue_as_new_suggested
    instance.history_length = limits.SUGGESTED_EVENTS_MAX + surplus
    assert suggested(None) is (surplus > 0)  # type: ignore[arg-type]
    instance.history_length = 0
    instance.history_bytes = limits.SUGGESTED_BYTES_MAX + surplus
    assert suggested(None) is (surplus > 0)  # type: ignore[arg-type]
