"""The engine's metrics: what its roles, its read side and its groups show when somebody asks.

Nothing here runs on the hot path. Lag is asked of the log, which takes a round trip for each partition, so an answer
is good for some seconds, and a log that does not answer leaves lag out. Called by the HTTP endpoints for ``/metrics``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest

from perdure_ops.group_lag import lags_of
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.exposition import SampleCollector, process_registry
from perdure_runtime.log import Log, LogError
from perdure_runtime.metrics import (
    ENGINE_READY,
    LAG_RECORDS,
    LAG_SECONDS,
    READ_SIDE_BEHIND,
    ROLE_COUNTERS,
    ROLE_GAUGES,
    RUNS,
    STUCK_RUNS,
    Sample,
)
from perdure_schemas.topics import TopicNames

if TYPE_CHECKING:
    from perdure_readside.service import ReadSide
    from perdure_runtime.stats import PartitionStatus

__all__ = ["EngineView", "LagSource", "engine_registry", "engine_samples", "read_side_samples", "render"]

_logger = logging.getLogger("perdure.metrics")

#: For how long the lag that was asked for last is good.
LAG_AGE_S_MAX = 10.0

Source = Callable[[], Sequence[Sample]]


class EngineView(Protocol):
    """What the endpoints ask of an engine."""

    @property
    def ready(self) -> bool:
        """Whether every role is live on all partitions it owns."""

    def stats(self) -> Mapping[str, Any]:
        """Statistics by role."""

    def status(self) -> Sequence[PartitionStatus]:
        """Every partition that is owned or folded by this engine."""

    def samples(self) -> Sequence[Sample]:
        """What the partitions show of themselves."""


def engine_samples(engine: EngineView) -> Iterator[Sample]:
    """The samples of an engine: of each role, and of its partitions."""
    for role, values in engine.stats().items():
        for field, metric in (ROLE_COUNTERS | ROLE_GAUGES).items():
            yield Sample(metric, (role,), getattr(values, field))
    yield from engine.samples()
    yield Sample(ENGINE_READY, (), 1.0 if engine.ready else 0.0)


def read_side_samples(side: ReadSide, namespace: str) -> list[Sample]:
    """The samples of a read side: what its index holds, and how far that is behind; none while it starts."""
    overview = side.overview()
    if overview is None:
        return []
    runs = [Sample(RUNS, (namespace, status), count) for status, count in overview.runs.items()]
    return [
        *runs,
        Sample(STUCK_RUNS, (namespace,), overview.stuck),
        Sample(READ_SIDE_BEHIND, (namespace,), overview.behind),
    ]


class LagSource:
    """How far an instance's partitions are behind.

    Args:
        log: the log.
        names: the namespace.
        instance: only the partitions that the groups have given to this member.
        monotonic_s: the clock by which an answer grows old, in seconds.
    """

    def __init__(
        self, log: Log, names: TopicNames, instance: str, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._names = names
        self._instance = instance
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._asked_s: float | None = None
        self._samples: list[Sample] = []

    def __call__(self) -> list[Sample]:
        """The samples, at most :data:`LAG_AGE_S_MAX` old; none if the log does not answer."""
        with self._lock:
            now_s = self._monotonic_s()
            if self._asked_s is None or now_s - self._asked_s > LAG_AGE_S_MAX:
                try:
                    self._samples = self._ask()
                except LogError as error:
                    _logger.warning("event=lag_unknown reason=%r", str(error))
                    self._samples = []
                self._asked_s = now_s
            return self._samples

    def _ask(self) -> list[Sample]:
        now_ms = wall_clock_ms()
        found = []
        for lag in lags_of(self._log, self._names, member=self._instance):
            if not lag.group.commits:
                continue
            labels = (self._names.namespace, lag.group.role, str(lag.partition))
            found.append(Sample(LAG_RECORDS, labels, lag.end if lag.lag is None else lag.lag))
            found.append(Sample(LAG_SECONDS, labels, lag.age_s(now_ms)))
        return found


def engine_registry(engine: EngineView, sources: Sequence[Source] = ()) -> CollectorRegistry:
    """A registry with an engine's metrics, those of the process, and what the sources say."""
    registry = process_registry()
    registry.register(SampleCollector(lambda: engine_samples(engine)))
    for source in sources:
        registry.register(SampleCollector(source))
    return registry


def render(registry: CollectorRegistry) -> bytes:
    """The registry in Prometheus' text format. Blocks while the log is asked for lag."""
    return generate_latest(registry)
