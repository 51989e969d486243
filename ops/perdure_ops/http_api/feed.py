"""What changes in a namespace, as it happens: one thread that reads the log's end for all who watch.

Runs are watched by the records of their history, the list of runs by those of ``executions``. A watcher is only told
that something changed, and asks the engine or the read side what; so nothing is decided here about records that are
void (I1), and a watcher that is slow is told once of many changes. Invariant: the thread runs and partitions are read
only while somebody watches. Called by the operations that stream.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from perdure_runtime.log import Log, LogClosedError, LogError, LogRecord, Reader, TopicPartition
from perdure_schemas.keys import is_mark, partition_of
from perdure_schemas.topics import TopicNames

__all__ = ["ChangeFeed", "Watch"]

_logger = logging.getLogger("perdure.http")

_POLL_S = 1.0
_POLL_RECORDS = 1_000
_RETRY_S = 1.0
_STOP_S = 5.0


class Watch:
    """Tells a coroutine that something changed.

    Args:
        prefix: What keys of interesting records begin with; empty: all are.
    """

    def __init__(self, prefix: bytes, places: frozenset[TopicPartition]) -> None:
        self.prefix = prefix
        self.places = places
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a change since the last call, and tell whether there was one."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    async def settle(self, quiet_s: float) -> None:
        """Let changes gather for so long, to be told of once."""
        await asyncio.sleep(quiet_s)

    def touch(self) -> None:
        """Something changed. Called from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._changed.set)
        except RuntimeError:
            return  # the watcher's loop is closed, so nobody waits


class ChangeFeed:
    """Tells watchers of changes.

    Args:
        log: The log.
        names: The namespace's topics.
    """

    def __init__(self, log: Log, names: TopicNames) -> None:
        self._log = log
        self._names = names
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()
        self._thread: threading.Thread | None = None
        self._reader: Reader | None = None
        self._closed = threading.Event()

    @asynccontextmanager
    async def executions(self) -> AsyncIterator[Watch]:
        """Watch the list of runs."""
        places = frozenset(TopicPartition(self._names.executions, n) for n in range(self._names.partitions))
        async with self._watching(Watch(b"", places)) as watch:
            yield watch

    @asynccontextmanager
    async def run(self, workflow_id: str, run_id: str) -> AsyncIterator[Watch]:
        """Watch a run."""
        place = TopicPartition(self._names.history, partition_of(workflow_id, self._names.partitions))
        async with self._watching(Watch(f"{run_id}/".encode(), frozenset([place]))) as watch:
            yield watch

    @property
    def closed(self) -> bool:
        """Whether nothing will be told any more, so that streams end."""
        return self._closed.is_set()

    def close(self) -> None:
        """Tell watchers the last time."""
        self._closed.set()
        with self._lock:
            thread, reader = self._thread, self._reader
            for watch in self._watches:
                watch.touch()
        if reader is not None:
            reader.wake()
        if thread is not None:
            thread.join(_STOP_S)

    # --- inside ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _watching(self, watch: Watch) -> AsyncIterator[Watch]:
        with self._lock:
            self._watches.add(watch)
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="perdure-changes", daemon=True)
                self._thread.start()
            elif self._reader is not None:
                self._reader.wake()
        try:
            yield watch
        finally:
            with self._lock:
                self._watches.discard(watch)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                if not self._follow():
                    return
            except LogClosedError:
                return
            except LogError as error:
                _logger.warning("event=changes_interrupted reason=%r", str(error))
            self._touch_all()
            self._closed.wait(_RETRY_S)

    def _follow(self) -> bool:
        """Read until nobody watches (false) or the feed is closed."""
        reader = self._log.reader("changes")
        read: set[TopicPartition] = set()
        with self._lock:
            self._reader = reader
        try:
            while not self._closed.is_set():
                with self._lock:
                    wanted = {place for watch in self._watches for place in watch.places}
                    if not wanted:
                        self._thread = self._reader = None
                        return False
                if wanted != read:
                    self._move(reader, read, wanted)
                    read = wanted
                self._tell(reader.poll(_POLL_RECORDS, _POLL_S))
            return False
        finally:
            with self._lock:
                if self._reader is reader:
                    self._reader = None
            reader.close()

    def _move(self, reader: Reader, read: set[TopicPartition], wanted: set[TopicPartition]) -> None:
        reader.unassign(list(read - wanted))
        new = wanted - read
        reader.assign({place: self._log.watermarks(place)[1] for place in new})
        with self._lock:
            for watch in self._watches:
                if watch.places & new:
                    watch.touch()  # what came before it was read, it may not have seen

    def _tell(self, records: list[LogRecord]) -> None:
        if not records:
            return
        with self._lock:
            watches = list(self._watches)
        for watch in watches:
            if any(_concerns(watch, record) for record in records):
                watch.touch()

    def _touch_all(self) -> None:
        with self._lock:
            for watch in self._watches:
                watch.touch()


def _concerns(watch: Watch, record: LogRecord) -> bool:
    if record.key is None or is_mark(record.key):
        return False
    return TopicPartition(record.topic, record.partition) in watch.places and record.key.startswith(watch.prefix)
