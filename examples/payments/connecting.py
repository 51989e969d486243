"""Connects to an engine that may be starting, or starting again.

Called by the demo and by the workers: a worker that starts while the engine is down must wait for it.
"""

from __future__ import annotations

import asyncio
import time

from perdure.client import Client
from perdure.service import RPCError

PATIENCE_S = 60.0
RETRY_AFTER_S = 0.1


class NoEngineError(Exception):
    """No engine answered in time; the message names the address and the last error."""


async def connect(address: str) -> Client:
    """Connects, trying again for up to a minute.

    Args:
        address: The engine, as `Client.connect` takes it.

    Raises:
        NoEngineError: Nothing answered for a minute.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await Client.connect(address)
        # RuntimeError is how `Client.connect` says that nothing answers.
        except (OSError, RuntimeError, RPCError) as error:
            if time.monotonic() > deadline_s:
                raise NoEngineError(f"no engine answers at {address} after {PATIENCE_S:.0f} s: {error}") from error
        await asyncio.sleep(RETRY_AFTER_S)
