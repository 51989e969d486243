"""A schema registry in the test's process: the part of Confluent's API that registering and reading schemas needs.

Schemas are compared as text, compatibility is what the test says. Called by tests of registration and of decoding.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"


class StubRegistry:
    """What it knows, and what it was asked.

    Attributes:
        subjects: the schemas of each subject, the oldest first, with their ids.
        incompatible: subjects that take no other schema.
        requests: method and path of each request, and its ``Authorization``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.subjects: dict[str, list[tuple[int, str]]] = {}
        self.incompatible: set[str] = set()
        self.requests: list[tuple[str, str, str]] = []
        self._ids: dict[str, int] = {}

    @property
    def writes(self) -> int:
        """How many schemas it was asked to register."""
        return sum(method == "POST" and path.endswith("/versions") for method, path, _ in self.requests)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and body of the answer to a request."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match (method, parts):
            case "GET", ["subjects"]:
                return 200, sorted(self.subjects)
            case "POST", ["subjects", subject]:
                return self._lookup(subject, body["schema"])
            case "GET", ["subjects", subject, "versions"]:
                return 200, list(range(1, len(self.subjects[subject]) + 1))
            case "GET", ["subjects", subject, "versions", number]:
                version = len(self.subjects[subject]) if number == "latest" else int(number)
                return 200, self._version(subject, version)
            case "GET", ["schemas", "ids", number]:
                return 200, {"schema": next(schema for schema, known in self._ids.items() if known == int(number))}
            case "POST", ["subjects", subject, "versions"]:
                return self._register(subject, body["schema"])
            case "POST", ["compatibility", "subjects", subject, "versions", "latest"]:
                if subject not in self.subjects:
                    return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
                fault = subject in self.incompatible
                return 200, {"is_compatible": not fault, "messages": ["a field is missing"] if fault else []}
        return 404, "no such page"

    def _lookup(self, subject: str, schema: str) -> tuple[int, Any]:
        if subject not in self.subjects:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        for version, (_, known) in enumerate(self.subjects[subject], 1):
            if known == schema:
                return 200, self._version(subject, version)
        return 404, {"error_code": 40403, "message": "Schema not found"}

    def _register(self, subject: str, schema: str) -> tuple[int, Any]:
        if subject in self.incompatible:
            return 409, {"error_code": 409, "message": "Schema being registered is incompatible"}
        number = self._ids.setdefault(schema, len(self._ids) + 1)
        self.subjects.setdefault(subject, []).append((number, schema))
        return 200, {"id": number}

    def _version(self, subject: str, version: int) -> dict[str, Any]:
        number, schema = self.subjects[subject][version - 1]
        return {"subject": subject, "version": version, "id": number, "schema": schema}


@contextmanager
def schema_registry() -> Iterator[StubRegistry]:
    """A registry that listens on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            path = urlsplit(self.path).path
            registry.requests.append((self.command, path, self.headers.get("Authorization") or ""))
            status, answer = registry.answer(self.command, path, body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", MEDIA_TYPE)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _serve  # noqa: N815 # the names that the server looks for

        def log_message(self, *_: Any) -> None:
            """The test's output is for the test."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry = StubRegistry(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
