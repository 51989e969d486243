"""Flow control of task queues: what is set, how it is changed, and how each fairness key stands.

The settings are records among the deployments, in the partition of their task queue; matching follows them. Invariants:
a change says what it does not say like before; of two changes at the same time, one is told that the other counts.
Called by the commands ``task-queue config`` and ``task-queue describe``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from perdure_ops.audit.reading import TopicScan
from perdure_ops.errors import CliError
from perdure_ops.opening import opened
from perdure_ops.output import OutputFormat, iso, print_fields, print_rows
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.log import Log, LogRecord, NewRecord, TopicPartition
from perdure_schemas import codec, keys, limits
from perdure_schemas.records import FairnessKeyConfig, TaskQueueConfig, TaskRecord
from perdure_schemas.topics import DEPLOYMENTS, TopicNames

__all__ = [
    "KEY_COLUMNS",
    "ConfigView",
    "Wanted",
    "change_config",
    "key_rows",
    "read_config",
    "show_config",
    "unset_config",
    "write_config",
]

KEY_COLUMNS = ("type", "fairness_key", "weight", "queued", "running", "blocked", "blocked_by")
TASK_TYPES = ("workflow", "activity")
#: What takes a setting back.
UNSET = "default"
_TIMEOUT_S = 30.0


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
        for option, values, name, read in (
            ("--fairness-key-weight", self.key_weights, "weight", _weight),
            ("--fairness-key-rps-limit", self.key_rps, "rate", _rate),
            ("--fairness-key-concurrency", self.key_concurrency, "concurrency", _concurrency),
        ):
            for text in values:
                key, value = _pair(option, text)
                known = own.get(key) or FairnessKeyConfig(fairness_key=key)
                own[key] = replace(known, **{name: _setting(option, value, read)})
        kept = [one for key, one in sorted(own.items()) if one != FairnessKeyConfig(fairness_key=key)]
        if len(kept) > limits.FLOW_KEYS_MAX:
            raise CliError(
                f"{len(kept)} fairness keys would have settings of their own, {limits.FLOW_KEYS_MAX} may:"
                f" take some back with KEY={UNSET}, or use the defaults"
            )
        changes: dict[str, Any] = {"keys": kept}
        for option, wanted, name, read in (
            ("--queue-rps-limit", self.queue_rps, "queue_rate", _rate),
            ("--fairness-key-rps-limit-default", self.key_rps_default, "key_rate_default", _rate),
            (
                "--fairness-key-concurrency-default",
                self.key_concurrency_default,
                "key_concurrency_default",
                _concurrency,
            ),
        ):
            if wanted is not None:
                changes[name] = _setting(option, wanted, read)
        return replace(config, **changes)


def change_config(
    address: str, namespace: str, name: str, task_type: str, wanted: Wanted, output: OutputFormat, *, dry_run: bool
) -> None:
    """Change what is set for tasks of a type in a task queue, and print it.

    Raises:
        CliError: a value is none, or somebody else changed it at the same time.
    """
    _check(name, task_type)
    wanted.apply(_unset(name, task_type))  # what is wrong with it is said before anybody is asked
    with opened(address, namespace) as (log, names):
        before = read_config(log, names, name)
        config = wanted.apply(before.configs.get(task_type) or _unset(name, task_type))
        config = replace(config, time_ms=wall_clock_ms(), identity=_identity())
        nothing = _settings(config) == _settings(_unset(name, task_type))
        if not dry_run:
            write_config(log, names, before, task_type, None if nothing else config)
    _print([config], output, dry_run=dry_run)


def unset_config(
    address: str, namespace: str, name: str, task_type: str, output: OutputFormat, *, dry_run: bool
) -> None:
    """Take back all that is set for tasks of a type in a task queue.

    Raises:
        CliError: nothing is set, or somebody else changed it at the same time.
    """
    _check(name, task_type)
    with opened(address, namespace) as (log, names):
        before = read_config(log, names, name)
        if task_type not in before.configs:
            raise CliError(f"nothing is set for the {task_type} tasks of task queue {name!r}; check the name")
        if not dry_run:
            write_config(log, names, before, task_type, None)
    _print([_unset(name, task_type)], output, dry_run=dry_run)


def show_config(address: str, namespace: str, name: str, task_type: str | None, output: OutputFormat) -> None:
    """Print what is set for a task queue, for tasks of one type or of both."""
    _check(name, task_type or TASK_TYPES[0])
    with opened(address, namespace) as (log, names):
        found = read_config(log, names, name).configs
    types = TASK_TYPES if task_type is None else (task_type,)
    _print([found.get(one) or _unset(name, one) for one in types], output, dry_run=False)


def key_rows(
    tasks: Mapping[str, TaskRecord], running: Iterable[str], free_slots: Mapping[str, int], view: ConfigView
) -> list[dict[str, Any]]:
    """How each fairness key stands, by type of tasks; those with most tasks that wait come first.

    Args:
        tasks: the outstanding tasks of the queue, by id.
        running: ids of those that living workers hold.
        free_slots: of living workers, by type.
        view: what is set.
    """
    held = set(running)
    queued: Counter[tuple[str, str]] = Counter()
    runs: Counter[tuple[str, str]] = Counter()
    weights: dict[tuple[str, str], float] = {}
    for task_id, task in tasks.items():
        place = ("activity" if task.kind == "activity" else "workflow", task.fairness_key)
        weights[place] = task.fairness_weight
        if task_id in held:
            runs[place] += not task.left_open
        elif not (task.held or task.left_open or task.cancel_requested):
            queued[place] += 1
    rows = []
    named = {(kind, own.fairness_key) for kind, config in view.configs.items() for own in config.keys}
    for kind, key in sorted({*weights, *named}, key=lambda place: (place[0], -queued[place], place[1])):
        config = view.configs.get(kind) or _unset(view.name, kind)
        own = next((one for one in config.keys if one.fairness_key == key), FairnessKeyConfig(fairness_key=key))
        waits, at_once = queued[kind, key], runs[kind, key]
        reason = _blocked_by(config, own, at_once, free_slots.get(kind, 0)) if waits else ""
        rows.append(
            {
                "type": kind,
                "fairness_key": key,
                "weight": weights.get((kind, key), 1.0) if own.weight is None else own.weight,
                "queued": waits,
                "running": at_once,
                "blocked": waits if reason else 0,
                "blocked_by": reason,
            }
        )
    return rows


def _blocked_by(config: TaskQueueConfig, own: FairnessKeyConfig, running: int, free_slots: int) -> str:
    """What keeps the tasks of a key that wait from going, as far as the log shows it; empty: they wait for a slot."""
    concurrency = config.key_concurrency_default if own.concurrency is None else own.concurrency
    rate = config.key_rate_default if own.rate is None else own.rate
    if 0 in (config.queue_rate, rate, concurrency):
        return "stopped"
    if concurrency is not None and running >= concurrency:
        return "concurrency"
    if free_slots > 0 and (rate is not None or config.queue_rate is not None):
        return "key rate" if rate is not None else "queue rate"
    return ""


# --- values ---------------------------------------------------------------------------------------------------------


def _check(name: str, task_type: str) -> None:
    if not 0 < len(name) <= limits.NAME_CHARS_MAX:
        raise CliError(f"a task queue's name has 1 to {limits.NAME_CHARS_MAX} characters; this one has {len(name)}")
    if task_type not in TASK_TYPES:
        raise CliError(f"--task-type is {task_type!r}; it is workflow or activity")


def _pair(option: str, text: str) -> tuple[str, str]:
    key, equals, value = text.rpartition("=")
    if not equals:
        raise CliError(f"{option}: {text!r} is not KEY=NUMBER")
    if len(key.encode()) > limits.FAIRNESS_KEY_BYTES_MAX:
        raise CliError(f"{option}: a fairness key has at most {limits.FAIRNESS_KEY_BYTES_MAX} bytes; {key[:80]!r}")
    return key, value


def _setting(option: str, text: str, read: Callable[[str], float | int]) -> float | int | None:
    if text == UNSET:
        return None
    try:
        return read(text)
    except ValueError as error:
        what = str(error) if error.args and str(error).startswith("it ") else "it is no such number"
        raise CliError(f"{option}: {text!r}: {what}, or {UNSET!r} to take the setting back") from None


def _rate(text: str) -> float:
    return _within(float(text), 0.0, limits.FLOW_RATE_MAX)


def _weight(text: str) -> float:
    return _within(float(text), limits.FAIRNESS_WEIGHT_MIN, limits.FAIRNESS_WEIGHT_MAX)


def _concurrency(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"it has to be a whole number, 0 to {limits.FLOW_CONCURRENCY_MAX}") from None
    return int(_within(number, 0, limits.FLOW_CONCURRENCY_MAX))


def _within(number: float, least: float, most: float) -> float:
    if not math.isfinite(number) or not least <= number <= most:
        raise ValueError(f"it has to be a number, {least:g} to {most:g}")
    return number


def _unset(name: str, task_type: str) -> TaskQueueConfig:
    return TaskQueueConfig(task_queue=name, task_type=task_type, time_ms=0)


def _settings(config: TaskQueueConfig) -> TaskQueueConfig:
    return replace(config, time_ms=0, identity="")


# --- the log --------------------------------------------------------------------------------------------------------


def read_config(log: Log, names: TopicNames, name: str) -> ConfigView:
    """What is set for a task queue as of now. Blocks.

    Raises:
        LogError: the log cannot be read.
    """
    view = ConfigView(name)
    scan = TopicScan(log, names, [DEPLOYMENTS], partition=keys.partition_of(name, names.partitions))
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
    scan = TopicScan(log, names, [DEPLOYMENTS], partition=keys.partition_of(before.name, names.partitions))
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


def _identity() -> str:
    from perdure.client._client import default_identity

    return default_identity()


def _print(configs: list[TaskQueueConfig], output: OutputFormat, *, dry_run: bool) -> None:
    rows = [_row(config) for config in configs]
    if dry_run:
        rows = [{**row, "dry_run": True} for row in rows]
    if output is not OutputFormat.TABLE:
        if len(rows) == 1:
            print_fields(rows[0], output)
        else:
            print_rows(rows, output, ())
        return
    for number, row in enumerate(rows):
        own = row.pop("keys")
        if number:
            print()
        if dry_run:
            print("Nothing was changed. It would be:")
        print_fields({name: "not set" if value is None else value for name, value in row.items()}, output)
        if own:
            print()
            print_rows(own, output, ("fairness_key", "weight", "rps_limit", "concurrency"))


def _row(config: TaskQueueConfig) -> dict[str, Any]:
    return {
        "task_queue": config.task_queue,
        "task_type": config.task_type,
        "queue_rps_limit": config.queue_rate,
        "fairness_key_rps_limit_default": config.key_rate_default,
        "fairness_key_concurrency_default": config.key_concurrency_default,
        "changed": iso(config.time_ms or None),
        "changed_by": config.identity,
        "keys": [
            {
                "fairness_key": own.fairness_key,
                "weight": own.weight,
                "rps_limit": own.rate,
                "concurrency": own.concurrency,
            }
            for own in config.keys
        ],
    }
