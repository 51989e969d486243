"""How the payments demo ends, without its processes."""

from __future__ import annotations

import asyncio

import pytest

from examples.payments.demo import Milestones, _watchdog


class _Payer:
    """What the watchdog asks of a payer: nothing went wrong."""


async def test_the_watchdog_ends_when_a_payment_ends_in_the_moment_of_the_interruption() -> None:
    milestones = Milestones()
    watchdog = asyncio.create_task(_watchdog(milestones, _Payer()))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    milestones.note()
    await asyncio.sleep(0)  # what waited for the payment has ended, and the watchdog does not know yet
    watchdog.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await watchdog
