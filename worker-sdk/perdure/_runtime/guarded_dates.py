"""Puts guards around the clock of :mod:`datetime`, whose classes are written in C and cannot be assigned to.

The methods are replaced in the classes' own dictionaries. So the classes stay the same objects: ``isinstance``,
annotations, subclasses and pickles notice nothing, and whoever imported them before is guarded, too. CPython lets one
reach that dictionary through its garbage collector; where it does not, nothing is replaced.

Invariant: a guarded method returns what the original returns, for subclasses as well. Called by
:mod:`perdure._runtime.guard`, once for each process, with its lock held.
"""

from __future__ import annotations

import ctypes
import datetime
import functools
import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

#: The class, and its methods that read the clock. ``datetime`` has ``today`` from ``date``.
_CLOCKS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (datetime.datetime, ("now", "utcnow")),
    (datetime.date, ("today",)),
)


def guard_dates(check: Callable[[FrameType, str], None]) -> bool:
    """Put a check in front of each method that reads the clock.

    Args:
        check: Given the frame of the caller and what was called; raises to refuse it.

    Returns:
        Whether this interpreter allows it.
    """
    if sys.implementation.name != "cpython":
        return False
    for cls, names in _CLOCKS:
        own = next((one for one in gc.get_referents(vars(cls)) if type(one) is dict and names[0] in one), None)
        if own is None:
            return False
        for name in names:
            own[name] = classmethod(_guarded(own[name], cls, name, check))
        # Callers have cached where the method was; so have subclasses.
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))
    return True


def _guarded(original: Any, owner: type, name: str, check: Callable[[FrameType, str], None]) -> Callable[..., Any]:
    bind = original.__get__

    @functools.wraps(original)
    def guarded(cls: type, *args: Any, **kwargs: Any) -> Any:
        check(sys._getframe(1), f"{owner.__name__ if cls is owner else cls.__name__}.{name}()")
        return bind(None, cls)(*args, **kwargs)

    return guarded
