"""Which rows the records of a history partition give, where reading begins, and the kcat line."""

from __future__ import annotations

import pytest

from perdure_ops.errors import CliError
from perdure_ops.history_tail import Decoder, TailRequest, kcat_line
from perdure_runtime.log import LogRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import ActivityTaskCanceledEvent, Event, HistoryRecord, OwnerMark
from perdure_schemas.topics import TopicNames

NAMES = TopicNames(namespace="prod", partitions=4)


def written(offset: int, key: bytes, value: bytes | None) -> LogRecord:
    return LogRecord(NAMES.history, 0, offset, key, value, 1_000)


def decided(offset: int, epoch: int, run_id: str = "run", workflow_id: str = "order") -> LogRecord:
    event = Event(event_id=4, event_time_ms=2_000, attributes=ActivityTaskCanceledEvent(scheduled_event_id=5))
    record = HistoryRecord(
        workflow_id=workflow_id, run_id=run_id, command_offset=9, epoch=epoch, part=1, parts=2, events=[event]
    )
    return written(offset, keys.fenced_key(keys.history_id(run_id, 4), 0, epoch), codec.encode(record))


def mark(offset: int, source: str = "history/0", epoch: int = -1) -> LogRecord:
    value = OwnerMark(source=source, owner="engine-1", epoch=epoch, time_ms=3_000)
    return written(offset, keys.mark_key(source, str(offset)), codec.encode(value))


def test_an_event_is_one_row_with_its_place() -> None:
    (row,) = Decoder(0, None).rows(decided(7, 3))
    assert row == {
        "partition": 0,
        "offset": 7,
        "time": "1970-01-01T00:00:02.000Z",
        "void": False,
        "type": "ActivityTaskCanceled",
        "details": {"scheduled_event_id": 5},
        "workflow_id": "order",
        "run_id": "run",
        "epoch": 3,
        "command_offset": 9,
        "part": "1/2",
        "event_id": 4,
    }


def test_what_a_deposed_owner_wrote_is_void_behind_the_newer_mark() -> None:
    decoder = Decoder(0, None)
    records = [mark(5), decided(6, 5), mark(7), decided(8, 5), decided(9, 7), mark(10, "timers/0", 99), decided(11, 7)]
    rows = [row for record in records for row in decoder.rows(record)]
    assert [(row["offset"], row["void"]) for row in rows if row["type"] != "owner mark"] == [
        (6, False),
        (8, True),
        (9, False),
        (11, False),
    ]
    assert rows[0]["details"] == "engine-1 took over history/0"


def test_reading_from_the_middle_knows_the_mark_before() -> None:
    assert Decoder(0, None, newest=7).rows(decided(8, 5))[0]["void"]


def test_one_workflow_is_shown_with_its_tombstones_and_nothing_else() -> None:
    decoder = Decoder(0, "order")
    tombstones = [written(20 + n, keys.fenced_key(f"{run}/1", 0, 5), None) for n, run in enumerate(("run", "other"))]
    records = [mark(5), decided(6, 5), decided(7, 5, "other", "another"), *tombstones, written(30, b"x", b"y")]
    assert [row["offset"] for record in records for row in decoder.rows(record)] == [6, 20]


@pytest.mark.parametrize(("key", "value"), [(b"no epoch", b"x"), (keys.fenced_key("run/1", 0, 3), b"garbage")])
def test_what_cannot_be_read_is_shown_as_such(key: bytes, value: bytes) -> None:
    (row,) = Decoder(0, None).rows(written(3, key, value))
    assert row["type"] == "unreadable"
    assert row["details"]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (TailRequest(), "BEGIN"),
        (TailRequest(follow=True), "END"),
        (TailRequest(start="begin", follow=True), "BEGIN"),
        (TailRequest(start="12", partition=0), 12),
        (TailRequest(start="12", workflow_id="order"), 12),
    ],
)
def test_where_reading_begins(request_: TailRequest, expected: int | str) -> None:
    assert request_.first_offset() == expected


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (TailRequest(start="yesterday"), "neither an offset nor BEGIN nor END"),
        (TailRequest(start="-1", partition=0), "neither an offset"),
        (TailRequest(start="12"), "needs one partition"),
        (TailRequest(partition=4), "no partition 4; namespace prod has 0 to 3"),
        (TailRequest(partition=1, workflow_id="order"), "not both"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(request_: TailRequest, said: str) -> None:
    with pytest.raises(CliError, match=said):
        request_.chosen(NAMES), request_.first_offset()


def test_partitions_that_are_read() -> None:
    assert TailRequest().chosen(NAMES) == [0, 1, 2, 3]
    assert TailRequest(partition=2).chosen(NAMES) == [2]
    assert TailRequest(workflow_id="order").chosen(NAMES) == [keys.partition_of("order", 4)]


def test_the_kcat_line_holds_no_secret() -> None:
    address = "kafka://b1:9092,b2:9092?security.protocol=SASL_SSL&sasl.username=me&sasl.password=hidden"
    line = kcat_line(address, NAMES, 2, 17, TailRequest(partition=2))
    assert line.startswith(
        "kcat -C -b b1:9092,b2:9092 -t perdure.prod.history -p 2 -o 17 -X security.protocol=SASL_SSL"
    )
    assert "-X sasl.username=me -e -f" in line
    assert "hidden" not in line
    assert " -o end -f" in kcat_line("kafka://b1:9092", NAMES, 0, "END", TailRequest(follow=True))
    with pytest.raises(CliError, match="Kafka only"):
        kcat_line("localhost:7233", NAMES, 0, "END", TailRequest())
