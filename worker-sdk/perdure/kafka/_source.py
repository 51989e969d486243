"""Where records come from: one thread that takes part in the consumer group, reads, and commits.

The thread only moves records and offsets; what becomes of them is decided on the event loop. Invariants: offsets are
committed only through :class:`~perdure.kafka.core.progress.Progress`, by the partition's owner; before a partition is
given away in peace, what is under way for it may finish for a moment and is committed; records of a partition that was
given away are not sent any more; a commit that the group refused is asked for again while the partition is owned.
Holding (back-pressure) and pausing (by the user) stop reading, not membership.
Called by :class:`perdure.kafka.RecordTriggers`; works on every log of the port.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from perdure.kafka.core.progress import Progress
from perdure_runtime.log import Ack, Log, LogClosedError, LogError, LogRecord, Membership, Reader, TopicPartition

_logger = logging.getLogger("perdure.kafka.triggers")

_POLL_S = 0.5
#: Until the group has given this member something, it is asked more often.
_JOINING_POLL_S = 0.05
_RECORDS_PER_POLL_MAX = 1_000
_REOPEN_DELAY_S = 1.0
_COMMIT_AGAIN_DELAY_S = 0.5
#: How long what is under way may take when the group takes a partition away.
_HAND_OVER_S = 3.0
_CLOSE_S = 10.0


class Owned:
    """A partition while this member owns it; a later ownership of the same partition is another object."""

    def __init__(self, partition: TopicPartition, next_offset: int) -> None:
        self.partition = partition
        self.progress = Progress()
        self.active = True
        #: Where a new reader would go on; belongs to the thread.
        self.next_offset = next_offset
        #: What the group was asked to remember last, and not known to have refused; belongs to the thread.
        self.committing: int | None = None
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self) -> None:
        """A request is sent."""
        self._under_way += 1
        self._idle.clear()

    def end(self) -> None:
        """It is decided, or given up."""
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until nothing is under way."""
        await self._idle.wait()


Delivery = Sequence[tuple[Owned, LogRecord]]


class Source:
    """See the module.

    Args:
        log: Where the topics are.
        group: The consumer group.
        topics: The topics.
        instance: Names this member across restarts (static membership); empty: a new member each time.
        from_start: Where a group begins that has committed nothing: at the first record, or behind the last.
        loop: Where the callbacks are called.
        on_records: Takes records.
        on_failure: Takes the error that ended the thread.
    """

    def __init__(
        self,
        log: Log,
        group: str,
        topics: Sequence[str],
        *,
        instance: str,
        from_start: bool,
        loop: asyncio.AbstractEventLoop,
        on_records: Callable[[Delivery], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._log = log
        self._group = group
        self._topics = topics
        self._instance = instance
        self._from_start = from_start
        self._loop = loop
        self._on_records = on_records
        self._on_failure = on_failure
        self._owned: dict[TopicPartition, Owned] = {}
        self._joined: list[TopicPartition] = []
        self._memberships: dict[str, Membership] = {}
        self._reader: Reader | None = None
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._held = False
        self._paused: set[str] = set()
        self._stopping = threading.Event()
        self._dirty: set[Owned] = set()
        #: Partitions whose last commit was refused; belongs to the thread.
        self._refused: set[Owned] = set()
        self._commit_again_at = 0.0
        self._commit_asked = False
        self._thread = threading.Thread(target=self._run, name=f"perdure-records-{group}", daemon=True)

    # --- on the event loop ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def partitions(self) -> list[TopicPartition]:
        """What this member owns now."""
        return sorted(self._owned)

    def commit_soon(self, owned: Owned) -> None:
        """A partition has progressed. Everything of one turn of the loop is committed together."""
        self._dirty.add(owned)
        if not self._commit_asked:
            self._commit_asked = True
            self._loop.call_soon(self._commit)

    def hold(self, held: bool) -> None:
        """Stop reading, or go on: back-pressure."""
        self._ask(lambda: self._set_held(held))

    async def pause(self, topics: Sequence[str], paused: bool) -> None:
        """Stop reading these topics, or go on: by the user. Returns when it is so."""
        done: asyncio.Future[None] = self._loop.create_future()

        def apply() -> None:
            self._set_paused(topics, paused)
            self._call(_resolve, done)

        self._ask(apply)
        await done

    async def stop(self) -> None:
        """Read nothing more, commit what is done, and leave the group."""
        if self._thread.is_alive():
            self._commit()
            self._ask(self._stopping.set)
            await asyncio.to_thread(self._thread.join, _CLOSE_S)

    def _ask(self, request: Callable[[], None]) -> None:
        self._requests.put(request)
        reader = self._reader
        if reader is not None:
            reader.wake()

    def _commit(self) -> None:
        self._commit_asked = False
        dirty, self._dirty = self._dirty, set()
        offsets = {owned: owned.progress.committable for owned in dirty if owned.active}
        if offsets:
            self._requests.put(lambda: self._send_commit(offsets))

    # --- on the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            for topic in self._topics:
                self._memberships[topic] = self._join(topic)
            while not self._stopping.is_set():
                self._turn()
        except Exception as error:
            if not self._stopping.is_set():
                _logger.exception("group=%s event=record_source_failed", self._group)
                self._call(self._on_failure, error)
        finally:
            self._close()

    def _join(self, topic: str) -> Membership:
        def assigned(partitions: list[int]) -> None:
            self._joined += [TopicPartition(topic, partition) for partition in partitions]

        def revoked(partitions: list[int], lost: bool) -> None:
            self._give_back([TopicPartition(topic, partition) for partition in partitions], lost)

        instance = f"{self._instance}-{topic}" if self._instance else ""
        return self._log.join(self._group, topic, instance, assigned, revoked)

    def _turn(self) -> None:
        for membership in self._memberships.values():
            membership.poll()
        try:
            if self._reader is None and self._owned:
                self._reopen()
            if self._joined:
                self._open()
            while not self._requests.empty():
                self._requests.get()()
            self._commit_again()
            if self._reader is None:
                self._stopping.wait(_JOINING_POLL_S)
                return
            records = self._reader.poll(_RECORDS_PER_POLL_MAX, _POLL_S if self._owned else _JOINING_POLL_S)
        except LogClosedError:
            raise
        except LogError as error:
            _logger.warning("group=%s event=records_interrupted reason=%r", self._group, str(error))
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            self._stopping.wait(_REOPEN_DELAY_S)
            return
        delivery = []
        for record in records:
            owned = self._owned.get(TopicPartition(record.topic, record.partition))
            if owned is not None:
                owned.next_offset = record.offset + 1
                delivery.append((owned, record))
        if delivery:
            self._call(self._on_records, delivery)

    def _open(self) -> None:
        """Begin to read partitions that the group has given to this member. What fails is tried again in the next
        turn."""
        if self._reader is None:
            self._reader = self._log.reader(f"records-{self._group}", committed_only=True)
        while self._joined:
            partition = self._joined[0]
            committed = self._memberships[partition.topic].committed([partition.partition])
            self._read_from(partition, committed.get(partition.partition))
            self._joined.pop(0)

    def _read_from(self, partition: TopicPartition, wanted: int | None) -> None:
        assert self._reader is not None
        first, end = self._log.watermarks(partition)
        if wanted is None:
            offset = first if self._from_start else end
        else:
            offset = min(max(wanted, first), end)
            if offset != wanted:
                _logger.warning(
                    "group=%s topic=%s partition=%d event=records_gone wanted=%d from=%d",
                    self._group, partition.topic, partition.partition, wanted, offset,
                )  # fmt: skip
        self._reader.assign({partition: offset})
        owned = self._owned.get(partition)
        if owned is None:
            self._owned[partition] = Owned(partition, offset)
        if self._held or partition.topic in self._paused:
            self._reader.pause([partition])

    def _reopen(self) -> None:
        """A new reader after an error, from where the old one was."""
        self._reader = self._log.reader(f"records-{self._group}", committed_only=True)
        for partition, owned in self._owned.items():
            self._read_from(partition, owned.next_offset)

    def _give_back(self, partitions: Sequence[TopicPartition], lost: bool) -> None:
        """The group takes partitions away; called inside ``poll`` of the membership."""
        self._joined = [partition for partition in self._joined if partition not in partitions]
        given = [self._owned.pop(partition) for partition in partitions if partition in self._owned]
        if self._reader is not None and given:
            try:
                self._reader.unassign([owned.partition for owned in given])
            except LogError as error:
                _logger.info("group=%s event=unassign_failed reason=%r", self._group, str(error))
        for owned in given:
            owned.active = False
        if lost or not given or self._loop.is_closed():
            return
        done = asyncio.run_coroutine_threadsafe(_until_finished(given), self._loop)
        try:
            done.result(_HAND_OVER_S)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            done.cancel()  # what is not finished is delivered to the next owner, too, and changes nothing there
        self._send_commit({owned: owned.progress.committable for owned in given}, given_back=True)

    def _send_commit(self, offsets: Mapping[Owned, int | None], *, given_back: bool = False) -> None:
        by_topic: dict[str, dict[Owned, int]] = {}
        for owned, offset in offsets.items():
            if offset is not None and offset != owned.committing and (owned.active or given_back):
                owned.committing = offset
                by_topic.setdefault(owned.partition.topic, {})[owned] = offset
        for topic, wanted in by_topic.items():
            ack = self._memberships[topic].commit({owned.partition.partition: at for owned, at in wanted.items()})
            ack.on_done(partial(self._commit_decided, wanted))

    def _commit_decided(self, wanted: Mapping[Owned, int], ack: Ack) -> None:
        """The group has answered; on a thread of the log."""
        error = ack.error()
        if error is not None:
            self._requests.put(lambda: self._note_refused(wanted, error))

    def _note_refused(self, wanted: Mapping[Owned, int], error: LogError) -> None:
        """Ask for it again a little later: no further record may come to carry these offsets."""
        refused = {owned for owned, offset in wanted.items() if owned.active and owned.committing == offset}
        if not refused:
            return  # given away, or asked for something newer since
        partitions = sorted(f"{owned.partition.topic}[{owned.partition.partition}]" for owned in refused)
        _logger.info("group=%s event=commit_refused partitions=%s reason=%r", self._group, partitions, str(error))
        for owned in refused:
            owned.committing = None
        self._refused |= refused
        self._commit_again_at = time.monotonic() + _COMMIT_AGAIN_DELAY_S

    def _commit_again(self) -> None:
        if self._refused and time.monotonic() >= self._commit_again_at:
            again, self._refused = self._refused, set()
            self._send_commit({owned: owned.progress.committable for owned in again})

    def _set_held(self, held: bool) -> None:
        self._held = held
        self._apply(list(self._owned))

    def _set_paused(self, topics: Sequence[str], paused: bool) -> None:
        (self._paused.update if paused else self._paused.difference_update)(topics)
        self._apply([partition for partition in self._owned if partition.topic in topics])

    def _apply(self, partitions: Sequence[TopicPartition]) -> None:
        if self._reader is None or not partitions:
            return
        stopped = [partition for partition in partitions if self._held or partition.topic in self._paused]
        self._reader.pause(stopped)
        self._reader.resume([partition for partition in partitions if partition not in stopped])

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _close(self) -> None:
        while not self._requests.empty():
            try:
                self._requests.get()()
            except LogError as error:
                _logger.info("group=%s event=last_commit_failed reason=%r", self._group, str(error))
        self._commit_again_at = 0.0
        self._commit_again()
        if self._reader is not None:
            self._reader.close()
        for membership in self._memberships.values():
            membership.leave()


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


async def _until_finished(given: Sequence[Owned]) -> None:
    """Wait until nothing of these partitions is under way."""
    for owned in given:
        await owned.wait_idle()
