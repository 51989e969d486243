"""Metrics of one's own: how they are exported, what is refused, what is bounded, and what activities get in tests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from perdure import activity, workflow
from perdure._metric_meter import meter_of
from perdure.common import MetricCommon, MetricCounter, MetricHistogramTimedelta, MetricMeter
from perdure.runtime import Runtime
from perdure.testing import ActivityEnvironment
from perdure.workflow import NotInWorkflowError
from perdure_runtime.exposition import UserCollector
from perdure_runtime.metrics import DECLARED
from perdure_runtime.user_metrics import UserMetrics, exported_name, label_key


def scraped(metrics: UserMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    registry = CollectorRegistry()
    registry.register(UserCollector(metrics))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


@pytest.fixture
def metrics() -> UserMetrics:
    return UserMetrics()


@pytest.fixture
def meter(metrics: UserMetrics) -> MetricMeter:
    return meter_of({"task_queue": "q"}, raises=True, metrics=metrics)


# --- what is exported -------------------------------------------------------------------------------------------------


def test_counters_add_up_and_gauges_have_their_last_value(metrics: UserMetrics, meter: MetricMeter) -> None:
    meter.create_counter("orders").add(2)
    meter.create_counter("orders").add(3)
    gauge = meter.create_gauge("open-orders", "Orders that are open.", "1")
    gauge.set(7)
    gauge.set(4)
    meter.create_gauge_float("load").set(0.5)
    assert scraped(metrics) == {
        ("orders_total", (("task_queue", "q"),)): 5,
        ("open_orders", (("task_queue", "q"),)): 4,
        ("load", (("task_queue", "q"),)): 0.5,
    }
    assert (gauge.name, gauge.description, gauge.unit) == ("open-orders", "Orders that are open.", "1")


def test_a_duration_is_exported_in_seconds(metrics: UserMetrics, meter: MetricMeter) -> None:
    meter.create_histogram_timedelta("took", unit="ms").record(timedelta(milliseconds=1500))
    found = scraped(metrics)
    assert found["took_seconds_sum", (("task_queue", "q"),)] == 1.5
    assert found["took_seconds_count", (("task_queue", "q"),)] == 1
    assert found["took_seconds_bucket", (("le", "1.0"), ("task_queue", "q"))] == 0
    assert found["took_seconds_bucket", (("le", "2.5"), ("task_queue", "q"))] == 1
    assert found["took_seconds_bucket", (("le", "+Inf"), ("task_queue", "q"))] == 1


def test_histograms_of_numbers(metrics: UserMetrics, meter: MetricMeter) -> None:
    meter.create_histogram("size", unit="By").record(40)
    meter.create_histogram_float("size", unit="By").record(60.5)
    found = scraped(metrics)
    assert found["size_bytes_sum", (("task_queue", "q"),)] == 100.5
    assert found["size_bytes_bucket", (("le", "50.0"), ("task_queue", "q"))] == 1


def test_attributes_are_added_to_those_there_and_replace_them(metrics: UserMetrics, meter: MetricMeter) -> None:
    counter = meter.with_additional_attributes({"paid": True, "grade": 1}).create_counter("orders")
    better = counter.with_additional_attributes({"grade": 2.5})
    counter.add(1)
    better.add(2)
    better.add(4, {"grade": "best", "task_queue": "mine"})
    assert scraped(metrics) == {
        ("orders_total", (("grade", "1"), ("paid", "true"), ("task_queue", "q"))): 1,
        ("orders_total", (("grade", "2.5"), ("paid", "true"), ("task_queue", "q"))): 2,
        ("orders_total", (("grade", "best"), ("paid", "true"), ("task_queue", "mine"))): 4,
    }


def test_values_of_one_metric_may_have_different_labels(metrics: UserMetrics) -> None:
    meter_of({"workflow_type": "W"}, metrics=metrics).create_counter("orders").add(1)
    meter_of({"activity_type": "a"}, metrics=metrics).create_counter("orders").add(2)
    assert scraped(metrics) == {
        ("orders_total", (("workflow_type", "W"),)): 1,
        ("orders_total", (("activity_type", "a"),)): 2,
    }


def test_odd_label_values_are_escaped(metrics: UserMetrics, meter: MetricMeter) -> None:
    meter.create_counter("orders").add(1, {"who": 'a "b"\n\\c'})
    assert scraped(metrics) == {("orders_total", (("task_queue", "q"), ("who", 'a "b"\n\\c'))): 1}


def test_nothing_is_lost_between_threads(metrics: UserMetrics, meter: MetricMeter) -> None:
    def record() -> None:
        counter = meter.create_counter("orders")
        for number in range(1_000):
            counter.add(1, {"even": number % 2 == 0})

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(scraped(metrics).values()) == [2_000, 2_000]


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "exported"),
    [
        (lambda meter: meter.create_counter("a.b-c"), "a_b_c_total"),
        (lambda meter: meter.create_counter("orders_total"), "orders_total"),
        (lambda meter: meter.create_counter("waited", unit="s"), "waited_seconds_total"),
        (lambda meter: meter.create_counter("waited_seconds", unit="seconds"), "waited_seconds_total"),
        (lambda meter: meter.create_counter("2fast"), "_2fast_total"),
        (lambda meter: meter.create_gauge("process_orders"), "process_orders"),
        (lambda meter: meter.create_gauge("price", unit="EUR/h"), "price_EUR_h"),
    ],
)
def test_a_name_is_translated(
    metrics: UserMetrics, meter: MetricMeter, make: Callable[[MetricMeter], Any], exported: str
) -> None:
    metric = make(meter)
    (metric.add if isinstance(metric, MetricCounter) else metric.set)(1)
    assert [name for name, _ in scraped(metrics)] == [exported]


@pytest.mark.parametrize("name", ["", "-", "ö", "perdure_orders", "python_info", "process_cpu_seconds_total"])
def test_an_impossible_name_is_refused(meter: MetricMeter, name: str) -> None:
    with pytest.raises(ValueError, match=r"it needs letters|are not free"):
        meter.create_counter(name)


def test_no_name_of_ours_is_free(meter: MetricMeter) -> None:
    for name in DECLARED:
        with pytest.raises(ValueError, match="are not free"):
            meter.create_gauge(name)


def test_a_name_or_a_unit_is_text(meter: MetricMeter) -> None:
    with pytest.raises(TypeError, match="the name of a metric is a int"):
        meter.create_counter(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the unit of metric 'x' is a int"):
        meter.create_counter("x", unit=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda meter: meter.create_counter("x"), lambda meter: meter.create_gauge("x")),
        (lambda meter: meter.create_gauge("x_total"), lambda meter: meter.create_counter("x")),
        (lambda meter: meter.create_histogram("x"), lambda meter: meter.create_gauge("x_count")),
        (lambda meter: meter.create_gauge_float("x_sum"), lambda meter: meter.create_histogram_float("x")),
        (lambda meter: meter.create_histogram_timedelta("x"), lambda meter: meter.create_histogram("x_seconds")),
    ],
)
def test_one_name_is_one_metric(
    meter: MetricMeter, first: Callable[[MetricMeter], MetricCommon], second: Callable[[MetricMeter], MetricCommon]
) -> None:
    first(meter)
    first(meter)
    with pytest.raises(ValueError, match="is exported already, by a metric made as"):
        second(meter)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_an_impossible_value_is_refused(metrics: UserMetrics, meter: MetricMeter) -> None:
    with pytest.raises(ValueError, match="the value is -1; it must be a number, and not negative"):
        meter.create_counter("a").add(-1)
    with pytest.raises(TypeError, match="the value is a float; this metric takes int"):
        meter.create_counter("a").add(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the value is a bool"):
        meter.create_gauge("b").set(True)
    with pytest.raises(ValueError, match="the value is nan"):
        meter.create_gauge_float("c").set(float("nan"))
    with pytest.raises(TypeError, match="takes a timedelta"):
        meter.create_histogram_timedelta("d").record(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not negative"):
        meter.create_histogram_timedelta("d").record(timedelta(seconds=-1))
    assert scraped(metrics) == {}


@pytest.mark.parametrize(
    ("attributes", "error", "says"),
    [
        ({"a": None}, TypeError, "attribute 'a' is a NoneType"),
        ({1: "a"}, TypeError, "the name of an attribute is a int"),
        ("a", TypeError, "attributes are a str"),
        ({"__a": 1}, ValueError, "which Prometheus needs itself"),
        ({"le": 1}, ValueError, "which Prometheus needs itself"),
        ({"a.b": 1, "a_b": 1}, ValueError, "two attributes would become label 'a_b'"),
    ],
)
def test_an_impossible_attribute_is_refused(
    metrics: UserMetrics, meter: MetricMeter, attributes: Any, error: type[Exception], says: str
) -> None:
    counter = meter.create_counter("orders")
    for attempt in (
        lambda: counter.add(1, attributes),
        lambda: counter.with_additional_attributes(attributes),
        lambda: meter.with_additional_attributes(attributes),
    ):
        with pytest.raises(error, match=says):
            attempt()
    assert scraped(metrics) == {}


def test_in_workflows_and_activities_mistakes_are_logged_once(
    metrics: UserMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    meter = meter_of({}, metrics=metrics)
    counter = meter.create_counter("logged_orders")
    with caplog.at_level(logging.ERROR, "perdure.metrics"):
        for _ in range(3):
            counter.add(-1)
            meter.create_gauge("logged_orders").set(1)
            meter.create_counter("perdure_logged").with_additional_attributes({"a": 1}).add(1)
            assert meter.with_additional_attributes({"logged": None}) is meter  # type: ignore[dict-item]
    refused = [record.getMessage() for record in caplog.records]
    assert len(refused) == 3
    assert "metric='logged_orders' reason='the value is -1" in refused[0]
    counter.add(1)
    assert scraped(metrics) == {("logged_orders_total", ()): 1}


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_too_many_series_are_counted_together_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    metrics = UserMetrics(series_max=2)
    meter = meter_of({}, metrics=metrics)
    with caplog.at_level(logging.WARNING, "perdure.metrics"):
        for name in ("a", "b", "c", "d", "a"):
            meter.create_counter("orders").add(1, {"id": name})
            meter.create_histogram("sizes").record(1, {"id": name})
            meter.create_gauge("size").set(1, {"id": name})
    found = scraped(metrics)
    counts = {labels: value for (name, labels), value in found.items() if name == "orders_total"}
    assert counts == {(("id", "a"),): 2, (("id", "b"),): 1, (("overflow", "true"),): 2}
    assert {labels: value for (name, labels), value in found.items() if name == "sizes_count"} == counts
    assert sum(name == "size" for name, _ in found) == 2
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == [
        "orders",
        "sizes",
        "size",
    ]


def test_there_are_not_endless_metrics() -> None:
    meter = meter_of({}, raises=True, metrics=UserMetrics(families_max=2))
    meter.create_counter("a")
    meter.create_counter("b")
    meter.create_counter("a")
    with pytest.raises(ValueError, match="put what varies into attributes"):
        meter.create_counter("c")


# --- where meters come from -------------------------------------------------------------------------------------------


def test_nothing_is_recorded_while_it_may_not(metrics: UserMetrics) -> None:
    may = [False]
    counter = meter_of({}, may_record=lambda: may[0], metrics=metrics).create_counter("orders")
    counter.add(1)
    counter.add(-1)
    assert scraped(metrics) == {}
    may[0] = True
    counter.add(1)
    assert scraped(metrics) == {("orders_total", ()): 1}


def test_noop_takes_everything() -> None:
    meter = MetricMeter.noop.with_additional_attributes({"a": 1})
    histogram = meter.create_histogram_timedelta("perdure_x", "text", "s").with_additional_attributes({"b": 1})
    assert isinstance(histogram, MetricHistogramTimedelta)
    histogram.record(timedelta(seconds=1), {"c": 1})
    assert (histogram.name, histogram.description, histogram.unit) == ("perdure_x", "text", "s")


def measure() -> str:
    activity.metric_meter().create_counter("measured").add(1)
    return "done"


async def measure_async() -> str:
    return measure()


async def test_an_activity_gets_the_meter_of_its_environment(metrics: UserMetrics, meter: MetricMeter) -> None:
    environment = ActivityEnvironment()
    assert environment.run(measure) == "done"
    environment.metric_meter = meter
    assert environment.run(measure) == "done"
    assert await environment.run(measure_async) == "done"
    assert scraped(metrics) == {("measured_total", (("task_queue", "q"),)): 2}


def test_there_is_no_meter_outside() -> None:
    with pytest.raises(RuntimeError, match="not in activity context"):
        activity.metric_meter()
    with pytest.raises(NotInWorkflowError):
        workflow.metric_meter()


def test_the_runtime_has_a_meter() -> None:
    meter = Runtime.default().metric_meter
    assert isinstance(meter.create_counter("runtime_orders"), MetricCounter)
    with pytest.raises(ValueError, match="are not free"):
        meter.create_counter("perdure_orders")


def test_the_parts_say_what_they_do() -> None:
    from perdure_runtime.user_metrics import Values

    assert exported_name("a", Values.COUNTER, None) == "a"
    assert label_key({"b": 1, "a": False}) == (("a", "false"), ("b", "1"))
