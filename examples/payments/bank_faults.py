"""Decides which calls the example bank fails, and how.

A fate depends on the seed, the idempotency key and how often that key was tried, and on nothing else, so two runs
with the same seed meet the same faults whatever the order of their calls. Pure; called by the bank's ledger on every
call.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b


class Fate(StrEnum):
    """What happens to one call."""

    ANSWERED = "answered"
    """The call is processed and answered."""
    UNAVAILABLE = "unavailable"
    """The bank answers 503 before it acts."""
    REPLY_DROPPED = "reply dropped"
    """The bank acts, then closes the connection without an answer."""


@dataclass(frozen=True)
class Faults:
    """How faulty the bank is.

    Attributes:
        seed: Chooses which calls are hit.
        unavailable_share: The share of the calls that get 503 before the bank acts, 0 to 1.
        drop_share: The share of the calls whose reply is dropped after the bank acted, 0 to 1.

    Raises:
        ValueError: A share is out of range, or the two leave no call unharmed (then nothing would ever end).
    """

    seed: int = 1
    unavailable_share: float = 0.0
    drop_share: float = 0.0

    def __post_init__(self) -> None:
        if self.unavailable_share < 0 or self.drop_share < 0 or self.unavailable_share + self.drop_share > 0.9:
            raise ValueError(
                "the shares of failed calls and of dropped replies must be 0 or more and at most 0.9 together"
            )

    def fate(self, key: str, attempt: int) -> Fate:
        """The fate of the `attempt`-th call (from 1) with this idempotency key."""
        digest = blake2b(f"{self.seed}\n{key}\n{attempt}".encode(), digest_size=8).digest()
        fraction = int.from_bytes(digest, "big") / 2**64
        if fraction < self.unavailable_share:
            return Fate.UNAVAILABLE
        if fraction < self.unavailable_share + self.drop_share:
            return Fate.REPLY_DROPPED
        return Fate.ANSWERED
