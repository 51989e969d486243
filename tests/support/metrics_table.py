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
_OWN = """
## Metrics of one's own

`workflow.metric_meter()`, `activity.metric_meter()` and, for everything else, `Runtime.default().metric_meter` make
counters, gauges and histograms. They are exported with the worker's, by whatever serves those:

```python
orders = workflow.metric_meter().create_counter("orders", "Orders that were accepted.")
orders.add(1, {{"country": order.country}})
```

is `orders_total{{namespace="default",task_queue="orders",workflow_type="Order",country="se"}}`.

* **Name**: characters besides ASCII letters, digits and `_` become `_`, the unit is appended (`s` as `seconds`), and
  a counter ends in `_total`. Names that begin with `perdure_`, those every process exports of itself (`process_…`,
  `python_…`), and a name that is in use for another kind are refused. A process has at most {families} metrics.
* **Attributes** become labels; values are text, numbers and truth values. The workflow's meter adds `namespace`,
  `task_queue` and `workflow_type`, the activity's `activity_type` instead of the last, the runtime's nothing. Values
  of one metric may have different labels: to Prometheus a label that is missing is an empty one.
* **Limit**: after {series} combinations of labels, a metric logs one warning; further ones are counted together with
  the only label `overflow="true"`, and those of a gauge are dropped. Never take ids as attributes.
* **Histograms** of a `timedelta` are in seconds, with `_seconds` in the name and buckets from a millisecond to a day;
  those of numbers have buckets from 0.001 to 1,000,000.
* **Mistakes** never fail a workflow or an activity: an impossible name, attribute or value is logged once for each
  metric (`event=metric_refused`, logger `perdure.metrics`) and not recorded. The runtime's meter raises `ValueError`
  or `TypeError`.
* **Replay** records nothing. A workflow task or an activity that is run again because it failed or its worker was
  lost counts again, as does each query: metrics are for watching, not for accounting.
* **Process pools**: `activity.metric_meter()` raises `RuntimeError` in an activity that runs in another process.
  Threads and async activities may record at any time.
* **Tests**: `ActivityEnvironment.metric_meter` is what the activity gets, `MetricMeter.noop` if not set.
"""
_PARTS = {"engine": "Engines", "worker": "Worker processes (and `perdure dev` with workers in it)"}


def table() -> str:
    """The whole document."""
    from perdure_runtime.metrics import OTHER, SERIES_MAX
    from perdure_runtime.user_metrics import FAMILIES_MAX

    parts = [_HEAD.format(series=SERIES_MAX, other=OTHER)]
    for process, title in _PARTS.items():
        parts.append(f"\n## {title}\n\n| metric | kind | labels | |\n|---|---|---|---|\n")
        parts += [_row(metric) for metric in DECLARED.values() if metric.process == process]
    parts.append(_OWN.format(series=SERIES_MAX, families=FAMILIES_MAX))
    return "".join(parts)


def _row(metric: Metric) -> str:
    name = metric.name + ("_total" if metric.kind is Kind.COUNTER else "")
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{name}` | {metric.kind} | {labels} | {metric.text} |\n"


if __name__ == "__main__":
    TABLE.write_text(table())
