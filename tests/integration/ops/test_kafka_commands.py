"""Commands beside Kafka's own tools, on a broker: lag, and plans for replicas."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from perdure_ops.group_lag import groups_of, lags_of
from perdure_runtime.kafka import KafkaLog
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames
from tests.integration.ops.conftest import Run
from tests.support.kafka_broker import BrokerUnavailableError
from tests.support.kafka_native import kafka_tool
from tests.support.skipping import skip_without_broker

pytestmark = pytest.mark.kafka

ATTEMPTS = 10


@pytest.fixture
def on_kafka(kafka_engine: tuple[Log, TopicNames], capsys: pytest.CaptureFixture[str]) -> Run:
    log, names = kafka_engine
    assert isinstance(log, KafkaLog)
    return Run(f"kafka://{log.bootstrap}", names.namespace, capsys)


def printed_by_kafka(bootstrap: str, group: str) -> dict[tuple[str, int], tuple[int | None, int, int | None]]:
    """Committed offset, end and lag of each partition as ``kafka-consumer-groups.sh --describe`` prints them."""
    tool = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    try:
        text = kafka_tool(tool, "--bootstrap-server", bootstrap, "--describe", "--group", group)
    except BrokerUnavailableError as error:
        skip_without_broker(error)
    lines = [line.split() for line in text.splitlines() if line.strip()]
    (header,) = [line for line in lines if line[0] == "GROUP"]
    wanted = [header.index(name) for name in ("TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG")]
    rows = [[line[number] for number in wanted] for line in lines if line[0] == group]
    return {
        (topic, int(partition)): (_number(committed), int(end), _number(lag))
        for topic, partition, committed, end, lag in rows
    }


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


def test_lag_is_what_kafkas_own_tool_prints(kafka_engine: tuple[Log, TopicNames]) -> None:
    log, names = kafka_engine
    assert isinstance(log, KafkaLog)
    group = groups_of(names)[0]

    def ours() -> dict[tuple[str, int], tuple[int | None, int, int | None]]:
        found = [lag for lag in lags_of(log, names, ages=False) if lag.group == group]
        return {(group.topic, lag.partition): (lag.committed, lag.end, lag.lag) for lag in found}

    for _ in range(ATTEMPTS):
        before = ours()
        theirs = printed_by_kafka(log.bootstrap, group.name)
        if before == ours():  # else something was committed meanwhile, and they may differ
            break
    assert set(before) == {(names.commands, number) for number in range(names.partitions)}
    assert before == theirs


def test_a_plan_for_replicas(on_kafka: Run, kafka_engine: tuple[Log, TopicNames], tmp_path: Path) -> None:
    _, names = kafka_engine
    assert "nothing to do" in on_kafka.ok("reassign", "plan")
    assert json.loads(on_kafka.ok("reassign", "plan", "-o", "json"))["partitions"] == []
    assert "there is no broker 99" in on_kafka.fails("reassign", "plan", "--brokers", "99")
    assert "2 replicas need as many brokers" in on_kafka.fails("reassign", "plan", "--replication", "2")
    assert "no list of broker ids" in on_kafka.fails("reassign", "plan", "--brokers", "one", code=2)
    file = tmp_path / "plan.json"

    def write(replicas: list[int], topic: str = names.commands) -> None:
        row = {"topic": topic, "partition": 0, "replicas": replicas}
        file.write_text(json.dumps({"version": 1, "partitions": [row]}))

    def command(verb: str, *arguments: str) -> tuple[str, ...]:
        return ("reassign", verb, str(file), *arguments)

    # These two take no namespace: a plan names its topics.
    run = on_kafka.without_namespace
    write([1])
    assert run(*command("verify"))[0] == 0
    code, out, _ = run(*command("execute", "--yes"))
    assert (code, "nothing to move" in out) == (0, True)
    write([2])
    code, out, _ = run(*command("verify", "-o", "json"))
    assert (code, json.loads(out)[0]["state"]) == (1, "not begun")
    code, _, err = run(*command("execute", "--yes", "--tool", "/nowhere/kafka-reassign-partitions.sh"))
    assert (code, "needs Kafka's own kafka-reassign-partitions.sh" in err) == (1, True)
    tool, seen = tmp_path / "tool.sh", tmp_path / "seen.json"
    tool.write_text(
        f"#!{sys.executable}\nimport json, sys, pathlib\n"
        "given = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        f"pathlib.Path({str(seen)!r}).write_text(pathlib.Path(given['--reassignment-json-file']).read_text())\n"
        "print('Successfully started partition reassignment' if '--execute' in sys.argv else 'nothing')\n"
    )
    tool.chmod(0o700)
    assert run(*command("execute", "--dry-run", "--tool", str(tool)))[0] == 0
    assert not seen.exists()
    code, out, err = run(*command("execute", "--yes", "--tool", str(tool)))
    assert (code, "are being moved" in out) == (0, True), err
    assert json.loads(seen.read_text())["partitions"] == [{"topic": names.commands, "partition": 0, "replicas": [2]}]
    tool.write_text("#!/bin/sh\necho 'not so' >&2\nexit 3\n")
    code, _, err = run(*command("execute", "--yes", "--tool", str(tool)))
    assert (code, err) == (1, "Error: kafka-reassign-partitions.sh did not begin to move: not so\n")
    write([1], topic="none.such")
    assert "there is no partition 0 of topic 'none.such'" in run(*command("execute", "--yes"))[2]
    file.write_text("no")
    assert "is no JSON" in run(*command("verify"))[2]
