"""The embedded log's socket server: accepts clients, and gives each connection a session.

Invariants: a port is bound before the constructor returns, or an error says which one and what to do; whoever does not
speak the protocol is cut off without harm to anybody else; closing ends all threads.
Opened by :meth:`perdure_runtime.embedded.log.EmbeddedLog.serve`.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
from typing import TYPE_CHECKING

from perdure_runtime.embedded.session import Session
from perdure_runtime.log import LogError
from perdure_runtime.remote.protocol import Refused, frame
from perdure_schemas.limits import SESSIONS_MAX

if TYPE_CHECKING:
    from perdure_runtime.embedded.core import LogCore
    from perdure_runtime.embedded.log import EmbeddedLog

_logger = logging.getLogger("perdure.log")

_BACKLOG = 64
#: When the process has no file descriptor left, accepting is tried again after so long.
_RESOURCES_RETRY_S = 1.0


class Server:
    """Serves an embedded log on a socket.

    Attributes:
        host: the address it listens on.
        port: the port it listens on (the real one, if 0 was asked for).
    """

    def __init__(self, log: EmbeddedLog, core: LogCore, host: str, port: int) -> None:
        self._log = log
        self._core = core
        self._lock = threading.Lock()
        self._sessions: set[Session] = set()
        self._closing = threading.Event()
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._listener = socket.socket(family, kind, protocol)
        except OSError as error:
            raise LogError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(address)
            self._listener.listen(_BACKLOG)
        except OSError as error:
            self._listener.close()
            if error.errno == errno.EADDRINUSE:
                raise LogError(
                    f"port {port} on {host} is in use, perhaps by another Perdure server: "
                    "stop that program, or choose another port with --port"
                ) from error
            raise LogError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="perdure-log-accept", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """``host:port``, as clients take it."""
        return f"{self.host}:{self.port}"

    def topics_created(self) -> None:
        """Sessions may wait for topics: let them look again."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.topics_created()

    def close(self) -> None:
        """Stop listening and close all connections."""
        with self._lock:
            if self._closing.is_set():
                return
            self._closing.set()
        # Closing alone would leave the accepting thread in its system call.
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self._thread.join()
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._closing.is_set():
                    return
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    _logger.warning("event=accept_failed reason=%r", str(error))
                    self._closing.wait(_RESOURCES_RETRY_S)
                    continue
                if error.errno in (errno.ECONNABORTED, errno.EINTR):
                    continue
                _logger.warning("event=listener_lost reason=%r", str(error))
                return
            with self._lock:
                if self._closing.is_set():
                    connection.close()
                    return
                if len(self._sessions) >= SESSIONS_MAX:
                    self._refuse(connection)
                    continue
                session = Session(self._log, self._core, connection, self._forget)
                self._sessions.add(session)
            session.start()

    def _refuse(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            connection.send(frame(Refused(f"the server has its {SESSIONS_MAX} connections: close some, or use Kafka")))
        except OSError as error:
            _logger.debug("event=refuse_failed reason=%r", str(error))
        finally:
            connection.close()

    def _forget(self, session: Session) -> None:
        with self._lock:
            self._sessions.discard(session)
