"""What all clients and workers of a process share: their metrics, and a meter. Names as in ``temporalio.runtime``.

::

    Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address="0.0.0.0:9464")))

serves the metrics of all workers of the process, whichever client they have, at ``http://…:9464/metrics``; which those
are stands in ``docs/metrics.md``. What is recorded costs the same whether somebody serves it or not. Invariant: two
runtimes serve the same numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perdure._metric_meter import meter_of
from perdure.common import MetricMeter
from perdure_runtime.garbage import collect_less_often
from perdure_runtime.switching import switch_less_often

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

__all__ = ["PrometheusConfig", "Runtime", "TelemetryConfig", "collect_less_often", "switch_less_often"]


@dataclass(frozen=True)
class PrometheusConfig:
    """Serve metrics for Prometheus.

    Counters always end in ``_total`` and durations are always in seconds, with the unit in the name.

    Attributes:
        bind_address: ``HOST:PORT`` to listen on; port 0 takes any free one.
        counters_total_suffix, unit_suffix, durations_as_seconds: These can only be true.
    """

    bind_address: str
    counters_total_suffix: bool = True
    unit_suffix: bool = True
    durations_as_seconds: bool = True

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: one makes no sense, or is not supported.
        """
        for name in ("counters_total_suffix", "unit_suffix", "durations_as_seconds"):
            if not getattr(self, name):
                raise ValueError(f"{name}=False is not supported: metrics have one form, see docs/metrics.md")
        self.host_and_port()

    def host_and_port(self) -> tuple[str, int]:
        """The two parts of the address.

        Raises:
            ValueError: it has another form.
        """
        host, colon, port = self.bind_address.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65_535):
            raise ValueError(f"bind_address is {self.bind_address!r}; write HOST:PORT, for example 0.0.0.0:9464")
        return host.strip("[]"), int(port)


@dataclass(frozen=True)
class TelemetryConfig:
    """What a process tells of itself.

    Attributes:
        metrics: How metrics leave the process; ``None``: not at all.
        global_tags: Not supported: Prometheus adds labels when it scrapes.
    """

    metrics: PrometheusConfig | None = None
    global_tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError, TypeError: one is not supported.
        """
        if self.global_tags:
            raise ValueError("global_tags are not supported: let Prometheus add labels when it scrapes")
        if self.metrics is not None and not isinstance(self.metrics, PrometheusConfig):
            raise TypeError(f"metrics is a {type(self.metrics).__name__}; only a PrometheusConfig is supported")


class Runtime:
    """Serves what a process tells of itself until :meth:`close`, or until the process ends.

    Args:
        telemetry: What that is.

    Raises:
        OSError: the address of the metrics is in use, or is not one of this machine.
    """

    _default: Runtime | None = None
    _default_lock = threading.Lock()

    def __init__(self, *, telemetry: TelemetryConfig) -> None:
        self._server: WSGIServer | None = None
        self._metric_meter = meter_of({}, raises=True)
        if telemetry.metrics is not None:
            from perdure_runtime.exposition import process_registry, serve

            host, port = telemetry.metrics.host_and_port()
            self._server = serve(host, port, process_registry())

    @classmethod
    def default(cls) -> Runtime:
        """The runtime of whoever gives none: it serves nothing unless :meth:`set_default` said otherwise."""
        with cls._default_lock:
            if cls._default is None:
                cls._default = cls(telemetry=TelemetryConfig())
            return cls._default

    @staticmethod
    def set_default(runtime: Runtime, *, error_if_already_set: bool = True) -> None:
        """Make a runtime the default one.

        Raises:
            RuntimeError: there is one, and ``error_if_already_set``.
        """
        with Runtime._default_lock:
            if error_if_already_set and Runtime._default not in (None, runtime):
                raise RuntimeError("a default runtime is set or was used already; make it first of all")
            Runtime._default = runtime

    @property
    def metric_meter(self) -> MetricMeter:
        """The meter for metrics of one's own outside of workflows and activities; it has no attributes.

        It raises what is wrong with a metric. Not for workflow code, whose replay would count again: there is
        ``workflow.metric_meter()``.
        """
        return self._metric_meter

    @property
    def metrics_port(self) -> int | None:
        """The port on which metrics are served; ``None``: they are not."""
        return None if self._server is None else int(self._server.server_port)

    def close(self) -> None:
        """Serve nothing more."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
