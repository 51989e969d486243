# ruff: noqa: ASYNC109 # the names of the parameters are asyncio's
"""``wait`` and ``as_completed`` with a defined order, for use instead of those of :mod:`asyncio`. Called by user code.

asyncio's own keep what they wait for in sets, and a set has no order to rely on. These go by the order in which the
awaitables are given, and in which they become done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar, overload

_T = TypeVar("_T")
_FutureT = TypeVar("_FutureT", bound=asyncio.Future[Any])


@overload
async def wait(
    fs: Iterable[_FutureT], *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED
) -> tuple[list[_FutureT], list[_FutureT]]: ...


@overload
async def wait(
    fs: Iterable[asyncio.Task[_T]], *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED
) -> tuple[list[asyncio.Task[_T]], list[asyncio.Task[_T]]]: ...


async def wait(
    fs: Iterable[Any], *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED
) -> tuple[Any, Any]:
    """Wait for futures and tasks, as :func:`asyncio.wait` does, with lists in the given order as the result.

    Args:
        fs: Futures and tasks; no coroutines.
        timeout: How long to wait, in seconds; what is not done then is not cancelled.
        return_when: ``asyncio.FIRST_COMPLETED``, ``FIRST_EXCEPTION`` or ``ALL_COMPLETED``.

    Returns:
        Those that are done, and those that are not.

    Raises:
        TypeError: a coroutine, or a single future, was given. ValueError: nothing, or an unknown ``return_when``.
    """
    if asyncio.isfuture(fs) or asyncio.iscoroutine(fs):
        raise TypeError(f"wait takes several futures, not a single {type(fs).__name__}")
    futures: list[asyncio.Future[Any]] = list(dict.fromkeys(fs))
    if not futures:
        raise ValueError("wait was given nothing to wait for")
    if any(asyncio.iscoroutine(future) for future in futures):
        raise TypeError("wait takes futures and tasks, not coroutines; make tasks of them with asyncio.create_task")
    if return_when not in (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED):
        raise ValueError(f"return_when is {return_when!r}; it must be one of asyncio's constants")
    await _until(futures, timeout, return_when)
    return [f for f in futures if f.done()], [f for f in futures if not f.done()]


async def _until(futures: list[asyncio.Future[Any]], timeout: float | None, return_when: str) -> None:
    def is_enough(future: asyncio.Future[Any]) -> bool:
        if return_when == asyncio.FIRST_COMPLETED:
            return True
        failed = return_when == asyncio.FIRST_EXCEPTION and not future.cancelled() and future.exception() is not None
        return failed or not left

    left = {id(future) for future in futures if not future.done()}
    if any(future.done() and is_enough(future) for future in futures):
        return
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def on_done(future: asyncio.Future[Any]) -> None:
        left.discard(id(future))
        if is_enough(future):
            release()

    def release() -> None:
        if not waiter.done():
            waiter.set_result(None)

    pending = [future for future in futures if not future.done()]
    for future in pending:
        future.add_done_callback(on_done)
    timer = None if timeout is None else loop.call_later(timeout, release)
    try:
        await waiter
    finally:
        if timer is not None:
            timer.cancel()
        for future in pending:
            future.remove_done_callback(on_done)


def as_completed(fs: Iterable[Awaitable[_T]], *, timeout: float | None = None) -> Iterator[Coroutine[Any, Any, _T]]:
    """Iterate over awaitables in the order in which they become done, as :func:`asyncio.as_completed` does.

    Args:
        fs: The awaitables; coroutines are made tasks in the given order.
        timeout: How long to wait for all of them, in seconds.

    Returns:
        An iterator of coroutines. Each gives the result of the next one that is done, and raises
        ``asyncio.TimeoutError`` if there was none in time.

    Raises:
        TypeError: a single future was given.
    """
    if asyncio.isfuture(fs) or asyncio.iscoroutine(fs):
        raise TypeError(f"as_completed takes several awaitables, not a single {type(fs).__name__}")
    loop = asyncio.get_running_loop()
    futures = list(dict.fromkeys(asyncio.ensure_future(f) for f in dict.fromkeys(fs)))
    done: deque[asyncio.Future[Any]] = deque()
    waiters: deque[asyncio.Future[None]] = deque()
    left = len(futures)
    timed_out = False

    def wake_one() -> None:
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def on_done(future: asyncio.Future[Any]) -> None:
        nonlocal left
        if timed_out:
            return
        left -= 1
        done.append(future)
        wake_one()
        if left == 0 and timer is not None:
            timer.cancel()

    def on_timeout() -> None:
        nonlocal timed_out
        timed_out = True
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        waiters.clear()

    async def next_done() -> Any:
        while not done:
            if timed_out:
                raise TimeoutError
            waiter: asyncio.Future[None] = loop.create_future()
            waiters.append(waiter)
            await waiter
        return done.popleft().result()

    timer = loop.call_later(timeout, on_timeout) if timeout is not None and futures else None
    for future in futures:
        future.add_done_callback(on_done)
    return (next_done() for _ in futures)
