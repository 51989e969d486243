"""What an update handler is: the mark its decorator leaves on the function, and the validator that belongs to it.

Invariants: a handler has a name or is dynamic, never both; a validator is synchronous and takes what its handler takes.
Called by the decorator in :mod:`perdure.workflow`, by the instance for handlers set at run time, and by the client to
name what it sends.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

from perdure._callables import types_of
from perdure._runtime.handler_definitions import HandlerUnfinishedPolicy, check_handler
from perdure.types import MultiParamSpec, ProtocolReturnType

_UPDATE_ATTRIBUTE = "__perdure_update_definition"
_ValidatorT = TypeVar("_ValidatorT", bound=Callable[..., None])


class UnfinishedUpdateHandlersWarning(RuntimeWarning):
    """A workflow ended before all of its update handlers had finished."""


@dataclass(frozen=True)
class UpdateInfo:
    """The update whose handler or validator runs, as ``workflow.current_update_info()`` gives it.

    Attributes:
        id: The update's id.
        name: The update's name.
    """

    id: str
    name: str


class UpdateMethodMultiParam(Protocol[MultiParamSpec, ProtocolReturnType]):
    """A method that is decorated with ``workflow.update``."""

    def __call__(
        self, *args: MultiParamSpec.args, **kwargs: MultiParamSpec.kwargs
    ) -> ProtocolReturnType | Awaitable[ProtocolReturnType]:
        """The method itself."""

    def validator(self, vfunc: Callable[MultiParamSpec, None]) -> None:
        """Decorate a plain method that refuses an update by raising, before it is accepted. It must change nothing."""


@dataclass
class UpdateDefinition:
    """An update handler. ``name`` is ``None`` for the one that takes all other updates."""

    name: str | None
    fn: Callable[..., Any]
    is_method: bool
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON
    description: str | None = None
    validator: Callable[..., None] | None = None

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
    def is_async(self) -> bool:
        """Whether the handler is an ``async def``."""
        return inspect.iscoroutinefunction(self.fn)

    @cached_property
    def takes_variable_arguments(self) -> bool:
        """Dynamic handlers only: ``(name, *args)`` instead of ``(name, args)``."""
        return any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(self.fn).parameters.values())

    @staticmethod
    def of(fn: Any) -> UpdateDefinition | None:
        """The mark on a function, if it has one."""
        return getattr(fn, _UPDATE_ATTRIBUTE, None)

    def mark(self) -> None:
        """Leave this definition on its function, and the decorator for its validator."""
        setattr(self.fn, _UPDATE_ATTRIBUTE, self)
        self.fn.validator = self.set_validator  # type: ignore[attr-defined]

    def set_validator(self, validator: _ValidatorT) -> _ValidatorT:
        """Set what refuses updates before they are accepted.

        Raises:
            ValueError: there is one already. TypeError: it is async, or takes other parameters than the handler.
        """
        if self.validator is not None:
            raise ValueError(f"update handler {self.fn.__qualname__} has a validator already")
        check_validator(validator, self.fn, is_method=self.is_method)
        self.validator = validator
        return validator


def check_validator(validator: Any, handler: Callable[..., Any], *, is_method: bool) -> None:
    """Refuse a function that cannot be the validator of a handler.

    Raises:
        TypeError: it is async, or takes another number of parameters than the handler.
    """
    check_handler(validator, "update validator", is_method=is_method, dynamic=False)
    name = getattr(validator, "__qualname__", repr(validator))
    if inspect.iscoroutinefunction(validator):
        raise TypeError(f"update validator {name} is async; a validator reads the workflow's state and cannot wait")
    kinds = [[parameter.kind for parameter in inspect.signature(fn).parameters.values()] for fn in (validator, handler)]
    if kinds[0] != kinds[1]:
        raise TypeError(
            f"update validator {name} must take the same parameters as its handler "
            f"{getattr(handler, '__qualname__', repr(handler))}"
        )


def update_name_and_result_type(update: str | Callable[..., Any]) -> tuple[str, Any]:
    """The name of an update given by name or by its handler method, and the type of its result where known.

    Raises:
        TypeError: the function is no update handler, or a dynamic one.
    """
    if isinstance(update, str):
        return update, None
    definition = UpdateDefinition.of(update)
    name = str(getattr(update, "__qualname__", repr(update)))
    if definition is None:
        raise TypeError(f"{name} is not an update handler: put @workflow.update before it, or give a name")
    if definition.name is None:
        raise TypeError(f"{name} is a dynamic update handler; give the name of the update instead")
    return definition.name, definition.ret_type
