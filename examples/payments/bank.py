"""The example bank: a separate HTTP process with a ledger, idempotency keys and, on demand, faults.

`python -m examples.payments.bank --db ledger.db --port 0 --ready-file bank.json`

`POST /screen`, `/reserve`, `/transfer`, `/notify`, `/refund` and `/release` take a payment as JSON and an
`Idempotency-Key` header. 200 means done, 422 refused for good, 409 the key was used for another call, 400 the call
itself is wrong, 503 not now. A dropped reply is a connection that closes after the bank acted. Each kept connection
has a thread; the ledger takes one call at a time. Talked to by bank_client.py.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import fields
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from examples.payments.bank_books import Books, read_books
from examples.payments.bank_faults import Fate, Faults
from examples.payments.bank_ledger import Ledger
from examples.payments.models import Payment, Step

BODY_BYTES_MAX = 64 * 1024
KEY_LENGTH_MAX = 200
IDLE_CONNECTION_S_MAX = 300


class BadCallError(Exception):
    """A call that cannot be understood; the message says why."""


class BankServer(ThreadingHTTPServer):
    """The bank's HTTP server.

    Args:
        address: Host and port to listen on; port 0 takes a free one (see `url`).
        ledger: The books to act on.
    """

    daemon_threads = True
    # Threads are daemons and hold no state, so stopping waits for none of them (an idle kept connection has one).
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], ledger: Ledger) -> None:
        self.ledger = ledger
        super().__init__(address, BankRequest)

    @property
    def url(self) -> str:
        """The base address for clients."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that went away (workers are killed on purpose); anything else goes to standard error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class BankRequest(BaseHTTPRequestHandler):
    """One kept connection of a client."""

    server: BankServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_CONNECTION_S_MAX
    # One packet per answer: headers and body are buffered together, and not held back for a late acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Handles a step of a payment."""
        try:
            step, key, payment = self._understood()
        except BadCallError as bad:
            # What is left of a body that was not read would be taken for the next call.
            self.close_connection = True
            self._reply(HTTPStatus.BAD_REQUEST, json.dumps({"error": str(bad)}))
            return
        answer = self.server.ledger.call(step, key, payment)
        if answer.fate is Fate.REPLY_DROPPED:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._reply(answer.status, answer.text)

    def log_message(self, format: str, *args: Any) -> None:
        """Writes nothing: the ledger keeps every call."""

    def _understood(self) -> tuple[Step, str, Payment]:
        try:
            step = Step(self.path.removeprefix("/"))
        except ValueError:
            raise BadCallError(
                f"unknown path {self.path!r}; it must be one of {', '.join(f'/{step}' for step in Step)}"
            ) from None
        key = self.headers.get("Idempotency-Key", "")
        if not 1 <= len(key) <= KEY_LENGTH_MAX:
            raise BadCallError(f"the Idempotency-Key header must have 1 to {KEY_LENGTH_MAX} characters")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or not 1 <= int(length) <= BODY_BYTES_MAX:
            raise BadCallError(f"the Content-Length header must be 1 to {BODY_BYTES_MAX}")
        return step, key, _payment(self.rfile.read(int(length)))

    def _reply(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _payment(body: bytes) -> Payment:
    try:
        values: Any = json.loads(body)
    except ValueError as error:
        raise BadCallError(f"the body is not JSON: {error}") from None
    names = [field.name for field in fields(Payment)]
    if not isinstance(values, dict) or set(values) != set(names):
        raise BadCallError(f"the body must be an object with exactly {', '.join(names)}")
    amount_cents = values["amount_cents"]
    if not isinstance(amount_cents, int) or isinstance(amount_cents, bool) or amount_cents <= 0:
        raise BadCallError("'amount_cents' must be a whole number of cents above zero")
    for name in names:
        if name != "amount_cents" and not (isinstance(values[name], str) and values[name]):
            raise BadCallError(f"{name!r} must be a text that is not empty")
    return Payment(**values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.payments.bank", description="The example bank.")
    parser.add_argument("--db", type=Path, required=True, help="the ledger's SQLite file")
    parser.add_argument("--books", type=Path, help="the opening books, a JSON file like data/bank.json")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="the port; 0 takes a free one (0)")
    parser.add_argument("--ready-file", type=Path, help="written with the bank's URL once it listens")
    parser.add_argument("--seed", type=int, default=1, help="chooses which calls are failed (1)")
    parser.add_argument("--unavailable-share", type=float, default=0.0, help="calls answered with 503, 0 to 0.9 (0)")
    parser.add_argument("--drop-share", type=float, default=0.0, help="replies dropped after acting, 0 to 0.9 (0)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line: serves until SIGTERM or Ctrl-C. Returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    # Blocked in every thread, so that the main thread can wait for them instead of being interrupted by them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        faults = Faults(options.seed, options.unavailable_share, options.drop_share)
        books = read_books(options.books) if options.books else Books()
        ledger = Ledger(options.db, books, faults)
        server = BankServer((options.host, options.port), ledger)
    except (ValueError, OSError, OverflowError) as error:
        parser.error(str(error))
    threading.Thread(target=server.serve_forever, name="bank", daemon=True).start()
    if options.ready_file is not None:
        write_ready_file(options.ready_file, server.url)
    print(f"the bank listens on {server.url}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.shutdown()
    server.server_close()
    ledger.close()
    return 0


def write_ready_file(path: Path, url: str) -> None:
    """Writes the URL so that a reader sees all of it or no file."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(url, encoding="utf-8")
    unfinished.replace(path)


if __name__ == "__main__":
    sys.exit(main())
