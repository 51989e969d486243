"""The socket server against clients that are no clients, and clients against servers that are no servers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.embedded.server import Server
from perdure_runtime.log import LogError, LogUnavailableError, NewRecord, TopicPartition
from perdure_runtime.remote import RemoteLog, protocol
from perdure_schemas import limits
from perdure_schemas.topics import COMMANDS


@pytest.fixture
def log() -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(None)
    log.create_topics({"t": COMMANDS}, 1)
    yield log
    log.close()


@pytest.fixture
def server(log: EmbeddedLog) -> Server:
    return log.serve("127.0.0.1", 0)


def _exchange(server: Server, sent: bytes) -> bytes:
    """Send something and return all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(sent)
        received = b""
        try:
            while chunk := connection.recv(4096):
                received += chunk
        except ConnectionResetError:
            pass  # the server closed before it had read everything
        return received


def _works(server: Server) -> bool:
    client = RemoteLog("127.0.0.1", server.port)
    try:
        ack = client.producer("p").append([NewRecord("t", 0, b"k", b"v")])
        return ack.wait(10) and ack.error() is None
    finally:
        client.close()


def _hello(version: int = protocol.PROTOCOL_VERSION) -> bytes:
    return protocol.PREFACE + protocol.frame(protocol.Hello(version, "test", b"id"))


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", bytes(range(128, 192)), b"\x00" * 4096])
def test_a_foreign_client_is_cut_off_without_an_answer(server: Server, sent: bytes) -> None:
    assert _exchange(server, sent) == b""
    assert _works(server)


@pytest.mark.parametrize(
    "sent",
    [
        protocol.PREFACE + b"\xff\xff\xff\xff",
        protocol.PREFACE + (4).to_bytes(4, "big") + b"junk",
        _hello() + (limits.FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
        _hello() + (4).to_bytes(4, "big") + b"junk",
    ],
)
def test_nonsense_in_the_protocol_ends_the_connection(server: Server, sent: bytes) -> None:
    answer = _exchange(server, sent)
    assert answer == b"" or isinstance(protocol.decode_greeting(answer[4:]), protocol.Welcome)
    assert _works(server)


def test_another_protocol_version_is_refused_with_both_versions(server: Server) -> None:
    refused = protocol.decode_greeting(_exchange(server, _hello(99))[4:])
    assert isinstance(refused, protocol.Refused)
    assert "version 1, the client version 99" in refused.reason


def test_a_port_in_use_is_named(log: EmbeddedLog, server: Server) -> None:
    with pytest.raises(LogError, match=f"port {server.port} on 127.0.0.1 is in use.*--port"):
        log.serve("127.0.0.1", server.port)


def test_an_address_of_another_machine_is_refused(log: EmbeddedLog) -> None:
    with pytest.raises(LogError, match=r"cannot listen on 192\.0\.2\.1:0"):
        log.serve("192.0.2.1", 0)


def test_nobody_there_is_an_error_in_bounded_time_with_a_hint() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = taken.getsockname()[1]
        with pytest.raises(LogUnavailableError, match=f"127.0.0.1:{port}.*perdure dev"):
            RemoteLog("127.0.0.1", port, connect_timeout_s=0.2)


def test_a_server_of_another_kind_is_recognised() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(LogError, match="not a Perdure server"):
            RemoteLog("127.0.0.1", listener.getsockname()[1], connect_timeout_s=5)
        thread.join()


def test_groups_are_for_engines(server: Server) -> None:
    client = RemoteLog("127.0.0.1", server.port)
    try:
        with pytest.raises(LogError, match="engines run inside the dev server"):
            client.join("g", "t", "me", lambda _: None, lambda *_: None)
    finally:
        client.close()


def test_a_reader_that_does_not_read_holds_nobody_up(log: EmbeddedLog, server: Server) -> None:
    """The server stops sending when the credit is used up; other readers of the same client go on."""
    client = RemoteLog("127.0.0.1", server.port)
    try:
        lazy, eager = client.reader("lazy"), client.reader("eager")
        lazy.assign({TopicPartition("t", 0): 0})
        eager.assign({TopicPartition("t", 0): 0})
        producer = log.producer("p")
        count = 4 * limits.CREDIT_BYTES // 100_000
        for _ in range(count):
            producer.append([NewRecord("t", 0, b"k", b"x" * 100_000)])
        seen = 0
        while seen < count:
            seen += len(eager.poll(1_000, 10))
        held = sum(size for cursor in lazy._cursors.values() for _, size in cursor.chunks)
        assert held < 2 * limits.CREDIT_BYTES
        seen = 0
        while seen < count:
            seen += len(lazy.poll(1_000, 10))
    finally:
        client.close()
