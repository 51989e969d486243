"""Metrics: how they are recorded and shown, and that what names them elsewhere names what is there."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from perdure.runtime import PrometheusConfig, Runtime, TelemetryConfig
from perdure.worker import __main__ as worker_command
from perdure_ops import metrics as ops_metrics
from perdure_ops.metrics import LAG_AGE_S_MAX, LagSource
from perdure_runtime import metrics
from perdure_runtime.exposition import process_registry
from perdure_runtime.log import Log, LogUnavailableError
from perdure_runtime.metrics import DECLARED, Kind, Metric, Recorder, Sample
from perdure_schemas.topics import TopicNames
from tests.support import metrics_table

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "ops" / "grafana" / "dashboards" / "perdure.json"
ALERTS = ROOT / "ops" / "prometheus" / "alerts.yml"
#: A name in an expression, with its selector if it has one.
_NAMED = re.compile(r"(perdure_[a-z_]+)(?:\{([^}]*)\})?")
_HISTOGRAM = Metric("perdure_test_seconds", Kind.HISTOGRAM, "Test.", ("a",), "engine", (1.0, 2.0))
_COUNTER = Metric("perdure_test", Kind.COUNTER, "Test.", ("a",), "engine")
_GAUGE = Metric("perdure_test_size", Kind.GAUGE, "Test.", ("a",), "engine")


def scraped(recorder: Recorder) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What a scrape of a recorder shows of the test's own metrics."""
    text = ops_metrics.render(process_registry(recorder)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("perdure_test")
    }


def exported_names(metric: Metric) -> set[str]:
    if metric.kind is Kind.COUNTER:
        return {f"{metric.name}_total"}
    if metric.kind is Kind.HISTOGRAM:
        return {f"{metric.name}{suffix}" for suffix in ("_bucket", "_sum", "_count")}
    return {metric.name}


EXPORTED = {name: metric for metric in DECLARED.values() for name in exported_names(metric)}


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression of the dashboard and of the alerts, and where it stands."""
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"]
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]


# --- names ------------------------------------------------------------------------------------------------------------


def test_the_documented_metrics_are_those_declared() -> None:
    assert metrics_table.TABLE.read_text() == metrics_table.table(), "run: python -m tests.support.metrics_table"


@pytest.mark.parametrize("metric", DECLARED.values(), ids=list(DECLARED))
def test_a_name_says_its_unit_and_kind(metric: Metric) -> None:
    assert re.fullmatch(r"perdure_[a-z]+(_[a-z]+)*", metric.name)
    assert not metric.name.endswith(("_total", "_count_total", "_bucket", "_sum"))
    assert (metric.kind is Kind.HISTOGRAM) == bool(metric.bounds_s)
    assert list(metric.bounds_s) == sorted(metric.bounds_s)
    if metric.kind is Kind.HISTOGRAM or "_latency" in metric.name or "_age" in metric.name:
        assert metric.name.endswith("_seconds")
    assert metric.text.endswith(".")


def test_what_the_dashboard_and_the_alerts_name_is_exported() -> None:
    found = list(expressions())
    assert len(found) > 30
    used = [(where, name, selector) for where, text in found for name, selector in _NAMED.findall(text)]
    assert not {(where, name) for where, name, _ in used if name not in EXPORTED}
    for where, name, selector in used:
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        assert labels <= {*EXPORTED[name].labels, "instance", "job"}, where


def test_what_the_dashboard_groups_by_is_a_label() -> None:
    for where, text in expressions():
        grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", text) for label in group.split(",")}
        labels = {label for name, _ in _NAMED.findall(text) for label in EXPORTED[name].labels}
        assert grouped <= labels | {"le", "instance", "job"}, where


def test_each_alert_says_what_to_do() -> None:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert {"summary", "action"} <= set(rule["annotations"])


def test_compose_starts_prometheus_and_grafana_with_these_files() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounted = [volume.split(":")[0] for name in ("prometheus", "grafana") for volume in services[name]["volumes"]]
    assert all((ROOT / path).exists() for path in mounted)
    assert {services[name]["profiles"][0] for name in ("prometheus", "grafana")} == {"monitoring"}
    scrape = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape[0]["dns_sd_configs"][0]["names"] == ["engine"]
    assert f"--http-port={scrape[0]['dns_sd_configs'][0]['port']}" in services["engine"]["command"]


# --- recording --------------------------------------------------------------------------------------------------------


def test_a_histogram_counts_below_each_bound() -> None:
    recorder = Recorder()
    for seconds in (0.5, 1.0, 1.5, 7.0, -0.001):
        recorder.observe(_HISTOGRAM, ("x",), seconds)
    found = scraped(recorder)
    bounds = ("1.0", "2.0", "+Inf")
    buckets = {bound: found["perdure_test_seconds_bucket", (("a", "x"), ("le", bound))] for bound in bounds}
    assert buckets == {"1.0": 3.0, "2.0": 4.0, "+Inf": 5.0}
    assert found["perdure_test_seconds_sum", (("a", "x"),)] == 10.0


def test_what_several_sources_say_of_one_series_is_added_up() -> None:
    recorder = Recorder()

    def first() -> list[Sample]:
        return [Sample(_GAUGE, ("x",), 1), Sample(_GAUGE, ("y",), 5)]

    recorder.add_source(first)
    recorder.add_source(lambda: [Sample(_GAUGE, ("x",), 2)])
    recorder.count(_COUNTER, ("x",))
    recorder.count(_COUNTER, ("x",), 2)
    found = scraped(recorder)
    assert found["perdure_test_size", (("a", "x"),)] == 3
    assert found["perdure_test_size", (("a", "y"),)] == 5
    assert found["perdure_test_total", (("a", "x"),)] == 3
    recorder.remove_source(first)
    recorder.remove_source(first)
    assert scraped(recorder)["perdure_test_size", (("a", "x"),)] == 2


def test_too_many_series_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SERIES_MAX", 2)
    recorder = Recorder()
    for name in ("a", "b", "c", "d", "a"):
        recorder.observe(_HISTOGRAM, (name,), 0.1)
        recorder.count(_COUNTER, (name,))
    counts = {labels[0]: sum(buckets.counts) for labels, buckets in recorder.histograms()[_HISTOGRAM].items()}
    assert counts == {"a": 2, "b": 1, metrics.OTHER: 2}
    assert {sample.labels[0]: sample.value for sample in recorder.samples()} == counts


def test_nothing_is_lost_between_threads() -> None:
    recorder = Recorder()

    def record() -> None:
        for _ in range(2_000):
            recorder.observe(_HISTOGRAM, ("x",), 0.1)
            recorder.count(_COUNTER, ("x",))

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.histograms()[_HISTOGRAM]["x",].counts == [8_000, 0, 0]
    assert recorder.samples() == [Sample(_COUNTER, ("x",), 8_000)]


def test_a_name_is_declared_once() -> None:
    with pytest.raises(ValueError, match="perdure_engine_ready is declared twice"):
        metrics.declare("perdure_engine_ready", Kind.GAUGE, "Again.")


# --- lag --------------------------------------------------------------------------------------------------------------


def test_the_log_is_asked_for_lag_now_and_then_and_may_be_away(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    now_s = [100.0]

    def lags_of(*_: Any, member: str | None = None) -> list[Any]:
        asked.append(member)
        if len(asked) == 2:
            raise LogUnavailableError("nobody answers")
        return []

    monkeypatch.setattr(ops_metrics, "lags_of", lags_of)
    source = LagSource(cast("Log", None), TopicNames(), "me", lambda: now_s[0])
    for _ in range(3):
        assert source() == []
        assert source() == []
        now_s[0] += LAG_AGE_S_MAX + 1
    assert asked == ["me"] * 3


# --- perdure.runtime --------------------------------------------------------------------------------------------------


def test_a_runtime_serves_what_the_process_records() -> None:
    runtime = Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig("127.0.0.1:0")))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{runtime.metrics_port}/metrics", timeout=30) as answer:
            assert "process_resident_memory_bytes" in answer.read().decode()
        with pytest.raises(OSError, match="in use"):
            Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(f"127.0.0.1:{runtime.metrics_port}")))
    finally:
        runtime.close()
    assert runtime.metrics_port is None
    runtime.close()


@pytest.mark.parametrize("address", ["", "9464", "host:", ":9464", "host:port", "host:70000"])
def test_a_wrong_address_of_metrics_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="write HOST:PORT"):
        PrometheusConfig(address)


def test_options_that_metrics_do_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="unit_suffix=False is not supported"):
        PrometheusConfig("127.0.0.1:0", unit_suffix=False)
    with pytest.raises(ValueError, match="global_tags"):
        TelemetryConfig(global_tags={"a": "b"})
    with pytest.raises(TypeError, match="PrometheusConfig"):
        TelemetryConfig(metrics=cast("PrometheusConfig", object()))


def test_the_default_runtime_is_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runtime, "_default", None)
    first = Runtime.default()
    assert Runtime.default() is first
    other = Runtime(telemetry=TelemetryConfig())
    with pytest.raises(RuntimeError, match="default runtime"):
        Runtime.set_default(other)
    Runtime.set_default(other, error_if_already_set=False)
    assert Runtime.default() is other


def test_each_of_several_worker_processes_has_a_port_for_its_metrics() -> None:
    arguments = worker_command._parser().parse_args(["m:f", "--processes", "2", "--metrics-address", "0.0.0.0:9464"])
    assert worker_command._metrics_of(arguments, 1) == ["--metrics-address", "0.0.0.0:9465"]
    arguments.metrics_address = None
    assert worker_command._metrics_of(arguments, 1) == []
