"""Talks to the example bank over kept HTTP connections.

Sorts the bank's answers into done, refused for good (BankRefusedError) and failed for now (BankUnavailableError). The
standard library's blocking client runs in threads, each with a connection of its own. Called by the activities, one
client per worker process.
"""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from examples.payments.models import Payment, Step

CALL_TIMEOUT_S = 10.0


class BankRefusedError(Exception):
    """The bank will not do it, now or later. `code` names the reason for programs."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class BankUnavailableError(Exception):
    """The bank did not answer, or said that it cannot now. It may have acted; the same call may be repeated."""


class BankClient:
    """A client of the bank; an async context manager.

    Args:
        url: Where the bank listens, for example `http://127.0.0.1:8080`.
        connections_max: Calls under way at the same time, each on a connection of its own.

    Raises:
        ValueError: The URL is not of the form `http://host:port`.
    """

    def __init__(self, url: str, *, connections_max: int) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None or parts.port is None:
            raise ValueError(f"the bank's URL must look like http://host:port, not {url!r}")
        self._host, self._port = parts.hostname, parts.port
        self._threads = ThreadPoolExecutor(connections_max, thread_name_prefix="bank")
        self._of_thread = threading.local()
        self._connections: list[HTTPConnection] = []

    async def __aenter__(self) -> BankClient:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        for connection in self._connections:
            connection.close()

    async def call(self, step: Step, payment: Payment) -> str:
        """Asks the bank for one step of a payment. Repeating it is safe: the key is the payment and the step.

        Returns:
            The bank's reference.

        Raises:
            BankRefusedError: The bank said no for good.
            BankUnavailableError: The call failed for now.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._call, step, payment)

    def _call(self, step: Step, payment: Payment) -> str:
        headers = {"Idempotency-Key": f"{payment.payment_id}/{step}", "Content-Type": "application/json"}
        connection = self._connection()
        try:
            connection.request("POST", f"/{step}", json.dumps(asdict(payment)), headers)
            response = connection.getresponse()
            status, body = response.status, response.read()
        except (OSError, HTTPException) as error:
            # Closed, it is opened again by the next call.
            connection.close()
            raise BankUnavailableError(f"{step}: no answer from the bank: {type(error).__name__}") from error
        if status == HTTPStatus.OK:
            return str(json.loads(body)["reference"])
        if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            refusal = json.loads(body)
            raise BankRefusedError(refusal["code"], refusal["reason"])
        if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT):
            raise BankRefusedError("WrongCall", json.loads(body)["error"])
        raise BankUnavailableError(f"{step}: the bank answered {status}")

    def _connection(self) -> HTTPConnection:
        """The connection of this thread."""
        connection: HTTPConnection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = HTTPConnection(self._host, self._port, timeout=CALL_TIMEOUT_S)
            self._of_thread.connection = connection
            self._connections.append(connection)
        return connection
