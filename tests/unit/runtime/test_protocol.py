"""Framing: lengths are checked first, and whatever the chunks a socket delivers, the frames are the same."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_runtime.log import LogRecord, NewRecord
from perdure_runtime.remote import protocol
from perdure_runtime.remote.protocol import FrameReader, ProtocolError
from perdure_schemas import limits


class _Chunks:
    """A socket that delivers prepared chunks."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def recv(self, _: int) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""


def _reader(chunks: list[bytes], frame_bytes_max: int = 1_000) -> FrameReader:
    return FrameReader(_Chunks([chunk for chunk in chunks if chunk]), frame_bytes_max)  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(1, 30), max_size=40))
def test_frames_survive_any_chunking(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    chunks = []
    for cut in cuts:
        chunks.append(stream[:cut])
        stream = stream[cut:]
    reader = _reader([*chunks, stream])
    assert [reader.next() for _ in bodies] == bodies
    assert reader.next() is None


def test_a_length_above_the_limit_is_refused_before_it_is_read() -> None:
    reader = _reader([(1_001).to_bytes(4, "big")])
    with pytest.raises(ProtocolError, match="1001 bytes"):
        reader.next()


def test_a_stream_that_ends_within_a_frame_has_ended() -> None:
    assert _reader([(10).to_bytes(4, "big") + b"half"]).next() is None


def test_messages_come_back_as_they_were() -> None:
    append = protocol.Append(7, [NewRecord("t", 1, None, None, 5, (("h", b"\x00"),)), NewRecord("t", 0, b"k", b"v")])
    assert protocol.decode_client(protocol.frame(append)[4:]) == append
    records = protocol.Records(1, 2, [LogRecord("t", 0, 9, b"k", None, 5, (("h", b""),))])
    decoded = protocol.decode_server(protocol.frame(records)[4:])
    assert decoded == records
    assert isinstance(decoded.records[0], LogRecord)


@given(st.binary(max_size=100))
def test_garbage_is_refused_and_nothing_else(body: bytes) -> None:
    try:
        decoded = protocol.decode_client(body)
    except ProtocolError:
        return
    assert protocol.decode_client(protocol.encode(decoded)) == decoded


def test_a_message_that_fits_no_frame_is_not_sent() -> None:
    with pytest.raises(ProtocolError):
        protocol.frame(protocol.Refused("x" * limits.FRAME_BYTES_MAX))


def test_frames_over_a_real_socket() -> None:
    left, right = socket.socketpair()
    with left, right:
        reader = FrameReader(right, limits.FRAME_BYTES_MAX)
        message = protocol.Append(1, [NewRecord("t", 0, b"k", b"x" * 50_000)])
        left.sendall(protocol.frame(message) * 2)
        left.shutdown(socket.SHUT_WR)
        assert protocol.decode_client(reader.next() or b"") == message
        assert protocol.decode_client(reader.next() or b"") == message
        assert reader.next() is None
