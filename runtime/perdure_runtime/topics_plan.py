"""What has to be done so that the topics are as they are declared: compared as data, applied on request.

Pure but for :func:`apply`. Invariants: a topic is never changed in a way that loses or re-keys records (such a
difference is refused, with what to do instead); what an operator has chosen more generously than declared is left
alone. Called by ops (``perdure topics plan/apply``) and at the start of a server (:func:`check`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from perdure_runtime.log import Log, TopicConfigurationError, TopicDescription
from perdure_schemas.topics import TOPICS, WORK, TopicNames, TopicSpec

_MISSING = "missing"
_UNLIMITED = -1


class Action(StrEnum):
    """What is to be done about a difference."""

    CREATE = "create"
    ALTER = "alter"
    #: It cannot be put right in place; nothing is applied while there is one.
    REFUSE = "refuse"
    #: The platform works with it, but records are less safe than they could be. Nothing is done.
    ADVISE = "advise"


class _Rule(StrEnum):
    EQUAL = "equal"
    AT_LEAST = "at least"
    TUNING = "tuning"


#: How a declared entry is compared; entries that are not listed have to be equal.
_RULES: Mapping[str, _Rule] = {
    "retention.ms": _Rule.AT_LEAST,
    "delete.retention.ms": _Rule.AT_LEAST,
    "max.message.bytes": _Rule.AT_LEAST,
    "min.cleanable.dirty.ratio": _Rule.TUNING,
}
_REASONS: Mapping[str, str] = {
    "retention.ms": "records could vanish before they are read",
    "delete.retention.ms": "a replica that was away could miss tombstones",
    "max.message.bytes": "large records would be refused",
    "message.timestamp.type": "timestamps must be those of the producers",
}


@dataclass(frozen=True, slots=True)
class TopicChange:
    """One difference between a topic and its declaration.

    Attributes:
        topic: full name.
        action: what is to be done.
        setting: what differs: ``topic`` (it does not exist), ``partitions``, ``replication`` or a configuration entry.
        before / after: how it is, and how it should be.
        reason: why, and for a refusal what to do instead.
    """

    topic: str
    action: Action
    setting: str
    before: str
    after: str
    reason: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} is {self.before}, not {self.after}: {self.reason}"


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """All differences, and what :func:`apply` needs to make new topics."""

    changes: tuple[TopicChange, ...]
    specs: Mapping[str, TopicSpec]
    partitions: int
    replication: int

    def of(self, *actions: Action) -> tuple[TopicChange, ...]:
        """The changes with one of these actions."""
        return tuple(change for change in self.changes if change.action in actions)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to create, to alter or to refuse."""
        return not self.of(Action.CREATE, Action.ALTER, Action.REFUSE)


def declared_topics(names: TopicNames, task_queues: Sequence[str] = ()) -> dict[str, TopicSpec]:
    """Full topic name → declaration, for a namespace and some of its task queues."""
    topics = {names.of(spec): spec for spec in TOPICS}
    return topics | {names.work(queue): WORK for queue in task_queues}


def plan(
    names: TopicNames,
    found: Mapping[str, TopicDescription],
    *,
    replication: int = -1,
    task_queues: Sequence[str] = (),
) -> TopicPlan:
    """Compare the declared topics with those that exist.

    Parameters:
        names: the namespace, with the number of partitions its topics must have.
        found: what :meth:`perdure_runtime.log.Log.describe_topics` says about :func:`declared_topics`.
        replication: wanted replication factor; -1: the brokers' default.
        task_queues: queues whose inbox topics are to be compared, too.
    """
    specs = declared_topics(names, task_queues)
    changes: list[TopicChange] = []
    for topic, spec in specs.items():
        description = found.get(topic)
        if description is None:
            copies = f"replication {replication}" if replication > 0 else "the brokers' replication"
            after = f"{names.partitions} partitions, {copies}, {spec.cleanup.value}"
            reason = f"holds {', '.join(spec.records)}"
            changes.append(TopicChange(topic, Action.CREATE, "topic", _MISSING, after, reason))
        else:
            changes += _layout_changes(topic, description, names.partitions, replication)
            changes += _config_changes(topic, spec, description)
            changes += _advice(topic, description)
    return TopicPlan(tuple(changes), specs, names.partitions, replication)


def _layout_changes(topic: str, found: TopicDescription, partitions: int, replication: int) -> list[TopicChange]:
    changes = []
    if found.partitions != partitions:
        reason = (
            "records are found by key, and another number of partitions would look for them elsewhere. Use the number "
            "the topic has, or a new namespace"
        )
        changes.append(TopicChange(topic, Action.REFUSE, "partitions", str(found.partitions), str(partitions), reason))
    if 0 < found.replication < replication:
        reason = "move it with kafka-reassign-partitions"
        changes.append(
            TopicChange(topic, Action.ADVISE, "replication", str(found.replication), str(replication), reason)
        )
    return changes


def _config_changes(topic: str, spec: TopicSpec, found: TopicDescription) -> list[TopicChange]:
    changes = []
    for setting, wanted in spec.config().items():
        present = found.config.get(setting)
        if setting == "cleanup.policy":
            changes += _cleanup_changes(topic, spec, present or _MISSING)
        elif not _is_satisfied(_RULES.get(setting, _Rule.EQUAL), present, wanted):
            reason = _REASONS.get(setting, "the platform depends on it")
            changes.append(TopicChange(topic, Action.ALTER, setting, present or _MISSING, wanted, reason))
    return changes


def _cleanup_changes(topic: str, spec: TopicSpec, present: str) -> list[TopicChange]:
    wanted = spec.cleanup.value
    policies = {policy.strip() for policy in present.split(",")}
    if policies == {wanted}:
        return []
    if "compact" in policies and wanted == "delete":
        reason = (
            "compaction may have removed records that were never read, and switching to delete would remove what "
            "compaction kept. Use a new namespace, or delete the topic if it holds nothing you need"
        )
        return [TopicChange(topic, Action.REFUSE, "cleanup.policy", present, wanted, reason)]
    reason = "state would be deleted by age (check that nothing has been: the topic's first offsets should be 0)"
    return [TopicChange(topic, Action.ALTER, "cleanup.policy", present, wanted, reason)]


def _is_satisfied(rule: _Rule, present: str | None, wanted: str) -> bool:
    if rule is _Rule.TUNING:
        return True
    if present is None or rule is _Rule.EQUAL:
        return present == wanted
    try:
        has, needs = int(present), int(wanted)
    except ValueError:
        return False
    return has == _UNLIMITED or (needs != _UNLIMITED and has >= needs)


def _advice(topic: str, found: TopicDescription) -> list[TopicChange]:
    changes = []
    if found.replication > 1 and found.config.get("min.insync.replicas") == "1":
        reason = "an acknowledged record may be on one broker only, and be lost with it"
        changes.append(TopicChange(topic, Action.ADVISE, "min.insync.replicas", "1", "2", reason))
    if found.config.get("unclean.leader.election.enable") == "true":
        reason = "a replica that misses acknowledged records may become the leader"
        changes.append(TopicChange(topic, Action.ADVISE, "unclean.leader.election.enable", "true", "false", reason))
    return changes


def check(topic_plan: TopicPlan) -> None:
    """Make sure that the topics are as the platform needs them.

    Raises:
        TopicConfigurationError: they are not; one message with everything that is wrong, and what to do.
    """
    wrong = topic_plan.of(Action.CREATE, Action.ALTER, Action.REFUSE)
    if not wrong:
        return
    lines = "".join(f"\n  {change}" for change in wrong)
    if topic_plan.of(Action.REFUSE):
        advice = "some of it cannot be changed in place"
    else:
        advice = "`perdure topics plan` shows, and `perdure topics apply` makes, the necessary changes"
    raise TopicConfigurationError(f"the topics are not as the platform needs them ({advice}):{lines}")


def apply(log: Log, topic_plan: TopicPlan) -> tuple[TopicChange, ...]:
    """Create and alter what the plan says. Returns what was done.

    Raises:
        TopicConfigurationError: the plan has refusals; nothing was changed.
        LogUnavailableError: nobody answered. LogError: the log refused; what was done before stays, and planning and
            applying again goes on from there.
    """
    refused = topic_plan.of(Action.REFUSE)
    if refused:
        lines = "".join(f"\n  {change}" for change in refused)
        raise TopicConfigurationError(f"nothing was changed, because some topics cannot be put right in place:{lines}")
    created = topic_plan.of(Action.CREATE)
    if created:
        specs = {change.topic: topic_plan.specs[change.topic] for change in created}
        log.create_topics(specs, topic_plan.partitions, topic_plan.replication)
    altered: dict[str, dict[str, str]] = {}
    for change in topic_plan.of(Action.ALTER):
        altered.setdefault(change.topic, {})[change.setting] = change.after
    for topic, config in altered.items():
        log.alter_topic(topic, config)
    return topic_plan.of(Action.CREATE, Action.ALTER)
