"""The driver's side of a measured program: starts it, asks, measures what its processes use meanwhile.

Called by :mod:`bench.comparing` and :mod:`bench.scaling`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.peers.installing import REPOSITORY
from bench.stats import Figures, latency_figures
from bench.usage import Meter, Processes, descendants, disk_bytes, rss_mib

START_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 30.0
#: A line holds the latencies of a whole run.
_LINE_BYTES_MAX = 64 * 1024**2
_ERROR_TAIL_BYTES = 3_000

ACTIVITIES_EACH = {"one": 1, "ten": 10}


class PeerError(RuntimeError):
    """A measured program did not do what it was asked for."""


class MeasuredProgram:
    """A running program that speaks the protocol. Use it as ``async with``.

    Args:
        name: for messages.
        command: how it is started.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.processes: Processes = {}
        self._command = command
        self._folders: list[Path] = []
        self._process: asyncio.subprocess.Process | None = None
        self._errors = tempfile.NamedTemporaryFile(prefix=f"bench-{name}-", suffix=".err")  # noqa: SIM115 - closed in _end

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._errors.fileno(),
            limit=_LINE_BYTES_MAX,
            cwd=REPOSITORY,
            start_new_session=True,  # an interrupt is for the driver, which ends its programs in good order
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        try:
            ready = await self._line(START_TIMEOUT_S)
        except BaseException:
            await self._end()
            raise
        self.processes = ready["processes"]
        self._folders = [Path(folder) for folder in ready["folders"]]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        """The end of its input ends it; if not, it is killed with all that it started."""
        process = self._process
        assert process is not None and process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            for pid in [*descendants(process.pid), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await process.wait()
        self._errors.close()

    async def ask(self, **request: object) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            PeerError: it ended, took too long, or told an error.
        """
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write((json.dumps(request) + "\n").encode())
        answer = await self._line(ANSWER_TIMEOUT_S)
        if "error" in answer:
            raise PeerError(f"{self.name}: {answer['error']}")
        return answer

    async def _line(self, timeout_s: float) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise PeerError(f"{self.name} said nothing for {timeout_s:g} s:\n{self._tail()}") from None
        if not line:
            raise PeerError(f"{self.name} ended:\n{self._tail()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def _tail(self) -> str:
        return Path(self._errors.name).read_bytes()[-_ERROR_TAIL_BYTES:].decode(errors="replace")

    async def warm_up(self, workload: str, in_flight: int, seconds: float) -> None:
        """Run a workload for a short time."""
        await self.ask(do="saturate", workload=workload, in_flight=in_flight, seconds_max=seconds)

    async def measure(
        self, workload: str, *, latency_count: int, latency_seconds: float, in_flight: int, seconds: float
    ) -> Figures:
        """One round: one at a time, then at saturation."""
        closed = await self.ask(do="closed", workload=workload, count=latency_count, seconds_max=latency_seconds)
        figures = latency_figures(closed["latencies_ms"])
        records, disk = (await self.ask(do="records"))["records"], disk_bytes(self._folders)
        meter = Meter(self.processes)
        run = await self.ask(do="saturate", workload=workload, in_flight=in_flight, seconds_max=seconds)
        used = meter.read()
        count = len(run["latencies_ms"])
        figures["workflows_per_s"] = count / run["seconds"]
        figures["activities_per_s"] = figures["workflows_per_s"] * ACTIVITIES_EACH[workload]
        figures["cpu_s_per_1000"] = used.total_cpu_s * 1000 / count
        figures |= {f"cpu_s_per_1000/{role}": used_s * 1000 / count for role, used_s in used.cpu_s.items()}
        figures |= {f"rss_mib/{role}": rss_mib(pids) for role, pids in self.processes.items()}
        if records is not None:
            figures["records_per_workflow"] = ((await self.ask(do="records"))["records"] - records) / count
        if self._folders:
            figures["disk_bytes_per_workflow"] = (disk_bytes(self._folders) - disk) / count
        figures["others_cores"] = used.others_cores
        return figures | latency_figures(run["latencies_ms"], "saturated_latency_ms")
