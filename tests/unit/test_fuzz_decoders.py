"""Every decoder of what comes from outside, on arbitrary and on damaged bytes: its declared error, or a value.

No other exception, no endless loop, no memory beyond a small multiple of the input. Deterministic as a test; more with
``PERDURE_FUZZ_EXAMPLES=20000 python -m pytest tests/unit/test_fuzz_decoders.py``, which also draws fresh examples.
"""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from collections.abc import Callable
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure._search_attributes import decode_search_attributes
from perdure._task_token import TaskToken
from perdure.client import WorkflowHistory
from perdure.contrib.codec_server import payloads_from_text
from perdure.converter import FailureConverter, PayloadConverter
from perdure_ops import values
from perdure_ops.errors import CliError
from perdure_ops.history_view import payload_value
from perdure_runtime.fence import Fence
from perdure_runtime.log import LogRecord, NewRecord
from perdure_runtime.remote import protocol
from perdure_schemas import codec, keys, limits
from perdure_schemas.avro import TOP_LEVEL
from perdure_schemas.records import Command, Failure, FailureKind, Payload, Record, WorkflowTaskFailed
from tests.unit.schemas.strategies import records_of

_EXAMPLES = int(os.environ.get("PERDURE_FUZZ_EXAMPLES", "0"))
_fuzz = settings(
    max_examples=_EXAMPLES or 60,
    derandomize=not _EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
_few = settings(_fuzz, max_examples=_EXAMPLES or 15)
_by_type = pytest.mark.parametrize("record", TOP_LEVEL, ids=lambda record: record.__name__)


def damaged(data: st.DataObject, whole: bytes) -> bytes:
    """A few bytes changed, put in, taken out or doubled."""
    out = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(out) - 1)))
        match data.draw(st.integers(0, 3)):
            case 0 if out:
                out[at] ^= data.draw(st.integers(1, 255))
            case 1:
                out[at:at] = data.draw(st.binary(min_size=1, max_size=12))
            case 2:
                del out[at : at + data.draw(st.integers(1, 8))]
            case _:
                out += out[at:]
    return bytes(out)


# --- Avro -------------------------------------------------------------------------------------------------------------


def _decodes_or_refuses(data: bytes) -> None:
    try:
        value = codec.decode(data)
    except codec.DecodeError as error:
        assert str(error)
    else:
        assert isinstance(value, Record)


@_by_type
def test_records(record: type[Record]) -> None:
    header = codec._codec(record).header

    @_few
    @given(records_of(record), st.data())
    def changed(value: Record, data: st.DataObject) -> None:
        _decodes_or_refuses(header + damaged(data, codec.encode(value)[len(header) :]))

    @_few
    @given(st.binary(max_size=200))
    def arbitrary(body: bytes) -> None:
        _decodes_or_refuses(header + body)

    changed()
    arbitrary()


@pytest.mark.parametrize("header", sorted(codec._earlier_versions()), ids=bytes.hex)
def test_records_of_earlier_versions(header: bytes) -> None:
    @_few
    @given(st.binary(max_size=200))
    def arbitrary(body: bytes) -> None:
        _decodes_or_refuses(header + body)

    arbitrary()


#: A long, a length or a count of 2^62 and more, in the ways a reader may meet them.
_HUGE = [b"\xfe" * 9 + b"\x7f", b"\xff" * 9 + b"\x01", b"\xfe" + b"\xff" * 8 + b"\x01", b"\xff" * 200, b"\x02" * 500]


@pytest.mark.parametrize("position", range(12))
@_by_type
def test_huge_lengths_and_counts_allocate_nothing(record: type[Record], position: int) -> None:
    header = codec._codec(record).header
    codec.decode(codec.encode(_smallest(record)))  # the readers are made
    tracemalloc.start()
    try:
        for huge in _HUGE:
            _decodes_or_refuses(header + b"\x00" * position + huge)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def _smallest(record: type[Record]) -> Record:
    examples: list[Record] = []

    @settings(_fuzz, max_examples=1)
    @given(records_of(record))
    def one(value: Record) -> None:
        examples.append(value)

    one()
    return examples[0]


def chain(causes: int) -> Failure:
    failure = Failure(kind=FailureKind.APPLICATION, message="root")
    for _ in range(causes):
        failure = Failure(kind=FailureKind.ACTIVITY, cause=failure)
    return failure


def _failed(causes: int) -> Command:
    body = WorkflowTaskFailed(scheduled_event_id=1, attempt=1, cause="C", failure=chain(causes))
    return Command(command_id="c", workflow_id="w", body=body)


@pytest.mark.parametrize(("causes", "fits"), [(199, True), (200, True), (201, False)])
def test_bound_causes_of_a_failure(causes: int, fits: bool) -> None:
    data = codec.encode(_failed(causes))
    if fits:
        assert codec.decode(data) == _failed(causes)
    else:
        with pytest.raises(codec.DecodeError, match=f"nested more than {limits.NESTING_MAX} times"):
            codec.decode(data)


#: One more cause in front of a failure: its kind, three empty texts, and that there is a cause.
_CAUSE = b"\x10ACTIVITY\0\0\0\x02"


@pytest.mark.parametrize("causes", [100, 10_000, 100_000])
def test_a_chain_of_causes_does_not_end_the_process(causes: int) -> None:
    """The reader in C that reads what earlier versions wrote would run out of stack, and with it the engine."""
    schema = json.loads((codec.VERSIONS_FOLDER / "1" / "Command.avsc").read_text())
    out = io.BytesIO(codec.SINGLE_OBJECT_MARKER + codec.fingerprint(schema))
    out.seek(0, io.SEEK_END)
    plain = msgspec.to_builtins(_failed(1), builtin_types=(bytes,))
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), plain)
    for whole in (out.getvalue(), codec.encode(_failed(1))):
        assert codec.decode(whole) == _failed(1)
        assert whole.count(_CAUSE) == 1
        with pytest.raises(codec.DecodeError):
            # Behind each cause further fields would have to follow.
            codec.decode(whole.replace(_CAUSE, _CAUSE * causes))


# --- keys, tokens, checkpoints ----------------------------------------------------------------------------------------


@_fuzz
@given(st.binary(max_size=60) | st.text(alphabet="a@.-_1²", max_size=20).map(str.encode))
def test_keys(key: bytes) -> None:
    try:
        parsed = keys.parse_fenced_key(key)
    except ValueError:
        return
    assert isinstance(parsed.epoch, int)


_TOKEN = TaskToken("ns", "w", "r", 5, 1, "a").encode()


@_fuzz
@given(st.data())
def test_task_tokens(data: st.DataObject) -> None:
    token = data.draw(st.binary(max_size=80) | st.just(b"")) if data.draw(st.booleans()) else damaged(data, _TOKEN)
    try:
        assert isinstance(TaskToken.decode(token), TaskToken)
    except ValueError as error:
        assert "task token" in str(error)


@pytest.mark.parametrize("token", [None, "pat1", 5, b"pat1" + b"\x91" * 100_000, b"pat1\xdd\xff\xff\xff\xff"])
def test_what_is_no_task_token_at_all(token: Any) -> None:
    with pytest.raises(ValueError, match="task token"):
        TaskToken.decode(token)


@_fuzz
@given(st.binary(max_size=60))
def test_fences_of_checkpoints(data: bytes) -> None:
    try:
        assert isinstance(Fence.decode(data), Fence)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass


# --- the protocol of the embedded log ---------------------------------------------------------------------------------

_FRAMES = [
    protocol.encode(message)
    for message in (
        protocol.Hello(1, "client", b"p"),
        protocol.Append(7, [NewRecord("t", 1, None, None, 5, (("h", b"\x00"),)), NewRecord("t", 0, b"k", b"v")]),
        protocol.Subscribe(1, 2, 3, "topic", 0, -2, False, "log", 1),
        protocol.Unsubscribe(1, 2, [("topic", 0)]),
        protocol.Credit(1, 100),
        protocol.CreateTopics(1, {"t": ({"cleanup.policy": "delete"}, True)}, 4, 1),
        protocol.DescribeTopics(1, ["t"]),
        protocol.Watermarks(1, "t", 0),
        protocol.Welcome(1, "log", 2),
        protocol.Refused("no"),
        protocol.Acks([(1, [5], ""), (2, None, "no")]),
        protocol.Records(1, 2, [LogRecord("t", 0, 9, b"k", None, 5, (("h", b""),))]),
        protocol.Response(1, "", msgspec.Raw(protocol.encode((1, 2)))),
    )
]
_PROTOCOL = [
    protocol.decode_hello,
    protocol.decode_greeting,
    protocol.decode_client,
    protocol.decode_server,
    protocol.decode_offsets,
    protocol.decode_offset,
    protocol.decode_topics,
]


@pytest.mark.parametrize("decode", _PROTOCOL)
def test_frames(decode: Callable[[Any], Any]) -> None:
    @_fuzz
    @given(st.data())
    def frames(data: st.DataObject) -> None:
        body = (
            damaged(data, data.draw(st.sampled_from(_FRAMES))) if data.draw(st.booleans()) else data.draw(st.binary())
        )
        try:
            decode(body)
        except protocol.ProtocolError as error:
            assert str(error)

    frames()


@pytest.mark.parametrize("decode", _PROTOCOL)
@pytest.mark.parametrize(
    "body",
    [
        b"\x91" * 200_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x93\xa6credit\x01\xa1\xff",
        b"\x92\xa7refused\xa1\xff",
    ],
    ids=["deep", "many", "long", "number", "text"],
)
def test_frames_that_are_made_to_hurt(decode: Callable[[Any], Any], body: bytes) -> None:
    with pytest.raises(protocol.ProtocolError):
        decode(body)


# --- values of users --------------------------------------------------------------------------------------------------

_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
_json_bytes = _json_values.map(lambda value: json.dumps(value).encode())
_HURTS = [
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000,
    b'"' + b"\\u" * 1000,
    b"9" * 20_000,
    b'"\xff"',
    b"1e999999",
    b"-",
    b'"\\ud800"',
    b"\x00",
    b"NaN",
    b'["' + b'\\"' * 100_000,
]
_HINTS = [None, int, str, float, list[int], dict[str, int], bytes, tuple[int, str], dict[int, list[str]] | None]
_DECLARED = (RuntimeError, TypeError, KeyError)


def _payload_decodes_or_refuses(payload: Payload, hint: Any) -> None:
    try:
        PayloadConverter.default.from_payload(payload, hint)
    except _DECLARED as error:
        assert str(error)


@_fuzz
@given(st.data())
def test_payloads(data: st.DataObject) -> None:
    encoding = data.draw(st.sampled_from([b"json/plain", b"binary/plain", b"binary/null", b"json/odd", b"\xff"]))
    body = damaged(data, data.draw(_json_bytes)) if data.draw(st.booleans()) else data.draw(st.binary(max_size=40))
    payload = Payload(metadata={"encoding": encoding}, data=body)
    _payload_decodes_or_refuses(payload, data.draw(st.sampled_from(_HINTS)))
    assert payload_value(payload) is not Ellipsis
    decode_search_attributes({"name": msgspec.structs.replace(payload, metadata=dict(payload.metadata, type=b"Int"))})


@pytest.mark.parametrize("body", _HURTS, ids=range(len(_HURTS)))
def test_payloads_that_are_made_to_hurt(body: bytes) -> None:
    payload = Payload(metadata={"encoding": b"json/plain"}, data=body)
    for hint in _HINTS:
        _payload_decodes_or_refuses(payload, hint)
    payload_value(payload)


@pytest.mark.parametrize(("levels", "fits"), [(199, True), (200, True), (201, False)])
def test_bound_nesting_of_values(levels: int, fits: bool) -> None:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    text = b"[" * levels + b"1" + b"]" * levels
    payload = Payload(metadata={"encoding": b"json/plain"}, data=text)
    if fits:
        assert PayloadConverter.default.to_payload(value).data == text
        assert PayloadConverter.default.from_payload(payload) == value
    else:
        with pytest.raises(ValueError, match=f"nested more than {limits.NESTING_MAX} times"):
            PayloadConverter.default.to_payload(value)
        with pytest.raises(RuntimeError, match=f"more than {limits.NESTING_MAX} times"):
            PayloadConverter.default.from_payload(payload)


@_few
@given(records_of(Failure))
def test_failures(failure: Failure) -> None:
    try:
        exception = FailureConverter.default.from_failure(failure, PayloadConverter.default)
    except _DECLARED as error:  # the payload converter's: a detail cannot be decoded
        assert "payload" in str(error)
    else:
        assert isinstance(exception, BaseException)


# --- files, bodies and the command line -------------------------------------------------------------------------------

_HISTORY = (
    '{"events":[{"event_id":1,"event_time_ms":5,"attributes":{"type":"TimerFired","timer_id":"1",'
    '"started_event_id":5}}],"run_id":"r"}'
)


@_fuzz
@given(st.data())
def test_histories_as_json(data: st.DataObject) -> None:
    text = damaged(data, _HISTORY.encode()).decode(errors="surrogateescape")
    given_ = data.draw(st.sampled_from([text, data.draw(_json_values), data.draw(_json_bytes).decode()]))
    try:
        assert isinstance(WorkflowHistory.from_json("w", given_), WorkflowHistory)  # type: ignore[arg-type]
    except ValueError as error:
        assert "no workflow history" in str(error)


@pytest.mark.parametrize("text", [body.decode(errors="surrogateescape") for body in _HURTS], ids=range(len(_HURTS)))
def test_histories_that_are_made_to_hurt(text: str) -> None:
    with pytest.raises(ValueError, match="no workflow history"):
        WorkflowHistory.from_json("w", text)
    with pytest.raises(ValueError, match="no workflow history"):
        WorkflowHistory.from_json("w", '{"events":[{"event_id":1,"x":' + text)


@_fuzz
@given(st.data())
def test_bodies_of_a_codec_server(data: st.DataObject) -> None:
    whole = b'{"payloads":[{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"MQ=="}]}'
    body = damaged(data, whole) if data.draw(st.booleans()) else data.draw(_json_bytes | st.sampled_from(_HURTS))
    try:
        assert isinstance(payloads_from_text(body), list)
    except ValueError as error:
        assert str(error)


@_fuzz
@given(st.text(max_size=30) | st.sampled_from([body.decode(errors="surrogateescape") for body in _HURTS]))
def test_json_of_the_command_line(text: str) -> None:
    for read in (
        lambda: values.check_json(text, "--input"),
        lambda: values.json_inputs([text], []),
        lambda: values.json_pairs([f"key={text}", text], "--memo"),
    ):
        try:
            read()
        except CliError as error:
            assert str(error)


@_fuzz
@given(st.text(max_size=12) | st.from_regex(r"[0-9]{1,400}(\.[0-9]{1,3})?(ms|s|m|h|d)", fullmatch=True))
def test_durations_of_the_command_line(text: str) -> None:
    try:
        values.parse_duration(text, "--timeout")
    except CliError as error:
        assert str(error)
