"""Which workflows go to a ramping version. Pure; called by the state."""

from __future__ import annotations

import hashlib

__all__ = ["ramps"]


def ramps(workflow_id: str, percentage: float) -> bool:
    """Whether a workflow is among the ``percentage`` of all that go to the ramping version."""
    digest = hashlib.blake2b(workflow_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64 * 100 < percentage
