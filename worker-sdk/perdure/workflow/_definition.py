"""The decorators that make a class a workflow and its methods the run method, signal handlers and query handlers.

Names, parameters and defaults are those of ``temporalio.workflow``. Called by user code when its module is imported;
what they leave behind is described in :mod:`perdure._runtime.definition`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeVar, overload

from perdure._runtime.definition import DynamicWorkflowConfig, define, mark_dynamic_config, mark_init, mark_run
from perdure._runtime.handler_definitions import (
    HandlerUnfinishedPolicy,
    QueryDefinition,
    SignalDefinition,
    check_handler,
)
from perdure._versioning import VersioningBehavior

_ClassT = TypeVar("_ClassT", bound=type)
_CallableT = TypeVar("_CallableT", bound=Callable[..., Any])
_AsyncCallableT = TypeVar("_AsyncCallableT", bound=Callable[..., Awaitable[Any]])
_ConfigT = TypeVar("_ConfigT", bound=Callable[[Any], DynamicWorkflowConfig])
_SignalT = TypeVar("_SignalT", bound=Callable[..., Awaitable[None] | None])


@overload
def defn(cls: _ClassT) -> _ClassT: ...


@overload
def defn(
    *,
    name: str | None = None,
    sandboxed: bool = True,
    dynamic: bool = False,
    failure_exception_types: Sequence[type[BaseException]] = (),
    versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED,
) -> Callable[[_ClassT], _ClassT]: ...


def defn(
    cls: Any = None,
    *,
    name: str | None = None,
    sandboxed: bool = True,
    dynamic: bool = False,
    failure_exception_types: Sequence[type[BaseException]] = (),
    versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED,
) -> Any:
    """Make a class a workflow. It does not count for subclasses: decorate each.

    Args:
        cls: The class.
        name: The workflow's name; the class's own if not given.
        sandboxed: Whether calls of what is not deterministic (clocks, randomness, threads, sockets) are refused. There
            is no sandbox besides: imports are as they are everywhere.
        dynamic: Take every workflow type that has no class of its own on the worker. The run method's one parameter is
            a ``Sequence[RawValue]``.
        failure_exception_types: Exceptions that end the workflow, like a ``FailureError``, rather than failing the
            workflow task.
        versioning_behavior: Whether its runs stay with the version of workers they began on, or move to the current
            one. Workers that are versioned want it, or a default of their own.

    Raises:
        ValueError: the class breaks a rule, or both a name and ``dynamic`` were given; the message says which.
    """
    if dynamic and name is not None:
        raise ValueError("a dynamic workflow has no name of its own; leave name or dynamic out")

    def decorate(target: Any) -> Any:
        define(
            target,
            name,
            failure_exception_types,
            dynamic=dynamic,
            sandboxed=sandboxed,
            versioning_behavior=versioning_behavior,
        )
        return target

    return decorate if cls is None else decorate(cls)


def run(fn: _AsyncCallableT) -> _AsyncCallableT:
    """Make an async method the run method: what the workflow does, and returns.

    A class has exactly one, of its own: one on a base class must be defined again. Its parameters are positional; best
    is a single dataclass, to which fields can be added later.

    Raises:
        ValueError: the function cannot be a run method.
    """
    mark_run(fn)
    return fn


def dynamic_config(fn: _ConfigT) -> _ConfigT:
    """Make a method of a dynamic workflow say what :func:`defn` says of others; it runs when the run begins.

    Raises:
        ValueError: the function is async, or takes more than self.
    """
    mark_dynamic_config(fn)
    return fn


def init(init_fn: _CallableT) -> _CallableT:
    """Make ``__init__`` take the parameters of the run method, which it must have then.

    It runs before any signal handler and before the run method.

    Raises:
        ValueError: the function is not ``__init__``.
    """
    mark_init(init_fn)
    return init_fn


@overload
def signal(fn: _SignalT) -> _SignalT: ...


@overload
def signal(
    *,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> Callable[[_SignalT], _SignalT]: ...


@overload
def signal(
    *,
    name: str,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> Callable[[_SignalT], _SignalT]: ...


@overload
def signal(
    *,
    dynamic: Literal[True],
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> Callable[[_SignalT], _SignalT]: ...


def signal(
    fn: Any = None,
    *,
    name: str | None = None,
    dynamic: bool | None = False,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> Any:
    """Make a method, async or not, the handler of a signal. What it returns is not used.

    Args:
        fn: The method. Its parameters are positional.
        name: The signal's name; the method's own if not given.
        dynamic: Take every signal that has no handler of its own. The parameters are the name and a
            ``Sequence[RawValue]``.
        unfinished_policy: What happens if the workflow ends while the handler runs.
        description: A line that tells people what the signal does.

    Raises:
        ValueError: both a name and ``dynamic`` were given. TypeError: the function cannot be such a handler.
    """

    def decorate(target: Any) -> Any:
        check_decorated(target, "signal", name, bool(dynamic))
        SignalDefinition(
            name=None if dynamic else name or target.__name__,
            fn=target,
            is_method=True,
            unfinished_policy=unfinished_policy,
            description=description,
        ).mark()
        return target

    return decorate if fn is None else decorate(fn)


@overload
def query(fn: _CallableT) -> _CallableT: ...


@overload
def query(*, name: str, description: str | None = None) -> Callable[[_CallableT], _CallableT]: ...


@overload
def query(*, dynamic: Literal[True], description: str | None = None) -> Callable[[_CallableT], _CallableT]: ...


@overload
def query(*, description: str) -> Callable[[_CallableT], _CallableT]: ...


def query(
    fn: Any = None, *, name: str | None = None, dynamic: bool | None = False, description: str | None = None
) -> Any:
    """Make a plain method the handler of a query. It reads the workflow's state and must not change it.

    Args:
        fn: The method. Its parameters are positional; what it returns is the answer.
        name: The query's name; the method's own if not given.
        dynamic: Take every query that has no handler of its own. The parameters are the name and a
            ``Sequence[RawValue]``.
        description: A line that tells people what the query answers.

    Raises:
        ValueError: both a name and ``dynamic`` were given. TypeError: the function cannot be such a handler.
    """

    def decorate(target: Any) -> Any:
        check_decorated(target, "query", name, bool(dynamic))
        QueryDefinition(
            name=None if dynamic else name or target.__name__, fn=target, is_method=True, description=description
        ).mark()
        return target

    return decorate if fn is None else decorate(fn)


def check_decorated(target: Any, what: str, name: str | None, dynamic: bool) -> None:
    """Refuse what a decorator of handlers cannot take.

    Raises:
        ValueError: the name is not allowed. TypeError: the function cannot be a handler.
    """
    if name is not None and dynamic:
        raise ValueError(f"a dynamic {what} handler has no name of its own; leave name or dynamic out")
    if name is not None and name.startswith("__"):
        raise ValueError(f"{what} name {name!r} begins with two underscores; such names are reserved")
    check_handler(target, what, is_method=True, dynamic=dynamic)
