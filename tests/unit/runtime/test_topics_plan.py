"""The topic plan: what is created, altered, refused and only advised."""

from __future__ import annotations

import pytest

from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import TopicConfigurationError, TopicDescription
from perdure_runtime.topics_plan import Action, TopicChange, TopicPlan, apply, check, declared_topics, plan
from perdure_schemas.topics import TOPICS, TopicNames

NAMES = TopicNames("shop", "p", 4)


def as_declared(**changes: dict[str, str]) -> dict[str, TopicDescription]:
    """Every topic as it is declared, with some configuration entries changed (by short topic name)."""
    return {
        topic: TopicDescription(topic, 4, 1, spec.config() | changes.get(spec.name.replace("-", "_"), {}))
        for topic, spec in declared_topics(NAMES).items()
    }


def only_change(found: dict[str, TopicDescription], replication: int = -1) -> TopicChange:
    changes = plan(NAMES, found, replication=replication).changes
    assert len(changes) == 1, changes
    return changes[0]


def test_topics_as_declared_need_nothing() -> None:
    result = plan(NAMES, as_declared())
    assert result.changes == ()
    assert result.is_done
    check(result)


def test_missing_topics_are_created() -> None:
    result = plan(NAMES, {}, replication=3)
    assert [change.topic for change in result.of(Action.CREATE)] == [NAMES.of(spec) for spec in TOPICS]
    assert "4 partitions, replication 3, compact" in {change.after for change in result.changes}
    assert not result.is_done


def test_task_queues_can_be_compared_too() -> None:
    result = plan(NAMES, as_declared(), task_queues=["orders"])
    assert [(change.topic, change.action) for change in result.changes] == [(NAMES.work("orders"), Action.CREATE)]


def test_another_number_of_partitions_is_refused() -> None:
    found = as_declared()
    found[NAMES.history] = found[NAMES.history]._replace(partitions=8)
    change = only_change(found)
    assert (change.topic, change.action, change.setting) == (NAMES.history, Action.REFUSE, "partitions")
    assert (change.before, change.after) == ("8", "4")


@pytest.mark.parametrize(
    ("topic", "setting", "value", "expected"),
    [
        ("commands", "retention.ms", "1000", Action.ALTER),
        ("commands", "retention.ms", "-1", None),
        ("commands", "retention.ms", str(30 * 86_400_000), None),
        ("dead_letters", "retention.ms", "1000", Action.ALTER),
        ("history", "max.message.bytes", "1048588", Action.ALTER),
        ("history", "max.message.bytes", str(64 * 1024 * 1024), None),
        ("history", "delete.retention.ms", "1", Action.ALTER),
        ("tasks", "message.timestamp.type", "LogAppendTime", Action.ALTER),
        ("tasks", "min.cleanable.dirty.ratio", "0.9", None),
        ("tasks", "segment.bytes", "1048576", None),
    ],
)
def test_configuration(topic: str, setting: str, value: str, expected: Action | None) -> None:
    found = as_declared(**{topic: {setting: value}})
    if expected is None:
        assert plan(NAMES, found).changes == ()
    else:
        change = only_change(found)
        assert (change.action, change.setting, change.before) == (expected, setting, value)


@pytest.mark.parametrize(
    ("topic", "policy", "expected"),
    [
        ("history", "delete", Action.ALTER),
        ("history", "compact,delete", Action.ALTER),
        ("commands", "compact", Action.REFUSE),
        ("commands", "delete, compact", Action.REFUSE),
    ],
)
def test_cleanup_policies(topic: str, policy: str, expected: Action) -> None:
    change = only_change(as_declared(**{topic: {"cleanup.policy": policy}}))
    assert (change.action, change.setting) == (expected, "cleanup.policy")


def test_unsafe_but_working_settings_are_only_advised() -> None:
    found = as_declared(tasks={"min.insync.replicas": "1", "unclean.leader.election.enable": "true"})
    found[NAMES.tasks] = found[NAMES.tasks]._replace(replication=2)
    result = plan(NAMES, found, replication=3)
    on_tasks = {change.setting: change.action for change in result.changes if change.topic == NAMES.tasks}
    assert on_tasks == {
        "replication": Action.ADVISE,
        "min.insync.replicas": Action.ADVISE,
        "unclean.leader.election.enable": Action.ADVISE,
    }
    assert result.is_done
    check(result)


def test_check_names_everything_at_once() -> None:
    found = as_declared(commands={"retention.ms": "5"}, history={"cleanup.policy": "delete"})
    found[NAMES.timers] = found[NAMES.timers]._replace(partitions=1)
    del found[NAMES.replies]
    with pytest.raises(TopicConfigurationError) as error:
        check(plan(NAMES, found))
    for part in (
        NAMES.commands,
        "retention.ms",
        NAMES.history,
        "cleanup.policy",
        NAMES.timers,
        NAMES.replies,
        "missing",
    ):
        assert part in str(error.value)


def current_plan(log: EmbeddedLog, names: TopicNames = NAMES) -> TopicPlan:
    return plan(names, log.describe_topics(list(declared_topics(names))))


def test_applying_makes_the_topics_as_declared() -> None:
    log = EmbeddedLog(None)
    try:
        done = apply(log, current_plan(log))
        assert {change.action for change in done} == {Action.CREATE}
        check(current_plan(log))
        log.alter_topic(NAMES.commands, {"retention.ms": "7"})
        done = apply(log, current_plan(log))
        assert [(change.topic, change.action, change.setting) for change in done] == [
            (NAMES.commands, Action.ALTER, "retention.ms")
        ]
        assert apply(log, current_plan(log)) == ()
    finally:
        log.close()


def test_nothing_is_applied_while_something_is_refused() -> None:
    log = EmbeddedLog(None)
    try:
        log.create_topics({NAMES.history: declared_topics(NAMES)[NAMES.history]}, 3)
        with pytest.raises(TopicConfigurationError, match=NAMES.history):
            apply(log, current_plan(log))
        assert set(log.describe_topics(list(declared_topics(NAMES)))) == {NAMES.history}
    finally:
        log.close()
