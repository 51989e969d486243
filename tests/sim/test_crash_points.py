"""Crash points: every one of three small scenarios passes, and a broken build does not."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.sim.crash_points import SCENARIOS, Write, crash, crash_points, enumerate_crashes, writes_of
from tests.sim.mutations import MUTATIONS, mutated

_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    """What the product logs of the crashes is thousands of lines."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("name", "down_ms"), [("activity", 300), ("signal-with-start", 15_000), ("child", 15_000)])
def test_every_crash_point_comes_to_the_same(name: str, down_ms: int) -> None:
    result = enumerate_crashes(_BY_NAME[name], (down_ms,))

    point, breach = result.failures[0] if result.failures else (None, "")
    assert not result.failures, f"{name}, {point}: {breach}"
    assert result.crash_points >= 2 * result.writes >= 80


def test_every_kind_of_write_is_numbered() -> None:
    writes = writes_of(_BY_NAME["activity"])

    processes = {write.process.partition("-")[0] for write in writes}
    assert processes == {"engine", "worker", "client"}
    for what in ("history", "tasks", "commands", "commit of", "checkpoint of"):
        assert any(what in write.what for write in writes), what


def test_a_write_is_torn_in_every_way() -> None:
    writes = [Write("engine-0", "append", partitions=2, records=3), Write("client-0", "append", 1, 1)]

    found = [(point.write, point.cut, point.down_ms) for point in crash_points(writes, (1, 2))]

    assert found[::2][:5] == [(0, "before", 1), (0, "behind", 1), (0, "short", 1), (0, 0, 1), (0, 1, 1)]
    assert found[1:10:2] == [(0, "before", 2), (0, "behind", 2), (0, "short", 2), (0, 0, 2), (0, 1, 2)]
    assert found[10:] == [(1, "before", 1), (1, "behind", 1)]


def test_a_crash_point_is_the_same_run_again() -> None:
    scenario = _BY_NAME["timer"]
    writes = writes_of(scenario)
    point = next(p for p in crash_points(writes, (300,)) if p.write == 20)
    first: list[object] = []
    second: list[object] = []

    crash(scenario, point, writes[20], trace=first)
    crash(scenario, point, writes[20], trace=second)

    assert first == second
    assert any("is killed at write 20" in str(line) for line in first)


def test_a_broken_build_is_caught_at_a_crash_point() -> None:
    mutation = next(one for one in MUTATIONS if one.name == "nothing sent again at takeover")
    scenario = _BY_NAME["activity"]
    writes = writes_of(scenario)

    with mutated(mutation):
        points = crash_points(writes, (300,))
        caught = next((p for p in points if crash(scenario, p, writes[p.write]).breaches), None)

    assert caught is not None
