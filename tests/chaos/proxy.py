"""A TCP proxy whose connections can be cut, stalled and slowed: what stands between a process and its broker.

One proxy has one mode for all of its routes. It runs on an event loop in a thread of its own, so that tests may use it
from anywhere. Called by :mod:`tests.chaos.platform`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping

_CHUNK_BYTES = 64 * 1024
_END_TIMEOUT_S = 5.0


class Proxy:
    """Forwards loopback ports to others.

    Parameters:
        routes: port to listen on → port to connect to.
    """

    def __init__(self, routes: Mapping[int, int]) -> None:
        self._routes = dict(routes)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._servers: list[asyncio.Server] = []
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._cut = False
        self._delay_s = 0.0

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._call(self._listen())

    def close(self) -> None:
        """Close everything."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Reset all connections, and every new one, until :meth:`heal`."""
        self._call(self._set(cut=True))

    def stall(self) -> None:
        """Keep all connections and forward nothing until :meth:`heal`."""
        self._call(self._set(stalled=True))

    def slow(self, delay_s: float) -> None:
        """Forward each piece of data that much later, until :meth:`heal`."""
        self._call(self._set(delay_s=delay_s))

    def heal(self) -> None:
        """Forward everything at once again."""
        self._call(self._set())

    def _call(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        for port, target in self._routes.items():
            self._servers.append(
                await asyncio.start_server(
                    lambda reader, writer, target=target: self._forward(reader, writer, target), "127.0.0.1", port
                )
            )

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        await self._set(cut=True)
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=_END_TIMEOUT_S)

    async def _set(self, *, cut: bool = False, stalled: bool = False, delay_s: float = 0.0) -> None:
        self._cut, self._delay_s = cut, delay_s
        if stalled:
            self._flowing.clear()
        else:
            self._flowing.set()
        if cut:
            for writer in list(self._writers):
                writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
        self._writers.add(writer)
        try:
            if self._cut:
                return
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", target)
            self._writers.add(onward_writer)
            try:
                await asyncio.gather(self._pump(reader, onward_writer), self._pump(onward_reader, writer))
            finally:
                self._writers.discard(onward_writer)
                onward_writer.transport.abort()
        except OSError:
            pass  # one of the two ends is gone, and so is the other one now
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if not self._flowing.is_set():
                await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
