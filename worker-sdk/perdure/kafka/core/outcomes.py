"""What becomes of a record whose request was refused or failed.

Invariant: a record is passed over only where its trigger says so; what may succeed later is sent again, and everything
else becomes a dead letter, so that it stops nothing and is not lost (I5). Called by the pipeline.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from perdure.service import RPCStatusCode

Singleton = Literal["skip", "cancel", "terminate"]
Missing = Literal["dead_letter", "skip"]


class Verdict(StrEnum):
    """What to do with a record."""

    RETRY = "retry"
    SKIP = "skip"
    REPLACE = "replace"
    DEAD_LETTER = "dead letter"


_PASSING = frozenset(
    {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.ABORTED}
)


def verdict(status: RPCStatusCode | None, singleton: Singleton | None, missing: Missing) -> Verdict:
    """What to do with a record whose request ended so.

    Args:
        status: what the engine said; ``None``: the request was not even sent, for example because it is too large.
        singleton: what the trigger does when the workflow id is taken.
        missing: what it does when there is no running workflow.
    """
    if status in _PASSING:
        return Verdict.RETRY
    if status is RPCStatusCode.ALREADY_EXISTS and singleton == "skip":
        return Verdict.SKIP
    if status is RPCStatusCode.ALREADY_EXISTS and singleton == "cancel":
        return Verdict.REPLACE
    if status is RPCStatusCode.NOT_FOUND and missing == "skip":
        return Verdict.SKIP
    return Verdict.DEAD_LETTER


def retry_delay_s(attempt: int, first_s: float = 0.1, longest_s: float = 10.0) -> float:
    """How long to wait before the next attempt; ``attempt`` counts from 1."""
    return min(longest_s, first_s * 2.0 ** min(attempt - 1, 16))
