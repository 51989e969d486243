"""Workers of the user inside the development server: found by ``MODULE:ATTRIBUTE``, run on an event loop of their own.

The attribute is a function that takes a client and returns a worker (``async`` or not), or a list of such functions.
Called by the development server.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from perdure_ops.errors import CliError

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure.worker import Worker

WorkerMaker = Callable[["Client"], "Worker | Awaitable[Worker]"]


def load_worker_makers(references: Sequence[str]) -> list[WorkerMaker]:
    """The functions that the references name, with the current folder on the import path.

    Raises:
        CliError: a reference is malformed, or names nothing of the right kind.
    """
    if references and os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds texts
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    return [maker for reference in references for maker in _load(reference)]


def _load(reference: str) -> list[WorkerMaker]:
    module_name, colon, attribute = reference.partition(":")
    if not colon or not module_name or not attribute:
        raise CliError(f"worker {reference!r} is not of the form MODULE:FUNCTION, for example shop.worker:make_worker")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise
        raise CliError(
            f"worker {reference!r}: there is no module {error.name!r} here; the current folder is on the import path"
        ) from error
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise CliError(f"worker {reference!r}: module {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    makers = list(found) if isinstance(found, list | tuple) else [found]
    for maker in makers:
        if not callable(maker) or inspect.isclass(maker):
            kind = type(maker).__name__
            raise CliError(
                f"worker {reference!r} must be a function that takes a client and returns a Worker, or a list of such"
                f" functions; it is or holds a {kind}"
            )
    return makers


class UserWorkers:
    """Runs workers in a thread with its own event loop.

    Args:
        makers: what :func:`load_worker_makers` found.
        connect: makes the client that the workers share.
        on_failure: told of the error when a worker ends without being asked to.
    """

    def __init__(
        self,
        makers: Sequence[WorkerMaker],
        connect: Callable[[], Awaitable[Client]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._makers = makers
        self._connect = connect
        self._on_failure = on_failure
        self._started = threading.Event()
        self._start_error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="perdure-workers", daemon=True)

    def start(self, timeout_s: float) -> None:
        """Start the workers, and wait until they run.

        Raises:
            CliError: they did not come up in time.
            Exception: what making a worker raised.
        """
        self._thread.start()
        if not self._started.wait(timeout_s):
            raise CliError(f"the workers did not start within {timeout_s:g} s")
        if self._start_error is not None:
            raise self._start_error

    def stop(self, timeout_s: float = 10.0) -> None:
        """Shut the workers down, and wait until they have finished what they may finish."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and self._thread.is_alive():
            try:
                loop.call_soon_threadsafe(stop.set)
            except RuntimeError:
                return  # the loop has closed in the meantime
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:
            if self._started.is_set():
                self._on_failure(error)
            else:
                self._start_error = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        client = await self._connect()
        workers = []
        for maker in self._makers:
            made = maker(client)
            worker = await made if inspect.isawaitable(made) else made
            if not hasattr(worker, "run") or not hasattr(worker, "shutdown"):
                raise CliError(
                    f"{maker!r} returned a {type(worker).__name__} where a perdure.worker.Worker was expected"
                )
            workers.append(worker)
        stopping = asyncio.create_task(self._stop.wait())
        running = [asyncio.create_task(worker.run()) for worker in workers]
        self._started.set()
        try:
            await asyncio.wait([stopping, *running], return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                await _raise_reason(running)
        finally:
            stopping.cancel()
            await asyncio.gather(*(worker.shutdown() for worker in workers), return_exceptions=True)
            await asyncio.gather(*running, return_exceptions=True)


async def _raise_reason(running: Sequence[asyncio.Task[None]]) -> None:
    """A worker has ended by itself: raise why."""
    for task in running:
        if task.done():
            await task
            raise CliError("a worker ended without being asked to")
