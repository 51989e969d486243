"""The connection of a :class:`~perdure_runtime.remote.log.RemoteLog` to its server, made again whenever it breaks.

Invariants:

* one thread receives and reconnects; any thread sends, under one lock, so messages leave in the order of the calls;
* after a reconnect the owner's ``on_connected`` says what to send before anything else goes out;
* a server that refuses us for good (another protocol version) ends the link, with the reason; an absent one never does.

Called by :class:`~perdure_runtime.remote.log.RemoteLog` only.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable

from perdure_runtime.log import LogError, LogUnavailableError
from perdure_runtime.remote import protocol
from perdure_runtime.remote.protocol import FrameReader, ProtocolError, Welcome
from perdure_schemas import limits

_logger = logging.getLogger("perdure.log")

RECONNECT_DELAY_S_MIN = 0.02
RECONNECT_DELAY_S_MAX = 1.0
HANDSHAKE_S_MAX = 5
SEND_S_MAX = 30


class Link:
    """A connection that comes back.

    Args:
        host, port: where the server is.
        hello: how we introduce ourselves.
        on_connected: called with the lock held after each handshake; returns the frames to send first.
        on_message: called on the receiving thread for each message with the bytes it came in, without the lock.
        on_ended: called once if the server refuses us for good, without the lock.
    """

    def __init__(
        self,
        host: str,
        port: int,
        hello: protocol.Hello,
        on_connected: Callable[[Welcome], list[bytes]],
        on_message: Callable[[protocol.ServerMessage, int], None],
        on_ended: Callable[[LogError], None],
    ) -> None:
        #: Guards everything of the log that sending depends on, too.
        self.lock = threading.Lock()
        self._host = host
        self._port = port
        self._hello = hello
        self._on_connected = on_connected
        self._on_message = on_message
        self._on_ended = on_ended
        self._socket: socket.socket | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self._host}:{self._port}"

    @property
    def connected(self) -> bool:
        """Whether there is a connection right now."""
        return self._socket is not None

    def open(self, timeout_s: float) -> None:
        """Connect for the first time.

        Raises:
            LogUnavailableError: nobody answered in time. LogError: whoever answered is no fitting server.
        """
        deadline_s = time.monotonic() + timeout_s
        delay_s = RECONNECT_DELAY_S_MIN
        while True:
            try:
                frames = self._connect(max(0.1, deadline_s - time.monotonic()))
                break
            except OSError as error:
                if time.monotonic() + delay_s >= deadline_s:
                    raise LogUnavailableError(
                        f"no Perdure server answers at {self.address} ({error.strerror or error}): "
                        "start one with `perdure dev`, or set PERDURE_ADDRESS to where yours is"
                    ) from error
                self._stop.wait(delay_s)
                delay_s = min(delay_s * 2, RECONNECT_DELAY_S_MAX)
        self._thread = threading.Thread(target=self._run, args=(frames,), name="perdure-log-client", daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        """Send a frame if there is a connection (lock held). If it breaks, the owner sends what matters again."""
        if self._socket is not None:
            try:
                self._socket.sendall(data)
            except OSError as error:
                _logger.debug("server=%s event=send_failed reason=%r", self.address, str(error))
                self._drop()

    def close(self) -> None:
        """End the link."""
        self._stop.set()
        with self.lock:
            self._drop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    # --- the receiving thread -------------------------------------------------------------------------------------

    def _run(self, frames: FrameReader) -> None:
        while True:
            try:
                while (body := frames.next()) is not None:
                    self._on_message(protocol.decode_server(body), len(body) + 4)
            except OSError as error:
                _logger.debug("server=%s event=receive_failed reason=%r", self.address, str(error))
            except ProtocolError as error:
                _logger.warning("server=%s event=bad_message reason=%r", self.address, str(error))
            with self.lock:
                self._drop()
            if self._stop.is_set():
                return
            _logger.info("server=%s event=disconnected", self.address)
            found = self._reconnect()
            if found is None:
                return
            frames = found
            _logger.info("server=%s event=reconnected", self.address)

    def _reconnect(self) -> FrameReader | None:
        delay_s = RECONNECT_DELAY_S_MIN
        while not self._stop.wait(delay_s):
            try:
                return self._connect(HANDSHAKE_S_MAX)
            except OSError as error:
                _logger.debug("server=%s event=connect_failed reason=%r", self.address, str(error))
            except LogError as error:
                _logger.error("server=%s event=refused reason=%r", self.address, str(error))
                self._on_ended(error)
                return None
            delay_s = min(delay_s * 2, RECONNECT_DELAY_S_MAX)
        return None

    def _connect(self, timeout_s: float) -> FrameReader:
        """Connect, shake hands, and send what the owner wants to be sent first.

        Raises:
            OSError: it did not work now. LogError: it never will.
        """
        connection = socket.create_connection((self._host, self._port), timeout=timeout_s)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.sendall(protocol.PREFACE + protocol.frame(self._hello))
            frames = FrameReader(connection, limits.HELLO_BYTES_MAX)
            welcome = self._welcome(frames)
            # From here on it blocks: a timeout on the socket would cost a system call for each send and receive.
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_S_MAX, 0))
            frames.frame_bytes_max = limits.FRAME_BYTES_MAX
            with self.lock:
                if self._stop.is_set():
                    raise ConnectionAbortedError("closed meanwhile")
                for data in self._on_connected(welcome):
                    connection.sendall(data)
                self._socket = connection
        except BaseException:
            connection.close()
            raise
        return frames

    def _welcome(self, frames: FrameReader) -> Welcome:
        try:
            body = frames.next()
            if body is None:
                raise ConnectionResetError("the server closed the connection during the handshake")
            greeting: Welcome | protocol.Refused = protocol.decode_greeting(body)
        except ProtocolError as error:
            raise LogError(
                f"what answers at {self.address} is not a Perdure server: check the address and the port"
            ) from error
        if isinstance(greeting, protocol.Refused):
            raise LogError(f"the server at {self.address} refused the connection: {greeting.reason}")
        return greeting

    def _drop(self) -> None:
        """Forget the connection (lock held); the receiving thread notices and makes a new one."""
        connection, self._socket = self._socket, None
        if connection is not None:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                _logger.debug("server=%s event=gone reason=%r", self.address, str(error))
            connection.close()
