"""What the operations of the HTTP API work with: a client of one namespace, and feeds of what changes in it.

Invariant: the client belongs to the event loop of the HTTP server, so it is made there, at the first request. Made by
whoever serves the API, and closed by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from perdure.client import Client
from perdure.client._errors import rpc_error
from perdure.client._replies import expect
from perdure_ops.http_api.feed import ChangeFeed
from perdure_ops.http_api.problems import ProblemError
from perdure_ops.task_queue_view import QueueWatch
from perdure_runtime.log import Log
from perdure_schemas.limits import HTTP_STREAMS_MAX
from perdure_schemas.records import CommandBody, Done, Rejected, ReplyBody
from perdure_schemas.topics import TopicNames

__all__ = ["Api"]

T = TypeVar("T")

#: How long the engine has to answer a request that does not wait for user code.
REQUEST_S = 30.0
_IDENTITY = "http-api"


class Api:
    """One namespace as the operations see it.

    Args:
        log: The log; it is not closed here.
        names: The namespace's topics.
        identity: Who asks, for histories.
    """

    def __init__(self, log: Log, names: TopicNames, identity: str = _IDENTITY) -> None:
        self.log = log
        self.names = names
        self.feed = ChangeFeed(log, names)
        self.queues = QueueWatch(log, names)
        self._identity = identity
        self._client: Client | None = None
        self._streams = 0

    @property
    def client(self) -> Client:
        """The client, for the running event loop."""
        if self._client is None:
            self._client = Client.from_log(
                self.log, namespace=self.names.namespace, names=self.names, identity=self._identity
            )
        return self._client

    async def ask(self, workflow_id: str, run_id: str, body: CommandBody, kind: type[T], timeout_s: float) -> T:
        """Send a command for a workflow and wait for its answer.

        Raises:
            RPCError: it was refused, or not answered in time.
        """
        return expect(await self.reply(workflow_id, run_id, body, timeout_s), kind)

    async def reply(self, workflow_id: str, run_id: str, body: CommandBody, timeout_s: float) -> ReplyBody:
        """As :meth:`ask`, whatever the answer is."""
        connection = await self.client.connection()
        what = f"a {type(body).__name__} for workflow {workflow_id!r}"
        return await connection.ask(workflow_id, run_id, body, timeout_s, what)

    async def tell(self, workflow_id: str, run_id: str, body: CommandBody) -> None:
        """Send a command whose answer is that it was taken.

        Raises:
            RPCError: it was refused, or not answered in time.
        """
        answer = await self.reply(workflow_id, run_id, body, REQUEST_S)
        if isinstance(answer, Rejected):
            raise rpc_error(answer)
        expect(answer, Done)

    @asynccontextmanager
    async def streaming(self) -> AsyncIterator[None]:
        """Around a stream, which takes one of a limited number of places.

        Raises:
            ProblemError: there are too many.
        """
        if self._streams >= HTTP_STREAMS_MAX:
            detail = f"{HTTP_STREAMS_MAX} streams are open, which is the limit; close one, or ask again later"
            raise ProblemError(429, "RESOURCE_EXHAUSTED", detail)
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def end_streams(self) -> None:
        """Have streams end. Called from any thread."""
        self.feed.close()

    def close(self) -> None:
        """Let go of everything but the log. Called when no request is served any more, from any thread."""
        if self._client is not None:
            asyncio.run(self._client.close())
        self.queues.close()
