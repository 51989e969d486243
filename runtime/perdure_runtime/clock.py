"""The wall clock of everything that is not handed another one.

Bound when this is imported: a worker in this process replaces ``time.time_ns`` by a guard against workflow code that
reads the clock, and those who ask for the time with every record need not pass through it.
"""

from __future__ import annotations

from time import time_ns

__all__ = ["wall_clock_ms"]


def wall_clock_ms() -> int:
    """Milliseconds since the epoch."""
    return time_ns() // 1_000_000
