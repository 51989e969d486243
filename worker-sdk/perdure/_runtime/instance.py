"""One run of a workflow in memory: its object, its loop, what it waits for, and what it wants from the engine.

Invariants: code runs only in :meth:`WorkflowInstance.activate`, :meth:`query` and :meth:`close`; the same events in the
same activations give the same commands; a run ends at most once, and nothing it does afterwards reaches the engine.
Owned by the replay (:mod:`perdure._runtime.replay`); user code reaches it through :mod:`perdure.workflow`.
"""

from __future__ import annotations

import asyncio
import random
from asyncio import events as asyncio_events
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from perdure._callables import fitted_types
from perdure._interceptors import WorkflowInboundInterceptor
from perdure._runtime.activities import Activities
from perdure._runtime.children import CHILD_EVENTS, Children
from perdure._runtime.context import new_loop
from perdure._runtime.definition import WorkflowDefinition
from perdure._runtime.errors import ContinueAsNewError, WorkflowDeadlockError
from perdure._runtime.external import EXTERNAL_EVENTS, ExternalRequests
from perdure._runtime.handlers import Handlers
from perdure._runtime.info import info_of
from perdure._runtime.interception import Interception
from perdure._runtime.local_activities import LocalActivities, LocalOutcome
from perdure._runtime.loop import DurableTimerHandle
from perdure._runtime.patches import Patches, patch_marker
from perdure._runtime.record_waits import RECORD_EVENTS, RecordWaits
from perdure._runtime.updates import Updates
from perdure._runtime.watchdog import Watchdog
from perdure._versioning import WorkerDeploymentConfig
from perdure.common import RawValue
from perdure.converter import FailureConverter, PayloadConverter
from perdure.exceptions import FailureError, is_cancelled_exception
from perdure_schemas.records import (
    ActivityTaskCanceledEvent,
    ActivityTaskCompletedEvent,
    ActivityTaskFailedEvent,
    ActivityTaskTimedOut,
    CancelTimer,
    CancelWorkflowExecution,
    CompleteWorkflowExecution,
    Event,
    Failure,
    FailureKind,
    FailWorkflowExecution,
    Payload,
    RequestCancelExternalWorkflowExecution,
    RetryState,
    ScheduleActivityTask,
    SignalExternalWorkflowExecution,
    StartChildWorkflowExecution,
    StartTimer,
    TimerFired,
    UpdateRequest,
    WorkflowCommand,
    WorkflowExecutionCancelRequested,
    WorkflowExecutionSignaled,
    WorkflowExecutionStarted,
    WorkflowTaskScheduled,
)


@dataclass(frozen=True)
class RuntimeSettings:
    """What all runs of a worker share."""

    namespace: str
    payload_converter: PayloadConverter
    failure_converter: FailureConverter
    failure_exception_types: tuple[type[BaseException], ...] = ()
    interceptor_classes: tuple[type[WorkflowInboundInterceptor], ...] = ()
    extern_functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    watchdog: Watchdog | None = None
    deployment: WorkerDeploymentConfig | None = None
    #: Of a worker that is not versioned, for histories.
    build_id: str = ""


class WorkflowInstance:
    """See the module.

    Args:
        definition: The workflow.
        started: The run's first event.
        workflow_id: The workflow's id.
        run_id: The run's id.
        settings: What all runs of the worker share.
        now_ms: The time of the first workflow task.
    """

    def __init__(
        self,
        definition: WorkflowDefinition,
        started: Event,
        workflow_id: str,
        run_id: str,
        settings: RuntimeSettings,
        now_ms: int,
    ) -> None:
        attributes = started.attributes
        assert isinstance(attributes, WorkflowExecutionStarted)
        self.definition = definition
        self.settings = settings
        # A reset run replays what its first run wrote, so it has that one's random numbers.
        seeded_by = attributes.original_run_id or run_id
        self.seed = int.from_bytes(blake2b(seeded_by.encode(), digest_size=8).digest())
        self.loop = new_loop(self, self.seed)
        self.loop.guards_off = 0 if definition.sandboxed else 1
        self.info = info_of(
            attributes,
            namespace=settings.namespace,
            workflow_id=workflow_id,
            run_id=run_id,
            created_ms=started.event_time_ms,
            now_ms=now_ms,
        )
        self.object: Any = None
        self.replaying = False
        self.history_length = 0
        self.history_bytes = 0
        self.current_details = ""
        #: The worker version of the workflow task that runs now (or ran last): its deployment's name, its build id.
        self.version = ("", "")
        self.versioning_behavior = definition.versioning_behavior
        #: What the run's first event says.
        self.started = attributes
        self.cancellation_reason: str | None = None
        self.activities = Activities(self, settings.payload_converter, settings.failure_converter)
        self.children = Children(self, settings.payload_converter, settings.failure_converter)
        self.external = ExternalRequests(self, settings.payload_converter)
        self.record_waits = RecordWaits(self)
        self.local_activities = LocalActivities(self)
        self.handlers = Handlers(self, definition.signals, definition.queries, settings.payload_converter)
        self.updates = Updates(self, definition.updates, settings.payload_converter)
        self.patches = Patches()
        self._input = attributes.input
        self._failure_types: tuple[type[BaseException], ...] = (
            FailureError,
            TimeoutError,
            *definition.failure_exception_types,
            *settings.failure_exception_types,
        )
        self._timers: dict[str, tuple[DurableTimerHandle, int]] = {}
        self._last_timer_number = 0
        self._commands: dict[int, WorkflowCommand] = {}
        self._last_command_number = 0
        self._closing_command: WorkflowCommand | None = None
        self._error: BaseException | None = None
        self._random: random.Random | None = None
        self._main: asyncio.Task[None] | None = None
        self.interception = Interception(self, settings.interceptor_classes) if settings.interceptor_classes else None

    # --- activations --------------------------------------------------------------------------------------------

    def activate(
        self,
        events: Sequence[Event],
        *,
        now_ms: int,
        replaying: bool,
        history_length: int,
        updates: Sequence[UpdateRequest] = (),
        local_markers: Sequence[Event] = (),
    ) -> list[WorkflowCommand]:
        """Give the code what has happened, run it until it waits, and return what it wants.

        Args:
            events: What has happened since the last activation, in order.
            now_ms: The workflow's time from here on; it never goes back.
            replaying: Whether the engine has the commands of this activation already.
            history_length: The id of the last event the code may know of.
            updates: Updates to deliver, after the signals and before all else; on replay those that were accepted.
            local_markers: On replay, the local activities that ended in this activation.

        Raises:
            BaseException: the code failed in a way that does not end the workflow.
        """
        self.loop.now_ms = max(self.loop.now_ms, now_ms)
        self.history_length = history_length
        self._commands = {}
        with self._code_runs(replaying=replaying):
            self._apply(events, updates)
            for marker in local_markers:
                self.local_activities.end_by_marker(marker)
                self.loop.run_until_idle()
        return self.commands_so_far(replaying=replaying)

    def end_local_activity(self, outcome: LocalOutcome, now_ms: int) -> list[WorkflowCommand]:
        """Go on in the activation that waits for local activities; returns all its commands so far.

        Raises:
            BaseException: the code failed in a way that does not end the workflow.
        """
        with self._code_runs(replaying=False):
            if self.local_activities.end(outcome, now_ms):
                self.loop.run_until_idle()
        return self.commands_so_far(replaying=False)

    @contextmanager
    def _code_runs(self, *, replaying: bool) -> Iterator[None]:
        self.replaying = replaying
        before = asyncio_events._get_running_loop()
        asyncio_events._set_running_loop(self.loop)
        watchdog = self.settings.watchdog
        try:
            if watchdog is not None:
                watchdog.begin(self.info)
            yield
        finally:
            asyncio_events._set_running_loop(before)
            self.replaying = False
            if watchdog is not None and (deadlock := watchdog.end()) is not None:
                raise deadlock

    def commands_so_far(self, *, replaying: bool) -> list[WorkflowCommand]:
        """What this activation wants of the engine, in order.

        Raises:
            BaseException: the code failed in a way that does not end the workflow.
        """
        if self._error is not None:
            raise self._error
        commands = list(self._commands.values())
        if self._closing_command is not None:
            self.local_activities.drop_all()
            commands.append(self._closing_command)
            if not replaying:
                self.handlers.warn_unfinished()
                self.updates.warn_unfinished()
        return commands

    def _apply(self, events: Sequence[Event], updates: Sequence[UpdateRequest]) -> None:
        first = self._main is None
        signals = []
        others: list[tuple[Callable[[WorkflowInstance, Event], None], Event]] = []
        for event in events:
            kind = type(event.attributes)
            if kind is WorkflowTaskScheduled:
                self._note_task(event.attributes)  # type: ignore[arg-type]
                continue
            if kind is WorkflowExecutionSignaled:
                signals.append(event.attributes)
                continue
            apply = _APPLY.get(kind)
            if apply is not None:
                others.append((apply, event))
        args: list[Any] = []
        if first:
            try:
                args = self._make_object()
            except BaseException as error:
                self.end_with(error)
                return
        if signals:
            for signal in signals:
                self.handlers.deliver(signal)  # type: ignore[arg-type]
            self.loop.run_until_idle()
        for update in updates:
            if self._closing_command is None and self._error is None and self.updates.deliver(update):
                self.loop.run_until_idle()
        if first:
            self._main = self.loop.create_task(self._run(args), name=self.definition.name)
        for apply, event in others:
            apply(self, event)
        if others or first:
            self.loop.run_until_idle()

    def _note_task(self, task: WorkflowTaskScheduled) -> None:
        # A speculative task's event is written after the code has run: the code could not know it then.
        if not task.speculative:
            self.history_bytes = task.history_bytes

    def _make_object(self) -> list[Any]:
        """Make the workflow object; the arguments of the run method are returned."""
        args: list[Any] = []
        if self.definition.dynamic:
            args = [[RawValue(payload) for payload in self._input]]
        elif self._input:
            hints = fitted_types(self.definition.arg_types, len(self._input))
            args = self.settings.payload_converter.from_payloads(self._input, hints)
        cls = self.definition.cls
        if self.definition.init_takes_arguments:
            self.object = cls(*args)
        else:
            self.object = cls()
        if self.definition.dynamic_config_fn is not None:
            config = self.definition.dynamic_config_fn(self.object)
            if config.failure_exception_types is not None:
                self._failure_types += tuple(config.failure_exception_types)
            self.versioning_behavior = config.versioning_behavior or self.versioning_behavior
        return args

    async def _run(self, args: list[Any]) -> None:
        try:
            if self.interception is None:
                result = await self.definition.run_fn(self.object, *args)
            else:
                result = await self.interception.execute_workflow(args)
            self._end(CompleteWorkflowExecution(result=self.settings.payload_converter.to_payloads([result])))
        except BaseException as error:
            self.end_with(error)

    def end_with(self, error: BaseException) -> None:
        """An exception left the run method or a signal handler: it ends the run, or it fails the workflow task."""
        if self.loop.closing or isinstance(error, (GeneratorExit, KeyboardInterrupt)):
            try:
                raise error
            finally:
                del error  # whose traceback holds this frame
        if isinstance(error, ContinueAsNewError):
            self._end(error.command)
            return
        try:
            if self.cancellation_reason is not None and all(map(is_cancelled_exception, _leaves(error))):
                self._end(CancelWorkflowExecution())
            elif self.is_failure_exception(error):
                if isinstance(error, BaseExceptionGroup) and error.__cause__ is None:
                    error.__cause__ = _leaves(error)[0]
                self._end(FailWorkflowExecution(failure=self._failure_of(error)))
            else:
                self._error = self._error or error
        except Exception as conversion_error:
            self._error = self._error or conversion_error

    def _end(self, command: WorkflowCommand) -> None:
        if self._closing_command is None:
            self._closing_command = command

    def _failure_of(self, error: BaseException) -> Failure:
        return self.settings.failure_converter.to_failure(error, self.settings.payload_converter)

    # --- queries and the end ------------------------------------------------------------------------------------

    def query(self, name: str, args: list[Payload], *, query_id: str, header: Mapping[str, Payload]) -> list[Payload]:
        """Answer a query from the state as it is.

        Raises:
            BaseException: what the handler raised, or that there is none.
        """
        with self._code_runs(replaying=False):
            self.loop.read_only = True
            try:
                return self.handlers.answer(name, args, query_id=query_id, header=header)
            finally:
                self.loop.read_only = False

    def close(self) -> None:
        """The run leaves the cache: end its tasks. The instance is of no use afterwards."""
        with suppress(WorkflowDeadlockError), self._code_runs(replaying=False):
            self.loop.close_tasks()
        # What refers to each other lets go, so that its memory is free now, and not after the next full collection.
        parts = (self.activities, self.children, self.external, self.record_waits, self.local_activities)
        for part in (*parts, self.handlers, self.updates, self):
            vars(part).clear()

    # --- commands -----------------------------------------------------------------------------------------------

    def add_command(self, command: WorkflowCommand) -> int:
        """Ask the engine for something. Returns a number by which it can be taken back in the same activation."""
        self.loop.require_writable("ask the engine for anything")
        self._last_command_number += 1
        if self._closing_command is None and not self.loop.closing:
            self._commands[self._last_command_number] = command
        return self._last_command_number

    def add_message(self, command: WorkflowCommand) -> None:
        """Tell the engine what became of an update; also when the run has ended in this very activation."""
        if not self.loop.closing:
            self._last_command_number += 1
            self._commands[self._last_command_number] = command

    def take_back_command(self, number: int) -> bool:
        """Drop a command that has not left this activation; false if it has."""
        return self._commands.pop(number, None) is not None

    def note_matched(self, command: WorkflowCommand, event_id: int) -> None:
        """The history has a command of an earlier activation as this event."""
        kind = type(command)
        if kind is ScheduleActivityTask:
            self.activities.note_scheduled(command.options.activity_id, event_id)  # type: ignore[union-attr]
        elif kind is StartChildWorkflowExecution:
            self.children.note_initiated(event_id)
        elif kind is SignalExternalWorkflowExecution or kind is RequestCancelExternalWorkflowExecution:
            self.external.note_initiated(event_id)

    def start_timer(self, handle: DurableTimerHandle, delay_ms: int, summary: str | None) -> None:
        """Called by the loop: start a durable timer."""
        self._last_timer_number += 1
        handle.timer_id = str(self._last_timer_number)
        number = self.add_command(
            StartTimer(
                timer_id=handle.timer_id,
                start_to_fire_timeout_ms=delay_ms,
                summary=None if summary is None else self.settings.payload_converter.to_payload(summary),
            )
        )
        self._timers[handle.timer_id] = (handle, number)

    def cancel_timer(self, handle: DurableTimerHandle) -> None:
        """Called by the loop: a timer's handle was cancelled, perhaps after it fired."""
        pending = self._timers.pop(handle.timer_id, None)
        if pending is not None and not self.loop.closing and not self.take_back_command(pending[1]):
            self.add_command(CancelTimer(timer_id=handle.timer_id))

    def patched(self, patch_id: str, *, deprecated: bool) -> bool:
        """Whether a patch is on; notes it in the history the first time."""
        self.loop.require_writable("decide a patch")
        on, note = self.patches.decide(patch_id, replaying=self.replaying)
        if note:
            self.add_command(patch_marker(patch_id, deprecated=deprecated))
        return on

    # --- what the code may know ---------------------------------------------------------------------------------

    def is_failure_exception(self, error: BaseException) -> bool:
        """Whether an exception ends the workflow, rather than failing the workflow task.

        A group, as an ``asyncio.TaskGroup`` raises it, does if all that is in it does.
        """
        return all(isinstance(one, self._failure_types) for one in _leaves(error))

    @property
    def random(self) -> random.Random:
        """The run's random generator, seeded from the run id."""
        self.loop.require_writable("draw random numbers")
        if self._random is None:
            self._random = random.Random(self.seed)  # noqa: S311 # deterministic on purpose
        return self._random

    # --- what has happened --------------------------------------------------------------------------------------

    def _on_activity_completed(self, event: Event) -> None:
        attributes = event.attributes
        assert type(attributes) is ActivityTaskCompletedEvent
        self.activities.complete(attributes.scheduled_event_id, attributes.result, event.event_id)

    def _on_activity_failed(self, event: Event) -> None:
        a = event.attributes
        assert type(a) is ActivityTaskFailedEvent
        self.activities.fail(
            a.scheduled_event_id, "Activity task failed", a.failure, a.retry_state, event.event_id, a.identity
        )

    def _on_activity_timed_out(self, event: Event) -> None:
        a = event.attributes
        assert type(a) is ActivityTaskTimedOut
        self.activities.fail(a.scheduled_event_id, "Activity task timed out", a.failure, a.retry_state, event.event_id)

    def _on_activity_canceled(self, event: Event) -> None:
        a = event.attributes
        assert type(a) is ActivityTaskCanceledEvent
        cause = Failure(kind=FailureKind.CANCELED, message="Cancelled", details=a.details)
        self.activities.fail(
            a.scheduled_event_id, "Activity cancelled", cause, RetryState.CANCEL_REQUESTED, event.event_id, a.identity
        )

    def _on_timer_fired(self, event: Event) -> None:
        attributes = event.attributes
        assert type(attributes) is TimerFired
        # A timer that fired while its cancellation was on the way has no handle any more.
        pending = self._timers.pop(attributes.timer_id, None)
        if pending is not None:
            self.loop.ready.append(pending[0])

    def _on_cancel_requested(self, event: Event) -> None:
        attributes = event.attributes
        assert type(attributes) is WorkflowExecutionCancelRequested
        if self.cancellation_reason is not None:
            return
        self.cancellation_reason = attributes.reason
        # Not at once: a run cancelled before its first step still makes that step, and learns of it where it waits.
        assert self._main is not None
        self.loop.call_soon(self._main.cancel)


_APPLY: dict[type, Callable[[WorkflowInstance, Event], None]] = {
    ActivityTaskCompletedEvent: WorkflowInstance._on_activity_completed,
    ActivityTaskFailedEvent: WorkflowInstance._on_activity_failed,
    ActivityTaskTimedOut: WorkflowInstance._on_activity_timed_out,
    ActivityTaskCanceledEvent: WorkflowInstance._on_activity_canceled,
    TimerFired: WorkflowInstance._on_timer_fired,
    WorkflowExecutionCancelRequested: WorkflowInstance._on_cancel_requested,
    **CHILD_EVENTS,
    **EXTERNAL_EVENTS,
    **RECORD_EVENTS,
}


def _leaves(error: BaseException) -> list[BaseException]:
    """The exception, or those in a group of exceptions."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]
