"""How many activities may be dispatched in a second, to one worker or to all workers of a task queue.

A token bucket: tokens come steadily at the rate, a dispatch takes one, and few are kept, so that a pause is not
followed by a flood. Pure: the time is given. Who has no token left is throttled until a wake-up finds one.
"""

from __future__ import annotations

import math

__all__ = ["RateLimit"]

#: Tokens for this much time are kept; one at least.
_BURST_S = 0.1
_ALMOST_ONE = 1.0 - 1e-9


class RateLimit:
    """A rate in tasks per second; 0 is no limit."""

    __slots__ = ("_tokens", "_updated_ms", "rate")

    def __init__(self) -> None:
        self.rate = 0.0
        self._tokens = 1.0
        self._updated_ms = 0

    def set(self, rate: float, now_ms: int) -> bool:
        """Use another rate from now on; whether it is another one. What is no positive number is no limit."""
        rate = rate if 0 < rate < math.inf else 0.0
        if rate == self.rate:
            return False
        self._refill(now_ms)
        self.rate = rate
        self._tokens = min(self._tokens, self._tokens_max)
        return True

    def take(self, now_ms: int) -> None:
        """A task was dispatched."""
        if self.rate:
            self._refill(now_ms)
            self._tokens -= 1.0

    def wait_ms(self, now_ms: int) -> int:
        """How long until a task may be dispatched; 0 if one may now."""
        if not self.rate:
            return 0
        self._refill(now_ms)
        if self._tokens >= _ALMOST_ONE:
            return 0
        return max(1, math.ceil((1.0 - self._tokens) / self.rate * 1_000))

    @property
    def _tokens_max(self) -> float:
        return max(1.0, self.rate * _BURST_S)

    def _refill(self, now_ms: int) -> None:
        passed_ms = now_ms - self._updated_ms
        if passed_ms > 0:
            self._tokens = min(self._tokens_max, self._tokens + passed_ms / 1_000 * self.rate)
            self._updated_ms = now_ms
