"""Errors of the workflow runtime: what workflow code may see, and what the runner tells the worker.

Invariant: none of these is a ``FailureError``, so each fails the workflow *task* (which is retried), never the
workflow, unless the user lists its type among the failure exception types.
"""

from __future__ import annotations

from perdure.exceptions import PerdureError
from perdure_schemas.records import ContinueAsNewWorkflowExecution


class NondeterminismError(PerdureError):
    """The workflow code did not do on replay what the history says it did before."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ReadOnlyContextError(PerdureError):
    """Code that may only read (a query handler, a wait condition) tried to change the workflow."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RestrictedWorkflowAccessError(NondeterminismError):
    """Workflow code called a function that does not do the same on replay; the message names what to use instead."""


class WorkflowDeadlockError(PerdureError):
    """Workflow code ran for so long without waiting that it was interrupted."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ContinueAsNewError(BaseException):
    """Raised by ``workflow.continue_as_new()``; leaving the run method it ends the run. Not to be caught or made.

    No ``Exception``, so that ``except Exception`` in workflow code does not stop it.
    """

    def __init__(self, command: ContinueAsNewWorkflowExecution) -> None:
        super().__init__("Workflow continued as new")
        self.command = command


class NotInWorkflowError(PerdureError):
    """A function of :mod:`perdure.workflow` was called outside of workflow code."""

    def __init__(self, message: str = "Not in workflow event loop") -> None:
        super().__init__(message)
        self.message = message


class UnsupportedInWorkflowError(PerdureError, RuntimeError):
    """Workflow code used something that cannot be deterministic, or that this version does not have yet."""


class UnknownWorkflowTypeError(PerdureError):
    """This worker has no workflow of that name."""


class QueryTooEarlyError(PerdureError):
    """A run was asked before its code has run at all."""


class HistoryIncompleteError(PerdureError):
    """The given records do not join what is in the cache.

    Attributes:
        first_event_id: The caller shall fetch the history from this event on and try again.
    """

    def __init__(self, message: str, first_event_id: int) -> None:
        super().__init__(message)
        self.first_event_id = first_event_id
