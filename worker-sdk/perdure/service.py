"""The error of a request to the engine, and its status codes, with the names of ``temporalio.service``."""

from __future__ import annotations

from enum import IntEnum

from perdure.exceptions import PerdureError

__all__ = ["RPCError", "RPCStatusCode"]


class RPCStatusCode(IntEnum):
    """Why a request was not fulfilled. The values are those of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RPCError(PerdureError):
    """A request to the engine was not fulfilled.

    Args:
        message: Why, and what to do.
        status: The kind of the error.
    """

    def __init__(self, message: str, status: RPCStatusCode) -> None:
        super().__init__(message)
        self._message = message
        self._status = status

    @property
    def message(self) -> str:
        """Why, and what to do."""
        return self._message

    @property
    def status(self) -> RPCStatusCode:
        """The kind of the error."""
        return self._status
