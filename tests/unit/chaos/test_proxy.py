"""The proxy between a process and its broker: it forwards, and it cuts, stalls and heals."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Proxy
from tests.support.processes import free_port

TIMEOUT_S = 30.0


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1_000):
                    connection.sendall(data)
            except OSError:
                return  # cut off, as it should be

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.fixture
def proxy(echo: int) -> Iterator[tuple[Proxy, int]]:
    port = free_port()
    proxy = Proxy({port: echo})
    proxy.start()
    yield proxy, port
    proxy.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)


def said(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(1_000)


def has_ended(connection: socket.socket) -> bool:
    """Whether the other side ends a connection, in whatever way; it sends nothing before."""
    try:
        return connection.recv(1_000) == b""
    except ConnectionError:
        return True


def test_it_forwards_both_ways_slow_or_not(proxy: tuple[Proxy, int]) -> None:
    with connect(proxy[1]) as connection:
        assert said(connection, b"hello") == b"hello"
        proxy[0].slow(0.01)
        assert said(connection, b"slowly") == b"slowly"


def test_a_cut_ends_connections_and_refuses_new_ones_until_it_is_healed(proxy: tuple[Proxy, int]) -> None:
    with connect(proxy[1]) as connection:
        assert said(connection, b"hello") == b"hello"
        proxy[0].cut()
        assert has_ended(connection)
    with connect(proxy[1]) as refused:
        assert has_ended(refused)
    proxy[0].heal()
    with connect(proxy[1]) as again:
        assert said(again, b"again") == b"again"


def test_a_stall_forwards_nothing_and_loses_nothing(proxy: tuple[Proxy, int]) -> None:
    with connect(proxy[1]) as connection:
        assert said(connection, b"hello") == b"hello"
        proxy[0].stall()
        connection.sendall(b"later")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1_000)
        proxy[0].heal()
        connection.settimeout(TIMEOUT_S)
        assert connection.recv(1_000) == b"later"
