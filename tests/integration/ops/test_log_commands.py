"""The commands that look at the log, against a running engine: on the embedded log through its socket, and on Kafka."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from perdure.client import Client
from perdure_ops import cli
from perdure_ops.group_lag import groups_of
from perdure_ops.partition_view import open_runs
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.kafka import KafkaLog
from perdure_runtime.log import Log
from perdure_schemas import keys
from perdure_schemas.topics import TopicNames
from tests.support.platform import embedded_platform

TIMEOUT_S = 60.0


class Command:
    """Runs commands against a platform."""

    def __init__(self, address: str, namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.address = address
        self.namespace = namespace
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main((*arguments, "--address", self.address, "-n", self.namespace))
        captured = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err


@pytest.fixture
def command(platform: tuple[Log, TopicNames], capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    log, names = platform
    if isinstance(log, KafkaLog):
        yield Command(f"kafka://{log.bootstrap}", names.namespace, capsys)
        return
    server = cast("EmbeddedLog", log).serve("127.0.0.1", 0)
    yield Command(f"127.0.0.1:{server.port}", names.namespace, capsys)
    server.close()


@pytest.fixture
def embedded_command(capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Commands against a platform of the test's own."""
    with embedded_platform() as (log, names):
        server = cast("EmbeddedLog", log).serve("127.0.0.1", 0)
        yield Command(f"127.0.0.1:{server.port}", names.namespace, capsys)
        server.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.1)


async def test_partitions(command: Command, platform: tuple[Log, TopicNames], client: Client, task_queue: str) -> None:
    log, names = platform

    def history_rows() -> dict[int, int]:
        code, out, err = command("partitions", "-o", "json")
        assert code == 0, err
        rows = json.loads(out)["partitions"]
        assert {(row["role"], row["partition"]) for row in rows} == {
            (role, number) for role in ("history", "matching", "timers") for number in range(names.partitions)
        }
        assert all(row["owner"] and row["epoch"] >= 0 for row in rows)
        assert {row["state"] for row in rows} == {"owned"}
        return {row["partition"]: row["open_workflows"] for row in rows if row["role"] == "history"}

    handle = await client.start_workflow("Nobody", id=f"{task_queue}-open", task_queue=task_queue)
    place = keys.partition_of(handle.id, names.partitions)

    def is_counted(wanted: bool) -> bool:
        """Other tests' workflows may close meanwhile: what is counted is what stands in the topic."""
        runs = open_runs(log, names)[place]
        return (handle.first_execution_run_id in runs) is wanted and history_rows()[place] == len(runs)

    await until(lambda: is_counted(True))
    code, out, _ = command("partitions", "--no-count")
    assert code == 0
    assert out.splitlines()[0].split() == ["role", "partition", "state", "owner", "epoch", "since", "lag", "lag_s"]
    assert re.search(r"(?m)^skew of history \(max/mean\): .*open_workflows \d", command("partitions")[1])
    await handle.terminate()
    await until(lambda: is_counted(False))


async def test_lag_is_what_the_group_has_committed(
    command: Command, platform: tuple[Log, TopicNames], client: Client, task_queue: str
) -> None:
    log, names = platform
    handle = await client.start_workflow("Nobody", id=f"{task_queue}-lag", task_queue=task_queue)
    place = keys.partition_of(handle.id, names.partitions)
    group = groups_of(names)[0]

    def agrees() -> bool:
        """All is committed, and the row says so; on Kafka just what Kafka's own client says."""
        code, out, err = command("lag", "-o", "json")
        assert code == 0, err
        rows = json.loads(out)
        assert len(rows) == len(groups_of(names)) * names.partitions
        (row,) = [row for row in rows if (row["group"], row["partition"]) == (group.name, place)]
        committed = row["committed"]
        if isinstance(log, KafkaLog):
            admin = AdminClient({"bootstrap.servers": log.bootstrap})
            asked = ConsumerGroupTopicPartitions(group.name, [TopicPartition(group.topic, place)])
            answer = admin.list_consumer_group_offsets([asked])[group.name].result(TIMEOUT_S)
            committed = answer.topic_partitions[0].offset
        return (row["topic"], row["committed"], row["lag"], row["lag_s"]) == (names.commands, committed, 0, 0.0)

    await until(agrees)
    await handle.terminate()


def test_an_unknown_namespace_is_an_error_with_what_to_do(command: Command) -> None:
    command.namespace = f"none{uuid.uuid4().hex[:8]}"
    for verb in ("partitions", "lag"):
        code, out, err = command(verb)
        assert (code, out) == (1, "")
        assert "correct the namespace" in err
        assert len(err.splitlines()) == 1


def test_watching_as_one_document_is_refused(command: Command) -> None:
    code, _, err = command("lag", "--watch", "1", "-o", "json")
    assert (code, err) == (1, "Error: -o json is one document, and --watch has no end: use -o jsonl\n")


async def test_history_tail(command: Command, client: Client, task_queue: str) -> None:
    handle = await client.start_workflow("Nobody", id=f"{task_queue}-tail", task_queue=task_queue)

    def tail(*arguments: str) -> list[dict[str, object]]:
        code, out, err = command("history", "tail", "-w", handle.id, "-o", "jsonl", *arguments)
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]

    rows = await asyncio.to_thread(tail)
    assert [row["type"] for row in rows] == ["WorkflowExecutionStarted", "WorkflowTaskScheduled"]
    assert [row["event_id"] for row in rows] == [1, 2]
    assert {(row["workflow_id"], row["run_id"], row["void"]) for row in rows} == {
        (handle.id, handle.first_execution_run_id, False)
    }
    following = asyncio.create_task(
        asyncio.to_thread(tail, "--follow", "--from", str(rows[0]["offset"]), "--limit", "3")
    )
    await handle.terminate("enough")
    followed = await asyncio.wait_for(following, TIMEOUT_S)
    assert followed[:2] == rows
    assert followed[2]["type"] == "WorkflowExecutionTerminated"
    code, out, _ = await asyncio.to_thread(command, "history", "tail", "--from", "BEGIN", "--limit", "1")
    assert code == 0
    assert "owner mark" in out
    code, _, err = await asyncio.to_thread(command, "history", "tail", "-w", handle.id, "--kcat")
    if command.address.startswith("kafka://"):
        assert (code, err.split()[:2]) == (0, ["kcat", "-C"])
    else:
        assert (code, err.count("kcat reads from Kafka only")) == (1, 1)
    assert command("history", "tail", "--partition", "0", "--from", "999999")[0] == 1


async def test_any_topic_is_read_decoded(command: Command, client: Client, task_queue: str) -> None:
    handle = await client.start_workflow("Nobody", id=f"{task_queue}-read", task_queue=task_queue)

    def consume(topic: str, *arguments: str) -> list[dict[str, Any]]:
        code, out, err = command("topics", "consume", topic, "-o", "jsonl", *arguments)
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]

    commands = [row for row in await asyncio.to_thread(consume, "commands") if row["key"] == handle.id]
    assert {row["type"] for row in commands} == {"Command"}
    body = commands[0]["value"]["body"]
    assert (body["workflow_type"], body["task_queue"]) == ("Nobody", task_queue)
    where = str(commands[0]["partition"])
    history = await asyncio.to_thread(consume, "history", "--partition", where)
    assert {row["partition"] for row in history} == {int(where)}
    assert {"OwnerMark", "HistoryRecord"} <= {row["type"] for row in history}
    assert any(row["value"]["workflow_id"] == handle.id for row in history if row["type"] == "HistoryRecord")
    assert len(await asyncio.to_thread(consume, "history", "--limit", "1")) == 1
    code, out, _ = await asyncio.to_thread(command, "topics", "consume", "history", "--limit", "1")
    assert (code, len(out.splitlines())) == (0, 1)
    for wrong, what in [(("elsewhere",), "is no topic of"), (("history", "--partition", "99"), "has partitions 0 to")]:
        code, _, err = await asyncio.to_thread(command, "topics", "consume", *wrong)
        assert (code, err.count(what)) == (1, 1), err
    code, _, err = await asyncio.to_thread(command, "topics", "consume", f"work.{task_queue}")
    assert (code, err.count("when the first worker")) == (1, 1)


async def test_doctor(command: Command, client: Client, task_queue: str) -> None:
    def checks(*arguments: str) -> dict[str, str]:
        code, out, err = command("doctor", "-o", "json", *arguments)
        found = json.loads(out)
        assert code == (0 if found["healthy"] else 1), err
        assert all(finding["cause"] and finding["fix"] for finding in found["findings"])
        return {finding["subject"]: finding["check"] for finding in found["findings"]}

    handle = await client.start_workflow("Nobody", id=f"{task_queue}-doctor", task_queue=task_queue)
    await until(lambda: checks("--age", "0", "--audit-records", "0").get(task_queue) == "no-worker")
    assert task_queue not in await asyncio.to_thread(checks, "--age", "3600", "--audit-records", "0")
    await handle.terminate()
    await until(lambda: task_queue not in checks("--age", "0", "--audit-records", "0"))


async def test_the_doctor_of_a_namespace_that_is_well(embedded_command: Command) -> None:
    code, out, err = await asyncio.to_thread(embedded_command, "doctor")
    assert (code, out, err) == (0, "nothing found: namespace default is well\n", "")
    code, _, err = await asyncio.to_thread(embedded_command, "doctor", "--audit-records", "0")
    assert code == 0
    assert err.startswith("not audited: its topics hold up to ")


def test_the_doctor_says_that_it_could_not_look(embedded_command: Command) -> None:
    embedded_command.namespace = "nowhere"
    code, out, err = embedded_command("doctor")
    assert (code, out) == (2, "")
    assert "correct the namespace" in err
