"""``perdure migrate-partitions``: open workflows of every kind go on in a topic set with another partition count."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
    WorkflowUpdateStage,
)
from perdure.common import RetryPolicy
from perdure.exceptions import ApplicationError
from perdure.worker import Worker
from perdure_ops import cli, migrate_partitions
from perdure_ops.dead_letters import letters_of
from perdure_ops.deployments import read_deployments, write_routing
from perdure_ops.errors import CliError
from perdure_ops.migrate_partitions import Request, carry_over
from perdure_ops.migrating import copying
from perdure_ops.migrating.copying import commit_decided
from perdure_ops.output import OutputFormat
from perdure_runtime.connect import create_platform_topics
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.embedded.carrying import user_topic_spec
from perdure_runtime.kafka import KafkaLog
from perdure_runtime.log import Log, LogError, NewRecord, TopicPartition
from perdure_schemas import codec, keys
from perdure_schemas.records import Command, DeploymentRouting, HistoryRecord, SignalWorkflow
from perdure_schemas.records.commands import SignalInput
from perdure_schemas.topics import TopicNames
from tests.support.auditing import assert_sound
from tests.support.platform import engine_without_relay, running_engine
from tests.support.user_topics import emit_id_of, read, read_all

WAIT_S = 90.0
QUEUE = "migrated"
NOBODY = "nobody-yet"
EACH = 3

repaired = asyncio.Event()


@activity.defn
async def flaky() -> str:
    """Fails until it is repaired."""
    if not repaired.is_set():
        raise ApplicationError("not yet")
    return "repaired"


@activity.defn
async def late() -> str:
    """Nobody does it at first."""
    return "late"


@workflow.defn
class Sleeps:
    @workflow.run
    async def run(self) -> str:
        await workflow.sleep(2)
        return "slept"


@workflow.defn
class Waits:
    """Waits for signals; says how often it was told. An update waits as long as it does."""

    def __init__(self) -> None:
        self.told = 0

    @workflow.run
    async def run(self, topic: str) -> int:
        if topic:
            workflow.emit(topic, workflow.info().workflow_id, "begun")
        await workflow.wait_condition(lambda: self.told >= 2)
        if topic:
            workflow.emit(topic, workflow.info().workflow_id, "over")
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.told

    @workflow.signal
    def tell(self) -> None:
        self.told += 1

    @workflow.update
    async def asked(self) -> int:
        await workflow.wait_condition(lambda: self.told >= 2)
        return self.told


@workflow.defn
class Parent:
    @workflow.run
    async def run(self) -> int:
        return await workflow.execute_child_workflow(Waits.run, "", id=f"{workflow.info().workflow_id}-child")


@workflow.defn
class Works:
    @workflow.run
    async def run(self) -> list[str]:
        limit = timedelta(seconds=60)
        policy = RetryPolicy(initial_interval=timedelta(milliseconds=500), backoff_coefficient=1.0)
        first = workflow.execute_activity(flaky, start_to_close_timeout=limit, retry_policy=policy)
        second = workflow.execute_activity(late, task_queue=NOBODY, start_to_close_timeout=limit)
        return list(await asyncio.gather(first, second))


@workflow.defn
class Again:
    """A chain of closed runs."""

    @workflow.run
    async def run(self, left: int) -> str:
        if left:
            workflow.continue_as_new(left - 1)
        return "last"


@workflow.defn
class Pays:
    @workflow.run
    async def run(self, topic: str) -> Any:
        return (await workflow.wait_for_record(topic, workflow.info().workflow_id)).value


WORKFLOWS = [Sleeps, Waits, Parent, Works, Again, Pays]


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    found: Log
    found = KafkaLog(request.getfixturevalue("kafka_bootstrap"), {}) if request.param == "kafka" else EmbeddedLog(None)
    yield found
    found.close()


async def begin(client: Client, emits: str, payments: str) -> None:
    """Start everything, and see it wait."""

    async def start(run: Any, name: str, *args: Any) -> None:
        for number in range(EACH):
            await client.start_workflow(run, args=list(args), id=f"{name}-{number}", task_queue=QUEUE)

    async with Worker(client, task_queue=QUEUE, workflows=WORKFLOWS, activities=[flaky]):
        await start(Again.run, "again", 2)
        for number in range(EACH):
            assert await client.get_workflow_handle(f"again-{number}").result() == "last"
        await start(Waits.run, "waits", emits)
        await start(Parent.run, "parent")
        await start(Works.run, "works")
        await start(Pays.run, "pays", payments)
        await start(Sleeps.run, "sleeps")
        for number in range(EACH):
            handle = client.get_workflow_handle(f"waits-{number}")
            await handle.start_update("asked", id="u", wait_for_stage=WorkflowUpdateStage.ACCEPTED)
            child = client.get_workflow_handle(f"parent-{number}-child")
            await until_known(child)
            await client.get_workflow_handle(f"works-{number}").query("__stack_trace")
            await client.get_workflow_handle(f"pays-{number}").query("__stack_trace")
        action = ScheduleActionStartWorkflow(Again.run, 0, id="fired", task_queue=QUEUE)
        every = ScheduleSpec(intervals=[ScheduleIntervalSpec(timedelta(days=300))])
        await client.create_schedule("rarely", Schedule(action, every))


async def until_known(handle: Any) -> None:
    """Wait until a workflow runs, and its code has."""
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(Exception):
                await handle.query("__stack_trace")
                return
            await asyncio.sleep(0.1)


async def finish(client: Client, log: Log, payments: str) -> None:
    """Everything that was open comes to its end."""
    repaired.set()
    workers = (
        Worker(client, task_queue=QUEUE, workflows=WORKFLOWS, activities=[flaky]),
        Worker(client, task_queue=NOBODY, activities=[late]),
    )
    async with workers[0], workers[1], asyncio.timeout(WAIT_S):
        for number in range(EACH):
            produce(log, payments, f"pays-{number}", number)
            await client.get_workflow_handle(f"waits-{number}").signal("tell")
            await client.get_workflow_handle(f"parent-{number}-child").signal("tell")
        for number in range(EACH):
            of = {name: client.get_workflow_handle(f"{name}-{number}") for name in ("waits", "parent", "works", "pays")}
            # One signal was sent before the move and not decided, the other one behind it.
            assert await of["waits"].result() == 2
            assert await of["waits"].get_update_handle("u").result() == 2
            assert await of["parent"].result() == 2
            assert await of["works"].result() == ["repaired", "late"]
            assert await of["pays"].result() == number
            assert await client.get_workflow_handle(f"sleeps-{number}").result() == "slept"
            assert await client.get_workflow_handle(f"again-{number}").result() == "last"
        schedule = client.get_schedule_handle("rarely")
        await schedule.trigger()
        while not (actions := (await schedule.describe()).info.recent_actions):
            await asyncio.sleep(0.1)
        started = actions[0].action
        assert await client.get_workflow_handle(started.workflow_id).result() == "last"  # type: ignore[attr-defined]


def produce(log: Log, topic: str, key: str, value: Any) -> None:
    producer = log.producer("test")
    try:
        assert producer.append([NewRecord(topic, 0, key.encode(), json.dumps(value).encode())]).wait(WAIT_S)
    finally:
        producer.close()


def tell(log: Log, names: TopicNames, command_id: str, *workflow_ids: str) -> None:
    """Signals that no engine decides, because none is there."""
    producer = log.producer("test")
    body = SignalWorkflow(signal=SignalInput(signal_name="tell"))
    records = [
        NewRecord(
            names.commands,
            keys.partition_of(name, names.partitions),
            name.encode(),
            codec.encode(Command(command_id=command_id, workflow_id=name, body=body)),
        )
        for name in workflow_ids
    ]
    try:
        assert producer.append(records).wait(WAIT_S)
    finally:
        producer.close()


def migrate(log: Log, request: Request, **options: Any) -> None:
    carry_over(log, request, **({"dry_run": False, "assume_yes": True, "output": OutputFormat.JSON} | options))


@pytest.mark.timeout(300)
async def test_open_workflows_go_on_with_five_partitions(
    log: Log, kafka_namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repaired.clear()
    old = TopicNames(kafka_namespace, partitions=2)
    new = TopicNames(f"{kafka_namespace}-5", partitions=5)
    request = Request(old.namespace, new.namespace, new.partitions)
    emits, payments = f"{kafka_namespace}.emits", f"{kafka_namespace}.payments"
    log.create_topics({emits: user_topic_spec(emits), payments: user_topic_spec(payments)}, 1, 1)
    with running_engine(log, old):
        client = Client.from_log(log, namespace=old.namespace)
        await begin(client, emits, payments)
        write_routing(log, old, DeploymentRouting(deployment_name="shop", ramping_build_id="2", time_ms=1))
        assert len(await asyncio.to_thread(read, log, emits, EACH, WAIT_S)) == EACH
        with pytest.raises(CliError, match="is in use by history"):
            migrate(log, request)
        await client.close()
    await asyncio.to_thread(stop_in_good_order, log, old, request)
    told = [f"waits-{number}" for number in range(EACH)]
    tell(log, old, "one", *told, *(f"parent-{number}-child" for number in range(EACH - 1)))
    await asyncio.to_thread(copy_with_interruptions, log, request, monkeypatch, capsys)
    # A client that was late; and again, which must change nothing.
    tell(log, old, "one", f"parent-{EACH - 1}-child")
    for _ in range(2):
        migrate(log, request)
    assert_sound(log, old)
    with running_engine(log, new):
        client = Client.from_log(log, namespace=new.namespace)
        await finish(client, log, payments)
        assert [one.id async for one in client.list_workflows("ExecutionStatus = 'Running'")] == []
        # The last record of a workflow comes behind what it emitted before the move, if that came again.
        assert len(await asyncio.to_thread(read, log, emits, 2 * EACH, WAIT_S)) == 2 * EACH
        assert_sound(log, new)
        await client.close()
    found = read_all(log, emits)
    assert len({emit_id_of(record) for record in found}) == len(found) == 2 * EACH
    deployment = read_deployments(log, new)["shop"]
    assert deployment.routing is not None
    assert (deployment.routing.ramping_build_id, deployment.behind) == ("2", [])


def stop_in_good_order(log: Log, names: TopicNames, request: Request) -> None:
    """On a loaded machine an engine may give up before all is committed: then do what the command says."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            migrate(log, request, dry_run=True)
            return
        except CliError as error:
            assert time.monotonic() < deadline_s, error
            if "did not stop in good order" not in str(error):
                assert "is in use by" in str(error), error
                time.sleep(0.5)
                continue
        with engine_without_relay(log, names):
            time.sleep(1)


def copy_with_interruptions(
    log: Log, request: Request, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copy, being cut off twice; what is printed says how much there is."""
    capsys.readouterr()
    migrate(log, request, dry_run=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["partitions"], shown["state"]) == ("2 -> 5", "begins")
    # Those that sleep may have woken up.
    assert 5 * EACH + 1 <= shown["open_runs"] <= 6 * EACH + 1
    assert shown["undecided_commands"] >= 2 * EACH - 1
    assert not log.describe_topics([TopicNames(request.target).history])
    send = copying._Writer._send

    def cut_off_after(batches: int) -> None:
        left = [batches]

        def failing(self: copying._Writer) -> None:
            if not left[0]:
                raise LogError("cut off")
            left[0] -= bool(self._batch)
            send(self)

        monkeypatch.setattr(copying._Writer, "_send", failing)
        with pytest.raises(LogError, match="cut off"):
            migrate(log, request)
        monkeypatch.setattr(copying._Writer, "_send", send)

    monkeypatch.setattr(copying, "_BATCH_RECORDS", 7)
    cut_off_after(4)
    cut_off_after(20)
    capsys.readouterr()
    migrate(log, request)
    captured = capsys.readouterr()
    assert json.loads(captured.out)["state"] == "goes on"
    assert "audited without a finding" in captured.err


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(("migrate-partitions", *arguments))
    captured = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, captured.out, captured.err


def with_dead_letter(log: Log, names: TopicNames) -> None:
    """Topics with a dead letter more, as an engine that was stopped leaves them."""
    with engine_without_relay(log, names):
        producer = log.producer("test")
        place = TopicPartition(names.dead_letters, 0)
        before = log.watermarks(place)[1]
        assert producer.append([NewRecord(names.commands, 0, b"w", b"nonsense")]).wait(WAIT_S)
        producer.close()
        deadline_s = time.monotonic() + WAIT_S
        while log.watermarks(place)[1] == before:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)


def test_the_data_of_a_development_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "dev"
    where = ("--data", str(data), "--to", "wide", "--partitions", "3")
    code, _, err = command(capsys, *where)
    assert (code, "is no data folder of a development server" in err) == (1, True)
    data.mkdir()
    log = EmbeddedLog(data / "log")
    with_dead_letter(log, TopicNames(partitions=2))
    log.close()
    code, _, err = command(capsys, *where, "--namespace", "none")
    assert (code, "no topic 'perdure.none.commands'" in err) == (1, True)
    assert "must be another namespace" in command(capsys, *where[:2], "--to", "default", "--partitions", "3")[2]
    assert "has 2 partitions already" in command(capsys, *where[:2], "--to", "wide", "--partitions", "2")[2]
    code, out, _ = command(capsys, *where, "--dry-run")
    assert (code, "2 -> 3" in out, "nothing was written" in out) == (0, True, True)
    code, _, err = command(capsys, *where)
    assert (code, "Copy this?" in err) == (1, True)
    code, out, _ = command(capsys, *where, "--yes")
    assert (code, "audited without a finding" in out) == (0, True)
    assert "late_commands  0" in command(capsys, *where, "--yes")[1]
    assert "exists and has 3 partitions, not 4" in command(capsys, *where[:4], "--partitions", "4")[2]
    log = EmbeddedLog(data / "log")
    names = TopicNames("wide", partitions=3)
    assert [letter.content.topic for letter in letters_of(log, names)] == ["perdure.default.commands"]
    with engine_without_relay(log, names):
        assert_sound(log, names)
    # The old topics were worked on behind the copy.
    with_dead_letter(log, TopicNames(partitions=2))
    log.close()
    assert "engines have worked on default since" in command(capsys, *where, "--yes")[2]


def test_what_cannot_be_carried_over_is_refused() -> None:
    log = EmbeddedLog(None)
    old, new = TopicNames(partitions=2), TopicNames("wide", partitions=3)
    with_dead_letter(log, old)
    request = Request("default", "wide", 3)
    create_platform_topics(log, TopicNames("used", partitions=3))
    tell(log, TopicNames("used", partitions=3), "c", "w")
    with pytest.raises(CliError, match=r"is in use: perdure\.used\.commands hold records of others"):
        migrate(log, Request("default", "used", 3))
    # A decision that no group has committed: its engine was killed.
    value = HistoryRecord(workflow_id="w", run_id="r", command_offset=99, epoch=0, events=[])
    place = keys.partition_of("w", 2)
    producer = log.producer("test")
    key = keys.fenced_key(keys.wake_up_id("r"), place, 0)
    assert producer.append([NewRecord(old.history, place, key, codec.encode(value))]).wait(WAIT_S)
    with pytest.raises(CliError, match="did not stop in good order: command 99 is decided, and not committed"):
        migrate(log, request)
    # What the audit finds, a copy would not mend.
    commit_decided(log, old, [100, 100])
    with pytest.raises(CliError, match=r"the audit finds 1 breaches in namespace default \(event-gap\)"):
        migrate(log, request)
    producer.close()
    assert not log.describe_topics([new.history])
    log.close()


def test_a_copy_that_something_else_was_written_into_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    log = EmbeddedLog(None)
    old, new = TopicNames(partitions=2), TopicNames("wide", partitions=3)
    with_dead_letter(log, old)

    def failing(*_: Any) -> None:
        raise LogError("cut off")

    monkeypatch.setattr(migrate_partitions, "commit_decided", failing)
    with pytest.raises(LogError, match="cut off"):
        migrate(log, Request("default", "wide", 3))
    monkeypatch.undo()
    tell(log, new, "c", "w")
    with pytest.raises(CliError, match=r"is not what it has to be, so do not use it: perdure\.wide\.commands\["):
        migrate(log, Request("default", "wide", 3))
    with_dead_letter(log, old)
    with pytest.raises(CliError, match=r"cannot go on: an engine has decided commands in the old topics since"):
        migrate(log, Request("default", "wide", 3))
    log.close()
