"""What a signal or query handler is: the marks its decorator leaves on the function.

Invariants: a handler has a name or is dynamic, never both; a query handler is synchronous; handlers take positional
parameters only. Called by the decorators in :mod:`perdure.workflow`, by the instance for handlers set at run time, and
by the client to name what it sends.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from perdure._callables import types_of

_SIGNAL_ATTRIBUTE = "__perdure_signal_definition"
_QUERY_ATTRIBUTE = "__perdure_query_definition"


class HandlerUnfinishedPolicy(Enum):
    """What happens when a workflow ends, for any reason, while a handler still runs. The handler is dropped."""

    #: Warn, and drop the handler.
    WARN_AND_ABANDON = 1
    #: Drop the handler without a word.
    ABANDON = 2


class UnfinishedSignalHandlersWarning(RuntimeWarning):
    """A workflow ended before all of its signal handlers had finished."""


@dataclass(frozen=True)
class SignalDefinition:
    """A signal handler. ``name`` is ``None`` for the one that takes all other signals."""

    name: str | None
    fn: Callable[..., Any]
    is_method: bool
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON
    description: str | None = None

    @cached_property
    def arg_types(self) -> list[Any] | None:
        """Types of the parameters, ``None`` if not all are known."""
        return types_of(self.fn, is_method=self.is_method)[0]

    @cached_property
    def is_async(self) -> bool:
        """Whether the handler is an ``async def``."""
        return inspect.iscoroutinefunction(self.fn)

    @cached_property
    def takes_variable_arguments(self) -> bool:
        """Dynamic handlers only: ``(name, *args)`` instead of ``(name, args)``."""
        return _takes_variable_arguments(self.fn)

    @staticmethod
    def of(fn: Any) -> SignalDefinition | None:
        """The mark on a function, if it has one."""
        return getattr(fn, _SIGNAL_ATTRIBUTE, None)

    def mark(self) -> None:
        """Leave this definition on its function."""
        setattr(self.fn, _SIGNAL_ATTRIBUTE, self)


@dataclass(frozen=True)
class QueryDefinition:
    """A query handler. ``name`` is ``None`` for the one that takes all other queries."""

    name: str | None
    fn: Callable[..., Any]
    is_method: bool
    description: str | None = None

    @cached_property
    def types(self) -> tuple[list[Any] | None, Any]:
        """Types of the parameters and of the result."""
        return types_of(self.fn, is_method=self.is_method)

    @property
    def arg_types(self) -> list[Any] | None:
        """Types of the parameters, ``None`` if not all are known."""
        return self.types[0]

    @property
    def ret_type(self) -> Any:
        """Type of the result, ``None`` if it is not annotated."""
        return self.types[1]

    @cached_property
    def takes_variable_arguments(self) -> bool:
        """Dynamic handlers only: ``(name, *args)`` instead of ``(name, args)``."""
        return _takes_variable_arguments(self.fn)

    @staticmethod
    def of(fn: Any) -> QueryDefinition | None:
        """The mark on a function, if it has one."""
        return getattr(fn, _QUERY_ATTRIBUTE, None)

    def mark(self) -> None:
        """Leave this definition on its function."""
        setattr(self.fn, _QUERY_ATTRIBUTE, self)


def check_handler(fn: Any, what: str, *, is_method: bool, dynamic: bool) -> None:
    """Refuse a function that cannot be a handler.

    Args:
        fn: The function.
        what: "signal" or "query".
        is_method: Whether its first parameter is ``self``.
        dynamic: Whether it is to take all names.

    Raises:
        TypeError: it has keyword-only parameters, is an async query handler, or is dynamic with other parameters than
            ``(name: str, args: Sequence[RawValue])``.
    """
    if not callable(fn):
        raise TypeError(f"a {what} handler must be a function, not {type(fn).__name__}")
    name = getattr(fn, "__qualname__", repr(fn))
    if what == "query" and inspect.iscoroutinefunction(fn):
        raise TypeError(f"query handler {name} is async; a query reads the workflow's state and cannot wait")
    parameters = _parameters(fn, is_method=is_method)
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise TypeError(
                f"{what} handler {name} has the keyword-only parameter {parameter.name}; give it a position"
            )
    if dynamic:
        rest = parameters[1:]
        if len(rest) != 1 or parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
            raise TypeError(
                f"dynamic {what} handler {name} must take exactly two parameters: the name and a Sequence[RawValue]"
            )


def signal_name(signal: str | Callable[..., Any]) -> str:
    """The name of a signal given by name or by its handler method.

    Raises:
        TypeError: the function is no signal handler, or a dynamic one.
    """
    if isinstance(signal, str):
        return signal
    definition = SignalDefinition.of(signal)
    if definition is None:
        raise TypeError(f"{_name_of(signal)} is not a signal handler: put @workflow.signal before it, or give a name")
    if definition.name is None:
        raise TypeError(f"{_name_of(signal)} is a dynamic signal handler; give the name of the signal instead")
    return definition.name


def query_name_and_result_type(query: str | Callable[..., Any]) -> tuple[str, Any]:
    """The name of a query given by name or by its handler method, and the type of its result where known.

    Raises:
        TypeError: the function is no query handler, or a dynamic one.
    """
    if isinstance(query, str):
        return query, None
    definition = QueryDefinition.of(query)
    if definition is None:
        raise TypeError(f"{_name_of(query)} is not a query handler: put @workflow.query before it, or give a name")
    if definition.name is None:
        raise TypeError(f"{_name_of(query)} is a dynamic query handler; give the name of the query instead")
    return definition.name, definition.ret_type


def _name_of(fn: Any) -> str:
    return str(getattr(fn, "__qualname__", repr(fn)))


def _parameters(fn: Callable[..., Any], *, is_method: bool) -> Sequence[inspect.Parameter]:
    return list(inspect.signature(fn).parameters.values())[1 if is_method else 0 :]


def _takes_variable_arguments(fn: Callable[..., Any]) -> bool:
    return any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(fn).parameters.values())
