"""What docs/protocol.md tells authors of workers is what the platform writes: bytes, partitions, names and numbers."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from perdure.worker._attempt import throttle_interval_s
from perdure.worker._dispatch import HEARTBEAT_INTERVAL_S
from perdure_matching.core.model import MatchingConfig
from perdure_schemas import codec, keys, limits, records
from perdure_schemas.records import Record
from perdure_schemas.topics import COMMANDS, WORK, WORKERS, TopicNames

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
NAMES = TopicNames(partitions=16)
_DEFAULT_THROTTLE = (timedelta(seconds=30), timedelta(seconds=60))


def payload(data: bytes) -> records.Payload:
    return records.Payload(metadata={"encoding": b"json/plain"}, data=data)


TASK = records.ActivityTask(
    workflow_type="Order",
    scheduled_event_id=5,
    attempt=1,
    options=records.ActivityOptions(
        activity_id="5",
        activity_type="greet",
        task_queue="java",
        input=[payload(b'"you"')],
        start_to_close_timeout_ms=10_000,
    ),
    scheduled_time_ms=1_700_000_000_100,
    attempt_scheduled_time_ms=1_700_000_000_100,
)
SHOWN: dict[str, Record] = {
    "heartbeat": records.WorkerHeartbeat(
        worker_id="w-1",
        task_queue="java",
        identity="7@host",
        inbox_partition=2,
        workflow_slots=0,
        activity_slots=20,
        time_ms=1_700_000_000_000,
    ),
    "dispatch": records.Dispatch(
        worker_id="w-1",
        source_partition=2,
        epoch=40,
        dispatch_number=1,
        time_ms=1_700_000_000_101,
        body=records.RunTask(
            task_id=keys.activity_task_id("run-1", 5, 1),
            kind="activity",
            workflow_id="order-1",
            run_id="run-1",
            task=codec.encode(TASK),
        ),
    ),
    "completion": records.Command(
        command_id="run-1/a5.1",
        workflow_id="order-1",
        run_id="run-1",
        identity="7@host",
        body=records.ActivityTaskCompleted(
            scheduled_event_id=5, attempt=1, started_time_ms=1_700_000_000_102, result=[payload(b'"Hi"')]
        ),
    ),
}


def shown_bytes(name: str) -> bytes:
    (block,) = re.findall(rf"^```hex {name}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return bytes.fromhex(" ".join(line.partition("  ")[0] for line in block.splitlines()))


@pytest.mark.parametrize("name", SHOWN)
def test_the_bytes_are_those_that_are_written(name: str) -> None:
    assert shown_bytes(name) == codec.encode(SHOWN[name])
    assert codec.decode(shown_bytes(name)) == SHOWN[name]


def test_partitions_are_those_of_the_platform() -> None:
    assert keys.partition_of("w-1", 16) == 2
    assert keys.partition_of("java", 16) == 2
    assert keys.partition_of("order-1", 16) == 15
    assert NAMES.work("java") == "perdure.default.work.java"


def test_numbers_are_those_of_the_platform() -> None:
    matching = MatchingConfig()
    said = {
        f"every {HEARTBEAT_INTERVAL_S:g} s; it is lost when none came for {matching.heartbeat_lapse_ms // 1000} s",
        f"at most {2 * matching.heartbeat_interval_ms // 1000} s old",
        f"more than {limits.HEARTBEAT_AGE_MS_MAX // 1000} s old when it is read",
        f"{limits.COMMAND_BYTES_MAX:,} bytes encoded",
        f"{limits.PAYLOAD_BYTES_MAX // 1024**2} MiB; a larger result",
        f"| heartbeat details | {limits.HEARTBEAT_BYTES_MAX // 1024} KiB |",
        f"{limits.FAILURE_MESSAGE_CHARS_MAX:,} characters each",
        f"{limits.FAILURE_BYTES_MAX // 1024} KiB is cut",
        f"1 to {limits.NAME_CHARS_MAX:,} characters",
        f"| slots | {limits.WORKER_SLOTS_MAX:,} |",
        f"nested at most {limits.NESTING_MAX} levels",
        f"more than {limits.QUEUE_TOPIC_CHARS_MAX} characters",
    }
    assert {text for text in said if text not in PAGE} == set()
    assert throttle_interval_s(1_000, *_DEFAULT_THROTTLE) == pytest.approx(0.8)
    config = WORK.config()
    assert all(f"{name}={value}" in PAGE for name, value in config.items())


def test_every_topic_and_field_that_is_named_exists() -> None:
    assert [COMMANDS.name, WORKERS.name, WORK.name] == ["commands", "workers", "work"]
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert set(records.WorkerHeartbeat.__struct_fields__) <= named
    known = {
        name
        for kind in (records.WorkerHeartbeat, records.ActivityTask, records.CancelActivity)
        for name in kind.__struct_fields__
    }
    assert named - {"commands", "workers", "encoding"} <= known
    bodies = set(re.findall(r"`(Activity(?:Task|Left)[A-Za-z]*)`", PAGE))
    assert {name for name in bodies if not hasattr(records, name)} == set()
