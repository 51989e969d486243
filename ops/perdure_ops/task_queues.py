"""Task queues and workers as the log shows them: who lives, what waits, since when, and how fast it goes.

Changes nothing and asks no engine: it folds the topics ``tasks`` and ``workers``, and what is set for the queue.
Invariants: what a deposed owner wrote does not count (I1); a task that a living worker says it holds does not wait.
Called by the commands ``task-queue describe`` and ``worker list``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from perdure_ops.audit.reading import TopicScan
from perdure_ops.errors import CliError
from perdure_ops.opening import opened
from perdure_ops.output import OutputFormat, iso, print_fields, print_rows
from perdure_ops.queue_config import ConfigView
from perdure_ops.queue_flow import KEY_COLUMNS, key_rows
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.fence import Fence
from perdure_runtime.fenced import admitted_key
from perdure_runtime.log import LogRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import TaskRecord, WorkerHeartbeat, WorkerStopped
from perdure_schemas.topics import DEPLOYMENTS, TASKS, WORKERS

__all__ = ["QueueView", "WorkersView", "describe_queue", "list_workers"]

WORKER_COLUMNS = (
    "task_queue", "worker_id", "identity", "version", "state", "workflow_slots", "activity_slots", "held",
    "last_heartbeat",
)  # fmt: skip
TYPE_COLUMNS = ("type", "backlog", "oldest_s", "running", "held_back", "added_per_s", "done_per_s")
#: A worker that was not heard of for so long is taken for dead by matching; after the second one it is not shown.
SILENT_MS = 5_000
FORGOTTEN_MS = 60_000
#: More fairness keys are not shown in the table.
KEYS_SHOWN_MAX = 50
#: Rates are means over this time.
RATE_WINDOW_MS = 60_000


@dataclass
class WorkersView:
    """Workers by their last heartbeat. Takes the records of ``workers``.

    One whose task queue is matched in several partitions sends a heartbeat to each, with its share of the slots.
    """

    _heartbeats: dict[str, dict[int, WorkerHeartbeat]] = field(default_factory=dict)

    def take(self, record: LogRecord) -> None:
        """Take in a record; what cannot be read changes nothing."""
        try:
            value = codec.decode(record.value)
        except (codec.DecodeError, ValueError):
            return
        if isinstance(value, WorkerHeartbeat):
            self._heartbeats.setdefault(value.worker_id, {})[record.partition] = value
        elif isinstance(value, WorkerStopped):
            self._heartbeats.pop(value.worker_id, None)

    def heard_of(self, now_ms: int, task_queue: str | None = None) -> list[WorkerHeartbeat]:
        """What the workers said to all partitions that were heard of in the last minute, by queue and identity.

        The others are forgotten.
        """
        found = {worker_id: _together(list(beats.values())) for worker_id, beats in self._heartbeats.items()}
        for worker_id in [worker_id for worker_id, beat in found.items() if beat.time_ms <= now_ms - FORGOTTEN_MS]:
            del found[worker_id], self._heartbeats[worker_id]
        wanted = (beat for beat in found.values() if task_queue in (None, beat.task_queue))
        return sorted(wanted, key=lambda beat: (beat.task_queue, beat.identity, beat.worker_id))

    def rows(self, now_ms: int, task_queue: str | None = None) -> list[dict[str, Any]]:
        """The same as rows of a table."""
        return [_worker_row(beat, now_ms) for beat in self.heard_of(now_ms, task_queue)]


def _together(beats: list[WorkerHeartbeat]) -> WorkerHeartbeat:
    newest = max(beats, key=lambda beat: beat.time_ms)
    if len(beats) == 1:
        return newest
    return replace(
        newest,
        workflow_slots=sum(beat.workflow_slots for beat in beats),
        activity_slots=sum(beat.activity_slots for beat in beats),
        held=[held for beat in beats for held in beat.held],
    )


def _is_silent(beat: WorkerHeartbeat, now_ms: int) -> bool:
    return beat.time_ms < now_ms - SILENT_MS


def _worker_row(beat: WorkerHeartbeat, now_ms: int) -> dict[str, Any]:
    state = "running"
    if _is_silent(beat, now_ms):
        state = "silent"
    elif beat.draining:
        state = "draining"
    return {
        "task_queue": beat.task_queue,
        "worker_id": beat.worker_id,
        "identity": beat.identity,
        "version": keys.version_name(beat.deployment_name, beat.build_id) if beat.deployment_name else "",
        "state": state,
        "workflow_slots": beat.workflow_slots,
        "activity_slots": beat.activity_slots,
        "held": len(beat.held),
        "last_heartbeat": iso(beat.time_ms),
    }


@dataclass
class QueueView:
    """What one task queue has outstanding. Takes the records of its partitions of ``tasks``, in their order.

    Args:
        name: the task queue.
        now_ms: for ages and rates, in milliseconds since the epoch.
    """

    name: str
    now_ms: int
    tasks: dict[str, TaskRecord] = field(default_factory=dict)
    added: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    _fences: defaultdict[int, Fence] = field(default_factory=lambda: defaultdict(Fence))

    def take(self, record: LogRecord) -> None:
        """Take in a record; what cannot be read, or is void, changes nothing."""
        try:
            key = admitted_key(self._fences[record.partition], record)
            value = None if record.value is None else codec.decode(record.value)
        except (codec.DecodeError, ValueError):
            return
        if key is None:
            return
        recent = record.timestamp_ms > self.now_ms - RATE_WINDOW_MS
        if isinstance(value, TaskRecord):
            if value.task_queue == self.name:
                self.added[value.kind] += recent and key.id not in self.tasks
                self.tasks[key.id] = value
        elif value is None:
            task = self.tasks.pop(key.id, None)
            if task is not None:
                self.done[task.kind] += recent

    def rows(self, running: Iterable[str]) -> list[dict[str, Any]]:
        """One row for each type of tasks. ``running``: the ids of those that living workers hold."""
        held = set(running)
        return [self._row(kind, held) for kind in ("workflow", "activity", "query")]

    def _row(self, kind: str, running: set[str]) -> dict[str, Any]:
        tasks = {task_id: task for task_id, task in self.tasks.items() if task.kind == kind}
        back = {task_id for task_id, task in tasks.items() if task.held or task.left_open or task.cancel_requested}
        waiting = [task for task_id, task in tasks.items() if task_id not in running and task_id not in back]
        oldest_ms = min((task.created_time_ms for task in waiting), default=None)
        return {
            "type": kind,
            "backlog": len(waiting),
            "oldest_s": None if oldest_ms is None else round(max(0, self.now_ms - oldest_ms) / 1000, 3),
            "running": sum(task_id in running for task_id in tasks),
            "held_back": len(back - running),
            "added_per_s": round(self.added[kind] * 1000 / RATE_WINDOW_MS, 3),
            "done_per_s": round(self.done[kind] * 1000 / RATE_WINDOW_MS, 3),
        }


def describe_queue(address: str, namespace: str, name: str, output: OutputFormat) -> None:
    """Print what waits in a task queue, how fast it goes, and who serves it.

    Raises:
        CliError: nothing is known of the queue.
    """
    with opened(address, namespace) as (log, names):
        now_ms = wall_clock_ms()
        queue, workers, config = QueueView(name, now_ms), WorkersView(), ConfigView(name)
        views: dict[str, QueueView | WorkersView | ConfigView] = {
            names.tasks: queue,
            names.workers: workers,
            names.deployments: config,
        }
        partitions = keys.queue_partitions(name, names.partitions)
        scan = TopicScan(log, names, [TASKS, WORKERS, DEPLOYMENTS], partitions=partitions)
        try:
            for record in scan.to_end():
                views[record.topic].take(record)
        finally:
            scan.close()
    rows = workers.rows(now_ms, name)
    living = [beat for beat in workers.heard_of(now_ms, name) if not _is_silent(beat, now_ms)]
    running = [held.task_id for beat in living for held in beat.held]
    types = queue.rows(running)
    by_key = key_rows(queue.tasks, running, _free_slots(living), config)
    if not rows and not queue.tasks and not config.configs:
        raise CliError(
            f"nothing waits in task queue {name!r} of namespace {namespace}, and no worker serves it; check the name"
        )
    if output is not OutputFormat.TABLE:
        print_fields({"task_queue": name, "types": types, "keys": by_key, "workers": rows}, output)
        return
    print_rows(types, output, TYPE_COLUMNS)
    if config.configs or any(row["fairness_key"] for row in by_key):
        print()
        print_rows(by_key[:KEYS_SHOWN_MAX], output, KEY_COLUMNS)
        if len(by_key) > KEYS_SHOWN_MAX:
            print(f"and {len(by_key) - KEYS_SHOWN_MAX} more fairness keys: -o json shows all")
    print(f"\n{len(rows)} worker{'' if len(rows) == 1 else 's'}{':' if rows else ': tasks wait until one comes'}")
    if rows:
        print_rows(rows, output, WORKER_COLUMNS[1:])


def _free_slots(living: Iterable[WorkerHeartbeat]) -> dict[str, int]:
    """Free slots of workers, by type of tasks."""
    free = {"workflow": 0, "activity": 0}
    for beat in living:
        if not beat.draining:
            activities = sum(keys.is_activity_task(held.task_id) for held in beat.held)
            free["activity"] += max(0, beat.activity_slots - activities)
            free["workflow"] += max(0, beat.workflow_slots - (len(beat.held) - activities))
    return free


def list_workers(address: str, namespace: str, task_queue: str | None, output: OutputFormat) -> None:
    """Print the workers of a namespace, or of one of its task queues."""
    with opened(address, namespace) as (log, names):
        workers = WorkersView()
        partitions = None if task_queue is None else keys.queue_partitions(task_queue, names.partitions)
        scan = TopicScan(log, names, [WORKERS], partitions=partitions)
        try:
            for record in scan.to_end():
                workers.take(record)
        finally:
            scan.close()
    print_rows(workers.rows(wall_clock_ms(), task_queue), output, WORKER_COLUMNS)
