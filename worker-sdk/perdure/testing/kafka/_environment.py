"""An engine, a client and topics for tests, on a broker or in memory, with one interface for both.

Invariant: a test that uses this interface alone runs on each of the kinds. Called by user code, and by the pytest
plugin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from perdure.client import Client
from perdure.converter import DataConverter
from perdure.kafka._record import Record, time_of
from perdure.kafka._values import Json
from perdure.kafka.core import identity
from perdure.testing._engine import LocalEngine
from perdure.testing.kafka._containers import container_broker, container_engine_answers
from perdure.testing.kafka._native import BrokerUnavailableError, NativeBroker
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.kafka import KafkaLog
from perdure_runtime.log import Log, LogError, LogRecord, NewRecord, Producer, Reader, TopicPartition
from perdure_schemas.topics import Cleanup, TopicSpec

Kind = Literal["auto", "container", "native", "embedded"]
_APPEND_TIMEOUT_S = 30.0
_POLL_S = 0.5
#: Records that one read brings at most while a topic is followed.
_FOLLOWED_MAX = 1_000


class KafkaEnvironment:
    """A broker with an engine beside it, or an embedded log in its place; see the package. Made by :meth:`start`.

    Attributes:
        client: A client of the engine.
        bootstrap: The broker's address for other clients, as ``host:port``; empty on the embedded log.
    """

    def __init__(self, engine: LocalEngine, client: Client, bootstrap: str, resources: contextlib.ExitStack) -> None:
        self.client = client
        self.bootstrap = bootstrap
        self._engine = engine
        self._resources = resources
        self._producer: Producer | None = None

    @classmethod
    async def start(
        cls,
        kind: Kind = "auto",
        *,
        bootstrap: str | None = None,
        data: Path | None = None,
        data_converter: DataConverter = DataConverter.default,
        interceptors: Sequence[Any] = (),
        plugins: Sequence[Any] = (),
    ) -> KafkaEnvironment:
        """Start what is needed.

        Args:
            kind: ``"container"``: a broker in a container; ``"native"``: a broker of Apache Kafka's jars (Java 17, and
                Maven once); ``"embedded"``: no broker, all in memory, in well under a second; ``"auto"``: the first of
                them that is possible here.
            bootstrap: A broker that runs already, instead.
            data: The folder of the embedded log, which is in memory if not given: for more records than fit there.
            data_converter, interceptors, plugins: The client's.

        Raises:
            BrokerUnavailableError: that kind is not possible here. RuntimeError: the engine did not start.
            ValueError: ``data`` is given, and not the kind ``"embedded"``. LogError: the folder is in use.
        """
        if data is not None and (kind != "embedded" or bootstrap is not None):
            raise ValueError("data is the folder of the embedded log: give kind 'embedded', and no bootstrap")
        given = {"data_converter": data_converter, "interceptors": interceptors, "plugins": plugins}
        return await asyncio.to_thread(cls._start, kind, bootstrap, data, given)

    @classmethod
    def _start(
        cls, kind: Kind, bootstrap: str | None, data: Path | None, client_options: Mapping[str, Any]
    ) -> KafkaEnvironment:
        resources = contextlib.ExitStack()
        try:
            address = bootstrap or resources.enter_context(broker(kind))
            log: Log | None = None
            if address:
                log = KafkaLog(address)
                resources.callback(log.close)
            elif data is not None:
                log = EmbeddedLog(data)
                resources.callback(log.close)
            engine = LocalEngine(f"test-{uuid.uuid4().hex[:8]}", log=log)
            resources.callback(engine.close)
            client = Client.from_log(engine.log, namespace=engine.names.namespace, names=engine.names, **client_options)
        except BaseException:
            resources.close()
            raise
        return cls(engine, client, address, resources)

    async def shutdown(self) -> None:
        """Stop everything that was started, and forget it."""
        await self.client.close()
        if self._producer is not None:
            await asyncio.to_thread(self._producer.close)
        await asyncio.to_thread(self._resources.close)

    async def __aenter__(self) -> KafkaEnvironment:
        """The environment itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut down."""
        await self.shutdown()

    async def create_topic(self, *topics: str, partitions: int = 1) -> None:
        """Create topics; those that exist are left as they are.

        Args:
            topics: Their names.
            partitions: How many partitions each has.
        """
        specs = {
            topic: TopicSpec(topic, "key", "as the producer likes", Cleanup.DELETE, (), ("test",), ("test",))
            for topic in topics
        }
        await asyncio.to_thread(self._engine.log.create_topics, specs, partitions)

    async def produce(
        self,
        topic: str,
        value: Any,
        *,
        key: str | bytes | None = None,
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
    ) -> None:
        """Append a record, and wait until the log has it.

        Args:
            topic: The topic.
            value: Bytes as they are, text as UTF-8, ``None`` as a tombstone, anything else as JSON.
            key: The key.
            headers: The headers.
            partition: The partition; by the key if not given.

        Raises:
            LogError: there is no such topic, or the log did not take it.
        """
        await asyncio.to_thread(self._append, topic, [(key, value)], headers or {}, partition)

    async def produce_many(self, topic: str, records: Sequence[tuple[str | bytes | None, Any]]) -> None:
        """Append many records at once, and wait until the log has them.

        Args:
            topic: The topic.
            records: Their keys and values, as for :meth:`produce`, in their order.

        Raises:
            LogError: there is no such topic, or the log did not take them.
        """
        await asyncio.to_thread(self._append, topic, records, {}, None)

    def _append(
        self,
        topic: str,
        records: Sequence[tuple[str | bytes | None, Any]],
        headers: Mapping[str, bytes],
        partition: int | None,
    ) -> None:
        partitions = self._partitions(topic)
        if self._producer is None:
            self._producer = self._engine.log.producer("test")
        appended = []
        for key, value in records:
            key_bytes = key.encode() if isinstance(key, str) else key
            chosen = zlib.crc32(key_bytes or b"") % partitions if partition is None else partition
            appended.append(NewRecord(topic, chosen, key_bytes, _bytes_of(value), headers=tuple(headers.items())))
        ack = self._producer.append(appended)
        if not ack.wait(_APPEND_TIMEOUT_S):
            raise LogError(f"{len(appended)} record(s) for {topic} not acknowledged within {_APPEND_TIMEOUT_S:g} s")
        error = ack.error()
        if error is not None:
            raise error

    async def records(
        self, topic: str, count: int, *, value: Callable[[bytes], Any] | None = None, timeout_s: float = 60.0
    ) -> list[Record]:
        """Wait until a topic holds so many records, and return all it holds then, from its beginning.

        Those of a partition are in order. Records of aborted transactions do not count.

        Args:
            topic: The topic.
            count: How many to wait for.
            value: The deserializer; :class:`perdure.kafka.Json` if not given.
            timeout_s: How long to wait, in seconds.

        Raises:
            TimeoutError: there are fewer; the message says how many. LogError: there is no such topic.
        """
        found = await asyncio.to_thread(self._read, topic, count, timeout_s)
        decode = value or Json()
        return [_record(record, None if record.value is None else decode(record.value)) for record in found]

    async def follow(
        self, topic: str, *, value: Callable[[bytes], Any] | None = None, timeout_s: float = 60.0
    ) -> AsyncIterator[Record]:
        """The records of a topic from its beginning, and those that come, until the caller has seen enough.

        Those of a partition are in order. Records of aborted transactions do not count.

        Args:
            topic: The topic.
            value: The deserializer; :class:`perdure.kafka.Json` if not given.
            timeout_s: How long to wait for the next record, in seconds.

        Raises:
            TimeoutError: none came for so long. LogError: there is no such topic.
        """
        decode = value or Json()
        reader = await asyncio.to_thread(self._reader, topic)
        seen, waited_s = 0, 0.0
        try:
            while waited_s < timeout_s:
                found = await asyncio.to_thread(reader.poll, _FOLLOWED_MAX, _POLL_S)
                waited_s = 0.0 if found else waited_s + _POLL_S
                seen += len(found)
                for record in found:
                    yield _record(record, None if record.value is None else decode(record.value))
        finally:
            reader.close()
        raise TimeoutError(f"topic {topic}: no record after the first {seen} for {timeout_s:g} s")

    def _reader(self, topic: str) -> Reader:
        log = self._engine.log
        partitions = [TopicPartition(topic, number) for number in range(self._partitions(topic))]
        reader = log.reader(f"test-{topic}", committed_only=True)
        reader.assign({partition: log.watermarks(partition)[0] for partition in partitions})
        return reader

    def _read(self, topic: str, count: int, timeout_s: float) -> list[LogRecord]:
        reader = self._reader(topic)
        found: list[LogRecord] = []
        try:
            for _ in range(max(1, round(timeout_s / _POLL_S))):
                found += reader.poll(10_000, _POLL_S)
                if len(found) >= count:
                    # What is there besides is part of the answer: one too many must not go unseen.
                    found += reader.poll(10_000, 0)
                    return found
        finally:
            reader.close()
        raise TimeoutError(f"topic {topic} holds {len(found)} records after {timeout_s:g} s; {count} were waited for")

    def _partitions(self, topic: str) -> int:
        found = self._engine.log.describe_topics([topic]).get(topic)
        if found is None:
            raise LogError(f"there is no topic {topic}; create it with create_topic")
        return found.partitions


@contextlib.contextmanager
def broker(kind: Kind) -> Iterator[str]:
    """The bootstrap server of a broker; empty for none. Blocks.

    Raises:
        BrokerUnavailableError: that kind is not possible here.
    """
    if kind not in ("auto", "container", "native", "embedded"):
        raise ValueError(f"kind is {kind!r}; give auto, container, native or embedded")
    if kind in ("auto", "container") and container_engine_answers():
        with container_broker() as bootstrap:
            yield bootstrap
        return
    if kind == "container":
        raise BrokerUnavailableError("containers cannot be started here; is Docker running, and testcontainers there?")
    if kind in ("auto", "native"):
        native: NativeBroker | None = None
        try:
            native = NativeBroker()
        except BrokerUnavailableError:
            if kind == "native":
                raise
        if native is not None:
            with native:
                yield native.bootstrap
            return
    yield ""


def _bytes_of(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def _record(record: LogRecord, value: Any) -> Record:
    origin = identity.origin_of(record.topic, record.partition, record.offset, record.timestamp_ms, record.headers)
    time = time_of(record.timestamp_ms)
    return Record(record.topic, record.partition, record.offset, record.key, value, record.headers, time, origin)
