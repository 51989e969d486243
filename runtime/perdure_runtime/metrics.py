"""Metrics: every name declared once, as data, and the counts and latencies of this process.

Invariants: a metric that is exported is declared here, with its labels; recording one is a dictionary look-up and an
addition under a lock, and converts nothing; what can be read when somebody asks is not recorded but read then, from
sources. Recorded to by the engine and by workers; read by :mod:`perdure_runtime.exposition`.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

__all__ = ["DECLARED", "PROCESS", "Buckets", "Kind", "Metric", "Recorder", "Sample", "declare"]

#: Series of one metric. What comes later is counted together, with every label set to :data:`OTHER`.
SERIES_MAX = 5_000
OTHER = "__other__"
#: Upper bounds in seconds: of what takes moments, and of what takes as long as a workflow does.
SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LONG_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0, 86_400.0)


class Kind(StrEnum):
    """Of Prometheus' kinds, those in use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric. Equal to itself only, so that it is found quickly.

    Attributes:
        name: as exported; of a counter without ``_total``, which the text format adds.
        kind: what it is.
        text: what it says.
        labels: their names, in order.
        process: who exports it: ``engine`` (``perdure server`` and ``perdure dev``) or ``worker``.
        bounds_s: of a histogram: the upper bounds of its buckets, in seconds.
        is_maximum: of what several partitions say of one series the largest counts, and not the sum.
    """

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...]
    process: str
    bounds_s: tuple[float, ...] = ()
    is_maximum: bool = False


#: Every metric of the platform, by name.
DECLARED: dict[str, Metric] = {}


def declare(
    name: str,
    kind: Kind,
    text: str,
    labels: tuple[str, ...] = (),
    *,
    process: str = "engine",
    bounds_s: tuple[float, ...] = SHORT_S,
    is_maximum: bool = False,
) -> Metric:
    """Declare a metric; see :class:`Metric`.

    Raises:
        ValueError: the name is taken.
    """
    if name in DECLARED:
        raise ValueError(f"metric {name} is declared twice")
    metric = Metric(name, kind, text, labels, process, bounds_s if kind is Kind.HISTOGRAM else (), is_maximum)
    DECLARED[name] = metric
    return metric


class Sample(NamedTuple):
    """What a source says of a gauge or a counter: its labels' values, and its value."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


class Buckets:
    """One series of a histogram: how many values are in each bucket, and their sum in seconds."""

    __slots__ = ("counts", "sum_s")

    def __init__(self, size: int) -> None:
        #: The last one is for what is above all bounds.
        self.counts = [0] * (size + 1)
        self.sum_s = 0.0

    def copy(self) -> Buckets:
        """The same numbers, which stay as they are."""
        copied = Buckets(0)
        copied.counts = list(self.counts)
        copied.sum_s = self.sum_s
        return copied


Source = Callable[[], Iterable[Sample]]


class Recorder:
    """Counts, latencies and sources of one process. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._histograms: dict[Metric, dict[tuple[str, ...], Buckets]] = {}
        self._counters: dict[Metric, dict[tuple[str, ...], float]] = {}
        self._sources: list[Source] = []

    def observe(self, metric: Metric, labels: tuple[str, ...], seconds: float) -> None:
        """Take a value into a histogram; below 0, which differing clocks make of nearly nothing, counts as 0."""
        seconds = seconds if seconds > 0.0 else 0.0
        place = bisect_left(metric.bounds_s, seconds)
        with self._lock:
            series = self._histograms.get(metric)
            if series is None:
                series = self._histograms[metric] = {}
            buckets = series.get(labels)
            if buckets is None:
                labels = _bounded(series, labels)
                buckets = series.setdefault(labels, Buckets(len(metric.bounds_s)))
            buckets.counts[place] += 1
            buckets.sum_s += seconds

    def count(self, metric: Metric, labels: tuple[str, ...], more: float = 1) -> None:
        """Add to a counter."""
        with self._lock:
            series = self._counters.setdefault(metric, {})
            if labels not in series:
                labels = _bounded(series, labels)
            series[labels] = series.get(labels, 0) + more

    def add_source(self, source: Source) -> None:
        """Ask ``source`` for samples whenever somebody reads, on the reader's thread."""
        with self._lock:
            self._sources.append(source)

    def remove_source(self, source: Source) -> None:
        """Ask it no more. Unknown ones are ignored."""
        with self._lock:
            if source in self._sources:
                self._sources.remove(source)

    def histograms(self) -> Mapping[Metric, Mapping[tuple[str, ...], Buckets]]:
        """A copy of all histograms."""
        with self._lock:
            return {
                metric: {labels: buckets.copy() for labels, buckets in series.items()}
                for metric, series in self._histograms.items()
            }

    def samples(self) -> list[Sample]:
        """All counters, and what the sources say now."""
        with self._lock:
            found = [
                Sample(metric, labels, value)
                for metric, series in self._counters.items()
                for labels, value in series.items()
            ]
            sources = list(self._sources)
        for source in sources:
            found += source()
        return found


#: What this process records: the engine's roles and workers in it share it.
PROCESS = Recorder()


def _bounded(series: Mapping[tuple[str, ...], object], labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels of a new series; of all that is too much together. Names of queues and types come from users."""
    return labels if len(series) < SERIES_MAX else (OTHER,) * len(labels)


# --- the engine: counters and gauges of each role, read from its statistics ------------------------------------------

_ROLE = ("role",)
#: By the field of :class:`perdure_runtime.stats.ProcessorStats`. The counters begin at 0 when a role is started again.
ROLE_COUNTERS = {
    field: declare(f"perdure_engine_{field}", Kind.COUNTER, text, _ROLE)
    for field, text in {
        "records": "Records read from the log and processed.",
        "sent": "Records appended to the log.",
        "batches": "Batches of records processed.",
        "checkpoints": "Checkpoints written to the state store.",
        "dead_letters": "Records that could not be processed.",
        "folded": "Records folded to restore state.",
        "takeovers": "Partitions taken over.",
        "standby_folded": "Records folded of partitions that others own.",
    }.items()
}
ROLE_GAUGES = {
    field: declare(f"perdure_engine_{field}", Kind.GAUGE, text, _ROLE)
    for field, text in {
        "live_partitions": "Partitions owned and being worked on.",
        "restoring_partitions": "Partitions owned and being restored.",
        "restore_records_remaining": "Offsets that owned partitions have still to fold before they are worked on.",
        "standby_partitions": "Partitions of others that are folded here, to be taken over at once.",
        "standby_records_remaining": "Offsets that those have still to fold before they are hot the first time.",
        "standby_lag_seconds": "Age of the newest folded record while there is more to fold; 0 without.",
        "checkpoint_age_seconds": "For how long state has been waiting to be written; a second or two under load.",
    }.items()
}
ENGINE_READY = declare("perdure_engine_ready", Kind.GAUGE, "1 when every role is live on all partitions it owns.")
LAG_RECORDS = declare(
    "perdure_engine_lag_records",
    Kind.GAUGE,
    "Offsets from what the group has committed to the end, of the partitions this instance has. For matching and timers"
    " what is committed are finished tasks and timers.",
    ("namespace", "role", "partition"),
)
LAG_SECONDS = declare(
    "perdure_engine_lag_seconds",
    Kind.GAUGE,
    "Age of the oldest record that is not committed; 0 if there is none.",
    ("namespace", "role", "partition"),
)
IGNORED = declare(
    "perdure_engine_ignored",
    Kind.COUNTER,
    "Commands and records that changed nothing, because they were repeated, late or void.",
    ("reason",),
)
CACHED_RUNS = declare("perdure_engine_cached_runs", Kind.GAUGE, "Runs that history has in memory.")
CACHED_BYTES = declare("perdure_engine_cached_bytes", Kind.GAUGE, "Bytes of their newest events in memory.")
TIMERS_IN_MEMORY = declare("perdure_engine_timers_in_memory", Kind.GAUGE, "Timers of the near future in memory.")
TIMER_LATENESS = declare(
    "perdure_timer_lateness_seconds", Kind.HISTOGRAM, "From the time a timer is due to its wake-up.", ("namespace",)
)

# --- the engine: workflows and task queues ---------------------------------------------------------------------------

_QUEUE = ("namespace", "task_queue", "task_type")
WORKFLOW_ENDTOEND = declare(
    "perdure_workflow_endtoend_latency_seconds",
    Kind.HISTOGRAM,
    "From the start of a run to its close. Each run counts once, whoever closes it.",
    ("namespace", "workflow_type", "task_queue", "status"),
    bounds_s=LONG_S,
)
DISPATCH_LATENCY = declare(
    "perdure_task_dispatch_latency_seconds",
    Kind.HISTOGRAM,
    "From the arrival of a task in matching to its dispatch to a worker.",
    _QUEUE,
)
BACKLOG_COUNT = declare("perdure_approximate_backlog_count", Kind.GAUGE, "Tasks that wait for a worker.", _QUEUE)
BACKLOG_AGE = declare(
    "perdure_approximate_backlog_age_seconds",
    Kind.GAUGE,
    "For how long the oldest of them has waited.",
    _QUEUE,
    is_maximum=True,
)
BACKLOG_BLOCKED = declare(
    "perdure_task_queue_blocked", Kind.GAUGE, "Tasks that limits of their task queue or fairness key hold back.", _QUEUE
)
QUEUE_WORKERS = declare("perdure_task_queue_workers", Kind.GAUGE, "Workers that live.", ("namespace", "task_queue"))
QUEUE_SLOTS_USED = declare("perdure_task_queue_slots_used", Kind.GAUGE, "Tasks that workers have.", _QUEUE)
QUEUE_SLOTS_AVAILABLE = declare(
    "perdure_task_queue_slots_available", Kind.GAUGE, "Tasks that workers could take besides.", _QUEUE
)

# --- the read side ---------------------------------------------------------------------------------------------------

READ_SIDE_BEHIND = declare(
    "perdure_read_side_records_behind", Kind.GAUGE, "Records that the index has still to fold.", ("namespace",)
)
RUNS = declare(
    "perdure_workflow_runs",
    Kind.GAUGE,
    "Runs in the index. Every read side has all of them: take the maximum, not the sum.",
    ("namespace", "status"),
)
STUCK_RUNS = declare(
    "perdure_workflow_stuck_runs",
    Kind.GAUGE,
    "Open runs whose code fails again and again. Every read side has all of them: take the maximum, not the sum.",
    ("namespace",),
)

# --- workers ---------------------------------------------------------------------------------------------------------

_WORKFLOW = ("namespace", "task_queue", "workflow_type")
_ACTIVITY = ("namespace", "task_queue", "activity_type")
_SLOTS = ("namespace", "task_queue", "worker_type")
_WORKER = ("namespace", "task_queue")
WORKFLOW_TASK_SCHEDULE_TO_START = declare(
    "perdure_workflow_task_schedule_to_start_latency_seconds",
    Kind.HISTOGRAM,
    "From the scheduling of a workflow task to its first start on a worker.",
    _WORKFLOW,
    process="worker",
)
WORKFLOW_TASK_EXECUTION = declare(
    "perdure_workflow_task_execution_latency_seconds",
    Kind.HISTOGRAM,
    "How long workflow code ran in a workflow task, replay included.",
    _WORKFLOW,
    process="worker",
)
WORKFLOW_TASK_FAILED = declare(
    "perdure_workflow_task_execution_failed",
    Kind.COUNTER,
    "Workflow tasks that failed.",
    (*_WORKFLOW, "failure_reason"),
    process="worker",
)
ACTIVITY_SCHEDULE_TO_START = declare(
    "perdure_activity_schedule_to_start_latency_seconds",
    Kind.HISTOGRAM,
    "From the scheduling of an activity's attempt to its start on a worker.",
    _ACTIVITY,
    process="worker",
)
ACTIVITY_EXECUTION = declare(
    "perdure_activity_execution_latency_seconds",
    Kind.HISTOGRAM,
    "How long an attempt of an activity ran.",
    _ACTIVITY,
    process="worker",
    bounds_s=LONG_S,
)
ACTIVITY_ENDTOEND = declare(
    "perdure_activity_succeed_endtoend_latency_seconds",
    Kind.HISTOGRAM,
    "From the first scheduling of an activity to its success, all attempts included.",
    _ACTIVITY,
    process="worker",
    bounds_s=LONG_S,
)
ACTIVITY_FAILED = declare(
    "perdure_activity_execution_failed",
    Kind.COUNTER,
    "Attempts of activities that failed.",
    _ACTIVITY,
    process="worker",
)
LOCAL_ACTIVITY_EXECUTION = declare(
    "perdure_local_activity_execution_latency_seconds",
    Kind.HISTOGRAM,
    "How long an attempt of a local activity ran.",
    _ACTIVITY,
    process="worker",
)
LOCAL_ACTIVITY_FAILED = declare(
    "perdure_local_activity_execution_failed",
    Kind.COUNTER,
    "Attempts of local activities that failed.",
    _ACTIVITY,
    process="worker",
)
STICKY_CACHE_HIT = declare(
    "perdure_sticky_cache_hit", Kind.COUNTER, "Workflow tasks whose run was in memory.", _WORKER, process="worker"
)
STICKY_CACHE_MISS = declare(
    "perdure_sticky_cache_miss",
    Kind.COUNTER,
    "Workflow tasks whose run had to be replayed from its first event.",
    _WORKER,
    process="worker",
)
STICKY_CACHE_SIZE = declare(
    "perdure_sticky_cache_size", Kind.GAUGE, "Runs that the worker has in memory.", _WORKER, process="worker"
)
SLOTS_AVAILABLE = declare(
    "perdure_worker_task_slots_available",
    Kind.GAUGE,
    "Tasks that the worker could take now.",
    _SLOTS,
    process="worker",
)
SLOTS_USED = declare(
    "perdure_worker_task_slots_used", Kind.GAUGE, "Tasks that the worker has.", _SLOTS, process="worker"
)
WORKER_START = declare("perdure_worker_start", Kind.COUNTER, "Workers started.", _WORKER, process="worker")
