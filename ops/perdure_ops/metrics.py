"""The engine's counters in Prometheus' text format. Called by the HTTP endpoints when ``/metrics`` is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from perdure_runtime.stats import PartitionStatus

#: Field of the engine's statistics → what it counts, since the role was (re)started.
COUNTERS = {
    "records": "Records read from the log and processed.",
    "sent": "Records appended to the log.",
    "batches": "Batches of records processed.",
    "checkpoints": "Checkpoints written to the state store.",
    "dead_letters": "Records that could not be processed.",
    "folded": "Records folded to restore state.",
    "takeovers": "Partitions taken over.",
    "standby_folded": "Records folded of partitions that others own.",
}
GAUGES = {
    "live_partitions": "Partitions owned and being worked on.",
    "restoring_partitions": "Partitions owned and being restored.",
    "restore_records_remaining": "Offsets that owned partitions have still to fold before they are worked on.",
    "standby_partitions": "Partitions of others that are folded here, to be taken over at once.",
    "standby_records_remaining": "Offsets that those have still to fold before they are hot the first time.",
    "standby_lag_seconds": "Age of the newest folded record while there is more to fold; 0 without.",
    "checkpoint_age_seconds": "For how long state has been waiting to be written; a second or two under load.",
}


class EngineView(Protocol):
    """What the endpoints ask of an engine."""

    @property
    def ready(self) -> bool:
        """Whether every role is live on all partitions it owns."""

    def stats(self) -> Mapping[str, Any]:
        """Statistics by role."""

    def status(self) -> Sequence[PartitionStatus]:
        """Every partition that is owned or folded by this engine."""


class EngineCollector(Collector):
    """Reads an engine's statistics when Prometheus asks, so that nothing is counted twice on the hot path."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        stats = self._engine.stats()
        for field, text in COUNTERS.items():
            counter = CounterMetricFamily(f"perdure_engine_{field}", text, labels=["role"])
            for role, values in stats.items():
                counter.add_metric([role], getattr(values, field))
            yield counter
        for field, text in GAUGES.items():
            gauge = GaugeMetricFamily(f"perdure_engine_{field}", text, labels=["role"])
            for role, values in stats.items():
                gauge.add_metric([role], getattr(values, field))
            yield gauge
        ready = GaugeMetricFamily("perdure_engine_ready", "1 when every role is live on all partitions it owns.")
        ready.add_metric([], 1.0 if self._engine.ready else 0.0)
        yield ready


def engine_registry(engine: EngineView) -> CollectorRegistry:
    """A registry with an engine's metrics and those of the process."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(engine))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry) -> bytes:
    """The registry in Prometheus' text format."""
    return generate_latest(registry)
