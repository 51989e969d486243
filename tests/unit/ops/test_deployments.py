"""Worker deployments as operators see and change them, on a log in memory without an engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from perdure.client import Client, WorkflowExecutionCount, WorkflowExecutionCountAggregationGroup
from perdure_ops import cli, deployments
from perdure_ops.deployments import (
    Deployment,
    VersionStatus,
    delete_version,
    read_deployments,
    with_current,
    with_ramping,
)
from perdure_ops.errors import CliError
from perdure_readside.folding import Folder
from perdure_readside.index import ExecutionIndex
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import NewRecord, TopicPartition
from perdure_schemas import codec, keys
from perdure_schemas.records import (
    DeploymentRouting,
    DeploymentVersionSeen,
    ExecutionSummary,
    VersioningBehavior,
    WorkflowStatus,
)
from perdure_schemas.topics import TOPICS, TopicNames

NAMES = TopicNames(partitions=3)
NOW_MS = 1_700_000_000_000
Run = Callable[..., tuple[int, str, str]]


class FakeConnection:
    """A connection to a log on which no engine runs."""

    identity = "me"
    names = NAMES

    def __init__(self, log: EmbeddedLog) -> None:
        self.log = log

    def now_ms(self) -> int:
        return NOW_MS


@pytest.fixture
def log() -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(None)
    log.create_topics({NAMES.of(spec): spec for spec in TOPICS}, NAMES.partitions)
    yield log
    log.close()


@pytest.fixture
def run(log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    class FakeClient:
        async def connection(self) -> FakeConnection:
            return FakeConnection(log)

        async def count_workflows(self, query: str) -> WorkflowExecutionCount:
            index = ExecutionIndex(None, NAMES.executions)
            folder = Folder(log, NAMES.executions, NAMES.partitions, index, lambda: NOW_MS)
            assert folder.catch_up(30)
            folder.close()
            groups = [WorkflowExecutionCountAggregationGroup(count, values) for count, values in index.count(query)]
            return WorkflowExecutionCount(sum(group.count for group in groups), groups)

        async def close(self) -> None:
            pass

    async def connect(address: str, *, namespace: str) -> FakeClient:
        return FakeClient()

    monkeypatch.setattr(Client, "connect", connect)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["worker", "deployment", *arguments])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return run


def write(log: EmbeddedLog, *records: NewRecord) -> None:
    producer = log.producer("test")
    assert producer.append(records).wait(30)
    producer.close()


def seen(log: EmbeddedLog, build_id: str, task_queue: str = "q", name: str = "d") -> None:
    """A worker of that version has started."""
    value = DeploymentVersionSeen(deployment_name=name, build_id=build_id, task_queue=task_queue, time_ms=NOW_MS)
    key = keys.version_seen_key(keys.version_name(name, build_id), task_queue)
    partition = keys.partition_of(task_queue, NAMES.partitions)
    write(log, NewRecord(NAMES.deployments, partition, key, codec.encode(value)))


def pinned_run(log: EmbeddedLog, run_id: str, version: str, **fields: Any) -> None:
    summary = ExecutionSummary(
        workflow_id="wf",
        run_id=run_id,
        first_execution_run_id=run_id,
        workflow_type="T",
        task_queue="q",
        start_time_ms=1,
        execution_time_ms=1,
        history_length=3,
        version=1,
        deployment_version=version,
        **{"status": WorkflowStatus.RUNNING, "versioning_behavior": VersioningBehavior.PINNED, **fields},
    )
    write(log, NewRecord(NAMES.executions, 0, keys.fenced_key(run_id, 0, 0), codec.encode(summary)))


def rows(out: str) -> dict[str, dict[str, Any]]:
    """The versions in the output of ``describe -o json``, by build id."""
    return {row["build_id"]: row for row in json.loads(out)["versions"]}


# --- the command line -------------------------------------------------------------------------------------------------


def test_versions_are_listed_as_workers_of_them_start(log: EmbeddedLog, run: Run) -> None:
    assert run("list", "-o", "json") == (0, "[]\n", "")
    seen(log, "1")
    seen(log, "1", "other")
    seen(log, "2")
    code, out, _ = run("list", "-o", "json")
    (row,) = json.loads(out)
    assert (code, row["deployment"], row["current"], row["versions"]) == (0, "d", "(unversioned)", "1, 2")
    code, out, _ = run("describe", "--name", "d", "-o", "json")
    assert (code, {build_id: row["status"] for build_id, row in rows(out).items()}) == (
        0,
        {"1": "INACTIVE", "2": "INACTIVE"},
    )
    assert rows(out)["1"]["task_queues"] == "other, q"


def test_a_version_becomes_current_and_the_one_before_drains(log: EmbeddedLog, run: Run) -> None:
    seen(log, "1")
    seen(log, "2")
    assert run("set-current-version", "--name", "d", "--build-id", "1") == (0, "1 is current in d\n", "")
    pinned_run(log, "a", "d.1")
    pinned_run(log, "b", "d.1", status=WorkflowStatus.COMPLETED)
    pinned_run(log, "c", "d.1", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
    assert run("set-current-version", "--deployment-name", "d", "--build-id", "2")[0] == 0
    _, out, _ = run("describe", "-d", "d", "-o", "json")
    assert (rows(out)["1"]["status"], rows(out)["1"]["open_pinned_runs"]) == ("DRAINING", 1)
    assert rows(out)["2"]["status"] == "CURRENT"
    assert (json.loads(out)["current"], json.loads(out)["changed_by"]) == ("2", "me")
    assert rows(out)["1"]["retired"].startswith("2023-11-14T22:13:20")
    pinned_run(log, "a", "d.1", status=WorkflowStatus.CANCELED)
    _, out, _ = run("describe", "-d", "d")
    assert "DRAINED" in out
    assert "unrouted" not in out
    found = read_deployments(log, NAMES)["d"]
    assert found.behind == []


def test_a_version_ramps_up_and_becomes_current(log: EmbeddedLog, run: Run) -> None:
    seen(log, "1")
    seen(log, "2")
    run("set-current-version", "-d", "d", "--build-id", "1")
    code, out, _ = run("set-ramping-version", "-d", "d", "--build-id", "2", "--percentage", "12.5")
    assert (code, out) == (0, "2 gets 12.5 % in d\n")
    _, out, _ = run("list", "-o", "json")
    assert (json.loads(out)[0]["ramping"], json.loads(out)[0]["percentage"]) == ("2", "12.5")
    run("set-current-version", "-d", "d", "--build-id", "2")
    routing = read_deployments(log, NAMES)["d"].routing
    assert routing is not None
    assert (routing.current_build_id, routing.ramping_build_id, list(routing.retired_ms)) == ("2", None, ["1"])
    assert run("set-ramping-version", "-d", "d", "--delete") == (0, "nothing is ramping in d\n", "")
    assert run("set-current-version", "-d", "d", "--unversioned")[1] == "(unversioned) is current in d\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("describe", "-d", "x"), "there is no deployment 'x'; there are: d"),
        (("set-current-version", "-d", "d", "--build-id", "3"), "no version with build id '3'; it has: 1, 2"),
        (("set-ramping-version", "-d", "d", "--build-id", "1", "--percentage", "5"), "'1' is current"),
        (("set-ramping-version", "-d", "d", "--build-id", "2", "--percentage", "101"), "must be 0 to 100"),
        (("delete-version", "-d", "d", "--build-id", "3"), "no version with build id '3'"),
        (("delete-version", "-d", "d", "--build-id", "1"), "is current in 'd'"),
    ],
)
def test_what_cannot_be_done_says_why(log: EmbeddedLog, run: Run, arguments: tuple[str, ...], message: str) -> None:
    seen(log, "1")
    seen(log, "2")
    run("set-current-version", "-d", "d", "--build-id", "1")
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert message in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("set-current-version", "-d", "d"),
        ("set-current-version", "-d", "d", "--build-id", "1", "--unversioned"),
        ("set-ramping-version", "-d", "d", "--build-id", "1", "--delete"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_asked(run: Run, arguments: tuple[str, ...]) -> None:
    code, _, err = run(*arguments)
    assert (code, "either" in err) == (2, True)


def test_a_version_that_serves_less_needs_a_word(log: EmbeddedLog, run: Run) -> None:
    seen(log, "1")
    seen(log, "1", "payments")
    seen(log, "2")
    run("set-current-version", "-d", "d", "--build-id", "1")
    code, _, err = run("set-current-version", "-d", "d", "--build-id", "2")
    assert (code, "payments" in err, "--ignore-missing-task-queues" in err) == (1, True, True)
    assert run("set-current-version", "-d", "d", "--build-id", "2", "--ignore-missing-task-queues")[0] == 0


def test_a_draining_version_is_deleted_on_ones_word_only(log: EmbeddedLog, run: Run) -> None:
    seen(log, "1")
    seen(log, "1", "payments")
    seen(log, "2")
    run("set-current-version", "-d", "d", "--build-id", "2", "--ignore-missing-task-queues")
    pinned_run(log, "a", "d.1")
    code, _, err = run("delete-version", "-d", "d", "--build-id", "1")
    assert (code, "--skip-drainage" in err) == (1, True)
    assert run("delete-version", "-d", "d", "--build-id", "1", "--skip-drainage") == (0, "1 deleted from d\n", "")
    assert list(read_deployments(log, NAMES)["d"].versions) == ["2"]


# --- the topic --------------------------------------------------------------------------------------------------------


def routing_copies(log: EmbeddedLog) -> dict[int, list[tuple[int, DeploymentRouting]]]:
    """The routings in each partition, with their revisions."""
    found: dict[int, list[tuple[int, DeploymentRouting]]] = {}
    for number in range(NAMES.partitions):
        target = TopicPartition(NAMES.deployments, number)
        end = log.watermarks(target)[1]
        reader = log.reader("test")
        reader.assign({target: log.BEGIN})
        while end and reader.position(target) < end:
            for record in reader.poll(100, 1.0):
                value = codec.decode(record.value)
                if isinstance(value, DeploymentRouting):
                    revision = record.offset if value.revision < 0 else value.revision
                    found.setdefault(number, []).append((revision, value))
        reader.close()
    return found


def test_every_partition_gets_a_copy_with_the_offset_of_the_first_as_its_revision(log: EmbeddedLog, run: Run) -> None:
    seen(log, "1")
    for _ in range(2):
        run("set-current-version", "-d", "d", "--build-id", "1")
    copies = routing_copies(log)
    assert sorted(copies) == list(range(NAMES.partitions))
    revisions = {number: [revision for revision, _ in found] for number, found in copies.items()}
    home = keys.partition_of("d", NAMES.partitions)
    assert all(found == revisions[home] for found in revisions.values())
    assert revisions[home] == sorted(set(revisions[home])), "a later change has a larger one"


def test_a_change_that_did_not_reach_all_partitions_shows_and_is_mended_by_the_next(log: EmbeddedLog, run: Run) -> None:
    seen(log, "1")
    home = keys.partition_of("d", NAMES.partitions)
    routing = DeploymentRouting(deployment_name="d", current_build_id="1", time_ms=NOW_MS)
    write(log, NewRecord(NAMES.deployments, home, keys.routing_key("d"), codec.encode(routing)))
    behind = read_deployments(log, NAMES)["d"].behind
    assert behind == [number for number in range(NAMES.partitions) if number != home]
    assert "unrouted_partitions" in run("describe", "-d", "d")[1]
    run("set-current-version", "-d", "d", "--build-id", "1")
    assert read_deployments(log, NAMES)["d"].behind == []


def test_who_was_overtaken_is_told(log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(log, "1")
    newer = DeploymentRouting(deployment_name="d", current_build_id="", time_ms=NOW_MS, identity="the other one")
    home = keys.partition_of("d", NAMES.partitions)
    really_read = deployments.read_deployments

    def overtaken(log: Any, names: TopicNames) -> deployments.Deployments:
        write(log, NewRecord(NAMES.deployments, home, keys.routing_key("d"), codec.encode(newer)))
        return really_read(log, names)

    monkeypatch.setattr(deployments, "read_deployments", overtaken)
    with pytest.raises(CliError, match="the other one"):
        deployments.write_routing(log, NAMES, replace(newer, current_build_id="1", identity="me"))


def test_what_cannot_be_read_is_passed_over(log: EmbeddedLog) -> None:
    seen(log, "1")
    write(log, NewRecord(NAMES.deployments, 0, keys.routing_key("d"), b"no record"))
    write(log, NewRecord(NAMES.deployments, 0, b"version/\xff/q", None))
    write(log, NewRecord(NAMES.deployments, 1, b"version/d.2", None))
    assert list(read_deployments(log, NAMES)["d"].versions) == ["1"]


# --- decisions --------------------------------------------------------------------------------------------------------


def test_a_version_retires_when_it_is_neither_current_nor_ramping_any_more() -> None:
    found = Deployment("d", versions={"1": {"q"}, "2": {"q"}, "3": {"q"}})
    for build_id, at_ms in (("1", 10), ("2", 20), ("1", 30)):
        found.routing = with_current(found, build_id, any_queues=False, now_ms=at_ms)
    assert found.routing is not None
    assert found.routing.retired_ms == {"2": 30}, "version 1 is back"
    found.routing = with_ramping(found, "3", 5, any_queues=False, now_ms=40)
    assert found.status("3", {}) is VersionStatus.RAMPING
    found.routing = with_ramping(found, None, 0, any_queues=False, now_ms=50)
    assert found.routing.retired_ms == {"2": 30, "3": 50}
    assert found.status("3", {}) is VersionStatus.DRAINED
    assert found.status("2", {"d.2": 1}) is VersionStatus.DRAINING


def test_a_version_is_forgotten_in_all_partitions_of_a_task_queue(log: EmbeddedLog) -> None:
    producer = log.producer("test")
    seen = DeploymentVersionSeen(deployment_name="d", build_id="1", task_queue="q~2", time_ms=1)
    partitions = keys.queue_partitions("q~2", NAMES.partitions)
    key = keys.version_seen_key("d.1", "q~2")
    assert len(partitions) == 2
    records = [NewRecord(NAMES.deployments, number, key, codec.encode(seen)) for number in partitions]
    assert producer.append(records).wait(30.0)
    producer.close()
    deployment = read_deployments(log, NAMES)["d"]
    assert deployment.versions == {"1": {"q~2"}}
    delete_version(log, NAMES, deployment, "1")
    assert "d" not in read_deployments(log, NAMES) or not read_deployments(log, NAMES)["d"].versions
