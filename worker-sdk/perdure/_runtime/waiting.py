"""How workflow code waits: for a time, or for a condition. Pure loop code without a state of its own.

Called by :mod:`perdure.workflow` through the current run's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from perdure._runtime.loop import WorkflowLoop

__all__ = ["sleep", "wait_condition"]


async def wait_condition(
    loop: WorkflowLoop, condition: Callable[[], bool], timeout_s: float | None, summary: str | None
) -> None:
    """Wait until a condition is met. One that is met already does not wait, and starts no timer."""
    loop.require_writable("wait for a condition")
    if loop.is_met(condition):
        return
    if timeout_s is not None and timeout_s <= 0:
        raise TimeoutError
    future: asyncio.Future[None] = loop.create_future()
    loop.conditions[future] = condition
    timer = None if timeout_s is None else loop.start_timer(timeout_s, summary, _time_out, (future,))
    try:
        await future
    finally:
        loop.conditions.pop(future, None)
        if timer is not None:
            timer.cancel()


async def sleep(loop: WorkflowLoop, duration_s: float, summary: str | None) -> None:
    """Sleep on a durable timer; zero or less only lets others run."""
    if duration_s <= 0:
        await asyncio.sleep(0)
        return
    future: asyncio.Future[None] = loop.create_future()
    timer = loop.start_timer(duration_s, summary, _wake, (future,))
    try:
        await future
    finally:
        timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _time_out(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
