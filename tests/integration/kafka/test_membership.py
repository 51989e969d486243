"""Groups on Kafka: static members, members that go silent, and how quickly partitions change hands."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from perdure_runtime.kafka import KafkaLog
from perdure_runtime.kafka.membership import KafkaMembership
from perdure_runtime.log import LogError
from perdure_schemas.topics import COMMANDS
from tests.contract.reading import Member, append, drive, values

pytestmark = pytest.mark.kafka


@pytest.fixture
def topic(kafka_bootstrap: str, kafka_namespace: str) -> str:
    log = KafkaLog(kafka_bootstrap)
    log.create_topics({kafka_namespace: COMMANDS}, 2)
    log.close()
    return kafka_namespace


@pytest.fixture
def patient(kafka_bootstrap: str) -> Iterator[KafkaLog]:
    """Sessions so long that a test that had to wait for one to time out would fail."""
    log = KafkaLog(kafka_bootstrap, {"session.timeout.ms": "120000", "heartbeat.interval.ms": "200"})
    yield log
    log.close()


def test_a_static_member_that_leaves_hands_over_long_before_its_session_ends(patient: KafkaLog, topic: str) -> None:
    first, second = Member(patient, topic, topic, "engine-1"), Member(patient, topic, topic, "engine-2")
    drive([first, second], lambda: len(first.owned) == len(second.owned) == 1)
    first.membership.leave()
    drive([second], lambda: second.owned == {0, 1})


def test_a_restart_under_the_same_name_gets_its_partitions_at_once(patient: KafkaLog, topic: str) -> None:
    """The first member never leaves, as after ``kill -9``; its name comes back long before its session ends."""
    dead = Member(patient, topic, topic, "engine-1")
    drive([dead], lambda: dead.owned == {0, 1})
    ack = dead.membership.commit({0: 17})
    drive([dead], ack.done)
    restarted = Member(patient, topic, topic, "engine-1")
    drive([restarted], lambda: restarted.owned == {0, 1})
    assert restarted.membership.committed([0, 1]) == {0: 17}


def test_the_older_of_two_members_under_one_name_is_shut_out(patient: KafkaLog, topic: str) -> None:
    older = Member(patient, topic, topic, "engine-1")
    drive([older], lambda: older.owned == {0, 1})
    newer = Member(patient, topic, topic, "engine-1")
    drive([newer], lambda: newer.owned == {0, 1})

    def older_polls_for_ever() -> bool:
        older.membership.poll()
        newer.membership.poll()
        return False

    with pytest.raises(LogError, match="instance name"):
        drive([], older_polls_for_ever)


def test_a_member_that_goes_silent_loses_its_partitions_and_cannot_commit(kafka_bootstrap: str, topic: str) -> None:
    log = KafkaLog(kafka_bootstrap, {"session.timeout.ms": "1500", "max.poll.interval.ms": "1500"})
    zombie = Member(log, topic, topic)
    drive([zombie], lambda: zombie.owned == {0, 1})
    successor = Member(log, topic, topic)
    drive([successor], lambda: successor.owned == {0, 1})
    ack = successor.membership.commit({0: 100})
    drive([successor], ack.done)

    late = zombie.membership.commit({0: 5})
    drive([zombie, successor], late.done)
    assert late.error() is not None
    assert successor.membership.committed([0]) == {0: 100}
    told_lost = [partition for kind, partitions in zombie.calls if kind != "assigned" for partition in partitions]
    drive([zombie, successor], lambda: len(zombie.owned) == len(successor.owned) == 1)
    assert 0 in told_lost or 1 in told_lost
    assert not zombie.owned & successor.owned
    log.close()


def test_a_membership_reads_no_records(patient: KafkaLog, topic: str) -> None:
    """Records that were there before, and new ones, must not come through the membership's consumer."""
    append(patient, values(topic, [b"v"] * 50))
    member = Member(patient, topic, topic)
    drive([member], lambda: member.owned == {0, 1})
    append(patient, values(topic, [b"v"] * 50))
    assert isinstance(member.membership, KafkaMembership)
    pause = threading.Event()
    for _ in range(20):
        assert member.membership._client.poll(0) is None
        pause.wait(0.02)


def test_a_member_of_a_topic_that_does_not_exist_yet_waits_for_it(kafka_bootstrap: str, kafka_namespace: str) -> None:
    log = KafkaLog(kafka_bootstrap, {"topic.metadata.refresh.interval.ms": "200"})
    member = Member(log, kafka_namespace, kafka_namespace)
    member.membership.poll()
    log.create_topics({kafka_namespace: COMMANDS}, 2)
    drive([member], lambda: member.owned == {0, 1})
    log.close()
