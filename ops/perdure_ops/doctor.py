"""What ``perdure doctor`` looks for: what is wrong with a namespace, why, and what to do about it.

Pure: from what was read to findings. A finding is something an operator should act on; what heals by itself, or is as
it must be in a cluster at work (a long timer, a long activity), is none. Called by ``perdure_ops.doctoring``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from perdure_ops.audit import Breach
from perdure_ops.dead_letters import Action, Plan
from perdure_ops.group_lag import READ_SIDE, PartitionLag
from perdure_runtime import topics_plan
from perdure_runtime.fence import Fence
from perdure_runtime.fenced import admitted_key
from perdure_runtime.log import LogRecord, TopicDescription
from perdure_runtime.relay.service import RELAY
from perdure_schemas import codec
from perdure_schemas.records import (
    ExecutionSummary,
    TaskRecord,
    TimerRecord,
    WorkerHeartbeat,
    WorkerStopped,
)
from perdure_schemas.topics import TopicNames

#: How many of the same are named; the others are counted.
_NAMED_MAX = 5
#: A worker that was not heard of for so long is gone.
WORKER_SILENCE_MS = 60_000


class Finding(NamedTuple):
    """Something to act on: which check found what about whom, its likely cause, and what to do."""

    check: str
    subject: str
    finding: str
    cause: str
    fix: str


def topic_findings(names: TopicNames, found: Mapping[str, TopicDescription]) -> list[Finding]:
    """Topics that are missing, not as declared, or short of replicas."""
    findings = [
        Finding(
            "topics",
            change.topic,
            f"{change.setting} is {change.before}, not {change.after}",
            change.reason,
            "change it by hand, see the cause"
            if change.action in (topics_plan.Action.REFUSE, topics_plan.Action.ADVISE)
            else "perdure topics plan, then perdure topics apply",
        )
        for change in topics_plan.plan(names, found).changes
    ]
    for topic in found.values():
        if 0 <= topic.in_sync < topic.replication:
            needed = topic.config.get("min.insync.replicas", "1")
            blocked = needed.isdigit() and topic.in_sync < int(needed)
            finding = f"a partition has {topic.in_sync} of {topic.replication} replicas in sync; {needed} are needed"
            cause = "a broker is down or slow" + ("; nothing can be written to the partition" if blocked else "")
            findings.append(Finding("replicas", topic.name, finding, cause, "look after the brokers"))
    return findings


def group_findings(lags: Sequence[PartitionLag], now_ms: int, age_s_max: float) -> list[Finding]:
    """Partitions without an owner, and queues whose oldest record waits for too long."""
    findings = []
    for group in dict.fromkeys(found.group for found in lags):
        of = [found for found in lags if found.group == group]
        orphans = [found.partition for found in of if not found.member]
        if orphans:
            everything = len(orphans) == len(of)
            findings.append(
                Finding(
                    "owner",
                    group.name,
                    "the group has no members" if everything else f"nobody owns partitions {_named(orphans)}",
                    f"no process runs the role {group.role}" if everything else "members come or go, or hang",
                    "start `perdure server` (or `perdure dev`)"
                    if everything
                    else "look again; then at the engines' logs",
                )
            )
        # In the other groups a record is done when its task or timer is over, however long that takes.
        if group.role not in ("history", READ_SIDE, RELAY):
            continue
        old = [found for found in of if found.member and found.age_s(now_ms) > age_s_max]
        if old:
            worst = max(old, key=lambda found: found.age_s(now_ms))
            age = f"partition {worst.partition} is {worst.lag if worst.lag is not None else worst.end} records and"
            findings.append(
                Finding(
                    "lag",
                    group.name,
                    f"{age} {worst.age_s(now_ms):.0f} s behind ({len(old)} of {len(of)} partitions are behind)",
                    "the engine is overloaded, restores its state, or fails again and again",
                    "see `perdure lag --watch 5` and the engines' logs; start another engine",
                )
            )
    return findings


def run_findings(runs: Iterable[ExecutionSummary]) -> list[Finding]:
    """Open runs that do not go on by themselves."""
    runs = list(runs)
    findings = []
    for run in _first([run for run in runs if run.quarantine_reason]):
        findings.append(
            Finding(
                "quarantined",
                f"{run.workflow_id} {run.run_id}",
                f"quarantined: {run.quarantine_reason}",
                "a record of it could not be processed",
                f"perdure workflow release -w {run.workflow_id} after a fix; else reset or terminate it",
            )
        )
    for run in _first([run for run in runs if run.stuck_reason and not run.quarantine_reason]):
        findings.append(
            Finding(
                "stuck",
                f"{run.workflow_id} {run.run_id}",
                f"attempt {run.stuck_attempt} of its workflow task comes next: {run.stuck_reason}",
                "the workflow's code fails again and again",
                "mend the code and restart the worker, or reset or terminate the run",
            )
        )
    counts = {
        "quarantined": sum(bool(run.quarantine_reason) for run in runs),
        "stuck": sum(bool(run.stuck_reason and not run.quarantine_reason) for run in runs),
    }
    for check, count in counts.items():
        if count > _NAMED_MAX:
            more = f"{count - _NAMED_MAX} more runs are {check}"
            fix = (
                "see them with `perdure workflow list --stuck`"
                if check == "stuck"
                else "they are named once these are mended"
            )
            findings.append(Finding(check, "", more, "as above", fix))
    return findings


def letter_findings(plans: Sequence[Plan]) -> list[Finding]:
    """Dead letters that were not put back."""
    open_plans = [plan for plan in plans if plan.action is not Action.DONE]
    if not open_plans:
        return []
    ready = sum(plan.action is Action.REPLAY for plan in open_plans)
    newest = max(open_plans, key=lambda plan: plan.letter.content.time_ms)
    finding = f"{len(open_plans)} dead letters; {ready} of them can be put back"
    cause = f"records could not be processed; the newest: {newest.letter.content.reason}"
    return [
        Finding("dead-letters", newest.letter.id, finding, cause, "perdure dlq list; after a fix perdure dlq replay")
    ]


def audit_findings(breaches: Sequence[Breach]) -> list[Finding]:
    """What the audit says, one finding for each of its checks."""
    findings = []
    for check in dict.fromkeys(breach.check for breach in breaches):
        of = [breach for breach in breaches if breach.check == check]
        first = of[0]
        where = f"{first.topic}/{first.partition}/{first.offset}"
        message = first.message + (f" (and {len(of) - 1} more)" if len(of) > 1 else "")
        cause = f"it does not hold that {first.expected}"
        findings.append(Finding(f"audit:{check}", where, message, cause, first.remedy))
    return findings


class Outstanding:
    """What is outstanding in ``tasks`` and ``timers``, and which workers live. Takes records in their order."""

    def __init__(self, names: TopicNames) -> None:
        self._names = names
        self._fences: dict[tuple[str, int], Fence] = {}
        self._things: dict[tuple[str, int, str], TaskRecord | TimerRecord] = {}
        #: By worker: its queue, and when it was heard of last.
        self._workers: dict[str, tuple[str, int]] = {}

    def take(self, record: LogRecord) -> None:
        """Take in a record; what cannot be read, or is of other topics, changes nothing."""
        try:
            if record.topic == self._names.workers:
                self._take_worker(codec.decode(record.value))
            elif record.topic in (self._names.tasks, self._names.timers):
                self._take_thing(record)
        except (codec.DecodeError, ValueError):
            return

    def _take_worker(self, value: object) -> None:
        if isinstance(value, WorkerHeartbeat) and not value.draining:
            self._workers[value.worker_id] = (value.task_queue, value.time_ms)
        elif isinstance(value, WorkerHeartbeat | WorkerStopped):
            self._workers.pop(value.worker_id, None)

    def _take_thing(self, record: LogRecord) -> None:
        key = admitted_key(self._fences.setdefault((record.topic, record.partition), Fence()), record)
        if key is None:
            return
        where = (record.topic, record.partition, key.id)
        value = None if record.value is None else codec.decode(record.value)
        if isinstance(value, TaskRecord | TimerRecord):
            self._things[where] = value
        else:
            self._things.pop(where, None)

    def findings(self, now_ms: int, age_s_max: float) -> list[Finding]:
        """Tasks that nobody will take, and timers that should have fired."""
        old_ms = now_ms - int(age_s_max * 1000)
        served = {queue for queue, time_ms in self._workers.values() if time_ms > now_ms - WORKER_SILENCE_MS}
        waiting: dict[str, int] = {}
        late: list[TimerRecord] = []
        for thing in self._things.values():
            if isinstance(thing, TimerRecord):
                if 0 < thing.due_time_ms < old_ms:
                    late.append(thing)
            elif thing.created_time_ms < old_ms and thing.task_queue not in served:
                waiting[thing.task_queue] = waiting.get(thing.task_queue, 0) + 1
        findings = [
            Finding(
                "no-worker",
                queue,
                f"{count} tasks wait in the queue, and no worker polls it",
                "its workers are down, or the workflows name a wrong task queue",
                "start a worker for the queue",
            )
            for queue, count in sorted(waiting.items())
        ]
        if late:
            worst = min(late, key=lambda timer: timer.due_time_ms)
            late_s = (now_ms - worst.due_time_ms) / 1000
            findings.append(
                Finding(
                    "late-timers",
                    f"{worst.workflow_id} {worst.run_id}",
                    f"{len(late)} timers are due and have not fired, the oldest for {late_s:.0f} s",
                    "the role timers or history does not run, or is behind",
                    "see `perdure partitions`, and the engines' logs",
                )
            )
        return findings


def _first(runs: Sequence[ExecutionSummary]) -> Sequence[ExecutionSummary]:
    return runs[:_NAMED_MAX]


def _named(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_NAMED_MAX]))
    return shown if len(numbers) <= _NAMED_MAX else f"{shown} and {len(numbers) - _NAMED_MAX} more"
