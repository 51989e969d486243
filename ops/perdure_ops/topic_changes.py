"""``perdure topics …`` and a server's look at its topics: shows and carries out :mod:`perdure_runtime.topics_plan`.

Called by :mod:`perdure_ops.commands_topics` and :mod:`perdure_ops.server`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import typer

from perdure_ops.addresses import check_kafka_address
from perdure_ops.errors import CliError
from perdure_ops.output import OutputFormat, print_rows, progress
from perdure_runtime import topics_plan
from perdure_runtime.connect import open_log
from perdure_runtime.log import Log, TopicDescription, TopicPartition
from perdure_runtime.topics_plan import Action, TopicChange, TopicPlan
from perdure_schemas.topics import DEFAULT_PARTITIONS, TopicNames

_logger = logging.getLogger("perdure.topics")

CHANGE_COLUMNS = ("action", "topic", "setting", "before", "after", "reason")
TOPIC_COLUMNS = ("topic", "partitions", "replication", "cleanup", "retention_ms", "offsets_kept")


def ensure_topics(log: Log, namespace: str, partitions: int | None, replication: int, *, create: bool) -> TopicNames:
    """Make sure that a namespace's topics are as they must be.

    Args:
        log: where they are.
        namespace: whose topics.
        partitions: partition count wanted; ``None``: as it is, or the default for new ones.
        replication: replication factor of new ones; -1: the brokers' default.
        create: create what is missing; existing topics are never changed.

    Returns:
        The topics' names and their partition count.

    Raises:
        TopicConfigurationError: topics are missing or not as they must be; nothing was changed.
    """
    names, found = _existing(log, namespace, partitions)
    plan = topics_plan.plan(names, found, replication=replication)
    for advice in plan.of(Action.ADVISE):
        _logger.warning("event=advice topic=%s setting=%s reason=%r", advice.topic, advice.setting, str(advice))
    if create:
        existing = replace(plan, changes=plan.of(Action.ALTER, Action.REFUSE))
        topics_plan.check(existing)
        topics_plan.apply(log, replace(plan, changes=plan.of(Action.CREATE)))
    else:
        topics_plan.check(plan)
    return names


def plan(address: str, namespace: str, partitions: int | None, replication: int, output: OutputFormat) -> None:
    """Print what :func:`apply` would do."""
    with _log(address) as log:
        changes = _plan(log, namespace, partitions, replication).changes
    if changes or output is not OutputFormat.TABLE:
        _print_changes(changes, output)
    else:
        print(_nothing_to_do(namespace))


def apply(
    address: str,
    namespace: str,
    partitions: int | None,
    replication: int,
    *,
    assume_yes: bool,
    output: OutputFormat = OutputFormat.TABLE,
) -> None:
    """Create missing topics and correct settings, after asking.

    Raises:
        TopicConfigurationError: something cannot be put right in place; nothing was changed.
        CliError: the answer was no.
    """
    with _log(address) as log:
        plan = _plan(log, namespace, partitions, replication)
        if plan.changes or output is not OutputFormat.TABLE:
            _print_changes(plan.changes, output)
        if plan.is_done:
            typer.echo(_nothing_to_do(namespace), err=output is not OutputFormat.TABLE)
            return
        if not plan.of(Action.REFUSE) and not assume_yes and not typer.confirm("Do this?", err=True):
            raise CliError("nothing was changed")
        with progress("changing topics"):
            done = topics_plan.apply(log, plan)
    typer.echo(f"done: {len(done)} change{'s' if len(done) > 1 else ''}", err=output is not OutputFormat.TABLE)


def describe(address: str, namespace: str, output: OutputFormat) -> None:
    """Print the topics of a namespace as they are.

    Raises:
        CliError: there are none.
    """
    with _log(address) as log:
        _, found = _existing(log, namespace, None)
        if not found:
            raise CliError(f"namespace {namespace} has no topics; make them with `perdure topics apply`")
        rows = [_topic_row(log, topic) for topic in found.values()]
    print_rows(rows, output, TOPIC_COLUMNS)


def _topic_row(log: Log, topic: TopicDescription) -> dict[str, object]:
    places = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    return {
        "topic": topic.name,
        "partitions": topic.partitions,
        "replication": topic.replication,
        "cleanup": topic.config.get("cleanup.policy", ""),
        "retention_ms": topic.config.get("retention.ms", ""),
        "offsets_kept": sum(end - begin for begin, end in map(log.watermarks, places)),
    }


def _existing(log: Log, namespace: str, partitions: int | None) -> tuple[TopicNames, Mapping[str, TopicDescription]]:
    """The namespace's names, with the partition count wanted, else that which is there, and its topics as they are."""
    names = TopicNames(namespace=namespace)
    found = log.describe_topics(list(topics_plan.declared_topics(names)))
    if partitions is None:
        commands = found.get(names.commands)
        partitions = DEFAULT_PARTITIONS if commands is None else commands.partitions
    return TopicNames(namespace=namespace, partitions=partitions), found


def _plan(log: Log, namespace: str, partitions: int | None, replication: int) -> TopicPlan:
    names, found = _existing(log, namespace, partitions)
    return topics_plan.plan(names, found, replication=replication)


@contextmanager
def _log(address: str) -> Iterator[Log]:
    check_kafka_address(address)
    log = open_log(address)
    try:
        yield log
    finally:
        log.close()


def _nothing_to_do(namespace: str) -> str:
    return f"nothing to do: all topics of namespace {namespace} are as they must be"


def _print_changes(changes: Sequence[TopicChange], output: OutputFormat) -> None:
    rows = [{column: str(getattr(change, column)) for column in CHANGE_COLUMNS} for change in changes]
    print_rows(rows, output, CHANGE_COLUMNS)
