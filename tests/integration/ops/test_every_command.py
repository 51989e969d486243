"""Every command of the command line against a running engine, on each log.

Each test says which commands it covers. One that does not call all of them fails, and so does the last one of this file
if a command is neither covered here nor in :data:`ELSEWHERE`. What commands print in detail, and how they refuse wrong
use, is tested beside this file.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from perdure.client import Client
from perdure.common import VersioningBehavior, WorkerDeploymentVersion
from perdure.worker import Worker, WorkerDeploymentConfig
from perdure_ops.user_workers import UserWorkers
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.kafka import KafkaLog
from perdure_runtime.log import Log
from perdure_schemas import keys
from perdure_schemas.topics import TopicNames
from tests.integration.bad_input.records import Stranger
from tests.integration.ops.conftest import Run
from tests.integration.ops.worker import TASK_QUEUE, Basket, make_worker
from tests.support.commands import COMMANDS, command_of
from tests.support.platform import embedded_platform
from tests.support.waiting import wait_for

TIMEOUT_S = 60.0
ROOT = Path(__file__).resolve().parents[3]
#: They run until they are stopped, or need what this file has not; by the file that runs them.
ELSEWHERE = {
    "dev": "tests/e2e/cli/test_dev.py",
    "migrate-partitions": "tests/integration/ops/test_migrate_partitions.py",
    "server": "tests/e2e/cli/test_server.py",
    "topics register-schemas": "tests/unit/ops/test_schema_registration.py",  # it talks to a registry, not to a log
}
#: By the test's name: the commands that it calls.
COVERED: dict[str, tuple[str, ...]] = {}


def covers(*commands: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Says which commands a test calls; a word before a colon goes for all behind it."""

    def note(test: Callable[..., None]) -> Callable[..., None]:
        paths = []
        for part in commands:
            group, colon, verbs = part.partition(":")
            paths += [f"{group} {verb.strip()}" for verb in verbs.split(",")] if colon else [part]
        COVERED[test.__name__] = tuple(paths)
        return test

    return note


class Story(Run):
    """Runs commands, and notes which."""

    def __init__(
        self, log: Log, names: TopicNames, address: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        super().__init__(address, names.namespace, capsys)
        self.log = log
        self.names = names
        self.folder = tmp_path
        self.id = f"w{uuid.uuid4().hex[:8]}"
        self.called: set[str] = set()

    @property
    def on_kafka(self) -> bool:
        return isinstance(self.log, KafkaLog)

    def run_line(self, *line: str) -> tuple[int, str, str]:
        self.called.add(command_of(line))
        return super().run_line(*line)

    def json(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        return json.loads(self.ok(*arguments, "-o", "json"))

    def rows(self, *arguments: str) -> list[Any]:
        """The same line by line."""
        return [json.loads(line) for line in self.ok(*arguments, "-o", "jsonl").splitlines()]

    def start(self, workflow_type: str, suffix: str = "", task_queue: str = TASK_QUEUE) -> str:
        """Start a workflow; its id."""
        workflow_id = self.id + suffix
        self.ok("workflow", "start", "--type", workflow_type, "-t", task_queue, "-w", workflow_id)
        return workflow_id

    def history(self, workflow_id: str) -> str:
        """A file with the history of a workflow."""
        file = self.folder / f"{workflow_id}.json"
        file.write_text(self.ok("workflow", "show", "-w", workflow_id, "-o", "json"))
        return str(file)

    def pending(self, workflow_id: str, holds: Callable[[dict[str, Any]], bool]) -> Any:
        """The pending activity of a workflow, once something holds for it."""

        def look() -> Any:
            found = self.json("workflow", "describe", "-w", workflow_id)["pending_activities"]
            return next((row for row in found if holds(row)), None)

        return wait_for(look)


def _workers(log: Log, names: TopicNames, *makers: Callable[[Client], Worker]) -> UserWorkers:
    async def connect() -> Client:
        return Client.from_log(log, namespace=names.namespace, names=names)

    workers = UserWorkers(makers, connect, lambda error: None)
    workers.start(TIMEOUT_S)
    return workers


@pytest.fixture(scope="module", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def running(request: pytest.FixtureRequest) -> Iterator[tuple[Log, TopicNames, str]]:
    """An engine with a worker, and its address."""
    if request.param == "kafka":
        log, names = request.getfixturevalue("kafka_engine")
        workers = _workers(log, names, make_worker)
        yield log, names, f"kafka://{cast('KafkaLog', log).bootstrap}"
        workers.stop()
        return
    with embedded_platform() as (log, names):
        server = cast("EmbeddedLog", log).serve("127.0.0.1", 0)
        workers = _workers(log, names, make_worker)
        yield log, names, f"127.0.0.1:{server.port}"
        workers.stop()
        server.close()


@pytest.fixture
def story(
    request: pytest.FixtureRequest,
    running: tuple[Log, TopicNames, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Story]:
    """Commands against the file's engine; all that the test says it covers must have been called at its end."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where the index of `perdure sql` goes
    told = Story(*running, capsys, tmp_path)
    yield told
    assert set(COVERED[request.node.originalname]) <= told.called


@covers(
    "workflow: start, signal, query, describe, show, result, list, count, stack",
    "workflow update: execute, start, describe, result",
)
def test_a_workflow_is_talked_to_and_looked_at(story: Story) -> None:
    basket = story.start("Basket")
    story.ok("workflow", "signal", "-w", basket, "--name", "add", "-i", '"apple"')
    updated = story.json("workflow", "update", "execute", "-w", basket, "--name", "put", "-i", "2", "--update-id", "u1")
    assert updated["result"] == 2
    begun = story.json("workflow", "update", "start", "-w", basket, "--name", "put", "-i", "3", "--update-id", "u2")
    assert begun["update_id"] == "u2"
    assert story.json("workflow", "update", "result", "-w", basket, "--update-id", "u2")["result"] == 3
    assert story.json("workflow", "update", "describe", "-w", basket, "--update-id", "u1")["stage"] == "COMPLETED"
    assert json.loads(story.ok("workflow", "query", "-w", basket, "--name", "count")) == 3
    assert "wait_condition" in story.ok("workflow", "stack", "-w", basket)
    by_id = f"WorkflowId = '{basket}'"
    assert [row["status"] for row in story.rows("workflow", "list", "-q", by_id)] == ["RUNNING"]
    story.ok("workflow", "signal", "-w", basket, "--name", "close")
    assert json.loads(story.ok("workflow", "result", "-w", basket)) == ["apple", 2, 3]
    assert story.json("workflow", "describe", "-w", basket)["status"] == "COMPLETED"
    types = [row["type"] for row in story.rows("workflow", "show", "-w", basket, "--follow")]
    assert (types[0], types[-1]) == ("WorkflowExecutionStarted", "WorkflowExecutionCompleted")
    assert story.json("workflow", "count", "-q", f"{by_id} AND ExecutionStatus = 'Completed'") == [{"count": 1}]


@covers("workflow: execute, signal-with-start, reset, fork, pause, unpause, cancel, terminate, delete, trace, replay")
def test_a_workflow_is_steered(story: Story) -> None:
    basket = f"{story.id}-basket"
    by_type = ("--type", "Basket", "-t", TASK_QUEUE, "-w", basket)
    story.ok("workflow", "signal-with-start", *by_type, "--signal-name", "add", "--signal-input", "1")
    assert json.loads(story.ok("workflow", "query", "-w", basket, "--name", "count")) == 1
    again = story.json("workflow", "reset", "-w", basket, "--reason", "test")
    assert json.loads(story.ok("workflow", "query", "-w", basket, "--name", "count")) == 1
    assert story.json("workflow", "describe", "-w", basket)["run_id"] == again["run_id"]
    forked = story.json("workflow", "fork", "-w", basket, "--new-workflow-id", f"{basket}-fork")
    assert forked["workflow_id"] == f"{basket}-fork"
    story.ok("workflow", "pause", "-w", basket, "--reason", "lunch")
    assert story.json("workflow", "describe", "-w", basket)["paused"]
    story.ok("workflow", "unpause", "-w", basket)
    assert story.ok("workflow", "trace", "-w", basket).startswith(f"RUNNING Basket {basket} (")
    module = f"{Basket.__module__}:Basket"
    (replayed,) = story.json("workflow", "replay", "--module", module, "--file", story.history(basket))
    assert replayed["replays"] == "yes"
    story.ok("workflow", "cancel", "-w", f"{basket}-fork")
    story.ok("workflow", "terminate", "-w", basket, "--reason", "done")
    story.ok("workflow", "delete", "-w", basket)
    echo = ("workflow", "execute", "--type", "Echo", "-t", TASK_QUEUE, "-w", f"{basket}-echo")
    assert json.loads(story.ok(*echo, "-i", '{"a": 1}')) == {"a": 1}


@covers("activity: complete, fail, pause, unpause, reset, update-options")
def test_activities_are_ended_and_steered(story: Story) -> None:
    approval = story.start("Approval")
    for name, ended in (("first", ("complete", "--result", '"yes"')), ("second", ("fail", "--reason", "no"))):
        story.pending(approval, lambda row, name=name: row["activity"] == name and row["state"] == "started")
        story.ok("activity", ended[0], "-w", approval, "-a", name, *ended[1:])
    assert json.loads(story.ok("workflow", "result", "-w", approval)) == ["yes", "no"]
    order = story.start("Order", "-order")
    refused = story.pending(order, lambda row: bool(row["last_failure"]))
    one = ("-w", order, "-a", refused["activity"])
    story.ok("activity", "pause", *one)
    assert story.pending(order, lambda row: row["state"] == "paused")
    story.ok("activity", "update-options", *one, "--retry-maximum-attempts", "7")
    story.ok("activity", "reset", *one, "--keep-paused")
    assert story.pending(order, lambda row: row["state"] == "paused")["attempt"] == "1/7"
    story.ok("activity", "unpause", *one)
    story.pending(order, lambda row: row["attempt"] == "2/7")
    story.ok("workflow", "terminate", "-w", order)


@covers("batch: signal, cancel, terminate, pause, unpause, reset, delete")
def test_batches(story: Story) -> None:
    ids = [story.start("Basket", f"-{number}") for number in (1, 2)]
    these = ("-q", f"WorkflowId STARTS_WITH '{story.id}'", "--yes")

    def done(verb: str, *arguments: str) -> int:
        found = story.json("batch", verb, *these, *arguments)
        assert found["failed"] == 0
        return int(found["done"])

    assert done("signal", "--name", "add", "-i", "1") == 2
    assert [story.ok("workflow", "query", "-w", one, "--name", "count").strip() for one in ids] == ["1", "1"]
    assert done("pause") == done("unpause") == 2
    assert done("reset", "--reason", "test") == 2
    assert done("terminate") == 2
    assert done("delete") == 4
    story.start("Nobody", "-3", f"{story.id}-idle")
    assert done("cancel") == 1


@covers("schedule: create, update, describe, list, toggle, trigger, backfill, delete, list-matching-times")
def test_schedules(story: Story) -> None:
    one = ("-s", story.id)
    action = ("--type", "Nobody", "-t", f"{story.id}-idle", "-w", story.id)
    story.ok("schedule", "create", *one, *action, "--interval", "6h", "--start-time", "2090-01-01", "--paused")
    story.ok("schedule", "update", *one, "--interval", "12h")
    day = ("--start-time", "2090-01-02", "--end-time", "2090-01-02T23:00:00Z")
    assert len(story.json("schedule", "list-matching-times", *one, *day)) == 2
    story.ok("schedule", "trigger", *one)
    story.ok("schedule", "backfill", *one, *day, "--overlap-policy", "AllowAll")
    story.ok("schedule", "toggle", *one, "--unpause", "--reason", "go")
    found = story.json("schedule", "describe", *one)
    assert (found["actions"], found["note"], found["paused"]) == (3, "go", False)
    assert story.id in [row["schedule_id"] for row in story.rows("schedule", "list")]
    story.ok("schedule", "delete", *one)


def _versioned(name: str, build_id: str) -> Callable[[Client], Worker]:
    config = WorkerDeploymentConfig(
        WorkerDeploymentVersion(name, build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )
    return lambda client: Worker(client, task_queue=name, workflows=[Basket], deployment_config=config)


@covers(
    "task-queue describe",
    "worker list",
    "worker deployment: list, describe, set-current-version, set-ramping-version, delete-version",
)
def test_workers_and_their_versions(story: Story) -> None:
    assert TASK_QUEUE in {row["task_queue"] for row in story.rows("worker", "list")}
    assert story.json("task-queue", "describe", TASK_QUEUE)["workers"]
    deployment = ("--name", story.id)
    first, second = _versioned(story.id, "b1"), _versioned(story.id, "b2")
    workers = _workers(story.log, story.names, first, second)

    def versions() -> set[str]:
        rows = {row["deployment"]: row for row in story.rows("worker", "deployment", "list")}
        return set(rows[story.id]["versions"].split(", ")) if story.id in rows else set()

    wait_for(lambda: versions() == {"b1", "b2"})
    workers.stop()
    story.ok("worker", "deployment", "set-current-version", *deployment, "--build-id", "b1")
    story.ok("worker", "deployment", "set-ramping-version", *deployment, "--build-id", "b2", "--percentage", "5")
    found = story.json("worker", "deployment", "describe", *deployment)
    assert (found["current"], found["ramping"], found["percentage"]) == ("b1", "b2", "5")
    story.ok("worker", "deployment", "set-ramping-version", *deployment, "--delete")
    story.ok("worker", "deployment", "delete-version", *deployment, "--build-id", "b2", "--skip-drainage")
    wait_for(lambda: versions() == {"b1"})


@covers("task-queue config: set, get, unset")
def test_a_task_queue_is_stopped_and_goes_on(story: Story) -> None:
    config = ("task-queue", "config")
    assert story.json(*config, "set", TASK_QUEUE, "--queue-rps-limit", "0", "--dry-run")["dry_run"]
    assert story.json(*config, "get", TASK_QUEUE)[1]["queue_rps_limit"] is None
    story.ok(*config, "set", TASK_QUEUE, "--queue-rps-limit", "0", "--fairness-key-concurrency", "bank=2")
    shown = story.json(*config, "get", TASK_QUEUE, "--task-type", "activity")
    assert (shown["queue_rps_limit"], shown["keys"][0]["concurrency"]) == (0.0, 2)
    workflow_id = story.start("Approval")

    def stopped() -> bool:
        keys = story.json("task-queue", "describe", TASK_QUEUE)["keys"]
        return any(row["type"] == "activity" and row["blocked_by"] == "stopped" and row["blocked"] for row in keys)

    wait_for(stopped)
    story.ok(*config, "unset", TASK_QUEUE)
    story.pending(workflow_id, lambda row: row["state"] == "started")
    story.ok("workflow", "terminate", "-w", workflow_id)


@covers("partitions", "lag", "doctor", "history tail", "topics consume", "audit", "sql", "dump", "load")
def test_the_log_is_looked_at_and_a_workflow_carried_over(story: Story) -> None:
    basket = story.start("Basket")
    story.ok("workflow", "signal", "-w", basket, "--name", "add", "-i", "1")
    assert story.ok("workflow", "query", "-w", basket, "--name", "count").strip() == "1"
    owned = {(row["role"], row["partition"]) for row in story.json("partitions")["partitions"] if row["owner"]}
    assert {("history", number) for number in range(story.names.partitions)} <= owned
    assert {row["topic"] for row in story.rows("lag")} >= {story.names.commands}
    types = [row["type"] for row in story.rows("history", "tail", "-w", basket)]
    assert types[:2] == ["WorkflowExecutionStarted", "WorkflowTaskScheduled"]
    summaries = [row for row in story.rows("topics", "consume", "executions") if row["type"] == "ExecutionSummary"]
    assert basket in {row["value"]["workflow_id"] for row in summaries}
    code, out, err = story("doctor", "-o", "json", "--audit-records", "0")
    assert code == (0 if json.loads(out)["healthy"] else 1), err
    (row,) = story.json("sql", f"SELECT status FROM executions WHERE workflow_id = '{basket}'")
    assert row == {"status": "RUNNING"}
    dumped, everything = str(story.folder / "one.json"), str(story.folder / "all.dump")
    story.ok("dump", dumped, "-w", basket)
    loaded = story.json("load", dumped, "-w", f"{basket}-copy", "--yes")
    assert loaded["workflow_id"] == f"{basket}-copy"
    assert story.ok("workflow", "query", "-w", f"{basket}-copy", "--name", "count").strip() == "1"
    story.ok("dump", everything)
    # On a shared broker other tests may have left what an audit reports.
    code, out, err = story("audit", "-o", "json")
    assert code == (0 if json.loads(out)["sound"] else 1), err
    assert json.loads(out)["counts"]["runs_open"] >= 2
    for workflow_id in (basket, f"{basket}-copy"):
        story.ok("workflow", "terminate", "-w", workflow_id)


@covers("dlq: list, show, replay", "workflow release")
def test_dead_letters(story: Story) -> None:
    basket = story.start("Basket")
    partition = keys.partition_of(basket, story.names.partitions)
    offset = Stranger(story.log, story.names).write(story.names.commands, partition, basket.encode(), b"garbage")
    letter_id = wait_for(
        lambda: next((row["id"] for row in story.rows("dlq", "list") if row["id"].endswith(f"/{offset}")), None)
    )
    assert b"garbage".hex() in story.ok("dlq", "show", letter_id)
    assert "0 of 1 would be put back" in story.ok("dlq", "replay", letter_id, "--dry-run")
    story.ok("workflow", "release", "-w", basket)
    story.ok("workflow", "signal", "-w", basket, "--name", "close")
    assert story.ok("workflow", "result", "-w", basket).strip() == "[]"


@covers("topics: plan, apply, describe, acls", "reassign: plan, execute, verify")
def test_topics_and_their_replicas(story: Story) -> None:
    """The embedded log has no such things, and is told so; the needed ACLs can be printed anywhere."""
    file = story.folder / "plan.json"
    code, out, _ = story.run_line("topics", "acls", "worker", "-n", story.namespace)
    assert (code, "kafka-acls" in out) == (0, True)
    file.write_text(
        json.dumps({"version": 1, "partitions": [{"topic": story.names.commands, "partition": 0, "replicas": [1]}]})
    )
    calls = {
        ("topics", "plan"): "nothing to do",
        ("topics", "apply", "--yes"): "nothing to do",
        ("topics", "describe"): story.names.commands,
        ("reassign", "plan"): "nothing to do",
    }
    for call, said in calls.items():
        if story.on_kafka:
            assert said in story.ok(*call)
        else:
            assert "is not one of Kafka" in story.fails(*call)
    for verb in (("execute", str(file), "--yes"), ("verify", str(file))):
        code, out, err = story.without_namespace("reassign", *verb)
        assert (code, "is not one of Kafka" in err) == ((0, False) if story.on_kafka else (1, True)), err + out


@covers("rebuild-state")
def test_a_state_folder_is_emptied(story: Story) -> None:
    index = story.folder / "default" / "e1" / "readside" / "executions.sqlite3"
    index.parent.mkdir(parents=True)
    index.write_bytes(b"")
    code, out, err = story.run_line("rebuild-state", str(story.folder), "--role", "readside", "--yes")
    assert (code, "readside" in out, index.exists()) == (0, True, False), err


def test_no_command_is_left_out() -> None:
    here = {command for commands in COVERED.values() for command in commands}
    assert here | ELSEWHERE.keys() == COMMANDS.keys()
    assert not here & ELSEWHERE.keys()
    for file in ELSEWHERE.values():
        assert (ROOT / file).is_file()
