"""A client's request that waits for its answers, and the ways in which an answer reaches whoever waits.

Called by :mod:`perdure._connection`, and by those who give it callbacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from perdure.service import RPCError
from perdure_runtime.log import NewRecord
from perdure_schemas.records import (
    AwaitResult,
    AwaitUpdate,
    CommandBody,
    DescribeSchedule,
    DescribeWorkflow,
    FetchHistory,
    ListScheduleTimes,
    QueryWorkflow,
    ReplyBody,
    StartWorkflow,
    UpdateWorkflow,
)

OnReply = Callable[[ReplyBody], None]
OnError = Callable[[RPCError], None]
#: Requests that an owner keeps in memory only.
READS = (
    AwaitResult,
    AwaitUpdate,
    DescribeSchedule,
    DescribeWorkflow,
    FetchHistory,
    ListScheduleTimes,
    QueryWorkflow,
    UpdateWorkflow,
)


@dataclass(eq=False)
class Pending:
    """A request that waits for its answers.

    ``loop`` is where ``on_reply`` and ``on_error`` are called; without one that is a thread of the connection.
    """

    request_id: str
    record: NewRecord
    is_read: bool
    on_reply: OnReply
    on_error: OnError
    loop: asyncio.AbstractEventLoop | None
    sent_s: float


def resolver(answer: asyncio.Future[ReplyBody]) -> OnReply:
    """Gives the first reply to a future."""

    def resolve(body: ReplyBody) -> None:
        if not answer.done():
            answer.set_result(body)

    return resolve


def rejecter(*answers: asyncio.Future[ReplyBody]) -> OnError:
    """Gives an error to the futures that have no reply yet."""

    def reject(error: RPCError) -> None:
        for answer in answers:
            if not answer.done():
                answer.set_exception(error)

    return reject


def is_read(body: CommandBody) -> bool:
    """Whether the owner keeps a request, or the update in it, or its answer, in memory only."""
    if isinstance(body, StartWorkflow):
        return body.update is not None or body.start_answer_delay_ms > 0
    return isinstance(body, READS)
