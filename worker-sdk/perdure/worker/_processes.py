"""Worker processes: one that runs workers until it is told to stop, and one that keeps several of those running.

Invariants: a signal stops everything in good order, so that others take over at once; a child that ends by itself is
started again, later and later if it keeps ending; children stop when their supervisor is gone, because they hold the
other end of a pipe. Called by ``python -m perdure.worker``.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from perdure.client import Client
from perdure.worker._worker import Worker
from perdure_runtime import restarting

_logger = logging.getLogger("perdure.worker.processes")

RESTART_DELAY_S_MIN = 0.5
RESTART_DELAY_S_MAX = 30.0
#: A child that ran this long had started well: its next restart is quick again.
RUN_S_GOOD = 60.0
#: When a child is started again: from the delay before its last start, and how long it ran since.
restart_delay_s = partial(
    restarting.restart_delay_s, min_s=RESTART_DELAY_S_MIN, max_s=RESTART_DELAY_S_MAX, good_s=RUN_S_GOOD
)
#: Given to children besides the reference: stop when stdin ends.
CHILD_OPTION = "--child"

WorkerMaker = Callable[[Client], "Worker | Sequence[Worker] | Awaitable[Worker | Sequence[Worker]]"]


def load_maker(reference: str) -> WorkerMaker:
    """The function that ``MODULE:FUNCTION`` names, with the current folder on the import path.

    Raises:
        ValueError: the reference is malformed, or names no function.
    """
    module_name, colon, attribute = reference.partition(":")
    if not colon or not module_name or not attribute:
        raise ValueError(f"{reference!r} is not of the form MODULE:FUNCTION, for example shop.worker:make_worker")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds texts
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise
        raise ValueError(f"{reference!r}: there is no module {error.name!r} here") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{reference!r}: module {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found) or inspect.isclass(found):
        raise ValueError(
            f"{reference!r} must be a function that takes a client and returns a Worker or a list of them; it is a "
            f"{type(found).__name__}"
        )
    maker: WorkerMaker = found
    return maker


async def run_workers(maker: WorkerMaker, client: Client, stop: asyncio.Event) -> None:
    """Run what ``maker`` makes until ``stop`` is set, then shut it down in good order.

    Raises:
        TypeError: it makes no workers. BaseException: what ended a worker.
    """
    made = maker(client)
    workers = await made if inspect.isawaitable(made) else made
    if isinstance(workers, Worker):
        workers = [workers]
    if not isinstance(workers, Sequence) or not workers or not all(isinstance(one, Worker) for one in workers):
        raise TypeError(f"{maker!r} returned {workers!r} where a Worker or a list of them was expected")
    running = [asyncio.create_task(worker.run()) for worker in workers]
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopping, *running], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        await asyncio.gather(*(worker.shutdown() for worker in workers), return_exceptions=True)
        ended = await asyncio.gather(*running, return_exceptions=True)
    for error in ended:
        if isinstance(error, BaseException):
            raise error


async def supervise(commands: Sequence[Sequence[str]], stop: asyncio.Event) -> None:
    """Keep a child running for each command until ``stop`` is set; they are stopped with SIGTERM and waited for."""
    await asyncio.gather(*(_keep(f"worker-{number}", command, stop) for number, command in enumerate(commands, 1)))


async def _keep(name: str, command: Sequence[str], stop: asyncio.Event) -> None:
    delay_s = 0.0
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            started_s = time.monotonic()
            child = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, start_new_session=True
            )
            _logger.info("event=started process=%s pid=%d", name, child.pid)
            ended = asyncio.create_task(child.wait())
            await asyncio.wait([stopping, ended], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                child.send_signal(signal.SIGTERM)
                await ended
                return
            delay_s = restart_delay_s(delay_s, time.monotonic() - started_s)
            _logger.warning("event=ended process=%s code=%s restart_in_s=%g", name, child.returncode, delay_s)
            await asyncio.wait([stopping], timeout=delay_s)
    finally:
        stopping.cancel()


def stop_event_of_process(*, with_stdin: bool) -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; with ``with_stdin`` also the end of stdin."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if with_stdin:
        descriptor = sys.stdin.fileno()

        def look() -> None:
            if not os.read(descriptor, 4096):
                loop.remove_reader(descriptor)
                stop.set()

        loop.add_reader(descriptor, look)
    return stop
