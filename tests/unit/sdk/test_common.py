"""Policies and their place in the log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure.common import Priority, RetryPolicy, require_unused, to_milliseconds


def test_a_retry_policy_survives_the_log() -> None:
    policy = RetryPolicy(
        initial_interval=timedelta(milliseconds=250),
        backoff_coefficient=1.5,
        maximum_interval=timedelta(seconds=9),
        maximum_attempts=4,
        non_retryable_error_types=["A", "B"],
    )
    assert RetryPolicy.from_record(policy.to_record()) == policy
    assert RetryPolicy.from_record(RetryPolicy().to_record()) == RetryPolicy()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"initial_interval": timedelta(0)}, "initial_interval"),
        ({"backoff_coefficient": 0.9}, "backoff_coefficient"),
        ({"maximum_interval": timedelta(milliseconds=5)}, "maximum_interval"),
        ({"maximum_attempts": -1}, "maximum_attempts"),
        ({"non_retryable_error_types": "ValueError"}, "non_retryable_error_types"),
    ],
)
def test_a_senseless_retry_policy_names_its_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        RetryPolicy(**fields).to_record()


def test_without_retries_the_intervals_do_not_matter() -> None:
    assert RetryPolicy(initial_interval=timedelta(0), maximum_attempts=1).to_record().maximum_attempts == 1


@pytest.mark.parametrize(
    "fields", [{"priority_key": 0}, {"priority_key": 6}, {"fairness_key": "x" * 65}, {"fairness_weight": 0.0}]
)
def test_priorities_have_ranges(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Priority"):
        Priority(**fields)


def test_priorities_have_defaults_in_the_log() -> None:
    assert Priority.default.to_fields() == (3, "", 1.0)
    assert Priority(1, "k", 2.0).to_fields() == (1, "k", 2.0)


def test_durations_round_up_so_that_none_vanishes() -> None:
    assert to_milliseconds(timedelta(microseconds=1)) == 1
    assert to_milliseconds(timedelta(seconds=2)) == 2000
    with pytest.raises(ValueError, match="run_timeout"):
        to_milliseconds(timedelta(seconds=-1), "run_timeout")
    with pytest.raises(TypeError, match="run_timeout"):
        to_milliseconds(5, "run_timeout")  # type: ignore[arg-type]


def test_options_that_are_not_supported_are_named() -> None:
    require_unused({"a": None, "b": "", "c": []}, "something")
    with pytest.raises(NotImplementedError, match=r"something does not support b, c yet"):
        require_unused({"a": None, "b": 1, "c": "x"}, "something")
