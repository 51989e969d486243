"""What the engine's own decisions leave in the log is sound, whatever commands come, also across takeovers."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from perdure_ops.audit import Breach, audit
from perdure_runtime.log import LogRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import OwnerMark
from perdure_schemas.topics import EXECUTIONS, HISTORY, TASKS, TIMERS, TopicNames
from tests.unit.history.harness import NAMES, History
from tests.unit.history.random_life import RandomLife


def breaches_of(owners: list[History]) -> list[Breach]:
    """What the audit finds in all that these owners of one partition wrote, one after the other."""
    found = list(owners[-1].log)
    offsets: Counter[str] = Counter()

    def append(topic: str, key: bytes | None, value: bytes | None, time_ms: int) -> None:
        found.append(LogRecord(topic, 0, offsets[topic], key, value, time_ms))
        offsets[topic] += 1

    for owner in owners:
        mark = codec.encode(OwnerMark(source="history/0", epoch=owner.epoch, owner="test", time_ms=0))
        for topic in (NAMES.tasks, NAMES.timers, NAMES.executions):
            append(topic, keys.mark_key("history/0", str(owner.epoch)), mark, 0)
        for record in owner.all_sent:
            if record.topic != NAMES.history:
                append(record.topic, record.key, record.value, record.timestamp_ms)
    # The harness keeps all workflows in one partition.
    names = TopicNames(NAMES.namespace, NAMES.prefix, 1)
    return audit(found, names, [HISTORY, TASKS, TIMERS, EXECUTIONS])


@pytest.mark.parametrize("seed", range(40))
def test_random_lives_are_sound(seed: int) -> None:
    chance = random.Random(seed)
    owners = [History()]
    life = RandomLife(owners[0])
    for _ in range(chance.randrange(20, 120)):
        if chance.random() < 0.03:
            last = owners[-1]
            # The next owner has no state, and the group has committed everything, or nothing.
            committed = chance.choice([None, last.offset])
            owners.append(History(log=last.log, committed=committed, command_offset=last.offset, now_ms=last.now_ms))
            life.history = owners[-1]
        life.step(chance.randrange(18), chance.randrange(100), chance.randrange(100))
    assert breaches_of(owners) == []
