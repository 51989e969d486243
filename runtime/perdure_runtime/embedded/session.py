"""One client's connection to the embedded log: a thread that takes in what it sends, and one that sends it what is new.

Invariants:

* appends are taken in the order they come, by (producer id, sequence): one sent again after a reconnect is only
  answered;
* a subscription's offset is fixed when it is received, before anything the client sends after it;
* the readers belong to the sending thread; one without credit is left alone, so a slow client costs bounded memory;
* whatever the client does, only its own connection suffers.

Made by :class:`perdure_runtime.embedded.server.Server`.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from perdure_runtime.embedded.layout import cut_blocks
from perdure_runtime.embedded.reader import BEGIN, END, EmbeddedReader
from perdure_runtime.log import LogError, TopicPartition
from perdure_runtime.remote import protocol
from perdure_runtime.remote.protocol import FrameReader, ProtocolError, Response
from perdure_runtime.sizes import record_bytes
from perdure_runtime.waker import Waker
from perdure_schemas import limits
from perdure_schemas.topics import Cleanup, TopicSpec

if TYPE_CHECKING:
    from perdure_runtime.acks import LocalAck
    from perdure_runtime.embedded.core import LogCore
    from perdure_runtime.embedded.log import EmbeddedLog

_logger = logging.getLogger("perdure.log")

HANDSHAKE_S_MAX = 5
#: A client that does not take what it is sent for so long is cut off.
SEND_S_MAX = 30


class _Subscriber:
    """A client's reader, on the server's side."""

    __slots__ = ("credit", "epoch", "failed", "reader")

    def __init__(self, reader: EmbeddedReader) -> None:
        self.reader = reader
        self.epoch = 0
        self.credit = limits.CREDIT_BYTES
        self.failed = False

    def may_send(self) -> bool:
        return bool(self.reader.ready) and self.credit > 0 and not self.failed


class Session:
    """A connection. ``forget`` is called when it has ended."""

    def __init__(
        self, log: EmbeddedLog, core: LogCore, connection: socket.socket, forget: Callable[[Session], None]
    ) -> None:
        self._log = log
        self._core = core
        self._connection = connection
        self._forget = forget
        self._client = "unknown"
        self._producer_id = b""
        self._waker = Waker()
        self._ended = False
        # Filled by any thread under the log's lock, emptied by the sending thread.
        self._responses: list[msgspec.Struct] = []
        self._acks: list[tuple[int, LocalAck]] = []
        self._orders: list[Callable[[], None]] = []
        # Of the sending thread alone.
        self._subscribers: dict[int, _Subscriber] = {}
        # Of the receiving thread alone, but for ``topics_created``.
        self._orphans: list[protocol.Subscribe] = []
        self._receiver = threading.Thread(target=self._receive, name="perdure-log-session", daemon=True)
        self._sender = threading.Thread(target=self._send, name="perdure-log-push", daemon=True)

    def start(self) -> None:
        """Begin with the handshake."""
        self._receiver.start()

    def close(self) -> None:
        """Cut the connection and wait for both threads."""
        self._cut()
        self._receiver.join()

    def topics_created(self) -> None:
        """Subscriptions may wait for a topic: try them again."""
        with self._core.lock:
            orphans, self._orphans = self._orphans, []
        for orphan in orphans:
            self._subscribe(orphan)

    # --- receiving ------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        sending = False
        try:
            frames = self._handshake()
            if frames is None:
                return
            self._sender.start()
            sending = True
            while (body := frames.next()) is not None:
                self._take(protocol.decode_client(body))
        except ProtocolError as error:
            _logger.warning("client=%r event=cut_off reason=%r", self._client, str(error))
        except OSError as error:
            _logger.debug("client=%r event=connection_lost reason=%r", self._client, str(error))
        except Exception:
            _logger.exception("client=%r event=session_failed", self._client)
        finally:
            self._cut()
            if sending:
                self._sender.join()
            self._connection.close()
            self._forget(self)

    def _handshake(self) -> FrameReader | None:
        connection = self._connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", HANDSHAKE_S_MAX, 0))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_S_MAX, 0))
        frames = FrameReader(connection, limits.HELLO_BYTES_MAX)
        if frames.read(len(protocol.PREFACE)) != protocol.PREFACE:
            _logger.debug("event=foreign_client")
            return None
        body = frames.next()
        if body is None:
            return None
        hello = protocol.decode_hello(body)
        if hello.version != protocol.PROTOCOL_VERSION:
            connection.sendall(
                protocol.frame(
                    protocol.Refused(
                        f"the server speaks protocol version {protocol.PROTOCOL_VERSION}, the client version "
                        f"{hello.version}: install the same version of perdure on both sides"
                    )
                )
            )
            return None
        self._client = hello.client
        self._producer_id = hello.producer_id
        identity = self._log.identity
        welcome = protocol.Welcome(protocol.PROTOCOL_VERSION, identity.log_id, identity.incarnation)
        connection.sendall(protocol.frame(welcome))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))
        frames.frame_bytes_max = limits.FRAME_BYTES_MAX
        return frames

    def _take(self, message: protocol.ClientMessage) -> None:
        match message:
            case protocol.Append():
                self._append(message)
            case protocol.Credit(reader=number, bytes_taken=taken):
                self._order(lambda: self._add_credit(number, taken))
            case protocol.Subscribe():
                self._subscribe(message)
            case protocol.Unsubscribe(reader=number, places=places):
                self._forget_orphans(number, places)
                self._order(lambda: self._unsubscribe(message))
            case protocol.Pause():
                self._order(lambda: self._pause(message))
            case protocol.CloseReader(reader=number):
                self._forget_orphans(number, None)
                self._order(lambda: self._close_reader(number))
            case _:
                self._administer(message)

    def _append(self, message: protocol.Append) -> None:
        sequence = message.sequence
        try:
            ack = self._core.append(message.records, self._producer_id, sequence)
        except LogError as error:
            self._core.refuse(self._producer_id, sequence, error)
            self._respond(protocol.Acks([(sequence, None, str(error))]))
            return
        ack.on_done(lambda _: self._acknowledge(sequence, ack))

    def _acknowledge(self, sequence: int, ack: LocalAck) -> None:
        with self._core.lock:
            self._acks.append((sequence, ack))
            self._waker.wake()

    def _subscribe(self, message: protocol.Subscribe) -> None:
        place = TopicPartition(message.topic, message.partition)
        again = bool(message.log_id)
        try:
            low, end = self._log.watermarks(place)
        except LogError as error:
            if not again:
                self._respond(Response(message.request, str(error)))
                return
            # The log may be a new one, whose topics are yet to be created.
            with self._core.lock:
                self._orphans.append(message)
            return
        offset = message.offset
        if again:
            limit = self._log.truncation(place, message.log_id, message.incarnation)
            if limit is not None:
                offset = min(offset, limit)
        elif offset == BEGIN:
            offset = low
        elif offset == END:
            offset = end
        self._respond(Response(message.request, "", msgspec.Raw(protocol.encode(offset))))
        self._order(lambda: self._assign(message, place, offset))

    def _forget_orphans(self, number: int, places: list[tuple[str, int]] | None) -> None:
        with self._core.lock:
            self._orphans = [
                orphan
                for orphan in self._orphans
                if orphan.reader != number or (places is not None and (orphan.topic, orphan.partition) not in places)
            ]

    def _administer(self, message: protocol.ClientMessage) -> None:
        log = self._log
        result: object = None
        error = ""
        request = getattr(message, "request", 0)
        try:
            match message:
                case protocol.CreateTopics():
                    specs = {
                        name: _spec(name, config, answers_clients)
                        for name, (config, answers_clients) in message.topics.items()
                    }
                    log.create_topics(specs, message.partitions, message.replication)
                case protocol.DescribeTopics(names=names):
                    found = log.describe_topics(names).values()
                    result = [(t.name, t.partitions, t.replication, dict(t.config)) for t in found]
                case protocol.AlterTopic(name=name, config=config):
                    log.alter_topic(name, config)
                case protocol.Watermarks(topic=topic, partition=partition):
                    result = log.watermarks(TopicPartition(topic, partition))
                case protocol.OffsetForTime(topic=topic, partition=partition, timestamp_ms=timestamp_ms):
                    result = log.offset_for_time(TopicPartition(topic, partition), timestamp_ms)
                case protocol.DescribeGroup(group=group, topic=topic):
                    result = log.describe_group(group, topic)
        except LogError as refused:
            error = str(refused)
        self._respond(Response(request, error, msgspec.Raw(protocol.encode(result))))

    def _respond(self, message: msgspec.Struct) -> None:
        with self._core.lock:
            self._responses.append(message)
            self._waker.wake()

    def _order(self, order: Callable[[], None]) -> None:
        with self._core.lock:
            self._orders.append(order)
            self._waker.wake()

    def _cut(self) -> None:
        with self._core.lock:
            self._ended = True
            self._waker.wake()
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            _logger.debug("client=%r event=gone reason=%r", self._client, str(error))

    # --- sending --------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        core = self._core
        subscribers = self._subscribers
        try:
            while True:
                with core.lock:
                    while not (self._responses or self._acks or self._orders or self._ended):
                        if any(subscriber.may_send() for subscriber in subscribers.values()):
                            break
                        self._waker.wait(core.lock, None)
                    if self._ended:
                        return
                    responses, self._responses = self._responses, []
                    acks, self._acks = self._acks, []
                    orders, self._orders = self._orders, []
                frames = [protocol.frame(response) for response in responses]
                if acks:
                    frames.append(protocol.frame(protocol.Acks([_answer(sequence, ack) for sequence, ack in acks])))
                for order in orders:
                    order()
                for number, subscriber in subscribers.items():
                    if subscriber.may_send():
                        self._push(number, subscriber, frames)
                if frames:
                    self._connection.sendall(frames[0] if len(frames) == 1 else b"".join(frames))
        except OSError as error:
            _logger.debug("client=%r event=send_failed reason=%r", self._client, str(error))
        except Exception:
            _logger.exception("client=%r event=push_failed", self._client)
        finally:
            for subscriber in subscribers.values():
                subscriber.reader.close()
            self._cut()

    def _push(self, number: int, subscriber: _Subscriber, frames: list[bytes]) -> None:
        try:
            chunks = subscriber.reader.take(limits.PUSH_RECORDS_MAX, limits.PUSH_BYTES_MAX)
        except LogError as error:
            subscriber.failed = True
            frames.append(protocol.frame(protocol.ReaderFailed(number, subscriber.epoch, str(error))))
            return
        for chunk in chunks:
            for part in cut_blocks(chunk, sum(record_bytes(record) for record in chunk)):
                sent = protocol.frame(protocol.Records(number, subscriber.epoch, part))
                subscriber.credit -= len(sent)
                frames.append(sent)

    def _subscriber(self, number: int) -> _Subscriber:
        subscriber = self._subscribers.get(number)
        if subscriber is None:
            if len(self._subscribers) >= limits.READERS_MAX:
                raise ProtocolError(f"more than {limits.READERS_MAX} readers in one connection")
            reader = EmbeddedReader(self._core, f"{self._client}/{number}", self._waker, synced_only=True)
            subscriber = self._subscribers[number] = _Subscriber(reader)
        return subscriber

    def _assign(self, message: protocol.Subscribe, place: TopicPartition, offset: int) -> None:
        subscriber = self._subscriber(message.reader)
        subscriber.epoch = max(subscriber.epoch, message.epoch)
        subscriber.failed = False
        subscriber.reader.assign({place: offset})
        if message.paused:
            subscriber.reader.pause([place])

    def _unsubscribe(self, message: protocol.Unsubscribe) -> None:
        subscriber = self._subscriber(message.reader)
        subscriber.epoch = message.epoch
        subscriber.failed = False
        subscriber.reader.unassign([TopicPartition(*place) for place in message.places])

    def _pause(self, message: protocol.Pause) -> None:
        reader = self._subscriber(message.reader).reader
        places = [TopicPartition(*place) for place in message.places]
        if message.paused:
            reader.pause(places)
        else:
            reader.resume(places)

    def _add_credit(self, number: int, bytes_taken: int) -> None:
        self._subscriber(number).credit += bytes_taken

    def _close_reader(self, number: int) -> None:
        subscriber = self._subscribers.pop(number, None)
        if subscriber is not None:
            subscriber.reader.close()


def _answer(sequence: int, ack: LocalAck) -> tuple[int, list[int] | None, str]:
    error = ack.error()
    return sequence, ack.last_offsets(), "" if error is None else str(error)


def _spec(name: str, config: dict[str, str], answers_clients: bool) -> TopicSpec:
    """A spec with exactly this configuration; the rest of a spec documents, and the log does not keep it."""
    return TopicSpec(
        name=name,
        partitioned_by="",
        key="",
        cleanup=Cleanup.COMPACT if config.get("cleanup.policy") == "compact" else Cleanup.DELETE,
        records=(),
        producers=(),
        consumers=(),
        answers_clients=answers_clients,
        extra_config=config,
    )
