"""Signals and queries of one run: finding the handler, decoding, running it, and what is kept until a handler exists.

Invariants: signals are handled in the order of the history, also those that waited for a handler; a signal whose
arguments cannot be decoded is logged and dropped, so that one bad message does not block the run; queries change
nothing. Owned by the instance.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from perdure._callables import fitted_types
from perdure._runtime.handler_definitions import (
    HandlerUnfinishedPolicy,
    QueryDefinition,
    SignalDefinition,
    UnfinishedSignalHandlersWarning,
    check_handler,
)
from perdure._runtime.update_definition import UpdateDefinition
from perdure.common import RawValue
from perdure.converter import PayloadConverter
from perdure.converter._failure import loggable
from perdure.exceptions import PerdureError
from perdure_schemas.records import Payload, WorkflowExecutionSignaled

if TYPE_CHECKING:
    from perdure._runtime.instance import WorkflowInstance

_log = logging.getLogger("perdure.workflow")
STACK_TRACE_QUERY = "__stack_trace"


class QueryNotFoundError(PerdureError):
    """A workflow has no handler for a query, and no dynamic one."""


class Handlers:
    """The handlers of one run. ``instance.object`` must exist before the first one is called."""

    def __init__(
        self,
        instance: WorkflowInstance,
        signals: Mapping[str | None, SignalDefinition],
        queries: Mapping[str | None, QueryDefinition],
        payload_converter: PayloadConverter,
    ) -> None:
        self._instance = instance
        self._payload_converter = payload_converter
        self._signals = dict(signals)
        self._queries = dict(queries)
        self._waiting: list[WorkflowExecutionSignaled] = []
        self._running: dict[int, SignalDefinition] = {}
        self._last_number = 0

    @property
    def all_finished(self) -> bool:
        """Whether no handler runs."""
        return not self._running

    # --- signals ------------------------------------------------------------------------------------------------

    def deliver(self, signal: WorkflowExecutionSignaled) -> None:
        """Start the handler of a signal, or keep the signal until there is one."""
        definition = self._signals.get(signal.signal_name) or self._signals.get(None)
        if definition is None:
            if not self._instance.replaying:
                _log.warning(
                    "workflow %s has no handler for signal %r yet; the signal is kept",
                    self._instance.info.workflow_id,
                    signal.signal_name,
                )
            self._waiting.append(signal)
            return
        try:
            args = decoded_arguments(definition, signal.signal_name, signal.input, self._payload_converter)
        except Exception as error:
            _log.error(
                "workflow %s: the arguments of signal %r cannot be decoded; the signal is dropped",
                self._instance.info.workflow_id,
                signal.signal_name,
                exc_info=loggable(error, self._instance.settings.failure_converter),
            )
            return
        self._last_number += 1
        number = self._last_number
        self._running[number] = definition
        fn = self._bound(definition)
        loop = self._instance.loop
        interception = self._instance.interception
        if interception is not None:
            fn = partial(interception.handle_signal, signal.signal_name, signal.header)
        if definition.is_async or interception is not None:
            loop.create_task(self._run_async(number, fn, args), name=f"signal-{signal.signal_name}-{number}")
        else:
            loop.call_soon(self._run_sync, number, fn, args)

    async def _run_async(self, number: int, fn: Callable[..., Any], args: list[Any]) -> None:
        try:
            await fn(*args)
        except BaseException as error:
            del self._running[number]
            self._instance.end_with(error)
        else:
            del self._running[number]

    def _run_sync(self, number: int, fn: Callable[..., Any], args: list[Any]) -> None:
        try:
            result = fn(*args)
            if asyncio.iscoroutine(result):
                task = self._instance.loop.create_task(self._run_async(number, lambda: result, []))
                task.set_name(f"signal-{number}")
                return
        except BaseException as error:
            del self._running[number]
            self._instance.end_with(error)
        else:
            del self._running[number]

    def warn_unfinished(self) -> None:
        """Warn of handlers that a closing run leaves unfinished, as their policy says."""
        names = sorted(
            str(definition.name)
            for definition in self._running.values()
            if definition.unfinished_policy is HandlerUnfinishedPolicy.WARN_AND_ABANDON
        )
        if names:
            warnings.warn(
                f"workflow {self._instance.info.workflow_id} ended while signal handlers were still running: "
                f"{', '.join(names)}. Wait for them with workflow.wait_condition(workflow.all_handlers_finished), or "
                "declare that they may be dropped with unfinished_policy=HandlerUnfinishedPolicy.ABANDON",
                UnfinishedSignalHandlersWarning,
                stacklevel=2,
            )

    def signal_handler(self, name: str | None) -> Callable[..., Any] | None:
        """The handler of a signal, or the dynamic one for ``None``."""
        definition = self._signals.get(name)
        return None if definition is None else self._bound(definition)

    def set_signal_handler(self, name: str | None, handler: Callable[..., Any] | None) -> None:
        """Set or remove a handler, and give it the signals that waited for it."""
        self._instance.loop.require_writable("set a signal handler")
        if handler is None:
            self._signals.pop(name, None)
            return
        check_handler(handler, "signal", is_method=False, dynamic=name is None)
        self._signals[name] = SignalDefinition(name=name, fn=handler, is_method=False)
        waiting, self._waiting = self._waiting, []
        for signal in waiting:
            if name is None or signal.signal_name == name:
                self.deliver(signal)
            else:
                self._waiting.append(signal)

    # --- queries ------------------------------------------------------------------------------------------------

    def answer(self, name: str, args: list[Payload], *, query_id: str, header: Mapping[str, Payload]) -> list[Payload]:
        """The answer to a query.

        Raises:
            QueryNotFoundError: there is no handler. BaseException: what the handler raised.
        """
        if name == STACK_TRACE_QUERY:
            return self._payload_converter.to_payloads([self.stack_trace()])
        definition = self._queries.get(name) or self._queries.get(None)
        if definition is None:
            known = " ".join(sorted(known for known in self._queries if known is not None))
            raise QueryNotFoundError(
                f"Query handler for '{name}' expected but not found, and there is no dynamic handler. "
                f"known queries: [{known}]"
            )
        values = decoded_arguments(definition, name, args, self._payload_converter)
        interception = self._instance.interception
        if interception is None:
            answer = self._bound(definition)(*values)
        else:
            answer = interception.answer_query(query_id, name, values, header)
        return self._payload_converter.to_payloads([answer])

    def query_handler(self, name: str | None) -> Callable[..., Any] | None:
        """The handler of a query, or the dynamic one for ``None``."""
        definition = self._queries.get(name)
        return None if definition is None else self._bound(definition)

    def set_query_handler(self, name: str | None, handler: Callable[..., Any] | None) -> None:
        """Set or remove a handler."""
        self._instance.loop.require_writable("set a query handler")
        if handler is None:
            self._queries.pop(name, None)
            return
        check_handler(handler, "query", is_method=False, dynamic=name is None)
        self._queries[name] = QueryDefinition(name=name, fn=handler, is_method=False)

    def stack_trace(self) -> str:
        """Where the tasks of the run wait, outermost frame first."""
        return "\n\n".join(
            f"Task {task.get_name()}:\n" + "\n".join(_frame_line(frame) for frame in _frames_of(task.get_coro()))
            for task in self._instance.loop.pending_tasks()
        )

    # --- both ---------------------------------------------------------------------------------------------------

    def _bound(self, definition: SignalDefinition | QueryDefinition) -> Callable[..., Any]:
        fn = definition.fn
        return fn.__get__(self._instance.object) if definition.is_method else fn


def decoded_arguments(
    definition: SignalDefinition | QueryDefinition | UpdateDefinition,
    name: str,
    payloads: list[Payload],
    payload_converter: PayloadConverter,
) -> list[Any]:
    """The arguments for a handler, decoded as its annotations say; a dynamic one gets the name first."""
    if definition.name is None:
        if definition.takes_variable_arguments:
            return [name, *payload_converter.from_payloads(payloads)]
        return [name, [RawValue(payload) for payload in payloads]]
    if not payloads:
        return []
    return payload_converter.from_payloads(payloads, fitted_types(definition.arg_types, len(payloads)))


def _frames_of(coroutine: Any) -> list[FrameType]:
    frames = []
    while coroutine is not None and getattr(coroutine, "cr_frame", None) is not None:
        frames.append(coroutine.cr_frame)
        coroutine = coroutine.cr_await
    return frames


def _frame_line(frame: FrameType) -> str:
    return f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_qualname}'
