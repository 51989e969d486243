"""The errors that workflows, activities and clients raise and catch.

Names, parameters and meaning are those of the ``temporalio`` Python package, so that ``except`` clauses written for it
keep working. Invariant: every :class:`FailureError` can be turned into a :class:`perdure_schemas.records.Failure` and
back by the failure converter without losing what its properties show; the chain of ``__cause__`` travels with it.
Used by user code, by the workflow runtime and by the failure converter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from enum import IntEnum
from typing import Any

from perdure_schemas.records import Failure

__all__ = [
    "ActivityError",
    "ApplicationError",
    "ApplicationErrorCategory",
    "CancelledError",
    "ChildWorkflowError",
    "FailureError",
    "PerdureError",
    "RetryState",
    "ServerError",
    "TemporalError",
    "TerminatedError",
    "TimeoutError",
    "TimeoutType",
    "WorkflowAlreadyStartedError",
    "is_cancelled_exception",
]


class PerdureError(Exception):
    """Base of every error this package raises on purpose."""

    @property
    def cause(self) -> BaseException | None:
        """The error that led to this one, the same as ``__cause__``."""
        return self.__cause__


#: The base under the name a program written for ``temporalio`` knows.
TemporalError = PerdureError


class FailureError(PerdureError):
    """Base of the errors that are recorded in a history.

    Raising one in a workflow fails the workflow; any other exception only fails the workflow *task*, which is retried.

    Args:
        message: What went wrong.
        failure: The recorded failure this error was made from, if it was.
        exc_args: What ``Exception.args`` shall be; the message if not given.
    """

    def __init__(
        self, message: str, *, failure: Failure | None = None, exc_args: tuple[Any, ...] | None = None
    ) -> None:
        super().__init__(*((message,) if exc_args is None else exc_args))
        self._message = message
        self._failure = failure

    @property
    def message(self) -> str:
        """What went wrong."""
        return self._message

    @property
    def failure(self) -> Failure | None:
        """The recorded failure this error was made from, if it was."""
        return self._failure


class ApplicationErrorCategory(IntEnum):
    """How serious an application error is; a ``BENIGN`` one is expected and is logged at debug level only."""

    UNSPECIFIED = 0
    BENIGN = 1


class ApplicationError(FailureError):
    """An error raised by the code of a workflow or an activity.

    Args:
        message: What went wrong.
        details: Values that travel with the error; they go through the payload converter.
        type: A name for the kind of error; retry policies name these in ``non_retryable_error_types``.
        non_retryable: True if a retry is of no use, whatever the retry policy says.
        next_retry_delay: How long to wait before the next attempt, instead of what the retry policy says.
        category: How serious it is.
    """

    def __init__(
        self,
        message: str,
        *details: Any,
        type: str | None = None,
        non_retryable: bool = False,
        next_retry_delay: timedelta | None = None,
        category: ApplicationErrorCategory = ApplicationErrorCategory.UNSPECIFIED,
    ) -> None:
        super().__init__(message, exc_args=(f"{type}: {message}" if type else message,))
        self._details = details
        self._type = type
        self._non_retryable = non_retryable
        self._next_retry_delay = next_retry_delay
        self._category = category

    @property
    def details(self) -> Sequence[Any]:
        """The values that travel with the error."""
        return self._details

    @property
    def type(self) -> str | None:
        """The kind of error; for an ordinary exception its class name."""
        return self._type

    @property
    def non_retryable(self) -> bool:
        """Whether the raiser asked for no retry. False does not mean that a retry policy allows one."""
        return self._non_retryable

    @property
    def next_retry_delay(self) -> timedelta | None:
        """The wish for the delay before the next attempt."""
        return self._next_retry_delay

    @property
    def category(self) -> ApplicationErrorCategory:
        """How serious it is."""
        return self._category


class CancelledError(FailureError):
    """A workflow or an activity was cancelled."""

    def __init__(self, message: str = "Cancelled", *details: Any) -> None:
        super().__init__(message)
        self._details = details

    @property
    def details(self) -> Sequence[Any]:
        """Values given when the cancellation was taken."""
        return self._details


class TerminatedError(FailureError):
    """A workflow was terminated from outside."""

    def __init__(self, message: str, *details: Any) -> None:
        super().__init__(message)
        self._details = details

    @property
    def details(self) -> Sequence[Any]:
        """Values given by whoever terminated it."""
        return self._details


class TimeoutType(IntEnum):
    """Which timeout ran out."""

    START_TO_CLOSE = 1
    SCHEDULE_TO_START = 2
    SCHEDULE_TO_CLOSE = 3
    HEARTBEAT = 4


class TimeoutError(FailureError):
    """A workflow or an activity took longer than allowed.

    Args:
        message: What went wrong.
        type: Which timeout ran out.
        last_heartbeat_details: What the activity's last recorded heartbeat said.
    """

    def __init__(self, message: str, *, type: TimeoutType | None, last_heartbeat_details: Sequence[Any]) -> None:
        super().__init__(message)
        self._type = type
        self._last_heartbeat_details = last_heartbeat_details

    @property
    def type(self) -> TimeoutType | None:
        """Which timeout ran out."""
        return self._type

    @property
    def last_heartbeat_details(self) -> Sequence[Any]:
        """What the activity's last recorded heartbeat said."""
        return self._last_heartbeat_details


class ServerError(FailureError):
    """The engine itself could not go on."""

    def __init__(self, message: str, *, non_retryable: bool = False) -> None:
        super().__init__(message)
        self._non_retryable = non_retryable

    @property
    def non_retryable(self) -> bool:
        """Whether a retry is of no use."""
        return self._non_retryable


class RetryState(IntEnum):
    """Why an activity or a workflow was not retried further."""

    IN_PROGRESS = 1
    NON_RETRYABLE_FAILURE = 2
    TIMEOUT = 3
    MAXIMUM_ATTEMPTS_REACHED = 4
    RETRY_POLICY_NOT_SET = 5
    INTERNAL_SERVER_ERROR = 6
    CANCEL_REQUESTED = 7


class ActivityError(FailureError):
    """An activity failed for good; :attr:`cause` is why.

    Args:
        message: What went wrong.
        scheduled_event_id: The event that scheduled it.
        started_event_id: Always 0 here: starts are not events of their own. Kept so that signatures agree.
        identity: The worker that ran the last attempt.
        activity_type: The activity's name.
        activity_id: The activity's id in its workflow.
        retry_state: Why it was not retried further.
    """

    def __init__(
        self,
        message: str,
        *,
        scheduled_event_id: int,
        started_event_id: int = 0,
        identity: str,
        activity_type: str,
        activity_id: str,
        retry_state: RetryState | None,
    ) -> None:
        super().__init__(message)
        self._scheduled_event_id = scheduled_event_id
        self._started_event_id = started_event_id
        self._identity = identity
        self._activity_type = activity_type
        self._activity_id = activity_id
        self._retry_state = retry_state

    @property
    def scheduled_event_id(self) -> int:
        """The event that scheduled it."""
        return self._scheduled_event_id

    @property
    def started_event_id(self) -> int:
        """Always 0: starts are not events of their own."""
        return self._started_event_id

    @property
    def identity(self) -> str:
        """The worker that ran the last attempt."""
        return self._identity

    @property
    def activity_type(self) -> str:
        """The activity's name."""
        return self._activity_type

    @property
    def activity_id(self) -> str:
        """The activity's id in its workflow."""
        return self._activity_id

    @property
    def retry_state(self) -> RetryState | None:
        """Why it was not retried further."""
        return self._retry_state


class ChildWorkflowError(FailureError):
    """A child workflow failed for good; :attr:`cause` is why.

    Args:
        message: What went wrong.
        namespace: The child's namespace.
        workflow_id: The child's workflow id.
        run_id: The child's run id.
        workflow_type: The child's workflow name.
        initiated_event_id: The parent's event that asked for the child.
        started_event_id: The parent's event that says the child started.
        retry_state: Why it was not retried further.
    """

    def __init__(
        self,
        message: str,
        *,
        namespace: str,
        workflow_id: str,
        run_id: str,
        workflow_type: str,
        initiated_event_id: int,
        started_event_id: int,
        retry_state: RetryState | None,
    ) -> None:
        super().__init__(message)
        self._namespace = namespace
        self._workflow_id = workflow_id
        self._run_id = run_id
        self._workflow_type = workflow_type
        self._initiated_event_id = initiated_event_id
        self._started_event_id = started_event_id
        self._retry_state = retry_state

    @property
    def namespace(self) -> str:
        """The child's namespace."""
        return self._namespace

    @property
    def workflow_id(self) -> str:
        """The child's workflow id."""
        return self._workflow_id

    @property
    def run_id(self) -> str:
        """The child's run id."""
        return self._run_id

    @property
    def workflow_type(self) -> str:
        """The child's workflow name."""
        return self._workflow_type

    @property
    def initiated_event_id(self) -> int:
        """The parent's event that asked for the child."""
        return self._initiated_event_id

    @property
    def started_event_id(self) -> int:
        """The parent's event that says the child started."""
        return self._started_event_id

    @property
    def retry_state(self) -> RetryState | None:
        """Why it was not retried further."""
        return self._retry_state


class WorkflowAlreadyStartedError(FailureError):
    """A workflow with that id exists already, and the id policies do not allow another.

    Args:
        workflow_id: The id that is taken.
        workflow_type: The workflow that was to be started.
        run_id: The run that has the id.
        first_run_id: The first run of its chain, where known.
    """

    def __init__(
        self, workflow_id: str, workflow_type: str, *, run_id: str | None = None, first_run_id: str | None = None
    ) -> None:
        super().__init__("Workflow execution already started")
        self.workflow_id = workflow_id
        self.workflow_type = workflow_type
        self.run_id = run_id
        self.first_run_id = first_run_id


def is_cancelled_exception(exception: BaseException) -> bool:
    """Whether an exception means "this was cancelled": asyncio's, ours, or an activity or child that ended in ours."""
    if isinstance(exception, (asyncio.CancelledError, CancelledError)):
        return True
    return isinstance(exception, (ActivityError, ChildWorkflowError)) and isinstance(exception.cause, CancelledError)
