"""What can be learnt from a user's function: the types of its parameters and of its result. Pure functions.

Called for activities by the worker, and for workflow methods wherever a caller gives one instead of a name.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

#: Stands for "no argument given", because ``None`` is an argument.
UNSET: Any = object()


def arguments_of(arg: Any, args: Sequence[Any]) -> list[Any]:
    """The arguments of a call that takes either ``arg`` or ``args``.

    Raises:
        ValueError: both were given. TypeError: ``args`` is text, most likely meant as a single argument.
    """
    if arg is not UNSET:
        if args:
            raise ValueError("give either arg or args, not both")
        return [arg]
    if isinstance(args, (str, bytes)):
        raise TypeError("args must be a sequence of arguments; give a single one as arg")
    return list(args)


def types_of(function: Callable[..., Any], *, is_method: bool = False) -> tuple[list[Any] | None, Any]:
    """The types of a function's positional parameters, and of its result; ``None`` where unknown.

    Parameters are ``None`` altogether as soon as one has no annotation, or when they are ``*args``.

    Args:
        function: The function.
        is_method: True if it is an unbound method, whose first parameter is ``self``.
    """
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        hints = typing.get_type_hints(target)
        parameters = list(inspect.signature(function).parameters.values())
    except (NameError, TypeError, ValueError):
        return None, None  # annotations that cannot be resolved at run time are as good as none
    if is_method:
        parameters = parameters[1:]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    all_known = all(parameter.kind in positional and parameter.name in hints for parameter in parameters)
    types = [hints[parameter.name] for parameter in parameters] if all_known else None
    result = hints.get("return")
    return types, type(None) if "return" in hints and result is None else result


def fitted_types(types: Sequence[Any] | None, count: int) -> list[Any] | None:
    """Parameter types for exactly ``count`` payloads, or ``None`` where that many are not known."""
    return list(types[:count]) if types is not None and count <= len(types) else None
