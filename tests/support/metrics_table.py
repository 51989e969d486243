"""The list of metrics in ``docs/metrics.md``, made from their declarations, so that it cannot lie.

``python -m tests.support.metrics_table`` writes it; a test fails when it is out of date.
"""

from __future__ import annotations

from pathlib import Path

from perdure_runtime.metrics import DECLARED, Kind, Metric

TABLE = Path(__file__).parents[2] / "docs" / "metrics.md"

_HEAD = """\
# Metrics

Written by `python -m tests.support.metrics_table` from `runtime/perdure_runtime/metrics.py`; a test compares the two.

Engines (`perdure server --http-port 8080`, `perdure dev`) serve metrics at `/metrics`, their health at `/healthz` (the
process lives) and their readiness at `/readyz`: every partition it owns is restored and worked on, and its read side
has the runs that were there when it started; without one it says that lists are answered elsewhere. Worker processes
serve theirs with `python -m perdure.worker MODULE:FUNCTION --metrics-address 0.0.0.0:9464`, or in code:

```python
from perdure.runtime import PrometheusConfig, Runtime, TelemetryConfig

Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address="0.0.0.0:9464")))
```

Durations are in seconds. A counter's name ends in `_total`; a histogram has `_bucket`, `_sum` and `_count`. Counters
begin at 0 with each process, those with the label `role` also when a role is started again: use `rate` and `increase`.
After {series} series of one metric, further label values are counted together as `{other}`.

A dashboard for Grafana is in [`ops/grafana/`](../ops/grafana/dashboards/perdure.json), alert rules for Prometheus in
[`ops/prometheus/`](../ops/prometheus/alerts.yml); `docker compose --profile monitoring up` starts both with an engine.
"""
_PARTS = {"engine": "Engines", "worker": "Worker processes (and `perdure dev` with workers in it)"}


def table() -> str:
    """The whole document."""
    from perdure_runtime.metrics import OTHER, SERIES_MAX

    parts = [_HEAD.format(series=SERIES_MAX, other=OTHER)]
    for process, title in _PARTS.items():
        parts.append(f"\n## {title}\n\n| metric | kind | labels | |\n|---|---|---|---|\n")
        parts += [_row(metric) for metric in DECLARED.values() if metric.process == process]
    return "".join(parts)


def _row(metric: Metric) -> str:
    name = metric.name + ("_total" if metric.kind is Kind.COUNTER else "")
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{name}` | {metric.kind} | {labels} | {metric.text} |\n"


if __name__ == "__main__":
    TABLE.write_text(table())
