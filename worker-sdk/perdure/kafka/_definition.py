"""Triggers: which records make which requests, as users declare it with :func:`on_record`.

Invariant: what can be wrong with a declaration is found when it is made, not when a record comes. Called by user code.
"""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Unpack, get_args

from perdure._limits import check_name
from perdure._runtime.definition import workflow_name_and_result_type
from perdure._runtime.handler_definitions import signal_name
from perdure._runtime.update_definition import update_name_and_result_type
from perdure.client._start import StartOptions
from perdure.common import WorkflowIDConflictPolicy, to_milliseconds
from perdure.kafka._record import Record
from perdure.kafka._values import Json
from perdure.kafka.core.ordering import Ordering
from perdure.kafka.core.outcomes import Missing, Singleton

_ID_FIELDS = ("topic", "partition", "offset", "key")
_BURST_LONGEST = 10
_GIVEN_BY_TRIGGERS = ("start_signal", "start_signal_args", "request_id", "rpc_timeout")


class Skip(Enum):
    """The type of :data:`SKIP`."""

    SKIP = "skip"


#: Returned by a trigger's function for a record that is to make no request.
SKIP = Skip.SKIP


class Arguments(tuple[Any, ...]):
    """Returned by a trigger's function to give several arguments: ``Arguments((order, customer))``."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Gather records of a partition into one run, which gets the list of what the function returned for each.

    Attributes:
        count: So many at most.
        wait: How long the first waits for others.
    """

    count: int
    wait: timedelta


@dataclass(frozen=True, slots=True)
class Debounce:
    """Of records of a key that come soon after each other, only the last makes a request.

    Attributes:
        quiet: Once no other came for so long.
        longest: After so long in any case; ten times ``quiet`` if not given.
    """

    quiet: timedelta
    longest: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """A declaration made by :func:`on_record`. Its attributes are the arguments of that function."""

    name: str
    topics: tuple[str, ...]
    function: Callable[[Record], Any]
    workflow: str | None
    signal: str | None
    update: str | None
    task_queue: str
    id: Callable[[Record], str] | None
    ordering: Ordering
    value: Callable[[bytes], Any]
    start_args: Callable[[Record], Sequence[Any]]
    singleton: Singleton | None
    missing: Missing
    batch: Batch | None
    debounce: Debounce | None
    headers: tuple[str, ...] | None
    start_options: StartOptions

    @property
    def what(self) -> str:
        """What a record makes, for people."""
        parts = [("workflow", self.workflow), ("signal", self.signal), ("update", self.update)]
        return " with ".join(f"{kind} {name}" for kind, name in parts if name)

    def __call__(self, record: Record) -> Any:
        """The declared function; so that it can be tested by itself."""
        return self.function(record)


def on_record(
    *topics: str,
    workflow: str | Callable[..., Any] | None = None,
    signal: str | Callable[..., Any] | None = None,
    update: str | Callable[..., Any] | None = None,
    task_queue: str = "",
    id: str | Callable[[Record], str] | None = None,
    ordering: Ordering | str = Ordering.KEY,
    value: Callable[[bytes], Any] | None = None,
    start_args: Callable[[Record], Sequence[Any]] | None = None,
    singleton: Singleton | None = None,
    missing: Missing = "dead_letter",
    batch: Batch | None = None,
    debounce: Debounce | None = None,
    headers: Sequence[str] | None = None,
    name: str | None = None,
    **start_options: Unpack[StartOptions],
) -> Callable[[Callable[[Record], Any]], Trigger]:
    """Declare that each record of some topics starts, signals or updates a workflow.

    The decorated function gets the :class:`Record` and returns the argument of the request (or :class:`Arguments`, or
    :data:`SKIP`). With ``workflow`` a record starts it; with ``signal`` it signals a running one; with both it signals,
    and starts the workflow if none runs; the same with ``update``. ::

        @on_record("orders", workflow=OrderWorkflow.run, task_queue="orders", id="order-{key}", value=Json(Order))
        def order_placed(record: Record) -> Order:
            return record.value

    Args:
        topics: The topics, by name.
        workflow: The workflow's run method, or its name.
        signal: The handler method, or the signal's name.
        update: The handler method, or the update's name. A record is done when its update is accepted.
        task_queue: Where the workflow runs; needed with ``workflow``.
        id: The workflow id: a text with ``{key}``, ``{topic}``, ``{partition}`` and ``{offset}``, or a function. If not
            given, each record has a workflow of its own, named by group, trigger, topic, partition and offset.
        ordering: ``"key"``: requests of one key are decided in the order of their records; ``"partition"``: those of a
            partition are, at the price of waiting for the engine between records of different workflows; ``"none"``.
        value: The deserializer; :class:`Json` if not given.
        start_args: The workflow's arguments, where the function gives those of the signal or update; none by default.
        singleton: If the workflow id is taken: ``"skip"`` the record, ``"cancel"`` the running workflow and start when
            it has ended, or ``"terminate"`` it. If not given, the record becomes a dead letter.
        missing: What becomes of a signal or update without a running workflow: ``"dead_letter"`` or ``"skip"``.
        batch: Gather records into one run.
        debounce: Let only the last of several records of a key through.
        headers: Which of the record's headers the workflow gets; all if not given.
        name: The trigger's name, which is part of what tells records apart: keep it; the function's name by default.
        start_options: Options of :meth:`perdure.client.Client.start_workflow`.

    Raises:
        TypeError, ValueError: the declaration makes no sense.
    """
    _check_action(workflow, signal, update, task_queue, start_options, start_args)
    _check_modes(workflow, signal, update, singleton, missing, batch, debounce)
    if batch is not None and (id is not None or singleton is not None):
        raise ValueError("a batch takes no id and no singleton: every batch has a workflow id of its own")
    if not topics:
        raise ValueError("on_record needs the name of a topic")
    for topic in topics:
        check_name(topic, "topic")

    def declare(function: Callable[[Record], Any]) -> Trigger:
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__name__} is async; a trigger's function only maps, so make it a plain one")
        trigger_name = name or function.__name__
        check_name(trigger_name, "trigger name")
        return Trigger(
            name=trigger_name,
            topics=topics,
            function=function,
            workflow=None if workflow is None else workflow_name_and_result_type(workflow)[0],
            signal=None if signal is None else signal_name(signal),
            update=None if update is None else update_name_and_result_type(update)[0],
            task_queue=task_queue,
            id=_template(id) if isinstance(id, str) else id,
            ordering=Ordering(ordering),
            value=value or Json(),
            start_args=start_args or _no_arguments,
            singleton=singleton,
            missing=missing,
            batch=batch,
            debounce=debounce,
            headers=None if headers is None else tuple(headers),
            start_options=_with_singleton(start_options, singleton),
        )

    return declare


def _no_arguments(_: Record) -> Sequence[Any]:
    return ()


def _with_singleton(options: StartOptions, singleton: Singleton | None) -> StartOptions:
    if singleton == "terminate":
        return {**options, "id_conflict_policy": WorkflowIDConflictPolicy.TERMINATE_EXISTING}
    return options


def _check_action(
    workflow: Any, signal: Any, update: Any, task_queue: str, options: Mapping[str, Any], start_args: Any
) -> None:
    if signal is not None and update is not None:
        raise ValueError("on_record takes a signal or an update, not both")
    if workflow is None and signal is None and update is None:
        raise ValueError("on_record needs what a record makes: workflow=…, signal=… or update=…")
    if workflow is None and (task_queue or options or start_args):
        raise ValueError("task_queue, start_args and start options are for workflow=…, which is not given")
    if workflow is not None and not task_queue:
        raise ValueError("on_record needs task_queue=… to start a workflow")
    if workflow is not None and start_args is not None and signal is None and update is None:
        raise ValueError("the function gives the workflow's arguments; start_args is for a signal or update with start")
    unknown = sorted(options.keys() - StartOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"on_record has no option {', '.join(unknown)}")
    taken = [option for option in _GIVEN_BY_TRIGGERS if options.get(option) is not None]
    if taken:
        raise TypeError(f"on_record sets {', '.join(taken)} itself")


def _check_modes(
    workflow: Any,
    signal: Any,
    update: Any,
    singleton: Singleton | None,
    missing: Missing,
    batch: Batch | None,
    debounce: Debounce | None,
) -> None:
    if singleton is not None and singleton not in get_args(Singleton):
        raise ValueError(f"singleton is {singleton!r}; give one of {', '.join(get_args(Singleton))}")
    if missing not in get_args(Missing):
        raise ValueError(f"missing is {missing!r}; give one of {', '.join(get_args(Missing))}")
    starts_only = workflow is not None and signal is None and update is None
    if not starts_only and (singleton or batch):
        raise ValueError("singleton and batch are for triggers that only start a workflow")
    if batch is not None and debounce is not None:
        raise ValueError("a trigger takes a batch or a debounce, not both")
    if batch is not None and (batch.count < 2 or to_milliseconds(batch.wait, "wait") < 1):
        raise ValueError("a batch needs a count of 2 at least, and a wait above zero")
    if debounce is not None and to_milliseconds(debounce.quiet, "quiet") < 1:
        raise ValueError("a debounce needs a quiet time above zero")


def _template(text: str) -> Callable[[Record], str]:
    fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
    unknown = sorted({field for field in fields if field not in _ID_FIELDS})
    if unknown:
        raise ValueError(f"the id {text!r} names {', '.join(unknown)}; there are {', '.join(_ID_FIELDS)}")
    needs_key = "key" in fields

    def make(record: Record) -> str:
        key = record.key_text if needs_key else ""
        return text.format(topic=record.topic, partition=record.partition, offset=record.offset, key=key)

    return make


def longest_burst_ms(debounce: Debounce) -> int:
    """How long a burst may last."""
    if debounce.longest is not None:
        return to_milliseconds(debounce.longest, "longest")
    return _BURST_LONGEST * to_milliseconds(debounce.quiet, "quiet")
