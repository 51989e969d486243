"""What workflow code sends to other workflows: signals and requests to cancel, and how they were taken.

Invariants: a request's future is done exactly once; one that is cancelled in the workflow task that made it never
reaches the engine. The instance owns the table; the replay tells it which event each request became.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perdure._limits import check_workflow_id
from perdure._runtime.errors import NondeterminismError
from perdure.converter import PayloadConverter
from perdure.exceptions import ApplicationError
from perdure_schemas import records
from perdure_schemas.records import (
    Event,
    Payload,
    RequestCancelExternalWorkflowExecution,
    SignalExternalWorkflowExecution,
)

if TYPE_CHECKING:
    from perdure._runtime.instance import WorkflowInstance

NOT_FOUND_CAUSE = "EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND"
#: The type of the error that says so.
NOT_FOUND_TYPE = "ExternalWorkflowExecutionNotFound"


class ExternalFuture(asyncio.Future[None]):
    """Done when the other workflow has taken the request."""

    __slots__ = ("command_number", "owner", "what")

    command_number: int
    owner: ExternalRequests
    what: str

    def cancel(self, msg: Any | None = None) -> bool:
        """Wait no longer. A request that has left the workflow is not taken back."""
        if not self.done():
            self.owner.take_back(self)
        return super().cancel(msg)


class ExternalRequests:
    """The requests of one run to other workflows that are not answered yet."""

    def __init__(self, instance: WorkflowInstance, payload_converter: PayloadConverter) -> None:
        self._instance = instance
        self._payload_converter = payload_converter
        #: In the order of their commands, which is the order of their events.
        self._without_event: deque[ExternalFuture] = deque()
        self._by_event: dict[int, ExternalFuture] = {}

    def signal(
        self,
        workflow_id: str,
        name: str,
        args: Sequence[Any],
        *,
        run_id: str = "",
        child_initiated_event_id: int = 0,
        headers: Mapping[str, Payload] = {},
    ) -> ExternalFuture:
        """Signal another workflow; with ``child_initiated_event_id`` a child of this run."""
        check_workflow_id(workflow_id)
        command = SignalExternalWorkflowExecution(
            workflow_id=workflow_id,
            run_id=run_id,
            child_initiated_event_id=child_initiated_event_id,
            signal_name=name,
            input=self._payload_converter.to_payloads(args) if args else [],
            header=dict(headers),
        )
        return self._request(command, f"signal workflow {workflow_id!r}")

    def cancel(
        self, workflow_id: str, *, run_id: str = "", child_initiated_event_id: int = 0, reason: str = ""
    ) -> ExternalFuture:
        """Ask another workflow to stop; with ``child_initiated_event_id`` a child of this run."""
        check_workflow_id(workflow_id)
        command = RequestCancelExternalWorkflowExecution(
            workflow_id=workflow_id, run_id=run_id, child_initiated_event_id=child_initiated_event_id, reason=reason
        )
        return self._request(command, f"cancel workflow {workflow_id!r}")

    def _request(
        self, command: SignalExternalWorkflowExecution | RequestCancelExternalWorkflowExecution, what: str
    ) -> ExternalFuture:
        future = ExternalFuture(loop=self._instance.loop)
        future.owner = self
        future.what = what
        future.command_number = self._instance.add_command(command)
        self._without_event.append(future)
        return future

    def take_back(self, future: ExternalFuture) -> None:
        """Nobody waits for it any more: if it has not left the workflow task, it never does."""
        if self._instance.take_back_command(future.command_number):
            self._without_event.remove(future)

    # --- what the history says ----------------------------------------------------------------------------------

    def note_initiated(self, event_id: int) -> None:
        """The event of the oldest request without one is known."""
        self._by_event[event_id] = self._without_event.popleft()

    def answered(self, event: Event, cause: str = "", message: str = "") -> None:
        """The other workflow took a request, or (with ``cause``) did not."""
        initiated_event_id = event.attributes.initiated_event_id  # type: ignore[union-attr]
        future = self._by_event.pop(initiated_event_id, None)
        if future is None:
            raise NondeterminismError(
                f"history event {event.event_id} answers the request of event {initiated_event_id} to another workflow,"
                " but the workflow code has made no such request"
            )
        if future.done():
            return
        if not cause:
            future.set_result(None)
        elif cause == NOT_FOUND_CAUSE:
            text = f"Unable to {future.what} because it was not found: {message}"
            future.set_exception(ApplicationError(text, type=NOT_FOUND_TYPE))
        else:
            future.set_exception(ApplicationError(f"Unable to {future.what}: {message}", type=cause))


def _taken(instance: WorkflowInstance, event: Event) -> None:
    instance.external.answered(event)


def _refused(instance: WorkflowInstance, event: Event) -> None:
    attributes: Any = event.attributes
    instance.external.answered(event, attributes.cause, attributes.message)


#: What the instance does when these happen.
EXTERNAL_EVENTS: dict[type, Callable[[WorkflowInstance, Event], None]] = {
    records.ExternalWorkflowExecutionSignaled: _taken,
    records.SignalExternalWorkflowExecutionFailed: _refused,
    records.ExternalWorkflowExecutionCancelRequested: _taken,
    records.RequestCancelExternalWorkflowExecutionFailed: _refused,
}
