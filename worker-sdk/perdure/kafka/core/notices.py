"""Which of many like messages are said: of each kind the first in a window, and how many followed it.

Invariants: every message is counted once, in the window it falls into; a window without a second message says nothing
at its end; the kinds that are told apart are bounded, so messages that all differ cost no more than others. Called by
the pipeline, about records that are tried again.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

_K = TypeVar("_K", bound=Hashable)


class Repeated(NamedTuple, Generic[_K]):
    """A window that is over, and how many messages came in it after its first one; ``kind`` is ``None`` for those of
    kinds that there was no room for.
    """

    kind: _K | None
    more: int


class Notices(Generic[_K]):
    """The windows that are open.

    Args:
        window_ms: How long a window is.
        kinds_max: So many kinds are told apart at a time; what is beyond is one kind.
    """

    def __init__(self, window_ms: int, kinds_max: int) -> None:
        self._window_ms = window_ms
        self._kinds_max = kinds_max
        #: When each kind's window ends, and what came after its first message; the oldest window first.
        self._open: dict[_K | None, tuple[int, int]] = {}

    @property
    def due_ms(self) -> int | None:
        """When the next window is over; ``None`` while none is open."""
        return next((end_ms for end_ms, _ in self._open.values()), None)

    def take(self, kind: _K, now_ms: int) -> bool:
        """Count a message; whether it is the first of its window. A window lasts until it is taken."""
        at: _K | None = kind
        if at not in self._open and len(self._open) >= self._kinds_max:
            at = None
        if at in self._open:
            end_ms, count = self._open[at]
            self._open[at] = (end_ms, count + 1)
            return False
        self._open[at] = (now_ms + self._window_ms, 0)
        return True

    def take_over(self, now_ms: int) -> list[Repeated[_K]]:
        """Take the windows that are over by the clock; those with a single message are left out."""
        over = [kind for kind, (end_ms, _) in self._open.items() if now_ms >= end_ms]
        ended = [Repeated(kind, self._open.pop(kind)[1]) for kind in over]
        return [each for each in ended if each.more]
