"""What a workflow is: the definition that ``workflow.defn`` leaves on a class.

Invariants: a class has exactly one run method, an ``async def`` of its own; a name belongs to one signal and one query
handler; ``__init__`` takes the run method's parameters if it is marked with ``workflow.init``, else none. A class that
breaks a rule is refused when it is decorated, with all that is wrong with it. Called by the decorators, the runner and
the client.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args, get_origin

from perdure._callables import types_of
from perdure._runtime.handler_definitions import QueryDefinition, SignalDefinition
from perdure._runtime.update_definition import UpdateDefinition
from perdure._versioning import VersioningBehavior
from perdure.common import RawValue

_DEFINITION_ATTRIBUTE = "__perdure_workflow_definition"
_RUN_ATTRIBUTE = "__perdure_workflow_run"
_INIT_ATTRIBUTE = "__perdure_workflow_init"
_CONFIG_ATTRIBUTE = "__perdure_workflow_dynamic_config"


@dataclass
class DynamicWorkflowConfig:
    """What a dynamic workflow says of one run; see ``workflow.dynamic_config``.

    Attributes:
        failure_exception_types: Instead of those of ``workflow.defn``, if given.
        versioning_behavior: Instead of that of ``workflow.defn``, if given.
    """

    failure_exception_types: Sequence[type[BaseException]] | None = None
    versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED


@dataclass(frozen=True)
class WorkflowDefinition:
    """A workflow: its name, its class, its run method and its handlers (the dynamic one under ``None``)."""

    name: str
    cls: type
    run_fn: Callable[..., Awaitable[Any]]
    signals: Mapping[str | None, SignalDefinition]
    queries: Mapping[str | None, QueryDefinition]
    updates: Mapping[str | None, UpdateDefinition]
    failure_exception_types: tuple[type[BaseException], ...]
    #: Whether ``__init__`` takes the arguments of the run method.
    init_takes_arguments: bool
    #: Takes every workflow type of its worker that no other class has; the name is the class's then.
    dynamic: bool = False
    #: Whether its code is refused what is not deterministic.
    sandboxed: bool = True
    versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED
    #: Of a dynamic workflow: says what depends on the run.
    dynamic_config_fn: Callable[[Any], DynamicWorkflowConfig] | None = None

    @cached_property
    def types(self) -> tuple[list[Any] | None, Any]:
        """Types of the run method's parameters and of its result."""
        return types_of(self.run_fn, is_method=True)

    @property
    def arg_types(self) -> list[Any] | None:
        """Types of the run method's parameters, ``None`` if not all are known."""
        return self.types[0]

    @property
    def ret_type(self) -> Any:
        """Type of the run method's result, ``None`` if it is not annotated."""
        return self.types[1]

    @staticmethod
    def from_class(workflow_class: type) -> WorkflowDefinition | None:
        """The definition on a class. One on a base class does not count."""
        found = workflow_class.__dict__.get(_DEFINITION_ATTRIBUTE)
        return found if isinstance(found, WorkflowDefinition) else None

    @staticmethod
    def must_from_class(workflow_class: type) -> WorkflowDefinition:
        """As :meth:`from_class`.

        Raises:
            ValueError: the class is not marked.
        """
        found = WorkflowDefinition.from_class(workflow_class) if isinstance(workflow_class, type) else None
        if found is None:
            name = getattr(workflow_class, "__qualname__", repr(workflow_class))
            raise ValueError(f"{name} is not a workflow: put @workflow.defn before the class")
        return found

    @staticmethod
    def from_run_fn(fn: Callable[..., Any]) -> WorkflowDefinition | None:
        """The definition a run method belongs to, if it is one of a decorated class."""
        found = getattr(fn, _DEFINITION_ATTRIBUTE, None)
        return found if isinstance(found, WorkflowDefinition) else None


def workflow_name_and_result_type(workflow: str | Callable[..., Any] | type) -> tuple[str, Any]:
    """The name of a workflow given by name, run method or class, and the type of its result where known.

    Raises:
        ValueError: the function or class is no workflow.
    """
    if isinstance(workflow, str):
        return workflow, None
    if isinstance(workflow, type):
        definition: WorkflowDefinition | None = WorkflowDefinition.must_from_class(workflow)
    else:
        definition = WorkflowDefinition.from_run_fn(workflow)
    if definition is None:
        name = getattr(workflow, "__qualname__", repr(workflow))
        raise ValueError(
            f"{name} is not the run method of a workflow: put @workflow.run before it, and @workflow.defn before its "
            "class"
        )
    if definition.dynamic:
        raise ValueError(f"{definition.cls.__qualname__} is dynamic, so it has no name of its own: start it by a name")
    return definition.name, definition.ret_type


def mark_run(fn: Any) -> None:
    """Mark a run method.

    Raises:
        ValueError: it is not an ``async def`` method, or has keyword-only parameters.
    """
    name = getattr(fn, "__qualname__", repr(fn))
    if not inspect.iscoroutinefunction(fn):
        raise ValueError(f"run method {name} must be an async function")
    parameters = list(inspect.signature(fn).parameters.values())
    if not parameters or parameters[0].name != "self":
        raise ValueError(f"run method {name} must have self as its first parameter")
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise ValueError(f"run method {name} has the keyword-only parameter {parameter.name}; give it a position")
    setattr(fn, _RUN_ATTRIBUTE, True)


def mark_init(fn: Any) -> None:
    """Mark an ``__init__`` that takes the parameters of the run method.

    Raises:
        ValueError: it is another method.
    """
    if getattr(fn, "__name__", None) != "__init__":
        raise ValueError("@workflow.init goes before the __init__ method only")
    setattr(fn, _INIT_ATTRIBUTE, True)


def mark_dynamic_config(fn: Any) -> None:
    """Mark the method of a dynamic workflow that says what depends on the run.

    Raises:
        ValueError: it is async, or takes more than self.
    """
    name = getattr(fn, "__qualname__", repr(fn))
    if inspect.iscoroutinefunction(fn):
        raise ValueError(f"dynamic_config method {name} must not be async")
    if len(inspect.signature(fn).parameters) != 1:
        raise ValueError(f"dynamic_config method {name} must have self as its only parameter")
    setattr(fn, _CONFIG_ATTRIBUTE, True)


def define(
    cls: Any,
    name: str | None,
    failure_exception_types: Sequence[type[BaseException]],
    *,
    dynamic: bool = False,
    sandboxed: bool = True,
    versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED,
) -> None:
    """Collect the definition of a workflow class, check it and leave it on the class.

    Raises:
        ValueError: something is wrong with the class; the message lists everything.
    """
    if not isinstance(cls, type):
        raise ValueError(f"@workflow.defn goes before a class, not before {cls!r}")
    if WorkflowDefinition.from_class(cls) is not None:
        raise ValueError(f"{cls.__qualname__} is marked as a workflow twice")
    issues: list[str] = []
    signals: dict[str | None, SignalDefinition] = {}
    queries: dict[str | None, QueryDefinition] = {}
    updates: dict[str | None, UpdateDefinition] = {}
    for attribute, fn in _functions(cls):
        signal, query = SignalDefinition.of(fn), QueryDefinition.of(fn)
        if signal is not None:
            _add(signals, signal, "signal", issues)
        if query is not None:
            _add(queries, query, "query", issues)
        update = UpdateDefinition.of(fn)
        if update is not None:
            _add(updates, update, "update", issues)
        _check_overriding(cls, attribute, fn, issues)
    run_fn = _run_method(cls, issues)
    if dynamic and run_fn is not None and not _takes_raw_values(run_fn):
        issues.append("it is dynamic, so its run method must have one parameter besides self, a Sequence[RawValue]")
    init_takes_arguments = bool(run_fn) and _init_takes_arguments(cls, run_fn, issues)
    bad = [kind for kind in failure_exception_types if not (isinstance(kind, type) and issubclass(kind, BaseException))]
    if bad:
        issues.append(f"failure_exception_types holds {bad[0]!r}, which is no exception type")
    config_fn = _dynamic_config(cls, dynamic, issues)
    if issues:
        raise ValueError(f"invalid workflow class {cls.__qualname__}: {'; '.join(issues)}")
    definition = WorkflowDefinition(
        name=name or cls.__name__,
        cls=cls,
        run_fn=run_fn,
        signals=signals,
        queries=queries,
        updates=updates,
        failure_exception_types=tuple(failure_exception_types),
        init_takes_arguments=init_takes_arguments,
        dynamic=dynamic,
        sandboxed=sandboxed,
        versioning_behavior=VersioningBehavior(versioning_behavior),
        dynamic_config_fn=config_fn,
    )
    setattr(cls, _DEFINITION_ATTRIBUTE, definition)
    setattr(run_fn, _DEFINITION_ATTRIBUTE, definition)


def _functions(cls: type) -> Iterator[tuple[str, Any]]:
    """The functions of a class as its instances see them, in the order of definition, bases first."""
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in base.__dict__)
    for name in names:
        fn = inspect.getattr_static(cls, name, None)
        if inspect.isfunction(fn):
            yield name, fn


def _add(known: dict[str | None, Any], definition: Any, what: str, issues: list[str]) -> None:
    if definition.name in known:
        which = f"named {definition.name!r}" if definition.name is not None else "that are dynamic"
        issues.append(
            f"there are two {what} handlers {which}: "
            f"{known[definition.name].fn.__qualname__} and {definition.fn.__qualname__}"
        )
    known[definition.name] = definition


def _check_overriding(cls: type, attribute: str, fn: Any, issues: list[str]) -> None:
    for base in cls.__mro__[1:]:
        overridden = base.__dict__.get(attribute)
        for what, definition_of in (
            ("signal", SignalDefinition.of),
            ("query", QueryDefinition.of),
            ("update", UpdateDefinition.of),
        ):
            if definition_of(overridden) is not None and definition_of(fn) is None:
                issues.append(f"{fn.__qualname__} overrides a {what} handler of {base.__qualname__}; decorate it, too")


def _run_method(cls: type, issues: list[str]) -> Any:
    own = [fn for fn in cls.__dict__.values() if inspect.isfunction(fn) and hasattr(fn, _RUN_ATTRIBUTE)]
    if len(own) > 1:
        issues.append(f"it has more than one @workflow.run method ({', '.join(fn.__name__ for fn in own)})")
    if own:
        return own[0]
    inherited = [
        (base, fn)
        for base in cls.__mro__[1:]
        for fn in base.__dict__.values()
        if inspect.isfunction(fn) and hasattr(fn, _RUN_ATTRIBUTE)
    ]
    if inherited:
        base, fn = inherited[0]
        issues.append(
            f"its @workflow.run method is only on the base class {base.__qualname__}; define {fn.__name__} on the "
            "class itself, with @workflow.run before it"
        )
    else:
        issues.append("it has no @workflow.run method")
    return None


def _dynamic_config(cls: type, dynamic: bool, issues: list[str]) -> Any:
    found = [fn for fn in cls.__dict__.values() if inspect.isfunction(fn) and hasattr(fn, _CONFIG_ATTRIBUTE)]
    if len(found) > 1:
        issues.append(
            f"it has more than one @workflow.dynamic_config method ({', '.join(fn.__name__ for fn in found)})"
        )
    if found and not dynamic:
        issues.append("it has a @workflow.dynamic_config method, so it must be dynamic")
    return found[0] if found else None


def _takes_raw_values(run_fn: Callable[..., Any]) -> bool:
    parameters = list(inspect.signature(run_fn).parameters.values())
    if len(parameters) != 2:
        return False
    hint = (types_of(run_fn, is_method=True)[0] or [None])[0]
    return get_origin(hint) in (Sequence, list) and get_args(hint) == (RawValue,)


def _init_takes_arguments(cls: type, run_fn: Callable[..., Any], issues: list[str]) -> bool:
    init = cls.__init__  # type: ignore[misc]
    if not inspect.isfunction(init):
        return False
    init_parameters = list(inspect.signature(init).parameters.values())[1:]
    if getattr(init, _INIT_ATTRIBUTE, False):
        run_parameters = list(inspect.signature(run_fn).parameters.values())[1:]
        if [(p.kind, p.annotation) for p in init_parameters] != [(p.kind, p.annotation) for p in run_parameters]:
            issues.append(
                "its __init__ is marked with @workflow.init, so it must have the parameters of the run method"
            )
        return True
    if any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in init_parameters):
        issues.append("its __init__ has parameters; put @workflow.init before it, or give them defaults")
    return False
