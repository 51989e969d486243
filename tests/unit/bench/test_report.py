"""Results as JSON and as tables."""

from __future__ import annotations

import json

from bench.report import Result, cpu_by_thread, from_json_line, number, to_json_line, to_markdown

ONE = Result("one", "embedded", {"workflows_per_s": 1234.5, "latency_ms_p50": 1.234, "cpu_s_per_1000/thread/log": 0.25})
TEN = Result("ten", "kafka", {"latency_ms_p50": 7.0})


def test_a_json_line_comes_back_as_it_was() -> None:
    line = to_json_line(ONE)
    assert "\n" not in line
    assert json.loads(line)["figures"]["workflows_per_s"] == 1234.5
    assert from_json_line(line) == ONE


def test_each_workload_has_a_table_with_a_column_for_each_target_and_known_figures_first() -> None:
    other = Result("one", "kafka", {"own_figure": 3.0, "latency_ms_p50": 100.0, "latency_ms_max": 500.0})
    assert to_markdown([ONE, TEN, other]).splitlines() == [
        "`one`",
        "",
        "| figure | embedded | kafka |",
        "| --- | ---: | ---: |",
        "| latency p50, ms | 1.23 | 100 |",
        "| workflows per s | 1,234 | – |",
        "| own figure | – | 3 |",
        "",
        "`ten`",
        "",
        "| figure | kafka |",
        "| --- | ---: |",
        "| latency p50, ms | 7 |",
    ]


def test_numbers_have_as_many_digits_as_people_need() -> None:
    assert [number(value) for value in (None, 0.0, 0.12345, 1.2345, 123.46, 1234.5, 100000)] == [
        "–",
        "0",
        "0.123",
        "1.23",
        "123.5",
        "1,234",
        "100,000",
    ]


def test_the_threads_of_this_process_are_told_apart() -> None:
    assert cpu_by_thread(ONE) == [("log", 0.25)]
