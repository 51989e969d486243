"""The payload codec on the worker's side: applied to whole records, from threads and from the event loop.

Invariant: without a codec everything passes through untouched and at no cost. The codec's coroutines always run on the
user's event loop, because they may use what belongs to it. The dispatch thread never waits for one: it hands the work
over with :meth:`Codec.run` and goes on with other tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from perdure.converter import PayloadCodec
from perdure.converter._walk import map_payloads
from perdure_schemas.records import Payload, Record

_R = TypeVar("_R", bound=Record | list[Any])


class Codec:
    """Applies a payload codec, if there is one.

    Args:
        payload_codec: The codec, or ``None``.
        loop: The event loop its coroutines run on.
    """

    def __init__(self, payload_codec: PayloadCodec | None, loop: asyncio.AbstractEventLoop) -> None:
        self._codec = payload_codec
        self._loop = loop

    @property
    def active(self) -> bool:
        """Whether there is a codec."""
        return self._codec is not None

    def encode(self, record: _R) -> _R:
        """Encode the payloads of a record; blocks, so not for the event loop's own thread."""
        return record if self._codec is None else self._blocking(record, self._codec.encode)

    def decode(self, record: _R) -> _R:
        """Undo :meth:`encode`; blocks, too."""
        return record if self._codec is None else self._blocking(record, self._codec.decode)

    def run(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run a coroutine on the event loop, from any thread, without waiting for it.

        Returns:
            False if the loop is closed, because the process ends.
        """
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            return False
        return True

    async def encode_async(self, record: _R) -> _R:
        """:meth:`encode` on the event loop."""
        return record if self._codec is None else await map_payloads(record, self._codec.encode)

    async def decode_async(self, record: _R) -> _R:
        """:meth:`decode` on the event loop."""
        return record if self._codec is None else await map_payloads(record, self._codec.decode)

    def _blocking(self, record: _R, change: Callable[[Sequence[Payload]], Awaitable[list[Payload]]]) -> _R:
        return asyncio.run_coroutine_threadsafe(map_payloads(record, change), self._loop).result()
