"""What the thread that reads records and commits offsets does with the answers of the group; the log is a fake."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from perdure.kafka import _source
from perdure.kafka._source import Delivery, Owned, Source
from perdure_runtime.log import Ack, Log, LogError, LogRecord, LogUnavailableError, Reader, TopicPartition
from tests.support.waiting import until

_WAIT_S = 30.0


class _Answer:
    """An acknowledgement that is decided at once."""

    def __init__(self, error: LogError | None) -> None:
        self._error = error

    def error(self) -> LogError | None:
        return self._error

    def on_done(self, callback: Callable[[Ack], None]) -> None:
        callback(cast("Ack", self))


class _Group:
    """One partition, owned by the member at once; the group refuses as many commits as it is told.

    ``later`` is given to the member in its own time; nobody answers then when asked what is committed, ``silences``
    times.
    """

    def __init__(self, refusals: int = 0, silences: int = 0) -> None:
        self.refusals = refusals
        self.silences = silences
        self.later: queue.Queue[list[int]] = queue.Queue()
        #: What the newest reader reads.
        self.reading: set[int] = set()
        self.asked: queue.Queue[dict[int, int]] = queue.Queue()
        self.taken: list[dict[int, int]] = []
        self._tell: Callable[[list[int]], None] | None = None
        self.later.put([0])
        self.records: queue.Queue[LogRecord] = queue.Queue()

    # what the source uses of a log
    def join(self, group: str, topic: str, instance: str, assigned: Callable[[list[int]], None], _: object) -> _Group:
        self._tell = assigned
        return self

    def reader(self, name: str, *, committed_only: bool) -> Reader:
        assert committed_only
        self.reading = set()
        return cast("Reader", self)

    def watermarks(self, partition: TopicPartition) -> tuple[int, int]:
        return (0, 10)

    # … of a membership, which is asked on the source's thread only
    def commit(self, offsets: Mapping[int, int]) -> _Answer:
        self.asked.put(dict(offsets))
        if self.refusals:
            self.refusals -= 1
            return _Answer(LogError("the group is in a rebalance"))
        self.taken.append(dict(offsets))
        return _Answer(None)

    def committed(self, partitions: Sequence[int]) -> dict[int, int]:
        if partitions != [0] and self.silences:
            self.silences -= 1
            raise LogUnavailableError("nobody answered")
        return {}

    def leave(self) -> None:
        pass

    # … and of a reader; both are polled
    def poll(self, records_max: int = 0, timeout_s: float = 0.0) -> list[LogRecord]:
        if not records_max:
            assert self._tell is not None
            if not self.later.empty():
                self._tell(self.later.get())
            return []
        try:
            return [self.records.get(timeout=min(timeout_s, 0.01))]
        except queue.Empty:
            return []

    def assign(self, offsets: Mapping[TopicPartition, int]) -> None:
        assert set(offsets.values()) == {0}
        self.reading |= {partition.partition for partition in offsets}

    def wake(self) -> None:
        pass

    def close(self) -> None:
        pass


@asynccontextmanager
async def _reading(group: _Group) -> AsyncIterator[tuple[Source, asyncio.Queue[tuple[Owned, LogRecord]]]]:
    arrived: asyncio.Queue[tuple[Owned, LogRecord]] = asyncio.Queue()

    def on_records(delivery: Delivery) -> None:
        for each in delivery:
            arrived.put_nowait(each)

    def on_failure(error: BaseException) -> None:
        raise AssertionError from error

    source = Source(
        cast("Log", group), "group", ["orders"], instance="", from_start=True,
        loop=asyncio.get_running_loop(), on_records=on_records, on_failure=on_failure,
    )  # fmt: skip
    source.start()
    try:
        yield source, arrived
    finally:
        await source.stop()


async def _finish(source: Source, arrived: asyncio.Queue[tuple[Owned, LogRecord]]) -> None:
    owned, record = await asyncio.wait_for(arrived.get(), _WAIT_S)
    owned.progress.take(record.offset)
    owned.progress.finish(record.offset)
    source.commit_soon(owned)


def _record(offset: int) -> LogRecord:
    return LogRecord("orders", 0, offset, b"k", b"v", int(time.time() * 1000))


async def test_a_commit_that_the_group_refused_is_asked_for_again_without_a_further_record() -> None:
    group = _Group(refusals=2)
    async with _reading(group) as (source, arrived):
        group.records.put(_record(0))
        await _finish(source, arrived)
        for _ in range(3):
            assert await asyncio.to_thread(group.asked.get, True, _WAIT_S) == {0: 1}
        # What the group has taken is not asked for again: the next one is of the next record.
        group.records.put(_record(1))
        await _finish(source, arrived)
        assert await asyncio.to_thread(group.asked.get, True, _WAIT_S) == {0: 2}
    assert group.taken == [{0: 1}, {0: 2}]


async def test_what_was_refused_is_asked_for_once_more_at_the_end() -> None:
    group = _Group(refusals=1)
    async with _reading(group) as (source, arrived):
        group.records.put(_record(0))
        await _finish(source, arrived)
        assert await asyncio.to_thread(group.asked.get, True, _WAIT_S) == {0: 1}
    assert group.taken == [{0: 1}]


async def test_an_error_while_partitions_are_opened_loses_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_source, "_REOPEN_DELAY_S", 0.01)
    group = _Group(silences=2)
    async with _reading(group) as (source, _):
        await until(lambda: group.reading == {0}, "the first partition")
        group.later.put([1, 2, 3])
        await until(lambda: group.reading == {0, 1, 2, 3}, "all partitions, the earlier one too")
        assert [partition.partition for partition in source.partitions()] == [0, 1, 2, 3]
    assert group.silences == 0
