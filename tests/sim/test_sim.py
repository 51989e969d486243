"""The simulation itself: it is deterministic, quiet seeds and seeds with faults pass, broken builds do not."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.sim.faults import Fault
from tests.sim.mutations import MUTATIONS, Mutation, mutated
from tests.sim.plans import Generator, Plan, expected, steps_of
from tests.sim.shrink import describe, shrink
from tests.sim.simulation import simulate


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    """What the product logs of the faults is thousands of lines."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", range(10))
def test_a_seed_passes(seed: int) -> None:
    report = simulate(seed, 30)

    assert not report.breaches, describe(shrink(report, runs_max=20))
    assert report.events > 0


def test_the_same_seed_is_the_same_run() -> None:
    first, second = simulate(5, 30, tracing=True), simulate(5, 30, tracing=True)

    assert first.trace == second.trace
    assert (first.turns, first.events, first.virtual_ms) == (second.turns, second.events, second.virtual_ms)


def test_without_faults_nothing_is_done_twice() -> None:
    report = simulate(7, 60, faults=[])

    assert not report.breaches
    assert report.doubled == 0


def test_a_broken_build_is_caught_and_shrunk() -> None:
    mutation = next(one for one in MUTATIONS if one.name == "tombstones of the newest epoch only")
    with mutated(mutation):
        report = next(found for seed in range(20) if (found := simulate(seed)).breaches)
        shorter = shrink(report, runs_max=25)

    assert shorter.kind == report.kind
    assert len(shorter.faults) + len(shorter.plans) < len(report.faults) + len(report.plans)
    assert shorter.breaches[0][:100] in describe(shorter)


def test_every_invariant_has_a_broken_build() -> None:
    assert {mutation.invariant for mutation in MUTATIONS} == {"I1", "I2", "I3", "I4", "I5", "I6"}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_broken_build_is_broken_as_it_says_and_not_otherwise(mutation: Mutation) -> None:
    """A patch of what has another form now would break every seed, and catch nothing."""
    with mutated(mutation):
        report = simulate(3, 10)
    assert not any(word in breach for breach in report.breaches for word in ("TypeError", "AttributeError"))


def test_plans_have_as_many_steps_as_asked_for() -> None:
    plans = Generator(1).plans(50)

    assert sum(plan.steps for plan in plans) >= 50
    assert plans == Generator(1).plans(50)


def test_the_model_knows_what_a_plan_comes_to() -> None:
    ops = [["act", "a", {"fail": 2}], ["par", [["sleep", 5], ["act", "b", {"bad": True}]]], ["again"]]

    assert expected(ops) == ["done:a", ["slept", "failed:b"]]
    assert steps_of(ops) == 5
    assert Plan("w", {"ops": ops}, signals=[1, 2]).steps == 7


def test_a_poisoned_record_that_stops_its_partition_is_caught() -> None:
    mutation = next(one for one in MUTATIONS if one.name == "poison stops the partition")
    plans, faults = Generator(1).plans(10), [Fault(500, "poison", 0.5)]

    healthy = simulate(1, plans=plans, faults=faults)
    with mutated(mutation):
        broken = simulate(1, plans=plans, faults=faults)

    assert not healthy.breaches
    assert broken.kind == "bug"
    assert "DecodeError" in broken.breaches[0]
