"""Records that do not belong where they are: each becomes a dead letter with its reason, and all else goes on."""

from __future__ import annotations

import asyncio
import time

import pytest

from perdure.client import Client
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import Log
from perdure_schemas import codec, keys
from perdure_schemas.records import (
    ActivityTaskCompleted,
    Command,
    DescribeWorkflow,
    ReplyTo,
    StartWorkflow,
    TaskRecord,
    TimerRecord,
    WorkerHeartbeat,
)
from perdure_schemas.topics import RECORD_BYTES_MAX, TopicNames
from tests.integration.bad_input.records import Stranger, check_that_workflows_complete
from tests.support.platform import running_engine

VALID = codec.encode(Command(command_id="c", workflow_id="w", run_id="", body=DescribeWorkflow()))

TIMER = TimerRecord(timer_id="t", workflow_id="w", run_id="r", arm_number=1, due_time_ms=1)


def task(task_queue: str, body: bytes = b"") -> TaskRecord:
    return TaskRecord(
        task_id="t",
        task_queue=task_queue,
        kind="activity",
        workflow_id="w",
        run_id="r",
        scheduled_event_id=5,
        attempt=1,
        created_time_ms=1,
        body=body,
    )


pytestmark = pytest.mark.writes_nonsense


@pytest.fixture
def stranger(platform: tuple[Log, TopicNames]) -> Stranger:
    return Stranger(*platform)


@pytest.fixture
def embedded_stranger(embedded_client: Client) -> Stranger:
    connection = embedded_client._connection
    assert connection is not None
    return Stranger(connection.log, connection.names)


def command_to_wrong_partition(names: TopicNames) -> tuple[int, bytes]:
    partition = (keys.partition_of("astray", names.partitions) + 1) % names.partitions
    command = Command(command_id="c", workflow_id="astray", run_id="", body=DescribeWorkflow())
    return partition, codec.encode(command)


async def test_garbage_in_every_topic(client: Client, stranger: Stranger, task_queue: str) -> None:
    names = stranger.names
    places = [(topic, 0) for topic in (names.commands, names.tasks, names.timers, names.workers)]
    for topic, partition in places:
        offset = stranger.write(topic, partition, b"id@0.999999", b"\x00random bytes")
        letter = await asyncio.to_thread(stranger.letter, topic, partition, offset)
        assert letter.value == b"\x00random bytes"
        assert "not an Avro single-object record" in letter.reason
    await check_that_workflows_complete(client, task_queue)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "starts with nothing"),
        (None, "no value"),
        (VALID[:-3], "damaged"),
        (VALID + b"\x00", "bytes are left"),
        (b"\xc3\x01" + b"\x07" * 40, "unknown schema fingerprint"),
        (codec.encode(TIMER), "TimerRecord stands where a Command was expected"),
    ],
)
async def test_a_command_that_cannot_be_read(
    embedded_client: Client, embedded_stranger: Stranger, task_queue: str, value: bytes | None, reason: str
) -> None:
    offset = embedded_stranger.write(embedded_stranger.names.commands, 0, b"w", value)
    letter = await asyncio.to_thread(embedded_stranger.letter, embedded_stranger.names.commands, 0, offset)
    assert reason in letter.reason
    await check_that_workflows_complete(embedded_client, task_queue, 2)


async def test_a_command_in_the_wrong_partition(
    embedded_client: Client, embedded_stranger: Stranger, task_queue: str
) -> None:
    partition, value = command_to_wrong_partition(embedded_stranger.names)
    offset = embedded_stranger.write(embedded_stranger.names.commands, partition, b"astray", value)
    letter = await asyncio.to_thread(embedded_stranger.letter, embedded_stranger.names.commands, partition, offset)
    assert f"stands in partition {partition}, but belongs to" in letter.reason
    assert "another number of partitions" in letter.reason
    await check_that_workflows_complete(embedded_client, task_queue, 2)


@pytest.mark.parametrize("partition", [-1, 7, 2**31 - 1])
async def test_an_answer_to_a_partition_that_does_not_exist(
    embedded_client: Client, embedded_stranger: Stranger, task_queue: str, partition: int
) -> None:
    names = embedded_stranger.names
    command = Command(
        command_id="c",
        workflow_id="w",
        run_id="",
        reply=ReplyTo(client_id="me", partition=partition, request_id="r"),
        body=DescribeWorkflow(),
    )
    embedded_stranger.write(names.commands, keys.partition_of("w", names.partitions), b"w", codec.encode(command))
    await check_that_workflows_complete(embedded_client, task_queue, 2)


async def test_completions_of_runs_that_do_not_exist(client: Client, stranger: Stranger, task_queue: str) -> None:
    names = stranger.names
    for number in range(8):
        workflow_id = f"{task_queue}-nobody-{number}"
        body = ActivityTaskCompleted(scheduled_event_id=5, attempt=1, started_time_ms=1, result=[])
        command = Command(command_id="c", workflow_id=workflow_id, run_id="no-run", body=body)
        partition = keys.partition_of(workflow_id, names.partitions)
        stranger.write(names.commands, partition, workflow_id.encode(), codec.encode(command))
    await check_that_workflows_complete(client, task_queue)
    assert not [letter for letter in stranger.letters() if (letter.key or b"").startswith(task_queue.encode())]


async def test_huge_names(embedded_client: Client, embedded_stranger: Stranger, task_queue: str) -> None:
    names = embedded_stranger.names
    huge = "h" * 3_000_000
    partition = keys.partition_of(huge, names.partitions)
    completion = ActivityTaskCompleted(scheduled_event_id=5, attempt=1, started_time_ms=1, result=[])
    offset = embedded_stranger.write(
        names.commands,
        partition,
        b"h",
        codec.encode(Command(command_id="c", workflow_id=huge, run_id="r", body=completion)),
    )
    letter = await asyncio.to_thread(embedded_stranger.letter, names.commands, partition, offset)
    assert "has 3000000 characters; 1000 are allowed" in letter.reason
    assert len(letter.reason) < 3_000
    start = StartWorkflow(run_id="r", workflow_type="t", task_queue="q")
    embedded_stranger.write(
        names.commands,
        partition,
        b"h",
        codec.encode(Command(command_id="c", workflow_id=huge, run_id="", body=start)),
    )
    await check_that_workflows_complete(embedded_client, task_queue, 2)


async def test_the_largest_record_there_is_still_fits_into_its_letter(
    embedded_client: Client, embedded_stranger: Stranger, task_queue: str
) -> None:
    names = embedded_stranger.names
    offset = embedded_stranger.write(names.commands, 0, b"k", b"\x00" * (RECORD_BYTES_MAX - 1024))
    letter = await asyncio.to_thread(embedded_stranger.letter, names.commands, 0, offset)
    assert f"cut: the value of {RECORD_BYTES_MAX - 1024} bytes" in letter.reason
    await check_that_workflows_complete(embedded_client, task_queue, 2)


@pytest.mark.parametrize("key", [b"no fence", b"id@x.y", b"\xff\xfe", b"other@0.999999"])
@pytest.mark.parametrize("topic", ["tasks", "timers"])
async def test_tasks_and_timers_with_wrong_keys(
    embedded_client: Client, embedded_stranger: Stranger, task_queue: str, topic: str, key: bytes
) -> None:
    names = embedded_stranger.names
    full, value = {
        "tasks": (names.tasks, task("q")),
        "timers": (names.timers, TIMER),
    }[topic]
    offset = embedded_stranger.write(full, 0, key, codec.encode(value))
    letter = await asyncio.to_thread(embedded_stranger.letter, full, 0, offset)
    assert letter.key == key
    await check_that_workflows_complete(embedded_client, task_queue, 2)


async def test_a_task_that_fits_into_no_dispatch(
    embedded_client: Client, embedded_stranger: Stranger, task_queue: str
) -> None:
    names = embedded_stranger.names
    partition = keys.partition_of(task_queue, names.partitions)
    large = task(task_queue, b"\x00" * (RECORD_BYTES_MAX - 4096))
    offset = embedded_stranger.write(names.tasks, partition, b"t@0.999999", codec.encode(large))
    letter = await asyncio.to_thread(embedded_stranger.letter, names.tasks, partition, offset)
    assert "fit into a dispatch" in letter.reason
    await check_that_workflows_complete(embedded_client, task_queue, 2)


def heartbeat(task_queue: str, **fields: object) -> WorkerHeartbeat:
    known = {
        "worker_id": "ghost",
        "task_queue": task_queue,
        "identity": "me",
        "inbox_partition": 0,
        "workflow_slots": 5,
        "activity_slots": 5,
        "time_ms": time.time_ns() // 1_000_000,
    }
    return WorkerHeartbeat(**{**known, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("inbox", [-1, 2, 1_000_000])
async def test_an_inbox_that_does_not_exist(
    embedded_client: Client, embedded_stranger: Stranger, task_queue: str, inbox: int
) -> None:
    names = embedded_stranger.names
    partition = keys.partition_of(task_queue, names.partitions)
    value = codec.encode(heartbeat(task_queue, inbox_partition=inbox))
    offset = embedded_stranger.write(names.workers, partition, b"ghost", value)
    letter = await asyncio.to_thread(embedded_stranger.letter, names.workers, partition, offset)
    assert f"names inbox partition {inbox}" in letter.reason
    assert "restart it" in letter.reason
    await check_that_workflows_complete(embedded_client, task_queue, 2)


async def test_a_worker_whose_inbox_topic_nobody_made(client: Client, stranger: Stranger, task_queue: str) -> None:
    ghost_queue = f"{task_queue}-ghost"
    names = stranger.names
    partition = keys.partition_of(ghost_queue, names.partitions)
    stranger.write(names.workers, partition, b"ghost", codec.encode(heartbeat(ghost_queue)))
    handle = await client.start_workflow("Nothing", id=f"{task_queue}-ghost", task_queue=ghost_queue)
    await check_that_workflows_complete(client, task_queue)
    await handle.terminate()


async def test_damaged_history_at_a_restore(task_queue: str) -> None:
    log = EmbeddedLog(None)
    names = TopicNames(partitions=2)
    stranger = Stranger(log, names)
    try:
        with running_engine(log, names):
            client = Client.from_log(log)
            await check_that_workflows_complete(client, f"{task_queue}-before", 2)
        offsets = [
            (stranger.write(names.history, 0, key, value), reason)
            for key, value, reason in (
                (b"run/0000000001@0.999999", b"garbage", "not an Avro"),
                (b"no fence", b"garbage", "does not end in"),
                (b"run/0000000001@0.999999", VALID, "Command stands where a HistoryRecord"),
            )
        ]
        with running_engine(log, names):
            for offset, reason in offsets:
                assert reason in (await asyncio.to_thread(stranger.letter, names.history, 0, offset)).reason
            client = Client.from_log(log)
            await check_that_workflows_complete(client, f"{task_queue}-after", 2)
            assert await client.get_workflow_handle(f"{task_queue}-before-0").result() == "hello you"
    finally:
        log.close()
