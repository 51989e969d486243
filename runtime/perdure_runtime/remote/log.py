"""``RemoteLog``: the log of a dev server in another process, over its socket.

Invariants: the server may go away and come back at any time. Meanwhile appends are kept (bounded), readers wait, and
administrative calls fail after a bounded time; afterwards everything goes on where it was. Nothing is appended twice.
Called by the SDK's client and worker through :func:`perdure_runtime.connect.open_log`.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence

import msgspec

from perdure_runtime.log import GroupDescription, LogClosedError, LogError, Membership, TopicDescription, TopicPartition
from perdure_runtime.remote import protocol
from perdure_runtime.remote.link import Link
from perdure_runtime.remote.producer import CLOSE_FLUSH_S_MAX, Pipe, RemoteLogProducer
from perdure_runtime.remote.reader import BEGIN, END, RemoteReader
from perdure_runtime.remote.requests import Requests
from perdure_schemas.topics import TopicSpec

_logger = logging.getLogger("perdure.log")


class RemoteLog:
    """The embedded log of another process. Implements :class:`perdure_runtime.log.Log`.

    Args:
        host, port: where its server listens.
        connect_timeout_s: how long to wait for it now.

    Raises:
        LogUnavailableError: nobody answered in time. LogError: whoever answered is not a fitting server.
    """

    BEGIN: int = BEGIN
    END: int = END

    def __init__(self, host: str, port: int, *, connect_timeout_s: float = 5.0) -> None:
        hello = protocol.Hello(protocol.PROTOCOL_VERSION, f"{socket.gethostname()}/{os.getpid()}", uuid.uuid4().bytes)
        self.link = Link(host, port, hello, self._on_connected, self._on_message, self._on_ended)
        self.requests = Requests(self.link)
        #: Log id and incarnation of the server, as of the last handshake.
        self.server_identity = ("", 0)
        self._pipe = Pipe()
        self._readers: dict[int, RemoteReader] = {}
        self._reader_numbers = 0
        #: What this process has created: made again if the server comes back with another, empty log.
        self._created: list[Callable[[int], protocol.CreateTopics]] = []
        self._failure: LogError | None = None
        self._closed = False
        self.link.open(connect_timeout_s)

    @property
    def connected(self) -> bool:
        """Whether the server is there right now."""
        return self.link.connected

    # --- topics ---------------------------------------------------------------------------------------------------

    def create_topics(self, specs: Mapping[str, TopicSpec], partitions: int, replication: int = -1) -> None:
        topics = {name: (spec.config(), spec.answers_clients) for name, spec in specs.items()}

        def message(number: int) -> protocol.CreateTopics:
            return protocol.CreateTopics(number, topics, partitions, replication)

        self._ask(message, "create topics")
        self._created.append(message)

    def describe_topics(self, names: Sequence[str]) -> dict[str, TopicDescription]:
        result = self._ask(lambda number: protocol.DescribeTopics(number, list(names)), "describe topics")
        return {
            name: TopicDescription(name, partitions, replication, config)
            for name, partitions, replication, config in protocol.decode_topics(result)
        }

    def alter_topic(self, name: str, config: Mapping[str, str]) -> None:
        self._ask(lambda number: protocol.AlterTopic(number, name, dict(config)), f"alter topic {name!r}")

    def watermarks(self, partition: TopicPartition) -> tuple[int, int]:
        topic, number = partition
        result = self._ask(lambda request: protocol.Watermarks(request, topic, number), f"ask for offsets of {topic}")
        return protocol.decode_offsets(result)

    def offset_for_time(self, partition: TopicPartition, timestamp_ms: int) -> int:
        topic, number = partition
        result = self._ask(
            lambda request: protocol.OffsetForTime(request, topic, number, timestamp_ms), f"look for a time in {topic}"
        )
        return protocol.decode_offset(result)

    def describe_group(self, group: str, topic: str) -> GroupDescription:
        result = self._ask(lambda number: protocol.DescribeGroup(number, group, topic), f"describe group {group!r}")
        return GroupDescription(*protocol.decode_group(result))

    # --- reading and writing --------------------------------------------------------------------------------------

    def producer(self, name: str) -> RemoteLogProducer:
        self.check_open()
        return RemoteLogProducer(self.link, self._pipe, name)

    def reader(self, name: str, *, committed_only: bool = False) -> RemoteReader:  # nothing there is ever uncommitted
        self.check_open()
        with self.link.lock:
            self._reader_numbers += 1
            reader = self._readers[self._reader_numbers] = RemoteReader(self, self._reader_numbers, name)
        return reader

    def join(
        self,
        group: str,
        topic: str,
        instance: str,
        on_assigned: Callable[[list[int]], None],
        on_revoked: Callable[[list[int], bool], None],
    ) -> Membership:
        raise LogError(
            f"cannot join group {group!r} on {topic} through a dev server's socket: engines run inside the dev server. "
            "To run engines of your own, use Kafka (`kafka://host:port`)"
        )

    def close(self) -> None:
        if self._closed:
            return
        last = self._pipe.last(self.link)
        if last is not None and self.link.connected:
            last.wait(CLOSE_FLUSH_S_MAX)
        self._closed = True
        self.link.close()
        self._on_ended(LogClosedError(f"the log at {self.link.address} is closed"))

    def check_open(self) -> None:
        """Raise if the log is closed or failed for good."""
        if self._failure is not None:
            raise self._failure

    def forget(self, reader: RemoteReader) -> None:
        """The reader is closed."""
        with self.link.lock:
            self._readers.pop(reader.number, None)

    def _ask(self, message: Callable[[int], msgspec.Struct], what: str) -> msgspec.Raw:
        self.check_open()
        return self.requests.ask(message, what)

    # --- the link -------------------------------------------------------------------------------------------------

    def _on_connected(self, welcome: protocol.Welcome) -> list[bytes]:
        known, _ = self.server_identity
        self.server_identity = (welcome.log_id, welcome.incarnation)
        questions = self.requests.open_frames()
        frames: list[bytes] = []
        if known and known != welcome.log_id:
            _logger.warning(
                "server=%s event=other_log: its data is gone; topics of this process are made again, "
                "readers begin at the beginning",
                self.link.address,
            )
            frames += [self.requests.new(message, resend=False).frame for message in self._created]
        for reader in self._readers.values():
            frames += reader.subscribe_again()
        return frames + questions + self._pipe.unanswered()

    def _on_message(self, message: protocol.ServerMessage, size_bytes: int) -> None:
        match message:
            case protocol.Records(reader=number):
                reader = self._readers.get(number)
                if reader is not None:
                    reader.receive(message, size_bytes)
            case protocol.Acks(acks=acks):
                self._pipe.answered(self.link, acks)
            case protocol.Response():
                with self.link.lock:
                    self.requests.answer(message)
            case protocol.ReaderFailed(reader=number, epoch=epoch, error=error):
                reader = self._readers.get(number)
                if reader is not None:
                    reader.fail(LogError(error), epoch)

    def _on_ended(self, error: LogError) -> None:
        self._failure = error
        self._pipe.fail(self.link, error)
        with self.link.lock:
            self.requests.fail(error)
        for reader in list(self._readers.values()):
            reader.fail(error)
