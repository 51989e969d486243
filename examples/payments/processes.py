"""Starts, kills and stops the demo's child processes.

Invariants: a child is only ever signalled by its own process id; every child's output goes to a file of its own; a
child that ends without being told to is noticed at once and named together with its log. Called by the demo only.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

STOP_S_MAX = 10.0
LOG_TAIL_LINES = 15
REPOSITORY = Path(__file__).resolve().parents[2]


class ChildDiedError(Exception):
    """A child process ended by itself. The message names it, its exit code, its log file and the log's last lines."""


class Child:
    """One child process, which can be started again after it was killed.

    Args:
        name: What it is called on the console and in its log's name.
        arguments: What follows the Python interpreter on its command line.
        log_path: Where its output goes; each start adds to it.
    """

    def __init__(self, name: str, arguments: Sequence[str], log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        # Set while the process is meant to run. Whoever killed it clears it first.
        self._meant_to_run = asyncio.Event()

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    async def start(self) -> None:
        """Starts the process."""
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._arguments,
                cwd=REPOSITORY,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A session of its own: Ctrl-C in the terminal reaches the demo alone, which then stops its children.
                start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        self._meant_to_run.set()

    async def kill(self) -> None:
        """Kills the process with SIGKILL and waits until it is gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Asks the process to stop with SIGTERM, and kills it where it has not after ten seconds."""
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await self._end(signal.SIGTERM)
        except TimeoutError:
            await self.kill()

    async def watch(self) -> None:
        """Waits until the process ends by itself.

        Raises:
            ChildDiedError: It did.
        """
        while True:
            process = self._process
            if process is None:
                raise RuntimeError(f"{self.name} was never started")
            code = await process.wait()
            if self._meant_to_run.is_set() and process is self._process:
                raise ChildDiedError(self._epitaph(code))
            await self._meant_to_run.wait()

    async def _end(self, number: signal.Signals) -> None:
        self._meant_to_run.clear()
        if self._process is None:
            return
        if self._process.returncode is None:
            try:
                self._process.send_signal(number)
            except ProcessLookupError:
                pass  # It ended in this very moment.
        await self._process.wait()

    def _epitaph(self, code: int) -> str:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        tail = "\n".join(f"  {line}" for line in lines) or "  (empty)"
        return f"{self.name} {how}. The end of its log, {self.log_path}:\n{tail}"


class Children:
    """The child processes of one run; an async context manager that stops all of them, the latest first."""

    def __init__(self, log_directory: Path) -> None:
        self._log_directory = log_directory
        self._children: list[Child] = []

    async def __aenter__(self) -> Children:
        self._log_directory.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(self, *_error: object) -> None:
        stopping = asyncio.create_task(self._stop_all())
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            # Interrupted while it stops them: go on until none is left.
            await stopping
            raise

    async def _stop_all(self) -> None:
        for child in reversed(self._children):
            await child.stop()

    async def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Starts a child: the Python interpreter with these arguments."""
        child = Child(name, arguments, self._log_directory / f"{name.replace(' ', '-')}.log")
        # Listed before it runs, so that an interruption in between cannot lose it.
        self._children.append(child)
        await child.start()
        return child

    async def watch(self) -> None:
        """Waits until any child ends by itself.

        Raises:
            ChildDiedError: One did.
        """
        await asyncio.gather(*(child.watch() for child in self._children))
