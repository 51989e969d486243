"""Topics: creating, describing and altering them."""

from __future__ import annotations

import threading
import time
import uuid

import pytest

from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import GroupDescription, Log, LogError, TopicPartition
from perdure_runtime.remote import RemoteLog
from perdure_schemas.topics import COMMANDS, HISTORY
from tests.contract.conftest import LogFactory, TopicFactory
from tests.contract.reading import Member, append, drive, read_from, values


def test_topics_are_created_with_what_their_specs_say(log: Log) -> None:
    name = uuid.uuid4().hex
    specs = {f"{name}.commands": COMMANDS, f"{name}.history": HISTORY}
    log.create_topics(specs, 3)
    described = log.describe_topics([*specs, "no-such-topic"])
    assert set(described) == set(specs)
    for topic, spec in specs.items():
        assert described[topic].name == topic
        assert described[topic].partitions == 3
        assert described[topic].replication == 1
        assert spec.config().items() <= dict(described[topic].config).items()


def test_created_topics_can_be_used_at_once(log: Log, log_factory: LogFactory) -> None:
    names = [f"{uuid.uuid4().hex}-{n}" for n in range(4)]
    log.create_topics(dict.fromkeys(names, COMMANDS), 2)
    for name in names:
        append(log_factory(), values(name, [b"v"], partition=1))


def test_creating_again_leaves_topics_as_they_are(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic(partitions=2)
    append(log, values(topic, [b"kept"]))
    log.create_topics({topic: HISTORY}, 5)
    assert log.describe_topics([topic])[topic].partitions == 2
    assert log.describe_topics([topic])[topic].config["cleanup.policy"] == "delete"
    assert read_from(log, {TopicPartition(topic, 0): log.BEGIN}, 1)[0].value == b"kept"


def test_many_may_create_the_same_topics_at_once(log_factory: LogFactory) -> None:
    names = [f"{uuid.uuid4().hex}-{n}" for n in range(3)]
    logs = [log_factory() for _ in range(3)]
    errors: list[Exception] = []

    def create(log: Log) -> None:
        try:
            log.create_topics(dict.fromkeys(names, COMMANDS), 1)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=create, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert set(logs[0].describe_topics(names)) == set(names)


def test_altering_sets_some_entries_and_leaves_the_others(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic()
    log.alter_topic(topic, {"retention.ms": "123456"})
    deadline_s = time.monotonic() + 30
    while (config := log.describe_topics([topic])[topic].config)["retention.ms"] != "123456":
        # The broker that answers may hear of it a moment after the one that was told.
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert config["max.message.bytes"] == COMMANDS.config()["max.message.bytes"]


def test_an_unknown_topic_cannot_be_altered(log: Log) -> None:
    with pytest.raises(LogError, match="no-such-topic"):
        log.alter_topic("no-such-topic", {"retention.ms": "1"})


def test_describing_nothing_or_unknown_topics_gives_nothing(log: Log) -> None:
    assert log.describe_topics([]) == {}
    assert log.describe_topics(["no-such-topic"]) == {}


def test_a_topic_that_cannot_exist_is_refused(log: Log) -> None:
    with pytest.raises(LogError, match="partitions"):
        log.create_topics({uuid.uuid4().hex: COMMANDS}, 0)
    with pytest.raises(LogError, match="not legal"):
        log.create_topics({"not legal": COMMANDS}, 1)


def test_a_group_is_described_through_the_socket() -> None:
    embedded = EmbeddedLog(None)
    embedded.create_topics({"shared": COMMANDS}, 2)
    remote = RemoteLog("127.0.0.1", embedded.serve("127.0.0.1", 0).port)
    try:
        member = Member(embedded, "group", "shared", "one")
        drive([member], lambda: len(member.owned) == 2)
        assert member.membership.commit({1: 8}).wait(30)
        assert remote.describe_group("group", "shared") == GroupDescription({1: 8}, {0: "one", 1: "one"})
        with pytest.raises(LogError, match="nowhere"):
            remote.describe_group("group", "nowhere")
    finally:
        remote.close()
        embedded.close()


@pytest.mark.parametrize("log_factory", ["socket"], indirect=True)
def test_socket_has_no_groups(log: Log, new_topic: TopicFactory) -> None:
    with pytest.raises(LogError, match="group"):
        log.join("group", new_topic(), "", lambda _: None, lambda _, __: None)
