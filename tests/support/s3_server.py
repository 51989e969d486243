"""A small server that speaks as much S3 as a store of payloads needs: put, head and get of objects in known buckets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class S3Server(ThreadingHTTPServer):
    """Keeps objects in memory, by ``/bucket/key``."""

    daemon_threads = True

    def __init__(self, *buckets: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.buckets = set(buckets)
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        #: Refuse all requests with this code.
        self.refuses: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: S3Server
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self._allowed():
            self.server.objects[self.path] = data
            self._answer(200)

    def do_GET(self) -> None:
        if self._allowed():
            data = self.server.objects.get(self.path)
            if data is None:
                self._fail(404, "NoSuchKey")
            else:
                self._answer(200, data)

    def do_HEAD(self) -> None:
        if self._allowed():
            self._answer(200 if self.path in self.server.objects else 404)

    def _allowed(self) -> bool:
        self.server.requests.append(f"{self.command} {self.path}")
        if self.server.refuses is not None:
            self._fail(403, self.server.refuses)
        elif self.path.split("/")[1] not in self.server.buckets:
            self._fail(404, "NoSuchBucket")
        else:
            return True
        return False

    def _fail(self, status: int, code: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>{code} it is</Message></Error>".encode()
        self._answer(status, b"" if self.command == "HEAD" else text)

    def _answer(self, status: int, data: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def s3_server(*buckets: str) -> Iterator[S3Server]:
    """A server that runs."""
    server = S3Server(*buckets)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
