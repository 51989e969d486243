"""Flow control of task queues: settings are shown and changed, and how each fairness key stands.

Called by the commands ``task-queue config`` and ``task-queue describe``; what settings are stands in
:mod:`perdure_ops.queue_config`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from perdure_ops.errors import CliError
from perdure_ops.opening import opened
from perdure_ops.output import OutputFormat, iso, print_fields, print_rows
from perdure_ops.queue_config import ConfigView, Wanted, read_config, unset, write_config
from perdure_runtime.clock import wall_clock_ms
from perdure_schemas import keys, limits
from perdure_schemas.records import FairnessKeyConfig, TaskQueueConfig, TaskRecord

__all__ = ["KEY_COLUMNS", "change_config", "key_rows", "show_config", "unset_config"]

KEY_COLUMNS = ("type", "fairness_key", "weight", "queued", "running", "blocked", "blocked_by")
TASK_TYPES = ("workflow", "activity")


def change_config(
    address: str, namespace: str, name: str, task_type: str, wanted: Wanted, output: OutputFormat, *, dry_run: bool
) -> None:
    """Change what is set for tasks of a type in a task queue, and print it.

    Raises:
        CliError: a value is none, the task queue is in several partitions, or somebody else changed it at the same
            time.
    """
    _check(name, task_type)
    wanted.apply(unset(name, task_type))  # what is wrong with it is said before anybody is asked
    with opened(address, namespace) as (log, names):
        if len(keys.queue_partitions(name, names.partitions)) > 1:
            raise CliError(
                f"task queue {name!r} is matched in several partitions, each of which would count for itself:"
                " limits and weights are for task queues in one partition"
            )
        before = read_config(log, names, name)
        config = wanted.apply(before.configs.get(task_type) or unset(name, task_type))
        config = replace(config, time_ms=wall_clock_ms(), identity=_identity())
        nothing = _settings(config) == _settings(unset(name, task_type))
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
    _print([unset(name, task_type)], output, dry_run=dry_run)


def show_config(address: str, namespace: str, name: str, task_type: str | None, output: OutputFormat) -> None:
    """Print what is set for a task queue, for tasks of one type or of both."""
    _check(name, task_type or TASK_TYPES[0])
    with opened(address, namespace) as (log, names):
        found = read_config(log, names, name).configs
    types = TASK_TYPES if task_type is None else (task_type,)
    _print([found.get(one) or unset(name, one) for one in types], output, dry_run=False)


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
        config = view.configs.get(kind) or unset(view.name, kind)
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


def _check(name: str, task_type: str) -> None:
    if not 0 < len(name) <= limits.NAME_CHARS_MAX:
        raise CliError(f"a task queue's name has 1 to {limits.NAME_CHARS_MAX} characters; this one has {len(name)}")
    if task_type not in TASK_TYPES:
        raise CliError(f"--task-type is {task_type!r}; it is workflow or activity")


def _settings(config: TaskQueueConfig) -> TaskQueueConfig:
    return replace(config, time_ms=0, identity="")


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
