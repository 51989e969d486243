"""Groups: sharing the partitions of a topic, and remembering what is done."""

from __future__ import annotations

import uuid

import pytest

from perdure_runtime.log import GroupDescription, Log, LogError
from tests.contract.conftest import LogFactory, TopicFactory
from tests.contract.reading import Member, drive

#: Not through the embedded log's socket: engines run where that log is (see ``test_socket_has_no_groups``).
pytestmark = pytest.mark.parametrize(
    "log_factory", ["memory", "disk", pytest.param("kafka", marks=pytest.mark.kafka)], indirect=True
)


def unique() -> str:
    return f"group-{uuid.uuid4().hex[:10]}"


def test_a_single_member_gets_all_partitions(log: Log, new_topic: TopicFactory) -> None:
    member = Member(log, unique(), new_topic(partitions=3))
    drive([member], lambda: member.owned == {0, 1, 2})
    assert not [call for call in member.calls if call[0] != "assigned"]
    member.membership.leave()


def test_two_members_share_and_never_own_the_same(log_factory: LogFactory, log: Log, new_topic: TopicFactory) -> None:
    topic, group = new_topic(partitions=4), unique()
    first = Member(log, group, topic, f"{group}-1")
    drive([first], lambda: len(first.owned) == 4)
    second = Member(log_factory(), group, topic, f"{group}-2")

    def shared() -> bool:
        assert not first.owned & second.owned
        return len(first.owned) == len(second.owned) == 2

    drive([first, second], shared)
    assert first.owned | second.owned == {0, 1, 2, 3}
    assert [kind for kind, partitions in first.calls if partitions].count("revoked") == 1
    second.membership.leave()
    first.membership.leave()


def test_a_member_that_leaves_hands_over_without_being_told(log: Log, new_topic: TopicFactory) -> None:
    topic, group = new_topic(partitions=2), unique()
    first, second = (Member(log, group, topic, f"{group}-{n}") for n in (1, 2))
    drive([first, second], lambda: len(first.owned) == len(second.owned) == 1)
    calls_before = len(first.calls)
    first.membership.leave()
    first.membership.leave()
    drive([second], lambda: second.owned == {0, 1})
    assert first.calls[calls_before:] == []
    second.membership.leave()


def test_a_member_that_comes_back_under_its_name_gets_partitions(log: Log, new_topic: TopicFactory) -> None:
    topic, group = new_topic(partitions=2), unique()
    first = Member(log, group, topic, f"{group}-1")
    drive([first], lambda: len(first.owned) == 2)
    first.membership.leave()
    again = Member(log, group, topic, f"{group}-1")
    drive([again], lambda: len(again.owned) == 2)
    again.membership.leave()


def test_commits_are_acknowledged_and_read_by_anybody(
    log: Log, log_factory: LogFactory, new_topic: TopicFactory
) -> None:
    topic, group = new_topic(partitions=3), unique()
    member = Member(log, group, topic)
    drive([member], lambda: len(member.owned) == 3)
    assert member.membership.committed([0, 1, 2]) == {}
    ack = member.membership.commit({0: 7, 1: 5})
    drive([member], ack.done)
    assert ack.error() is None
    assert ack.offsets() == {}
    ack = member.membership.commit({0: 9})
    drive([member], ack.done)
    other = Member(log_factory(), group, topic)
    assert other.membership.committed([0, 1, 2]) == {0: 9, 1: 5}
    assert other.membership.committed([2]) == {}
    other.membership.leave()
    member.membership.leave()


def test_a_group_is_described_without_joining(log: Log, log_factory: LogFactory, new_topic: TopicFactory) -> None:
    topic, group = new_topic(partitions=3), unique()
    assert log_factory().describe_group(group, topic) == GroupDescription({}, {})
    member = Member(log, group, topic, f"{group}-1")
    drive([member], lambda: len(member.owned) == 3)
    ack = member.membership.commit({0: 7, 2: 5})
    drive([member], ack.done)
    everything = dict.fromkeys(range(3), f"{group}-1")
    assert log_factory().describe_group(group, topic) == GroupDescription({0: 7, 2: 5}, everything)
    assert log_factory().describe_group(group, new_topic()) == GroupDescription({}, {})
    member.membership.leave()
    assert log_factory().describe_group(group, topic) == GroupDescription({0: 7, 2: 5}, {})


def test_a_group_on_a_topic_that_does_not_exist_is_an_error(log: Log) -> None:
    with pytest.raises(LogError, match="no-such-topic"):
        log.describe_group(unique(), "no-such-topic")


def test_of_many_commits_the_last_one_wins(log: Log, new_topic: TopicFactory) -> None:
    topic, group = new_topic(), unique()
    member = Member(log, group, topic)
    drive([member], lambda: len(member.owned) == 1)
    acks = [member.membership.commit({0: offset}) for offset in range(1, 30)]
    drive([member], lambda: all(ack.done() for ack in acks))
    assert [ack.error() for ack in acks] == [None] * len(acks)
    assert member.membership.committed([0]) == {0: 29}
    member.membership.leave()


def test_leaving_commits_what_is_pending(log: Log, new_topic: TopicFactory) -> None:
    topic, group = new_topic(), unique()
    member = Member(log, group, topic)
    drive([member], lambda: len(member.owned) == 1)
    member.membership.commit({0: 41})
    member.membership.commit({0: 42})
    member.membership.leave()
    after = Member(log, group, topic)
    assert after.membership.committed([0]) == {0: 42}
    after.membership.leave()


def test_a_commit_for_a_partition_of_another_is_refused(log: Log, new_topic: TopicFactory) -> None:
    topic, group = new_topic(partitions=2), unique()
    first, second = Member(log, group, topic), Member(log, group, topic)
    drive([first, second], lambda: len(first.owned) == len(second.owned) == 1)
    ack = first.membership.commit(dict.fromkeys(second.owned, 5))
    drive([first, second], ack.done)
    assert ack.error() is not None
    assert first.membership.committed([0, 1]) == {}
    first.membership.leave()
    second.membership.leave()


def test_a_commit_while_partitions_are_given_back_is_seen_by_the_next_owner(log: Log, new_topic: TopicFactory) -> None:
    topic, group = new_topic(partitions=2), unique()
    first = Member(log, group, topic)
    drive([first], lambda: len(first.owned) == 2)
    decided: list[bool] = []

    def commit(partitions: list[int]) -> None:
        ack = first.membership.commit(dict.fromkeys(partitions, 11))
        decided.append(ack.done() and ack.error() is None)

    first.when_revoked = commit
    second = Member(log, group, topic)
    drive([first, second], lambda: len(second.owned) == 1)
    assert decided == [True]
    assert second.membership.committed(list(second.owned)) == dict.fromkeys(second.owned, 11)
    second.membership.leave()
    first.membership.leave()


def test_groups_do_not_know_each_other(log: Log, new_topic: TopicFactory) -> None:
    topic = new_topic(partitions=2)
    one, other = Member(log, unique(), topic), Member(log, unique(), topic)
    drive([one, other], lambda: len(one.owned) == len(other.owned) == 2)
    ack = one.membership.commit({0: 3})
    drive([one, other], ack.done)
    assert other.membership.committed([0]) == {}
    one.membership.leave()
    other.membership.leave()
