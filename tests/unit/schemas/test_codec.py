"""Every record type survives the way to bytes and back; bytes that are no record are refused with a reason."""

from __future__ import annotations

import typing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure_schemas import codec, records
from perdure_schemas.avro import TOP_LEVEL
from perdure_schemas.codec import DecodeError, decode, decode_as, encode
from tests.unit.schemas.strategies import records_of

_quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
_by_type = pytest.mark.parametrize("record", TOP_LEVEL, ids=lambda record: record.__name__)


def _mark() -> records.OwnerMark:
    return records.OwnerMark(source="history/3", owner="engine-1", time_ms=1)


def _deep_failure(depth: int) -> records.Failure:
    failure = records.Failure(kind=records.FailureKind.APPLICATION, message="root")
    for level in range(depth):
        failure = records.Failure(kind=records.FailureKind.ACTIVITY, message=str(level), cause=failure)
    return failure


@_by_type
def test_every_record_type_round_trips(record: type[records.Record]) -> None:
    @_quick
    @given(records_of(record))
    def round_trip(value: records.Record) -> None:
        data = encode(value)
        assert decode(data) == value
        assert decode_as(data, record) == value

    round_trip()


@_by_type
def test_the_same_record_has_the_same_bytes(record: type[records.Record]) -> None:
    @settings(_quick, max_examples=5)
    @given(records_of(record))
    def stable(value: records.Record) -> None:
        assert encode(value) == encode(decode(encode(value)))

    stable()


@pytest.mark.parametrize(
    "member", [*typing.get_args(records.CommandBody)], ids=lambda member: typing.cast("type", member).__name__
)
def test_every_command_body_round_trips(member: type[records.Record]) -> None:
    @settings(_quick, max_examples=8)
    @given(records_of(member))
    def round_trip(body: records.CommandBody) -> None:
        command = records.Command(command_id="c", workflow_id="w", body=body)
        decoded = decode_as(encode(command), records.Command)
        assert type(decoded.body) is member
        assert decoded == command

    round_trip()


@pytest.mark.parametrize(
    "member", [*typing.get_args(records.EventAttributes)], ids=lambda member: typing.cast("type", member).__name__
)
def test_every_event_round_trips_among_others_in_a_list(member: type[records.Record]) -> None:
    @settings(_quick, max_examples=8)
    @given(records_of(member))
    def round_trip(attributes: records.EventAttributes) -> None:
        fired = records.TimerFired(timer_id="1", started_event_id=5)
        history = records.HistoryRecord(
            workflow_id="w",
            run_id="r",
            command_offset=1,
            epoch=2,
            events=[
                records.Event(event_id=1, event_time_ms=10, attributes=fired),
                records.Event(event_id=2, event_time_ms=11, attributes=attributes),
                records.Event(event_id=3, event_time_ms=12, attributes=fired),
            ],
        )
        assert decode_as(encode(history), records.HistoryRecord) == history

    round_trip()


def test_a_list_of_different_union_members_keeps_each_member_and_the_order() -> None:
    commands: list[records.WorkflowCommand] = [
        records.StartTimer(timer_id="1", start_to_fire_timeout_ms=5),
        records.ScheduleActivityTask(
            options=records.ActivityOptions(activity_id="2", activity_type="pay", task_queue="q")
        ),
        records.CancelTimer(timer_id="1"),
        records.CompleteWorkflowExecution(result=[records.Payload(metadata={"encoding": b"json/plain"}, data=b"1")]),
    ]
    completed = records.WorkflowTaskCompleted(
        scheduled_event_id=2, attempt=1, last_event_id=2, started_time_ms=7, commands=commands
    )
    command = records.Command(command_id="c", workflow_id="w", body=completed)
    decoded = decode_as(encode(command), records.Command)
    assert isinstance(decoded.body, records.WorkflowTaskCompleted)
    assert decoded.body.commands == commands


def test_a_long_chain_of_causes_round_trips() -> None:
    attributes = records.WorkflowExecutionFailed(failure=_deep_failure(100), workflow_task_completed_event_id=4)
    event = records.Event(event_id=5, event_time_ms=1, attributes=attributes)
    history = records.HistoryRecord(workflow_id="w", run_id="r", command_offset=0, epoch=0, events=[event])
    assert decode(encode(history)) == history


@_by_type
def test_truncated_records_are_refused(record: type[records.Record]) -> None:
    @settings(_quick, max_examples=10)
    @given(records_of(record), st.data())
    def truncated(value: records.Record, data: st.DataObject) -> None:
        encoded = encode(value)
        cut = data.draw(st.integers(0, len(encoded) - 1))
        with pytest.raises(DecodeError):
            decode(encoded[:cut])

    truncated()


@_by_type
def test_flipped_bytes_never_raise_anything_but_a_decode_error(record: type[records.Record]) -> None:
    @_quick
    @given(records_of(record), st.data())
    def damaged(value: records.Record, data: st.DataObject) -> None:
        encoded = bytearray(encode(value))
        for _ in range(data.draw(st.integers(1, 3))):
            encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
        try:
            assert isinstance(decode(bytes(encoded)), records.Record)
        except DecodeError as error:
            assert str(error)

    damaged()


@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data)


def test_bytes_after_the_record_are_refused() -> None:
    with pytest.raises(DecodeError, match="1 bytes are left after the OwnerMark"):
        decode(encode(_mark()) + b"\0")


def test_a_tombstone_where_a_record_was_expected_is_refused() -> None:
    with pytest.raises(DecodeError, match="no value"):
        decode(None)


def test_bytes_without_the_framing_are_named() -> None:
    with pytest.raises(DecodeError, match="7b7d"):
        decode(b"{}")
    with pytest.raises(DecodeError, match="nothing"):
        decode(b"")


def test_an_unknown_fingerprint_hints_at_a_newer_version() -> None:
    with pytest.raises(DecodeError, match=r"0000000000000000.*newer version"):
        decode(codec.SINGLE_OBJECT_MARKER + bytes(8))


def test_a_record_of_another_type_is_refused_by_name() -> None:
    with pytest.raises(DecodeError, match="a OwnerMark stands where a Command was expected"):
        decode_as(encode(_mark()), records.Command)


def test_only_top_level_records_are_encoded() -> None:
    with pytest.raises(TypeError, match="Payload is not a top-level record"):
        encode(records.Payload())


def test_an_unknown_enumeration_value_is_refused() -> None:
    summary = records.ExecutionSummary(
        workflow_id="w",
        run_id="r",
        first_execution_run_id="r",
        workflow_type="t",
        task_queue="q",
        status=records.WorkflowStatus.RUNNING,
        start_time_ms=1,
        execution_time_ms=1,
        history_length=1,
        version=1,
    )
    with pytest.raises(DecodeError, match="RUNNUNG"):
        decode(encode(summary).replace(b"RUNNING", b"RUNNUNG"))


def test_the_framing_is_that_of_avro_single_objects() -> None:
    data = encode(_mark())
    assert data[:2] == b"\xc3\x01"
    assert (
        len({encode(_mark())[2:10], encode(records.WorkerStopped(worker_id="", task_queue="", time_ms=0))[2:10]}) == 2
    )
