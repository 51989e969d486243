"""Logic flags: the behaviours of this runtime that a replay must repeat as they were when the history was written.

A run notes the flags in use with its first completed workflow task (and later ones when they are first used). A change
of the runtime that would alter the commands of existing histories gets a new flag and keeps the old way for runs
without it. Invariant: numbers are never used again. Called by the replay.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class LogicFlag(IntEnum):
    """What a run relies on."""

    #: The rules of the first release. Wait conditions are tried one at a time in the order of registration, and the
    #: loop runs until idle after each one that is met; signals come before other events of an activation; the command
    #: that closes a run is the last one.
    FIRST_RELEASE = 1


#: What new runs use.
CURRENT_FLAGS: tuple[int, ...] = tuple(int(flag) for flag in LogicFlag)
_KNOWN = frozenset(CURRENT_FLAGS)


def unknown_flags(flags: Iterable[int]) -> list[int]:
    """Those flags of a history that this version does not know, so that it cannot replay it faithfully."""
    return sorted(set(flags) - _KNOWN)
