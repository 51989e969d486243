"""Errors that only clients see, and how a refusal of the engine becomes one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.exceptions import PerdureError
from perdure.service import RPCError, RPCStatusCode
from perdure_schemas.records import ErrorCode, Rejected

if TYPE_CHECKING:
    from perdure.client._description import WorkflowExecutionStatus

_STATUS_OF_CODE = {
    ErrorCode.NOT_FOUND: RPCStatusCode.NOT_FOUND,
    ErrorCode.ALREADY_EXISTS: RPCStatusCode.ALREADY_EXISTS,
    ErrorCode.FAILED_PRECONDITION: RPCStatusCode.FAILED_PRECONDITION,
    ErrorCode.INVALID_ARGUMENT: RPCStatusCode.INVALID_ARGUMENT,
    ErrorCode.RESOURCE_EXHAUSTED: RPCStatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.QUARANTINED: RPCStatusCode.FAILED_PRECONDITION,
    ErrorCode.INTERNAL: RPCStatusCode.INTERNAL,
}


class WorkflowFailureError(PerdureError):
    """A workflow failed, was cancelled or terminated, or ran out of time; :attr:`cause` says which."""

    def __init__(self, *, cause: BaseException) -> None:
        super().__init__("Workflow execution failed")
        self.__cause__ = cause

    @property
    def cause(self) -> BaseException:
        """Why it did not succeed."""
        assert self.__cause__ is not None
        return self.__cause__


class WorkflowContinuedAsNewError(PerdureError):
    """The run went on as a new run, and the caller did not want to follow it."""

    def __init__(self, new_execution_run_id: str) -> None:
        super().__init__("Workflow continued as new")
        self._new_execution_run_id = new_execution_run_id

    @property
    def new_execution_run_id(self) -> str:
        """The run it went on as."""
        return self._new_execution_run_id


class ScheduleAlreadyRunningError(PerdureError):
    """There is a schedule of that id."""

    def __init__(self) -> None:
        super().__init__("Schedule already running")


class WorkflowQueryFailedError(PerdureError):
    """The query's handler raised, or there is none of that name."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self._message = message

    @property
    def message(self) -> str:
        """What the handler said."""
        return self._message


class RPCTimeoutOrCancelledError(PerdureError):
    """A request took too long, or the waiting for it was cancelled."""


class WorkflowUpdateRPCTimeoutOrCancelledError(RPCTimeoutOrCancelledError):
    """Sending an update, or waiting for its result, took too long or was cancelled. The update may still be taken."""

    def __init__(self, message: str = "Timeout or cancellation waiting for update") -> None:
        super().__init__(message)


class WorkflowUpdateFailedError(PerdureError):
    """An update's handler failed, or the update was rejected; :attr:`cause` says why."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("Workflow update failed")
        self.__cause__ = cause

    @property
    def cause(self) -> BaseException:
        """Why it did not succeed."""
        assert self.__cause__ is not None
        return self.__cause__


class WorkflowQueryRejectedError(PerdureError):
    """A query was not answered because of the workflow's status."""

    def __init__(self, status: WorkflowExecutionStatus | None) -> None:
        super().__init__(f"Query rejected, workflow status: {status.name if status is not None else None}")
        self._status = status

    @property
    def status(self) -> WorkflowExecutionStatus | None:
        """The status because of which it was rejected."""
        return self._status


def rpc_error(rejected: Rejected) -> RPCError:
    """The error for a refusal."""
    return RPCError(rejected.message, _STATUS_OF_CODE[rejected.code])
