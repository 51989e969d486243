"""Waiting until something holds, for tests of parts that run beside them: always with a generous deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

TIMEOUT_S = 90.0
_PAUSE_S = 0.05


def wait_for(look: Callable[[], Any], what: str = "it") -> Any:
    """The first true result of ``look``."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"waited for {TIMEOUT_S:g} s in vain for {what}"
        time.sleep(_PAUSE_S)
    return found


async def until(condition: Callable[[], Any], what: str = "it") -> None:
    """Wait for a condition that is quick to ask; the event loop runs on in between."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited for {TIMEOUT_S:g} s in vain for {what}"
        await asyncio.sleep(_PAUSE_S)
