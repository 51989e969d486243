"""Updates in workflow code: the decorator, handlers that are set at run time, and which update runs.

Names, parameters and defaults are those of ``temporalio.workflow``. Called by user code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol, overload

from perdure._runtime import updates as _updates
from perdure._runtime.context import current_instance
from perdure._runtime.handler_definitions import HandlerUnfinishedPolicy
from perdure._runtime.update_definition import UpdateDefinition, UpdateInfo, UpdateMethodMultiParam
from perdure.types import MultiParamSpec, ReturnType
from perdure.workflow._definition import check_decorated


class _Decorator(Protocol):
    @overload
    def __call__(
        self, fn: Callable[MultiParamSpec, Awaitable[ReturnType]], /
    ) -> UpdateMethodMultiParam[MultiParamSpec, ReturnType]: ...

    @overload
    def __call__(
        self, fn: Callable[MultiParamSpec, ReturnType], /
    ) -> UpdateMethodMultiParam[MultiParamSpec, ReturnType]: ...


@overload
def update(
    fn: Callable[MultiParamSpec, Awaitable[ReturnType]],
) -> UpdateMethodMultiParam[MultiParamSpec, ReturnType]: ...


@overload
def update(fn: Callable[MultiParamSpec, ReturnType]) -> UpdateMethodMultiParam[MultiParamSpec, ReturnType]: ...


@overload
def update(
    *,
    name: str | None = None,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> _Decorator: ...


@overload
def update(
    *,
    dynamic: Literal[True],
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> _Decorator: ...


def update(
    fn: Any = None,
    *,
    name: str | None = None,
    dynamic: bool | None = False,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> Any:
    """Make a method, async or not, the handler of an update: it may change the workflow, and its result goes back.

    With ``@<handler>.validator`` before another method of the same parameters, that one may refuse an update by
    raising, before it is accepted; it must be plain and change nothing. A refused update leaves no trace.

    Args:
        fn: The method. Its parameters are positional.
        name: The update's name; the method's own if not given.
        dynamic: Take every update that has no handler of its own. The parameters are the name and a
            ``Sequence[RawValue]``.
        unfinished_policy: What happens if the workflow ends while the handler runs.
        description: A line that tells people what the update does.

    Raises:
        ValueError: both a name and ``dynamic`` were given. TypeError: the function cannot be such a handler.
    """

    def decorate(target: Any) -> Any:
        check_decorated(target, "update", name, bool(dynamic))
        UpdateDefinition(
            name=None if dynamic else name or target.__name__,
            fn=target,
            is_method=True,
            unfinished_policy=unfinished_policy,
            description=description,
        ).mark()
        return target

    return decorate if fn is None else decorate(fn)


def current_update_info() -> UpdateInfo | None:
    """The update whose handler or validator runs, also in tasks that it starts; ``None`` elsewhere."""
    current_instance()
    return _updates.current_update_info()


def get_update_handler(name: str) -> Callable[..., Any] | None:
    """The handler of an update, decorated or set, or ``None``."""
    return current_instance().updates.handler(name)


def set_update_handler(
    name: str, handler: Callable[..., Any] | None, *, validator: Callable[..., None] | None = None
) -> None:
    """Set the handler of an update and its validator, or remove them. Updates do not wait for one: an update that
    comes before is rejected.

    Raises:
        TypeError: a function cannot be a handler or its validator, or there is a validator only.
    """
    current_instance().updates.set_handler(name, handler, validator)


def get_dynamic_update_handler() -> Callable[..., Any] | None:
    """The handler of all updates that have no handler of their own, or ``None``."""
    return current_instance().updates.handler(None)


def set_dynamic_update_handler(
    handler: Callable[..., Any] | None, *, validator: Callable[..., None] | None = None
) -> None:
    """Set or remove the handler of all updates that have none of their own.

    Raises:
        TypeError: a function does not take ``(name, args)``, or there is a validator only.
    """
    current_instance().updates.set_handler(None, handler, validator)
