"""Gets answers to whoever waits for them: on the event loop that asked, or at once. Called by the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from perdure_schemas.records import ReplyBody


def deliver(batch: Sequence[tuple[Callable[[ReplyBody], None], ReplyBody]]) -> None:
    """Give each reply to whoever takes it."""
    for on_reply, body in batch:
        on_reply(body)


def call(loop: asyncio.AbstractEventLoop | None, function: Callable[[Any], None], argument: Any) -> None:
    """Call on the loop; at once if there is none. A closed loop has nobody left to tell."""
    if loop is None:
        function(argument)
        return
    try:
        loop.call_soon_threadsafe(function, argument)
    except RuntimeError:
        pass
