"""``EmbeddedLog``: the log of the dev server and of tests, in one process, on a local folder or in memory.

It keeps all of the port's promises with one machine and one disk, and no replication: it is not meant for production.
Called by ``perdure dev``, the test environment, and the socket server in :mod:`perdure_runtime.embedded.server`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from perdure_runtime.acks import LocalAck
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.embedded import layout
from perdure_runtime.embedded.carrying import EmbeddedCarrier
from perdure_runtime.embedded.cleaner import Cleaner, CleanerOptions
from perdure_runtime.embedded.core import LogCore, RemoteProducer
from perdure_runtime.embedded.groups import EmbeddedMembership, Group
from perdure_runtime.embedded.partition import Partition
from perdure_runtime.embedded.reader import BEGIN, END, EmbeddedReader, wait_any
from perdure_runtime.embedded.storage import MemoryStorage, RocksStorage, Storage
from perdure_runtime.log import GroupDescription, LogError, NewRecord, Reader, TopicDescription, TopicPartition
from perdure_schemas.limits import PARTITIONS_MAX
from perdure_schemas.topics import TopicSpec

if TYPE_CHECKING:
    from perdure_runtime.embedded.server import Server

_LEGAL_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
CLOSE_FLUSH_S_MAX = 5.0
#: How long an administrative change may take to reach the disk.
ADMIN_S_MAX = 30.0
#: Unclean ends remembered for clients that were away.
UNCLEAN_KEPT = 16


class EmbeddedProducer:
    """Implements :class:`perdure_runtime.log.Producer`. May be used by many threads."""

    def __init__(self, core: LogCore, name: str) -> None:
        self.name = name
        self._core = core
        self._last: LocalAck | None = None
        self._closed = False

    def append(self, records: Sequence[NewRecord]) -> LocalAck:
        if self._closed:
            raise LogError(f"producer {self.name!r} is closed")
        self._last = ack = self._core.append(records)
        return ack

    def flush(self, timeout_s: float) -> bool:
        # Acknowledgements are decided in the order of the calls.
        return self._last is None or self._last.wait(timeout_s)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.flush(CLOSE_FLUSH_S_MAX)


class EmbeddedLog:
    """A log in this process. Implements :class:`perdure_runtime.log.Log`.

    Args:
        path: the folder it lives in, made if missing; ``None``: in memory, gone when closed.
        cleaner: how compaction and retention work in the background.
        now_ms: the clock that gives records their timestamps; the wall clock, but in tests that skip time.

    Raises:
        LogError: the folder is in use by another process, holds something else, or a log of another format version.
    """

    BEGIN: int = BEGIN
    END: int = END
    shows_appends_at_once = True

    def __init__(
        self, path: Path | None, *, cleaner: CleanerOptions | None = None, now_ms: Callable[[], int] = wall_clock_ms
    ) -> None:
        where = "in memory" if path is None else f"at {path}"
        storage: Storage = MemoryStorage() if path is None else RocksStorage(path)
        self._core = LogCore(storage, where, now_ms)
        self._groups: dict[tuple[str, str], Group] = {}
        self._servers: list[Server] = []
        try:
            self.identity = _load(self._core, fresh_id=uuid.uuid4().hex)
        except BaseException:
            storage.close()
            raise
        self._core.start()
        self._cleaner = Cleaner(self._core, cleaner or CleanerOptions())
        self._cleaner.start()
        self._closed = False

    # --- topics ---------------------------------------------------------------------------------------------------

    def create_topics(self, specs: Mapping[str, TopicSpec], partitions: int, replication: int = -1) -> None:
        if not 1 <= partitions <= PARTITIONS_MAX:
            raise LogError(f"a topic cannot have {partitions} partitions: choose 1 to {PARTITIONS_MAX}")
        if replication not in (-1, 1):
            raise LogError(f"the embedded log keeps one copy, not {replication}: leave the replication out")
        for name in specs:
            if not _LEGAL_NAME.fullmatch(name):
                raise LogError(f"{name!r} is not a topic name: use 1 to 249 of the letters a-z A-Z 0-9 . _ -")
        core = self._core
        with core.lock:
            topic_id = max((entry.topic_id for entry in core.topics.values()), default=0)
            entries: dict[bytes, bytes | None] = {}
            for name, spec in specs.items():
                if name in core.topics:
                    continue
                topic_id += 1
                entry = layout.TopicEntry(topic_id, partitions, spec.config(), spec.answers_clients)
                entries[layout.TOPIC_PREFIX + name.encode()] = layout.encode(entry)
                core.topics[name] = entry
                for number in range(partitions):
                    core.partitions[(name, number)] = Partition(TopicPartition(name, number), entry, 0, 0)
            ack = core.change(entries)
        self._settle(ack, "create the topics")
        if entries:
            for server in self._servers:
                server.topics_created()

    def describe_topics(self, names: Sequence[str]) -> dict[str, TopicDescription]:
        topics = self._core.topics
        return {
            name: TopicDescription(name, topics[name].partitions, 1, dict(topics[name].config))
            for name in names
            if name in topics
        }

    def topic_names(self) -> list[str]:
        """The names of all topics, sorted."""
        return sorted(self._core.topics)

    def alter_topic(self, name: str, config: Mapping[str, str]) -> None:
        core = self._core
        with core.lock:
            entry = core.topics.get(name)
            if entry is None:
                raise core.unknown(name, 0)
            changed = layout.TopicEntry(
                entry.topic_id, entry.partitions, entry.config | dict(config), entry.answers_clients
            )
            core.topics[name] = changed
            for number in range(changed.partitions):
                core.partitions[(name, number)].configure(changed)
            ack = core.change({layout.TOPIC_PREFIX + name.encode(): layout.encode(changed)})
        self._settle(ack, f"alter topic {name!r}")

    def watermarks(self, partition: TopicPartition) -> tuple[int, int]:
        found = self._partition(partition)
        with self._core.lock:
            return found.low, found.end

    def offset_for_time(self, partition: TopicPartition, timestamp_ms: int) -> int:
        found = self._partition(partition)
        with self._core.lock:
            position, base, tail, end = found.low, found.base, list(found.tail), found.end
        if position < base:
            begin, behind = layout.block_key(found.identity, position), layout.blocks_end(found.identity)
            for _, value in self._core.storage.scan(begin, behind):
                for record in layout.decode_block(value):
                    if record.offset < base and record.timestamp_ms >= timestamp_ms:
                        return max(record.offset, position)
        for record in tail:
            if record.timestamp_ms >= timestamp_ms:
                return record.offset
        return end

    # --- reading and writing --------------------------------------------------------------------------------------

    def producer(self, name: str) -> EmbeddedProducer:
        self._core.check_open()
        return EmbeddedProducer(self._core, name)

    def reader(self, name: str, *, committed_only: bool = False) -> EmbeddedReader:  # nothing here is ever uncommitted
        self._core.check_open()
        return EmbeddedReader(self._core, name)

    def together(self) -> EmbeddedLog:
        """Readers for one thread, which can wait for all of them: any are."""
        return self

    def has_news(self, reader: Reader) -> bool:
        """Whether a poll of this reader would give something, end early, or fail."""
        return cast("EmbeddedReader", reader).has_news

    def wait_any(self, readers: Sequence[Reader], timeout_s: float) -> bool:
        """Wait until one of these readers has something, or was woken; false after ``timeout_s``.

        All of them must belong to the calling thread and come from this log.
        """
        return wait_any(self._core, cast("Sequence[EmbeddedReader]", readers), timeout_s)

    def join(
        self,
        group: str,
        topic: str,
        instance: str,
        on_assigned: Callable[[list[int]], None],
        on_revoked: Callable[[list[int], bool], None],
    ) -> EmbeddedMembership:
        return EmbeddedMembership(
            self._core, self._group(group, topic), instance or uuid.uuid4().hex, on_assigned, on_revoked
        )

    def carrier(
        self,
        group: str,
        topic: str,
        instance: str,
        on_assigned: Callable[[list[int]], None],
        on_revoked: Callable[[list[int], bool], None],
    ) -> EmbeddedCarrier:
        """See :class:`perdure_runtime.relay.carrier.CarryingLog`. Topics that records are for are made on demand."""
        membership = self.join(group, topic, instance, on_assigned, on_revoked)
        return EmbeddedCarrier(self._core, self._group(group, topic), membership, self.create_topics)

    def _group(self, group: str, topic: str) -> Group:
        core = self._core
        with core.lock:
            entry = core.topics.get(topic)
            if entry is None:
                raise core.unknown(topic, 0)
            shared = self._groups.get((group, topic))
            if shared is None:
                shared = self._groups[(group, topic)] = Group(group, topic, entry.partitions)
            return shared

    def describe_group(self, group: str, topic: str) -> GroupDescription:
        core = self._core
        with core.lock:
            entry = core.topics.get(topic)
            if entry is None:
                raise core.unknown(topic, 0)
            shared = self._groups.get((group, topic))
            owners = {} if shared is None else {number: owner.instance for number, owner in shared.owners.items()}
            found = {number: core.committed.get((group, topic, number)) for number in range(entry.partitions)}
        return GroupDescription({number: offset for number, offset in found.items() if offset is not None}, owners)

    def serve(self, host: str = "127.0.0.1", port: int = 7233) -> Server:
        """Let other processes use this log through a socket, until the server or the log is closed.

        Args:
            host: address to listen on. There is no authentication: keep it a local one.
            port: port to listen on; 0 takes a free one (see ``Server.port``).

        Raises:
            LogError: the port is in use, or the address is not one of this machine.
        """
        from perdure_runtime.embedded.server import Server

        server = Server(self, self._core, host, port)
        self._servers.append(server)
        return server

    def truncation(self, place: TopicPartition, log_id: str, incarnation: int) -> int | None:
        """Where a reader must go back to that knows this partition from an earlier incarnation; ``None``: nowhere.

        What was visible but not synced when the log ended uncleanly is lost, and its offsets were given again.
        """
        if log_id != self.identity.log_id:
            return self._partition(place).low
        identity = self._partition(place).identity
        ends = [lost.ends.get(identity, 0) for lost in self.identity.unclean if lost.number > incarnation]
        return min(ends, default=None)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for server in list(self._servers):
            server.close()
        self._cleaner.close()
        core = self._core
        core.close()
        if core.failure is None:
            identity = self.identity
            clean = layout.Identity(identity.log_id, identity.incarnation, True, identity.unclean)
            core.storage.write({layout.IDENTITY_KEY: layout.encode(clean)}, [])
            core.storage.sync()
        core.storage.close()

    def _settle(self, ack: LocalAck, what: str) -> None:
        if not ack.wait(ADMIN_S_MAX):
            raise LogError(f"could not {what} within {ADMIN_S_MAX} s: is the disk of the log {self._core.where} stuck?")
        error = ack.error()
        if error is not None:
            raise error

    def _partition(self, place: TopicPartition) -> Partition:
        found = self._core.partitions.get((place[0], place[1]))
        if found is None:
            raise self._core.unknown(*place)
        return found


def _load(core: LogCore, fresh_id: str) -> layout.Identity:
    """Fill the memory from the storage, and note that the log is open."""
    storage = core.storage
    version = storage.get(layout.FORMAT_KEY)
    if version is not None and version != b"%d" % layout.FORMAT_VERSION:
        raise LogError(
            f"the log {core.where} has format version {version.decode(errors='replace')}, this program reads version "
            f"{layout.FORMAT_VERSION}: use the program that wrote it, or another folder"
        )
    _load_topics(core)
    prefix = layout.GROUP_PREFIX
    for _, value in storage.scan(prefix, layout.next_prefix(prefix)):
        offset = layout.decode_group_offset(value)
        core.committed[(offset.group, offset.topic, offset.partition)] = offset.offset
        if offset.epoch >= 0:
            core.epochs[(offset.group, offset.topic, offset.partition)] = offset.epoch
    prefix = layout.PRODUCER_PREFIX
    for key, value in storage.scan(prefix, layout.next_prefix(prefix)):
        producer = layout.decode_producer(value)
        core.producers[key[1:]] = RemoteProducer(producer.sequence, producer.time_ms)
    stored = storage.get(layout.IDENTITY_KEY)
    if stored is None:
        identity = layout.Identity(fresh_id, 1, False, [])
    else:
        before = layout.decode_identity(stored)
        unclean = before.unclean
        if not before.clean:
            ends = {partition.identity: partition.end for partition in core.partitions.values() if partition.end}
            unclean = [*unclean, layout.Incarnation(before.incarnation + 1, ends)][-UNCLEAN_KEPT:]
        identity = layout.Identity(before.log_id, before.incarnation + 1, False, unclean)
    entries: dict[bytes, bytes | None] = {
        layout.FORMAT_KEY: b"%d" % layout.FORMAT_VERSION,
        layout.IDENTITY_KEY: layout.encode(identity),
    }
    storage.write(entries, [])
    storage.sync()
    return identity


def _load_topics(core: LogCore) -> None:
    storage = core.storage
    prefix = layout.TOPIC_PREFIX
    for key, value in storage.scan(prefix, layout.next_prefix(prefix)):
        name = key[1:].decode()
        entry = core.topics[name] = layout.decode_topic(value)
        for number in range(entry.partitions):
            identity = layout.partition_id(entry.topic_id, number)
            last = storage.last_key(layout.block_key(identity, 0), layout.blocks_end(identity))
            low = int.from_bytes(storage.get(layout.LOW_PREFIX + identity) or b"", "big")
            end = low if last is None else max(low, layout.last_offset_of(last) + 1)
            partition = Partition(TopicPartition(name, number), entry, low, end)
            clean = storage.get(layout.CLEAN_PREFIX + identity)
            if clean is not None:
                partition.clean = layout.decode_clean(clean)
            core.partitions[(name, number)] = partition
