"""Child workflows as workflow code sees them: what was asked for, what is open, and how it ends.

Invariants: a child's start is known exactly once, and its result, if it started, exactly once, as its value or an
error; a cancellation is asked for at most once; a child cancelled in the workflow task that asked for it never reaches
the engine. The instance owns the table; the replay tells it which event asked for which child.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar

from perdure._callables import UNSET, arguments_of
from perdure._interceptors import SignalChildWorkflowInput
from perdure._runtime.errors import NondeterminismError
from perdure._runtime.handler_definitions import signal_name
from perdure._runtime.loop import WorkflowLoop, WorkflowTask
from perdure.converter import FailureConverter, PayloadConverter
from perdure.exceptions import ChildWorkflowError, WorkflowAlreadyStartedError
from perdure_schemas import records
from perdure_schemas.records import (
    ChildWorkflowOptions,
    Event,
    Failure,
    FailureKind,
    Payload,
    StartChildWorkflowExecution,
)

if TYPE_CHECKING:
    from perdure._runtime.instance import WorkflowInstance
    from perdure._runtime.interception import Interception

_T = TypeVar("_T")
_ALREADY_EXISTS_CAUSE = "WORKFLOW_ALREADY_EXISTS"


class ParentClosePolicy(IntEnum):
    """What happens to an open child when its parent closes, in whatever way. ``UNSPECIFIED`` means ``TERMINATE``."""

    UNSPECIFIED = 0
    TERMINATE = 1
    ABANDON = 2
    REQUEST_CANCEL = 3


class ChildWorkflowCancellationType(IntEnum):
    """What the cancellation of a child workflow waits for."""

    #: Take it as cancelled at once, and let it run.
    ABANDON = 0
    #: Ask the child to stop, and take it as cancelled at once.
    TRY_CANCEL = 1
    #: Ask the child to stop, and wait until it has closed: it may still return or fail otherwise.
    WAIT_CANCELLATION_COMPLETED = 2
    #: Ask the child to stop, and take it as cancelled once it has got the request.
    WAIT_CANCELLATION_REQUESTED = 3


class StartFuture(asyncio.Future[None]):
    """Done when the child runs. Cancelling it cancels the child."""

    __slots__ = ("child",)

    child: ChildFuture

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the child as its cancellation type says."""
        if self.done():
            return False
        self.child.owner.cancel(self.child)
        return True


class ChildFuture(asyncio.Future[Any]):
    """The result to come of one child. Cancelling it follows the child's cancellation type."""

    __slots__ = (
        "cancel_requested", "cancellation_type", "command_number", "initiated_event_id", "owner", "result_type",
        "run_id", "started", "started_event_id", "workflow_id", "workflow_type",
    )  # fmt: skip

    workflow_id: str
    workflow_type: str
    cancellation_type: ChildWorkflowCancellationType
    result_type: Any
    owner: Children
    started: StartFuture
    #: Number of the command that asks for it, as long as that has not left the activation.
    command_number: int
    #: Events that asked for it and that say it runs; 0 as long as they are not known.
    initiated_event_id: int
    started_event_id: int
    run_id: str
    cancel_requested: bool

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the child; it ends with a :class:`ChildWorkflowError`, not with ``asyncio.CancelledError``."""
        if self.done():
            return False
        self.owner.cancel(self)
        return True


class ChildWorkflowTask(WorkflowTask[_T]):
    """What ``workflow.start_child_workflow`` gives: a task that ends with the child."""

    def __init__(self, child: ChildFuture, loop: WorkflowLoop) -> None:
        self._child = child
        super().__init__(_result_of(child), loop=loop, name=f"child-workflow-{child.workflow_id}")
        loop.track(self)

    def detached(self) -> ChildFuture:
        """The child's own future, to wait for instead of this task, which then nobody looks at."""
        self.add_done_callback(_look_at)
        return self._child

    @property
    def id(self) -> str:
        """The child's workflow id."""
        return self._child.workflow_id

    @property
    def first_execution_run_id(self) -> str | None:
        """The id of the child's first run."""
        return self._child.run_id

    async def signal(self, signal: str | Callable[..., Any], arg: Any = UNSET, *, args: Sequence[Any] = []) -> None:
        """Signal the child, and wait until it has got the signal."""
        child, name, values = self._child, signal_name(signal), arguments_of(arg, args)
        interception = child.owner.interception
        if interception is None:
            await child.owner.signal(child, name, values)
            return

        async def send(input: SignalChildWorkflowInput) -> None:
            await child.owner.signal(child, input.signal, input.args, input.headers)

        await interception.outbound.signal_child_workflow(
            SignalChildWorkflowInput(name, values, child.workflow_id, {}, send)
        )

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the child as its cancellation type says. True unless it is over."""
        if not self._child.cancel():
            return False
        self.add_done_callback(_look_at)
        return True


def _look_at(done: asyncio.Future[Any]) -> None:
    """Nobody need look how it ends: without this asyncio complains that nobody did."""
    if not done.cancelled():
        done.exception()


async def _result_of(future: ChildFuture) -> Any:
    return await future


class Children:
    """The open children of one run."""

    def __init__(
        self, instance: WorkflowInstance, payload_converter: PayloadConverter, failure_converter: FailureConverter
    ) -> None:
        self._instance = instance
        self._payload_converter = payload_converter
        self._failure_converter = failure_converter
        #: In the order of their commands, which is the order of their events.
        self._without_event: deque[ChildFuture] = deque()
        self._by_event: dict[int, ChildFuture] = {}

    # --- what the code asks for ---------------------------------------------------------------------------------

    def start(
        self, options: ChildWorkflowOptions, result_type: Any, cancellation_type: ChildWorkflowCancellationType
    ) -> ChildFuture:
        """Start a child. See ``workflow.start_child_workflow``."""
        loop = self._instance.loop
        child = ChildFuture(loop=loop)
        child.owner = self
        child.workflow_id = options.workflow_id
        child.workflow_type = options.workflow_type
        child.cancellation_type = ChildWorkflowCancellationType(cancellation_type)
        child.result_type = result_type
        child.initiated_event_id = child.started_event_id = 0
        child.run_id = ""
        child.cancel_requested = False
        child.started = StartFuture(loop=loop)
        child.started.child = child
        child.command_number = self._instance.add_command(StartChildWorkflowExecution(options=options))
        self._without_event.append(child)
        return child

    @property
    def interception(self) -> Interception | None:
        """The run's interceptors."""
        return self._instance.interception

    def signal(
        self, child: ChildFuture, name: str, args: Sequence[Any], headers: Mapping[str, Payload] = {}
    ) -> asyncio.Future[None]:
        """Signal a child that has started."""
        return self._instance.external.signal(
            child.workflow_id, name, args, child_initiated_event_id=child.initiated_event_id, headers=headers
        )

    def cancel(self, child: ChildFuture) -> None:
        """Cancel an open child as its cancellation type says."""
        if self._instance.loop.closing:
            return
        self._instance.loop.require_writable("cancel a child workflow")
        if self._instance.take_back_command(child.command_number):
            self._without_event.remove(child)
            self._fail_cancelled(child)
            return
        how = child.cancellation_type
        if how is not ChildWorkflowCancellationType.ABANDON and not child.cancel_requested:
            request = self._instance.external.cancel(
                child.workflow_id,
                child_initiated_event_id=child.initiated_event_id,
                reason=self._instance.cancellation_reason or "",
            )
            # A child that cannot be cancelled any more tells how it ended; there is nothing to learn from the refusal.
            request.add_done_callback(_look_at)
            if how is ChildWorkflowCancellationType.WAIT_CANCELLATION_REQUESTED:
                request.add_done_callback(lambda done: self._on_requested(child, done))
        child.cancel_requested = True
        if how in (ChildWorkflowCancellationType.ABANDON, ChildWorkflowCancellationType.TRY_CANCEL):
            self._fail_cancelled(child)

    def _on_requested(self, child: ChildFuture, request: asyncio.Future[None]) -> None:
        if not request.cancelled() and request.exception() is None:
            self._fail_cancelled(child)

    # --- what the history says ----------------------------------------------------------------------------------

    def note_initiated(self, event_id: int) -> None:
        """The event of the oldest child without one is known."""
        child = self._without_event.popleft()
        child.initiated_event_id = event_id
        self._by_event[event_id] = child

    def on_started(self, attributes: records.ChildWorkflowExecutionStarted, event_id: int) -> None:
        """The child runs."""
        child = self._find(attributes.initiated_event_id, event_id)
        child.run_id = attributes.run_id
        child.started_event_id = event_id
        if not child.started.done():
            child.started.set_result(None)

    def on_start_failed(self, attributes: records.StartChildWorkflowExecutionFailed, event_id: int) -> None:
        """The child could not be started."""
        child = self._close(attributes.initiated_event_id, event_id)
        if child.started.done():
            return
        if attributes.cause == _ALREADY_EXISTS_CAUSE:
            child.started.set_exception(
                WorkflowAlreadyStartedError(
                    child.workflow_id, child.workflow_type, run_id=attributes.existing_run_id or None
                )
            )
            return
        cause = Failure(
            kind=FailureKind.APPLICATION, message=attributes.message, type=attributes.cause, non_retryable=True
        )
        child.started.set_exception(self._error_of(child, "Child workflow could not be started", cause, None))

    def on_completed(self, attributes: records.ChildWorkflowExecutionCompleted, event_id: int) -> None:
        """The child returned."""
        child = self._close(attributes.initiated_event_id, event_id)
        if child.done():
            return
        try:
            hints = None if child.result_type is None else [child.result_type]
            values = self._payload_converter.from_payloads(attributes.result, hints) if attributes.result else [None]
        except Exception as error:
            error.add_note(f"while the result of child workflow {child.workflow_type} (event {event_id}) was decoded")
            child.set_exception(error)
        else:
            child.set_result(values[0])

    def on_failed(self, attributes: Any, event_id: int, message: str) -> None:
        """The child did not succeed."""
        child = self._close(attributes.initiated_event_id, event_id)
        child.run_id = child.run_id or attributes.run_id
        retry_state = getattr(attributes, "retry_state", None)
        self._fail(child, self._error_of(child, message, attributes.failure, retry_state))

    def _find(self, initiated_event_id: int, event_id: int) -> ChildFuture:
        child = self._by_event.get(initiated_event_id)
        if child is None:
            raise NondeterminismError(
                f"history event {event_id} is about the child workflow of event {initiated_event_id}, "
                "but the workflow code has no such child open"
            )
        return child

    def _close(self, initiated_event_id: int, event_id: int) -> ChildFuture:
        child = self._find(initiated_event_id, event_id)
        del self._by_event[initiated_event_id]
        return child

    def _fail_cancelled(self, child: ChildFuture) -> None:
        cause = Failure(kind=FailureKind.CANCELED, message="Cancelled")
        error = self._error_of(child, "Child workflow cancelled", cause, records.RetryState.CANCEL_REQUESTED)
        self._fail(child, error)

    def _fail(self, child: ChildFuture, error: BaseException) -> None:
        # One of the two is waited for: the other one's error would be one that nobody looked at.
        started = child.started
        if not started.done():
            started.set_exception(error)
        elif started.exception() is None and not child.done():
            child.set_exception(error)

    def _error_of(
        self, child: ChildFuture, message: str, cause: Failure, retry_state: records.RetryState | None
    ) -> BaseException:
        failure = Failure(
            kind=FailureKind.CHILD_WORKFLOW,
            message=message,
            cause=cause,
            workflow_id=child.workflow_id,
            run_id=child.run_id,
            workflow_type=child.workflow_type,
            scheduled_event_id=child.initiated_event_id,
            retry_state=retry_state,
        )
        error = self._failure_converter.from_failure(failure, self._payload_converter)
        if isinstance(error, ChildWorkflowError):
            error._namespace = self._instance.info.namespace
            error._started_event_id = child.started_event_id
        return error


def _failing(message: str) -> Callable[[WorkflowInstance, Event], None]:
    def apply(instance: WorkflowInstance, event: Event) -> None:
        instance.children.on_failed(event.attributes, event.event_id, message)

    return apply


def _started(instance: WorkflowInstance, event: Event) -> None:
    assert type(event.attributes) is records.ChildWorkflowExecutionStarted
    instance.children.on_started(event.attributes, event.event_id)


def _start_failed(instance: WorkflowInstance, event: Event) -> None:
    assert type(event.attributes) is records.StartChildWorkflowExecutionFailed
    instance.children.on_start_failed(event.attributes, event.event_id)


def _completed(instance: WorkflowInstance, event: Event) -> None:
    assert type(event.attributes) is records.ChildWorkflowExecutionCompleted
    instance.children.on_completed(event.attributes, event.event_id)


#: What the instance does when these happen.
CHILD_EVENTS: dict[type, Callable[[WorkflowInstance, Event], None]] = {
    records.ChildWorkflowExecutionStarted: _started,
    records.StartChildWorkflowExecutionFailed: _start_failed,
    records.ChildWorkflowExecutionCompleted: _completed,
    records.ChildWorkflowExecutionFailed: _failing("Child workflow failed"),
    records.ChildWorkflowExecutionCanceled: _failing("Child workflow cancelled"),
    records.ChildWorkflowExecutionTimedOut: _failing("Child workflow timed out"),
    records.ChildWorkflowExecutionTerminated: _failing("Child workflow terminated"),
}
