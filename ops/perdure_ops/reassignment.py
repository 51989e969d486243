"""Which brokers have which replicas, and which should: plans in the JSON format of Kafka's own tool. Pure.

Invariants: a plan keeps what is in a good place where it is; each partition has as many different brokers as asked for;
brokers differ by one replica at most, and so do they in the partitions they are the first choice to lead. Called by
``perdure_ops.reassigning``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perdure_ops.errors import CliError
from perdure_runtime.log import TopicPartition

__all__ = ["Replicas", "differences", "parse", "plan", "to_json_text"]

#: The brokers of each partition; the first one is to lead it.
Replicas = dict[TopicPartition, list[int]]


def plan(current: Mapping[TopicPartition, Sequence[int]], brokers: Iterable[int], replication: int | None) -> Replicas:
    """Where replicas should be.

    Parameters:
        current: where they are.
        brokers: those to use.
        replication: how many of each partition; as many as now if not given.

    Raises:
        CliError: there are fewer brokers than replicas.
    """
    allowed = sorted(set(brokers))
    most = replication or max((len(replicas) for replicas in current.values()), default=1)
    if most > len(allowed):
        there = ", ".join(map(str, allowed)) or "none"
        raise CliError(f"{most} replicas need as many brokers, and there are {len(allowed)}: {there}")
    load: Counter[int] = Counter(dict.fromkeys(allowed, 0))
    found: Replicas = {}
    for place in sorted(current):
        wanted = replication or len(current[place])
        found[place] = [broker for broker in current[place] if broker in load][:wanted]
        load.update(found[place])
    for place in sorted(current):
        while len(found[place]) < (replication or len(current[place])):
            broker = min((one for one in allowed if one not in found[place]), key=lambda one: (load[one], one))
            found[place].append(broker)
            load[broker] += 1
    _level(found, load)
    _lead(found, allowed)
    return found


def _level(found: Replicas, load: Counter[int]) -> None:
    """Move replicas from the brokers that have the most to those that have the fewest."""
    for place in sorted(found):
        replicas = found[place]
        for number, broker in enumerate(replicas):
            other = min((one for one in load if one not in replicas), key=lambda one: (load[one], one), default=None)
            if other is not None and load[broker] - load[other] > 1:
                replicas[number] = other
                load[broker] -= 1
                load[other] += 1


def _lead(found: Replicas, brokers: Sequence[int]) -> None:
    """Choose who is to lead each partition, the present one unless another leads fewer."""
    leads: Counter[int] = Counter(dict.fromkeys(brokers, 0))
    for place in sorted(found):
        replicas = found[place]
        leader = min(replicas, key=lambda one: (leads[one], replicas.index(one)))
        leads[leader] += 1
        found[place] = [leader, *(one for one in replicas if one != leader)]


def differences(
    current: Mapping[TopicPartition, Sequence[int]], wanted: Mapping[TopicPartition, Sequence[int]]
) -> list[TopicPartition]:
    """The partitions that are not where they should be; which of its brokers leads one makes no difference."""
    return [place for place, replicas in wanted.items() if set(current.get(place, ())) != set(replicas)]


def to_json_text(wanted: Mapping[TopicPartition, Sequence[int]]) -> str:
    """A plan in the form that ``kafka-reassign-partitions.sh --reassignment-json-file`` takes."""
    partitions = [
        {"topic": place.topic, "partition": place.partition, "replicas": list(replicas)}
        for place, replicas in sorted(wanted.items())
    ]
    return json.dumps({"version": 1, "partitions": partitions}, indent=1)


def parse(text: str, where: str) -> Replicas:
    """A plan from such a text.

    Raises:
        CliError: it is none; the message says where it is wrong.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise CliError(f"{where} is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != 1:
        raise CliError(f"{where}: a plan is an object with version 1 and a list of partitions")
    rows = document.get("partitions")
    if not isinstance(rows, list) or not rows:
        raise CliError(f"{where}: there is no list of partitions")
    found: Replicas = {}
    for number, row in enumerate(rows):
        place, replicas = _row(row, f"{where}: partitions[{number}]")
        if place in found:
            raise CliError(f"{where}: partitions[{number}]: {place.topic}[{place.partition}] stands there twice")
        found[place] = replicas
    return found


def _row(row: Any, where: str) -> tuple[TopicPartition, list[int]]:
    if not isinstance(row, dict) or not isinstance(row.get("topic"), str) or type(row.get("partition")) is not int:
        raise CliError(f"{where}: write an object with topic, partition and replicas")
    replicas = row.get("replicas")
    if not isinstance(replicas, list) or not replicas or not all(type(one) is int and one >= 0 for one in replicas):
        raise CliError(f"{where}: replicas is not a list of broker ids")
    if len(set(replicas)) < len(replicas):
        raise CliError(f"{where}: a broker stands twice in {replicas}")
    return TopicPartition(row["topic"], row["partition"]), replicas
