"""Driving a load: above all that a stall counts for everything it delays."""

from __future__ import annotations

import asyncio

import pytest

from bench.driving import closed_loop, intended_starts_s, open_loop, saturate


class _VirtualClock:
    """A clock that only moves when somebody sleeps, or stalls."""

    def __init__(self) -> None:
        self.time_s = 1000.0

    def now_s(self) -> float:
        return self.time_s

    async def sleep(self, seconds: float) -> None:
        until_s = self.time_s + seconds
        await asyncio.sleep(0)  # whoever may run does so before time goes on
        self.time_s = max(self.time_s, until_s)


def test_requests_are_offered_at_even_distances() -> None:
    assert list(intended_starts_s(4, 5)) == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("rate_per_s", [0, -1])
def test_an_offered_rate_is_positive(rate_per_s: float) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        intended_starts_s(rate_per_s, 1)


async def test_a_stall_of_one_request_counts_for_all_that_should_have_begun_meanwhile() -> None:
    clock = _VirtualClock()

    async def execute(number: int) -> None:
        if number == 2:
            clock.time_s += 1.0  # everything stands still for a second

    latencies_ms = await open_loop(execute, 10, 20, clock=clock)
    # The third met the stall; the ten behind it were due during the second, each 100 ms later than the one before.
    late = [pytest.approx(1000 - 100 * number, abs=1e-6) for number in range(11)]
    assert latencies_ms[2:13] == late
    assert latencies_ms[:2] == pytest.approx([0, 0], abs=1e-6)
    assert latencies_ms[13:] == pytest.approx([0] * 7, abs=1e-6)


async def test_slow_answers_do_not_slow_the_offer() -> None:
    clock = _VirtualClock()
    begun_s: list[float] = []
    answer = asyncio.Event()

    async def execute(number: int) -> None:
        begun_s.append(clock.time_s - 1000.0)
        if number == 9:
            answer.set()
        await answer.wait()

    latencies_ms = await open_loop(execute, 2, 10, clock=clock)
    assert begun_s == pytest.approx([number / 2 for number in range(10)])
    assert max(latencies_ms) == pytest.approx(4500)


async def test_a_closed_loop_runs_one_request_at_a_time() -> None:
    running = 0

    async def execute(number: int) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        running -= 1

    assert len(await closed_loop(execute, 5)) == 5


async def test_saturation_keeps_so_many_in_flight_and_no_more() -> None:
    running, most, numbers = 0, 0, []

    async def execute(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        numbers.append(number)
        await asyncio.sleep(0)
        running -= 1

    run = await saturate(execute, 20, 4)
    assert (most, sorted(numbers), run.count, len(run.latencies_ms)) == (4, list(range(20)), 20, 20)


async def test_a_failed_request_ends_the_run() -> None:
    async def execute(number: int) -> None:
        raise RuntimeError("no")

    with pytest.raises(ExceptionGroup):
        await saturate(execute, 10, 2)
