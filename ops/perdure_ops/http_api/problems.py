"""Errors of the HTTP API: RFC 9457 documents (``problem+json``) that say what was wrong, where and what to do.

Invariants: an error that a caller can cause never becomes a 500; a 500 says nothing of the inside, but stands in the
log. Called by the operations' endpoints and by the guards in front of them.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

import msgspec
from starlette.responses import Response

from perdure.client import (
    RPCTimeoutOrCancelledError,
    ScheduleAlreadyRunningError,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from perdure.exceptions import WorkflowAlreadyStartedError
from perdure.service import RPCError, RPCStatusCode
from perdure_ops.errors import CliError
from perdure_runtime.log import LogError

__all__ = ["Problem", "ProblemError", "problem_of", "problem_response"]

_logger = logging.getLogger("perdure.http")

MEDIA_TYPE = "application/problem+json"

_STATUS = {
    RPCStatusCode.INVALID_ARGUMENT: 400,
    RPCStatusCode.NOT_FOUND: 404,
    RPCStatusCode.ALREADY_EXISTS: 409,
    RPCStatusCode.FAILED_PRECONDITION: 409,
    RPCStatusCode.ABORTED: 409,
    RPCStatusCode.RESOURCE_EXHAUSTED: 429,
    RPCStatusCode.CANCELLED: 503,
    RPCStatusCode.UNAVAILABLE: 503,
    RPCStatusCode.DEADLINE_EXCEEDED: 504,
    RPCStatusCode.UNIMPLEMENTED: 501,
    RPCStatusCode.PERMISSION_DENIED: 403,
    RPCStatusCode.UNAUTHENTICATED: 401,
}


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What was wrong, where, and what to do.

    ``title`` names the kind of the problem, ``detail`` says what is wrong with this request and what to do, ``where``
    is the part of the request that is meant (for example ``$.args[0]`` or ``page_size``), and ``code`` is the same for
    all problems of a kind. ``run_id`` is the run that has a workflow id already.
    """

    status: int
    code: str
    title: str
    detail: str
    type: str = "about:blank"
    where: str = ""
    run_id: str = ""


class ProblemError(Exception):
    """A request cannot be served.

    Args:
        status: HTTP status.
        code: The kind of the problem, in capitals.
        detail: What is wrong and what to do.
        where: The part of the request that is meant.
        headers: Headers of the answer.
    """

    def __init__(
        self, status: int, code: str, detail: str, where: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.problem = _problem(status, code, detail, where=where)
        self.headers = headers or {}


def problem_of(error: Exception) -> Problem:
    """The problem that an error of an operation is."""
    match error:
        case ProblemError():
            return error.problem
        case RPCError():
            return _problem(_STATUS.get(error.status, 500), error.status.name, error.message)
        case WorkflowAlreadyStartedError():
            detail = (
                f"workflow {error.workflow_id!r} exists already; use another workflow_id, or an id_conflict_policy or"
                " id_reuse_policy that allows it"
            )
            return _problem(409, RPCStatusCode.ALREADY_EXISTS.name, detail, run_id=error.run_id or "")
        case ScheduleAlreadyRunningError():
            detail = "there is a schedule of this id; use another schedule_id, or update that one"
            return _problem(409, RPCStatusCode.ALREADY_EXISTS.name, detail, where="$.schedule_id")
        case WorkflowQueryFailedError():
            return _problem(422, "QUERY_FAILED", error.message)
        case WorkflowQueryRejectedError():
            return _problem(409, "QUERY_REJECTED", str(error))
        case RPCTimeoutOrCancelledError():
            return _problem(504, RPCStatusCode.DEADLINE_EXCEEDED.name, str(error))
        case TimeoutError():
            return _problem(504, RPCStatusCode.DEADLINE_EXCEEDED.name, "the request took too long; try again")
        case LogError():
            return _problem(503, RPCStatusCode.UNAVAILABLE.name, f"the log cannot be reached: {error}; try again")
        case CliError():
            return _problem(409, RPCStatusCode.FAILED_PRECONDITION.name, str(error))
        case ValueError() | TypeError():
            return _problem(400, RPCStatusCode.INVALID_ARGUMENT.name, str(error))
        case NotImplementedError():
            return _problem(501, RPCStatusCode.UNIMPLEMENTED.name, str(error))
    _logger.error("event=http_request_failed reason=%r", str(error), exc_info=error)
    detail = "the request failed for a reason that is no fault of yours; the server's log says more"
    return _problem(500, RPCStatusCode.INTERNAL.name, detail)


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """A problem as a response."""
    return Response(msgspec.json.encode(problem), problem.status, headers, MEDIA_TYPE)


def _problem(status: int, code: str, detail: str, *, where: str = "", run_id: str = "") -> Problem:
    return Problem(status=status, code=code, title=HTTPStatus(status).phrase, detail=detail, where=where, run_id=run_id)
