"""Finds in the code of a workflow class, before it runs, where it reads the clock by ``datetime``.

That is refused when it happens, too; a warning when the worker is made comes earlier. Invariant: it only reads code.
Called by :mod:`perdure._runtime.guard`.
"""

from __future__ import annotations

import datetime
import dis
import inspect
from collections.abc import Iterator
from types import CodeType
from typing import Any

_CLOCKS: dict[type, tuple[str, ...]] = {datetime.datetime: ("now", "utcnow", "today"), datetime.date: ("today",)}
_LOADS = ("LOAD_ATTR", "LOAD_METHOD")


def calls_of_dates(workflow_class: type) -> Iterator[str]:
    """A message for each place in the methods of a class where ``datetime.now`` or the like is used."""
    for fn in vars(workflow_class).values():
        target = inspect.unwrap(fn) if inspect.isfunction(fn) else None
        if target is not None:
            yield from _in_code(target.__code__, target.__globals__)


def _in_code(code: CodeType, names: dict[str, Any]) -> Iterator[str]:
    value: Any = None
    line: int | None = None
    for instruction in dis.get_instructions(code):
        line = instruction.starts_line or line
        if instruction.opname == "LOAD_GLOBAL":
            value = names.get(instruction.argval)
        elif instruction.opname in _LOADS and value is not None:
            name = instruction.argval
            if isinstance(value, type) and name in _CLOCKS.get(value, ()):
                yield (
                    f"{code.co_filename}, line {line}, in {code.co_qualname}: {value.__name__}.{name}() gives another "
                    "time on replay; use workflow.now() instead"
                )
            value = getattr(datetime, name, None) if value is datetime else None
        elif instruction.opname != "CACHE":
            value = None
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _in_code(constant, names)
