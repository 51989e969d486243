"""The shares that the fairness workload tells."""

from __future__ import annotations

from bench.workloads.fairness import shares


def test_turns_count_while_all_keys_have_tasks() -> None:
    early, late = ["flood"] * 50 + ["four", "two"], ["flood"] * 90
    turns = [*early, "four", "two", "four", "flood", "four", "two", "four", *late]
    assert shares(turns, {"flood": 400, "two": 4, "four": 5}) == {"flood": 1 / 7, "two": 2 / 7, "four": 4 / 7}


def test_without_a_turn_of_each_key_there_are_no_shares() -> None:
    assert shares(["flood"] * 5, {"flood": 5, "two": 5}) == {"flood": 0.0, "two": 0.0}
