"""Metrics in Prometheus' text format: collectors of what is recorded, and an HTTP server for a process without one.

Called by the engine's endpoints and by :mod:`perdure.runtime`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from perdure_runtime.metrics import PROCESS, Buckets, Kind, Metric, Recorder, Sample
from perdure_runtime.user_metrics import PROCESS_USER_METRICS, UserMetrics
from perdure_runtime.user_metrics import Family as UserFamily

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

__all__ = ["RecorderCollector", "SampleCollector", "UserCollector", "families_of", "process_registry", "serve"]


def families_of(samples: Iterable[Sample]) -> Iterator[Family]:
    """Counters and gauges as Prometheus' client has them.

    What several say of one series is added up; of a maximum the largest counts.
    """
    sums: dict[Metric, dict[tuple[str, ...], float]] = {}
    for metric, labels, value in samples:
        series = sums.setdefault(metric, {})
        known = series.get(labels, 0.0)
        series[labels] = max(known, value) if metric.is_maximum else known + value
    for metric, series in sums.items():
        family: CounterMetricFamily | GaugeMetricFamily
        if metric.kind is Kind.COUNTER:
            family = CounterMetricFamily(metric.name, metric.text, labels=metric.labels)
        else:
            family = GaugeMetricFamily(metric.name, metric.text, labels=metric.labels)
        for labels, value in series.items():
            family.add_metric(labels, value)
        yield family


def _histogram(metric: Metric, series: Iterable[tuple[tuple[str, ...], Buckets]]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.text, labels=metric.labels)
    names = [*map(floatToGoString, metric.bounds_s), "+Inf"]
    for labels, buckets in series:
        below = 0
        cumulative = []
        for name, count in zip(names, buckets.counts, strict=True):
            below += count
            cumulative.append((name, float(below)))
        family.add_metric(labels, cumulative, buckets.sum_s)
    return family


class RecorderCollector(Collector):
    """What a process recorded, and what the sources of its recorder say."""

    def __init__(self, recorder: Recorder = PROCESS) -> None:
        self._recorder = recorder

    def collect(self) -> Iterator[Family]:
        """The metrics as they are now."""
        for metric, series in self._recorder.histograms().items():
            yield _histogram(metric, series.items())
        yield from families_of(self._recorder.samples())

    def describe(self) -> Iterator[Family]:
        """Names only, so that registering asks nobody."""
        return iter(())


class SampleCollector(Collector):
    """Asks for samples when Prometheus does, so that nothing is counted twice on the hot path."""

    def __init__(self, source: Callable[[], Iterable[Sample]]) -> None:
        self._source = source

    def collect(self) -> Iterator[Family]:
        """The metrics as they are now."""
        return families_of(self._source())

    def describe(self) -> Iterator[Family]:
        """Names only, so that registering asks nobody."""
        return iter(())


class UserCollector(Collector):
    """The metrics that users made themselves; series of one metric may have different labels."""

    def __init__(self, metrics: UserMetrics = PROCESS_USER_METRICS) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        """The metrics as they are now."""
        return map(_user_family, self._metrics.families())

    def describe(self) -> Iterator[Family]:
        """Names only, so that registering asks nobody."""
        return iter(())


def _user_family(metric: UserFamily) -> Family:
    kind = metric.values.kind
    family = Family(metric.name, metric.text, kind.value)
    suffix = "_total" if kind is Kind.COUNTER else ""
    for labels, value in metric.numbers.items():
        family.add_sample(metric.name + suffix, dict(labels), value)
    names = [*map(floatToGoString, metric.values.bounds), "+Inf"]
    for labels, buckets in metric.buckets.items():
        below = 0
        for name, count in zip(names, buckets.counts, strict=True):
            below += count
            family.add_sample(f"{metric.name}_bucket", {**dict(labels), "le": name}, below)
        family.add_sample(f"{metric.name}_count", dict(labels), below)
        family.add_sample(f"{metric.name}_sum", dict(labels), buckets.sum_s)
    return family


def process_registry(recorder: Recorder = PROCESS) -> CollectorRegistry:
    """A registry with what this process and its users recorded, and with its memory, processor time and garbage."""
    registry = CollectorRegistry()
    registry.register(RecorderCollector(recorder))
    registry.register(UserCollector())
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def serve(host: str, port: int, registry: CollectorRegistry) -> WSGIServer:
    """Serve a registry at ``/metrics`` (and everywhere else) from a thread; close the server to stop.

    Raises:
        OSError: the port is in use, or the address is not one of this machine.
    """
    server, _ = start_http_server(port, addr=host, registry=registry)
    return server
