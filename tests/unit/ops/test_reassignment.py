"""Plans for replicas: balanced, no more moves than needed, and in the form of Kafka's own tool."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_ops.errors import CliError
from perdure_ops.reassignment import differences, parse, plan, to_json_text
from perdure_runtime.log import TopicPartition

brokers = st.sets(st.integers(1, 9), min_size=3, max_size=6)


def place(topic: str, partition: int) -> TopicPartition:
    return TopicPartition(topic, partition)


@given(
    st.dictionaries(
        st.builds(TopicPartition, st.sampled_from("abc"), st.integers(0, 15)),
        st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True),
        min_size=1,
    ),
    brokers,
    st.sampled_from([None, 1, 2, 3]),
)
def test_every_partition_has_its_replicas_on_the_brokers_to_use(
    current: dict[TopicPartition, list[int]], to_use: set[int], replication: int | None
) -> None:
    wanted = plan(current, to_use, replication)
    assert wanted.keys() == current.keys()
    for where, replicas in wanted.items():
        assert len(replicas) == len(set(replicas)) == (replication or len(current[where]))
        assert set(replicas) <= to_use
    assert parse(to_json_text(wanted), "it") == wanted
    again = plan(wanted, to_use, replication)
    assert {where: set(replicas) for where, replicas in again.items()} == {
        where: set(replicas) for where, replicas in wanted.items()
    }


def test_a_broker_that_leaves_gives_its_replicas_and_no_others_move() -> None:
    current = {place("a", n): [1 + n % 3, 1 + (n + 1) % 3] for n in range(6)}
    wanted = plan(current, [1, 2, 4], None)
    moved = differences(current, wanted)
    assert {where for where, replicas in current.items() if 3 in replicas} <= set(moved)
    load = Counter(broker for replicas in wanted.values() for broker in replicas)
    assert set(load.values()) == {4}


def test_a_new_broker_gets_its_share_and_leads_some() -> None:
    current = {place("a", n): [1] for n in range(8)}
    wanted = plan(current, [1, 2], None)
    assert Counter(replicas[0] for replicas in wanted.values()) == {1: 4, 2: 4}
    assert len(differences(current, wanted)) == 4


def test_what_is_balanced_stays() -> None:
    current = {place("a", 0): [1, 2, 3], place("a", 1): [2, 3, 1], place("a", 2): [3, 1, 2]}
    assert plan(current, [1, 2, 3], None) == current
    assert differences(current, plan(current, [1, 2, 3], None)) == []


def test_too_few_brokers_are_an_error() -> None:
    with pytest.raises(CliError, match="3 replicas need as many brokers, and there are 2: 1, 2"):
        plan({place("a", 0): [1]}, [1, 2], 3)


def test_the_form_is_that_of_kafkas_tool() -> None:
    document = json.loads(to_json_text({place("b", 1): [2, 3], place("a", 0): [1]}))
    assert document == {
        "version": 1,
        "partitions": [
            {"topic": "a", "partition": 0, "replicas": [1]},
            {"topic": "b", "partition": 1, "replicas": [2, 3]},
        ],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "is no JSON"),
        ("[]", "version 1"),
        ('{"version": 1, "partitions": []}', "no list of partitions"),
        ('{"version": 1, "partitions": [{"topic": "a"}]}', r"partitions\[0\]: write an object"),
        ('{"version": 1, "partitions": [{"topic": "a", "partition": 0, "replicas": ["1"]}]}', "no list|not a list"),
        ('{"version": 1, "partitions": [{"topic": "a", "partition": 0, "replicas": [1, 1]}]}', "stands twice"),
        (
            '{"version": 1, "partitions": [{"topic": "a", "partition": 0, "replicas": [1]},'
            ' {"topic": "a", "partition": 0, "replicas": [2]}]}',
            "stands there twice",
        ),
    ],
)
def test_a_wrong_plan_is_said_where(text: str, said: str) -> None:
    with pytest.raises(CliError, match=said):
        parse(text, "plan.json")
