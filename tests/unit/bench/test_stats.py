"""Percentiles and medians of measurements."""

from __future__ import annotations

import pytest

from bench.stats import latency_figures, medians, percentile, spread


def test_a_percentile_is_a_sample_that_so_many_do_not_exceed() -> None:
    ordered = [float(number) for number in range(1, 1001)]
    assert percentile(ordered, 50) == 500
    assert percentile(ordered, 99) == 990
    assert percentile(ordered, 99.9) == 999
    assert percentile(ordered, 100) == 1000


def test_few_samples_have_their_largest_as_a_high_percentile() -> None:
    assert percentile([1.0, 2.0, 9.0], 99.9) == 9.0
    assert percentile([7.0], 50) == 7.0


def test_no_sample_and_no_percentage_are_errors() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 50)
    for wrong in (0, -1, 100.1):
        with pytest.raises(ValueError, match="not a percentage"):
            percentile([1.0], wrong)


def test_latencies_need_not_be_sorted() -> None:
    figures = latency_figures([3.0, 1.0, 2.0], "wait_ms")
    assert figures == {
        "wait_ms_p50": 2.0,
        "wait_ms_p99": 3.0,
        "wait_ms_p999": 3.0,
        "wait_ms_max": 3.0,
        "wait_ms_samples": 3.0,
    }


def test_medians_are_taken_of_each_figure_over_the_rounds_that_have_it() -> None:
    rounds = [{"a": 1.0, "b": 10.0}, {"a": 100.0}, {"a": 2.0, "b": 20.0}]
    assert medians(rounds) == {"a": 2.0, "b": 15.0}
    assert spread(rounds, "a") == (1.0, 100.0)
