"""The settings of a task queue: what a change makes of them, and where they stand in the log.

They are records among the deployments, in the partition of their task queue; matching follows them. Invariants: a
change says what it does not say like before; of two changes at the same time, one is told that the other counts. Called
by :mod:`perdure_ops.queue_flow`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec.structs import replace

from perdure_ops.audit.reading import TopicScan
from perdure_ops.errors import CliError
from perdure_runtime.log import Log, LogRecord, NewRecord, TopicPartition
from perdure_schemas import codec, keys, limits
from perdure_schemas.records import FairnessKeyConfig, TaskQueueConfig
from perdure_schemas.topics import DEPLOYMENTS, TopicNames

__all__ = ["UNSET", "ConfigView", "Wanted", "read_config", "unset", "write_config"]

#: What takes a setting back.
UNSET = "default"
_TIMEOUT_S = 30.0


class _Value(NamedTuple):
    """How a setting is read, and its bounds."""

    read: Callable[[str], float]
    least: float
    most: float


_RATE = _Value(float, 0, limits.FLOW_RATE_MAX)
_WEIGHT = _Value(float, limits.FAIRNESS_WEIGHT_MIN, limits.FAIRNESS_WEIGHT_MAX)
_CONCURRENCY = _Value(int, 0, limits.FLOW_CONCURRENCY_MAX)


@dataclass
class ConfigView:
    """The settings of one task queue, by type of tasks. Takes the records of its partition, in their order.

    Args:
        name: the task queue.
    """

    name: str
    configs: dict[str, TaskQueueConfig] = field(default_factory=dict)
    #: Where the newest record of each type stands; -1: there is none.
    offsets: dict[str, int] = field(default_factory=dict)

    def take(self, record: LogRecord) -> None:
        """Take in a record; what cannot be read changes nothing."""
        named = None if record.key is None else keys.parse_queue_config_key(record.key)
        if named is None or named[0] != self.name:
            return
        self.offsets[named[1]] = record.offset
        if record.value is None:
            self.configs.pop(named[1], None)
            return
        try:
            self.configs[named[1]] = codec.decode_as(record.value, TaskQueueConfig)
        except (codec.DecodeError, ValueError):
            return


@dataclass(frozen=True)
class Wanted:
    """What a command wants to be set: numbers, ``default`` to take a setting back, ``None`` to leave it.

    Those of keys are lists of ``KEY=NUMBER``.
    """

    queue_rps: str | None = None
    key_rps_default: str | None = None
    key_concurrency_default: str | None = None
    key_weights: tuple[str, ...] = ()
    key_rps: tuple[str, ...] = ()
    key_concurrency: tuple[str, ...] = ()

    def apply(self, config: TaskQueueConfig) -> TaskQueueConfig:
        """The settings with this change.

        Raises:
            CliError: nothing is wanted, a value is none, or there are too many keys.
        """
        if self == Wanted():
            raise CliError("nothing to set: name at least one limit or weight; see --help")
        if config.task_type == "workflow" and (self.key_concurrency or self.key_concurrency_default):
            raise CliError("concurrency is limited for activities only: a workflow task runs for milliseconds")
        own = {one.fairness_key: one for one in config.keys}
        for option, values, name, value in (
            ("--fairness-key-weight", self.key_weights, "weight", _WEIGHT),
            ("--fairness-key-rps-limit", self.key_rps, "rate", _RATE),
            ("--fairness-key-concurrency", self.key_concurrency, "concurrency", _CONCURRENCY),
        ):
            for pair in values:
                key, text = _pair(option, pair)
                known = own.get(key) or FairnessKeyConfig(fairness_key=key)
                own[key] = replace(known, **{name: _setting(option, text, value)})
        kept = [one for key, one in sorted(own.items()) if one != FairnessKeyConfig(fairness_key=key)]
        if len(kept) > limits.FLOW_KEYS_MAX:
            raise CliError(
                f"{len(kept)} fairness keys would have settings of their own, {limits.FLOW_KEYS_MAX} may:"
                f" take some back with KEY={UNSET}, or use the defaults"
            )
        changes: dict[str, Any] = {"keys": kept}
        for option, wanted, name, value in (
            ("--queue-rps-limit", self.queue_rps, "queue_rate", _RATE),
            ("--fairness-key-rps-limit-default", self.key_rps_default, "key_rate_default", _RATE),
            (
                "--fairness-key-concurrency-default",
                self.key_concurrency_default,
                "key_concurrency_default",
                _CONCURRENCY,
            ),
        ):
            if wanted is not None:
                changes[name] = _setting(option, wanted, value)
        return replace(config, **changes)


def _pair(option: str, text: str) -> tuple[str, str]:
    key, equals, value = text.rpartition("=")
    if not equals:
        raise CliError(f"{option}: {text!r} is not KEY=NUMBER")
    if len(key.encode()) > limits.FAIRNESS_KEY_BYTES_MAX:
        raise CliError(f"{option}: a fairness key has at most {limits.FAIRNESS_KEY_BYTES_MAX} bytes; {key[:80]!r}")
    return key, value


def _setting(option: str, text: str, value: _Value) -> float | None:
    if text == UNSET:
        return None
    try:
        number = value.read(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not value.least <= number <= value.most:
        what = "whole number" if value.read is int else "number"
        raise CliError(
            f"{option}: {text!r}: it has to be a {what}, {value.least:,.9g} to {value.most:,.9g},"
            f" or {UNSET!r} to take the setting back"
        )
    return number


def unset(name: str, task_type: str) -> TaskQueueConfig:
    """The settings of a task queue for which nothing is set."""
    return TaskQueueConfig(task_queue=name, task_type=task_type, time_ms=0)


# --- the log --------------------------------------------------------------------------------------------------------


def read_config(log: Log, names: TopicNames, name: str) -> ConfigView:
    """What is set for a task queue as of now. Blocks.

    Raises:
        LogError: the log cannot be read.
    """
    view = ConfigView(name)
    scan = TopicScan(log, names, [DEPLOYMENTS], partitions=[keys.partition_of(name, names.partitions)])
    try:
        for record in scan.to_end():
            view.take(record)
    finally:
        scan.close()
    return view


def write_config(
    log: Log, names: TopicNames, before: ConfigView, task_type: str, config: TaskQueueConfig | None
) -> None:
    """Make settings those of a task queue; ``None``: nothing is set. Blocks.

    Args:
        before: what was read; the settings follow from it.

    Raises:
        LogError: the log cannot be reached. CliError: it did not take them, or somebody changed them meanwhile.
    """
    place = TopicPartition(names.deployments, keys.partition_of(before.name, names.partitions))
    key = keys.queue_config_key(before.name, task_type)
    value = None if config is None else codec.encode(config)
    producer = log.producer("task-queue-config")
    try:
        ack = producer.append([NewRecord(place.topic, place.partition, key, value)])
        if not ack.wait(_TIMEOUT_S) or ack.error() is not None:
            reason = ack.error() or f"no answer in {_TIMEOUT_S:g} s"
            raise CliError(f"{names.deployments} did not take the settings ({reason}); run the command again")
        offset = ack.offsets()[place]
    finally:
        producer.close()
    between = _between(log, names, before, task_type, offset)
    if between:
        raise CliError(
            f"task queue {before.name!r} was changed by {between} at the same time: look at it with"
            " 'task-queue config get', and try again"
        )


def _between(log: Log, names: TopicNames, before: ConfigView, task_type: str, offset: int) -> str:
    """Who changed the settings between our look at them and our change; empty: nobody did."""
    view, known = ConfigView(before.name), before.offsets.get(task_type, -1)
    who = ""
    scan = TopicScan(log, names, [DEPLOYMENTS], partitions=[keys.partition_of(before.name, names.partitions)])
    try:
        for record in scan.to_end():
            view.take(record)
            newest = view.offsets.get(task_type, -1)
            if newest == record.offset and newest != offset and newest > known:
                config = view.configs.get(task_type)
                who = (config.identity if config is not None else "") or "somebody"
    finally:
        scan.close()
    return who
