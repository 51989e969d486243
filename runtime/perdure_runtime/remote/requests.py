"""Questions to the server that somebody waits for: numbered, answered once, asked again after a reconnect.

Invariant: all requests are repeatable without harm. Called by the remote log and its readers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from perdure_runtime.log import LogError, LogUnavailableError
from perdure_runtime.remote import protocol
from perdure_runtime.remote.link import Link

#: How long a call waits for the server, reconnects included.
ANSWER_S_MAX = 10.0


class Request:
    """One question."""

    __slots__ = ("answered", "error", "frame", "handler", "number", "resend", "result")

    def __init__(self, number: int, frame: bytes, handler: Callable[[msgspec.Raw], None] | None, resend: bool) -> None:
        self.number = number
        self.frame = frame
        self.handler = handler
        self.resend = resend
        self.answered = threading.Event()
        self.error: LogError | None = None
        self.result = msgspec.Raw()


class Requests:
    """The open questions of one remote log. Methods but ``ask`` and ``wait`` are called with the link's lock held."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._numbers = 0
        self._open: dict[int, Request] = {}

    def new(
        self,
        message: Callable[[int], msgspec.Struct],
        handler: Callable[[msgspec.Raw], None] | None = None,
        *,
        resend: bool = True,
    ) -> Request:
        """Note a question; the caller sends its frame.

        Args:
            message: makes the message from the request's number.
            handler: called with the result, with the link's lock held, before anybody waiting goes on.
            resend: whether it is asked again after a reconnect.
        """
        self._numbers += 1
        request = Request(self._numbers, protocol.frame(message(self._numbers)), handler, resend)
        self._open[request.number] = request
        return request

    def ask(self, message: Callable[[int], msgspec.Struct], what: str) -> msgspec.Raw:
        """Send a question and wait for the answer.

        Raises:
            LogUnavailableError: no answer in time. LogError: the server refused, with its reason.
        """
        with self._link.lock:
            request = self.new(message)
            self._link.send(request.frame)
        return self.wait(request, what)

    def wait(self, request: Request, what: str) -> msgspec.Raw:
        """Wait for the answer to a question that was sent. Raises as :meth:`ask` does."""
        if not request.answered.wait(ANSWER_S_MAX):
            with self._link.lock:
                self._open.pop(request.number, None)
            raise LogUnavailableError(
                f"could not {what}: the Perdure server at {self._link.address} did not answer in {ANSWER_S_MAX:.0f} s. "
                "Is it running? Start it with `perdure dev`"
            )
        if request.error is not None:
            raise request.error
        return request.result

    def answer(self, response: protocol.Response) -> None:
        """Take in an answer."""
        request = self._open.pop(response.request, None)
        if request is None:
            return
        if response.error:
            request.error = LogError(response.error)
        else:
            request.result = response.result
            if request.handler is not None:
                request.handler(response.result)
        request.answered.set()

    def open_frames(self) -> list[bytes]:
        """What to send again after a reconnect; questions that are asked anew are forgotten."""
        self._open = {number: request for number, request in self._open.items() if request.resend}
        return [request.frame for request in self._open.values()]

    def fail(self, error: LogError) -> None:
        """Nothing more will be answered."""
        for request in self._open.values():
            request.error = error
            request.answered.set()
        self._open.clear()
