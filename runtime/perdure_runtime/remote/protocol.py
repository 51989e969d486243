"""The protocol between :class:`~perdure_runtime.remote.log.RemoteLog` and the embedded log's socket server.

A connection begins with :data:`PREFACE` from the client, then both sides send frames: 4 bytes of length, big-endian,
and that many bytes of MessagePack. The first frame of the client is :class:`Hello`, the server answers
:class:`Welcome` or :class:`Refused`. After that:

* the client appends with gapless sequence numbers and does not wait; the server acknowledges each once it is durable;
* the server pushes the records of a reader as they become visible, as long as the reader has credit (bytes);
* administrative calls are requests with a number, answered by a :class:`Response` with the same number.

Invariants: a length is checked before anything is read or decoded; a peer that does not speak the protocol is cut off.
Pure, but for :class:`FrameReader`, which reads from a socket. Called by both sides.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import msgspec

from perdure_runtime.log import LogRecord, NewRecord
from perdure_schemas.limits import FRAME_BYTES_MAX

PREFACE = b"\x00PERDURE"
PROTOCOL_VERSION = 1


class Hello(msgspec.Struct, array_like=True, tag="hello", frozen=True):
    """Client → server, first."""

    version: int
    client: str
    producer_id: bytes


class Append(msgspec.Struct, array_like=True, tag="append", frozen=True):
    """Client → server: append records. Sent again after a reconnect, until acknowledged."""

    sequence: int
    records: list[NewRecord]


class Subscribe(msgspec.Struct, array_like=True, tag="subscribe", frozen=True):
    """Client → server: read a partition, too. Answered by a :class:`Response` with the offset it begins with.

    ``epoch`` grows with every (un)subscribe of this reader: what was pushed under an older one is dropped.
    After a reconnect ``log_id`` and ``incarnation`` tell which log the offset comes from, so that the server can
    correct it; else ``log_id`` is empty.
    """

    request: int
    reader: int
    epoch: int
    topic: str
    partition: int
    offset: int
    paused: bool
    log_id: str
    incarnation: int


class Unsubscribe(msgspec.Struct, array_like=True, tag="unsubscribe", frozen=True):
    """Client → server: read these (topic, partition) no more."""

    reader: int
    epoch: int
    places: list[tuple[str, int]]


class Pause(msgspec.Struct, array_like=True, tag="pause", frozen=True):
    """Client → server: hold these partitions back, or go on with them."""

    reader: int
    paused: bool
    places: list[tuple[str, int]]


class Credit(msgspec.Struct, array_like=True, tag="credit", frozen=True):
    """Client → server: the reader has taken frames of records of so many bytes, their lengths included."""

    reader: int
    bytes_taken: int


class CloseReader(msgspec.Struct, array_like=True, tag="close", frozen=True):
    """Client → server: the reader is gone."""

    reader: int


class CreateTopics(msgspec.Struct, array_like=True, tag="create", frozen=True):
    """Client → server: create missing topics: name → (config, answers clients)."""

    request: int
    topics: dict[str, tuple[dict[str, str], bool]]
    partitions: int
    replication: int


class DescribeTopics(msgspec.Struct, array_like=True, tag="describe", frozen=True):
    """Client → server; the response is a list of (name, partitions, replication, config)."""

    request: int
    names: list[str]


class AlterTopic(msgspec.Struct, array_like=True, tag="alter", frozen=True):
    """Client → server."""

    request: int
    name: str
    config: dict[str, str]


class Watermarks(msgspec.Struct, array_like=True, tag="watermarks", frozen=True):
    """Client → server; the response is (low, end)."""

    request: int
    topic: str
    partition: int


class OffsetForTime(msgspec.Struct, array_like=True, tag="time", frozen=True):
    """Client → server; the response is an offset."""

    request: int
    topic: str
    partition: int
    timestamp_ms: int


class DescribeGroup(msgspec.Struct, array_like=True, tag="group", frozen=True):
    """Client → server; the response is (committed, owners), both by partition."""

    request: int
    group: str
    topic: str


class Welcome(msgspec.Struct, array_like=True, tag="welcome", frozen=True):
    """Server → client: which log this is, and how often it was opened."""

    version: int
    log_id: str
    incarnation: int


class Refused(msgspec.Struct, array_like=True, tag="refused", frozen=True):
    """Server → client: no connection, and why."""

    reason: str


class Acks(msgspec.Struct, array_like=True, tag="acks", frozen=True):
    """Server → client: for each append its sequence, the last offset in each of its partitions in order of appearance
    (``None``: not known any more), and an error or an empty text."""

    acks: list[tuple[int, list[int] | None, str]]


class Records(msgspec.Struct, array_like=True, tag="records", frozen=True):
    """Server → client: consecutive records of one partition."""

    reader: int
    epoch: int
    records: list[LogRecord]


class ReaderFailed(msgspec.Struct, array_like=True, tag="failed", frozen=True):
    """Server → client: this reader's poll raised an error."""

    reader: int
    epoch: int
    error: str


class Response(msgspec.Struct, array_like=True, tag="response", frozen=True):
    """Server → client: the answer to a request; ``error`` is empty if it succeeded."""

    request: int
    error: str
    result: msgspec.Raw = msgspec.Raw(b"\xc0")


ClientMessage = (
    Append
    | Credit
    | Subscribe
    | Unsubscribe
    | Pause
    | CloseReader
    | CreateTopics
    | DescribeTopics
    | AlterTopic
    | Watermarks
    | OffsetForTime
    | DescribeGroup
)
ServerMessage = Records | Acks | Response | ReaderFailed

encode = msgspec.msgpack.Encoder().encode


class ProtocolError(Exception):
    """The peer does not speak the protocol."""


def _decoder(kind: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    decode = msgspec.msgpack.Decoder(kind).decode

    def checked(body: bytes | msgspec.Raw) -> Any:
        try:
            return decode(body)
        except (ValueError, RecursionError) as error:  # all errors of msgspec, and texts that are not UTF-8
            raise ProtocolError(f"a message cannot be read: {error}") from error

    return checked


# Each takes the body of a frame, or of a response, and raises ProtocolError alone.
decode_hello: Callable[[bytes], Hello] = _decoder(Hello)
decode_greeting: Callable[[bytes], Welcome | Refused] = _decoder(Welcome | Refused)
decode_client: Callable[[bytes], ClientMessage] = _decoder(ClientMessage)
decode_server: Callable[[bytes], ServerMessage] = _decoder(ServerMessage)
decode_offsets: Callable[[msgspec.Raw], tuple[int, int]] = _decoder(tuple[int, int])
decode_offset: Callable[[msgspec.Raw], int] = _decoder(int)
decode_group: Callable[[msgspec.Raw], tuple[dict[int, int], dict[int, str]]] = _decoder(
    tuple[dict[int, int], dict[int, str]]
)
decode_topics: Callable[[msgspec.Raw], list[tuple[str, int, int, dict[str, str]]]] = _decoder(
    list[tuple[str, int, int, dict[str, str]]]
)


def frame(message: msgspec.Struct) -> bytes:
    """A message as bytes, with its length in front.

    Raises:
        ProtocolError: the message is longer than a frame may be.
    """
    body = encode(message)
    if len(body) > FRAME_BYTES_MAX:
        raise ProtocolError(f"a message of {len(body)} bytes is longer than {FRAME_BYTES_MAX} bytes")
    return len(body).to_bytes(4, "big") + body


class FrameReader:
    """Cuts what a socket delivers into frames, with few system calls and without trusting a length."""

    def __init__(self, connection: socket.socket, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._connection = connection
        self._buffer = bytearray()
        self._begin = 0

    def read(self, length: int) -> bytes | None:
        """Exactly ``length`` bytes; ``None`` at the end of the stream (even in the middle)."""
        while len(self._buffer) - self._begin < length:
            if self._begin:
                del self._buffer[: self._begin]
                self._begin = 0
            received = self._connection.recv(64 * 1024)
            if not received:
                return None
            self._buffer += received
        begin = self._begin
        self._begin = begin + length
        found = bytes(self._buffer[begin : begin + length])
        if self._begin == len(self._buffer):
            self._buffer.clear()
            self._begin = 0
        return found

    def next(self) -> bytes | None:
        """The body of the next frame; ``None`` at the end of the stream.

        Raises:
            ProtocolError: the length is above the limit.
            OSError: the connection broke.
        """
        header = self.read(4)
        if header is None:
            return None
        length = int.from_bytes(header, "big")
        if length > self.frame_bytes_max:
            raise ProtocolError(f"a frame of {length} bytes is longer than {self.frame_bytes_max} bytes")
        return self.read(length)
