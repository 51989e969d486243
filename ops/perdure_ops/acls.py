"""The ACLs that each kind of process needs of Kafka, declared once as data, and how they are printed. Pure.

Invariant: they are the least that work, and they never reach outside of a namespace (so Write on the topics that
workflows emit to is not among them); a test gives a locked-down broker exactly these, and takes them away one by one.
Kafka lets whoever may read or write a topic describe it, whoever may alter a configuration read it, and whoever may
write any topic write idempotently: none of these stands here. Called by :mod:`perdure_ops.commands_topics`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from perdure_ops.errors import CliError
from perdure_runtime.kafka.options import READER_GROUP
from perdure_runtime.relay.service import RELAY
from perdure_schemas.topics import WORK, TopicNames


class Principal(StrEnum):
    """Who connects to the brokers: ``operator`` is who runs ``perdure topics`` and looks into topics."""

    ENGINE = "engine"
    WORKER = "worker"
    CLIENT = "client"
    OPERATOR = "operator"


class Acl(NamedTuple):
    """One operation on topics, groups or transactional ids, allowed.

    Attributes:
        operation: as Kafka names it, for example ``Read`` or ``DescribeConfigs``.
        resource_type: ``topic``, ``group`` or ``transactional-id``.
        pattern_type: ``literal``, or ``prefixed``: every name that begins so.
        name: the name, or its beginning.
    """

    operation: str
    resource_type: str
    pattern_type: str
    name: str


def needed_acls(names: TopicNames, principal: Principal) -> list[Acl]:
    """The ACLs that a kind of process needs to work in a namespace."""
    everything = f"{names.prefix}.{names.namespace}."
    #: The client library looks for the coordinator of the group that readers are made with; nothing joins it.
    acls = [Acl("Describe", "group", "literal", READER_GROUP)]
    if principal is Principal.ENGINE:
        acls += [Acl(operation, "topic", "prefixed", everything) for operation in _ENGINE_ON_TOPICS]
        acls.append(Acl("Read", "group", "prefixed", everything))
        acls.append(Acl("Write", "transactional-id", "prefixed", f"{everything}{RELAY}."))
    elif principal is Principal.OPERATOR:
        acls += [Acl(operation, "topic", "prefixed", everything) for operation in _OPERATOR_ON_TOPICS]
        acls.append(Acl("Describe", "group", "prefixed", everything))
    else:
        acls += [Acl(operation, "topic", "literal", names.commands) for operation in ("Write", "DescribeConfigs")]
        acls.append(Acl("Read", "topic", "literal", names.replies))
    if principal is Principal.CLIENT:
        acls.append(Acl("Write", "topic", "literal", names.reads))
    if principal is Principal.WORKER:
        acls.append(Acl("Write", "topic", "literal", names.workers))
        acls += [Acl(operation, "topic", "prefixed", f"{names.of(WORK)}.") for operation in ("Read", "Create")]
    return acls


_ENGINE_ON_TOPICS = ("Read", "Write", "Create", "DescribeConfigs")
_OPERATOR_ON_TOPICS = ("Read", "Create", "AlterConfigs")


def parse_principals(assignments: Iterable[str]) -> dict[Principal, str]:
    """Kafka's principals of ``KIND=User:NAME``; those that are not given are called as the platform calls them.

    Raises:
        CliError: one cannot be read.
    """
    found = {principal: f"User:perdure-{principal}" for principal in Principal}
    for assignment in assignments:
        kind, equals, name = assignment.partition("=")
        if not equals or kind not in [*Principal] or ":" not in name:
            raise CliError(
                f"--principal: {assignment!r} cannot be read: write KIND=User:NAME with one of the kinds "
                f"{', '.join(Principal)}"
            )
        found[Principal(kind)] = name
    return found


def as_rows(names: TopicNames, users: Mapping[Principal, str], kinds: Sequence[Principal]) -> list[dict[str, str]]:
    """The ACLs of some kinds of processes, one row for each, for programs."""
    return [
        {"process": kind.value, "principal": users[kind], "permission": "Allow", "host": "*", **acl._asdict()}
        for kind in kinds
        for acl in needed_acls(names, kind)
    ]


def as_commands(names: TopicNames, users: Mapping[Principal, str], kinds: Sequence[Principal]) -> list[str]:
    """The same as command lines of Kafka's own tool, one for each resource; ``$KAFKA`` stands for the brokers."""
    lines = []
    for kind in kinds:
        lines.append(f"# {kind.value}")
        operations: dict[tuple[str, str, str], list[str]] = {}
        for acl in needed_acls(names, kind):
            operations.setdefault((acl.resource_type, acl.pattern_type, acl.name), []).append(acl.operation)
        for (resource_type, pattern_type, name), allowed in operations.items():
            words = ["--add", "--allow-principal", users[kind]]
            for operation in allowed:
                words += ["--operation", operation]
            words += [f"--{resource_type}", name, "--resource-pattern-type", pattern_type]
            lines.append(
                'kafka-acls.sh --bootstrap-server "$KAFKA" --command-config admin.properties ' + shlex.join(words)
            )
    return lines
