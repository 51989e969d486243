"""The HTTP API as routes: all modules of operations, their OpenAPI document, and problems for what does not exist.

Another resource becomes part of the API by one line in ``GROUPS``. Called by :mod:`perdure_ops.web.site`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from perdure_ops.http_api import (
    activities,
    cluster,
    control,
    deployments,
    histories,
    messages,
    schedules,
    task_queues,
    workflows,
)
from perdure_ops.http_api.context import Api
from perdure_ops.http_api.openapi import document
from perdure_ops.http_api.operations import PREFIX, Operations
from perdure_ops.http_api.problems import ProblemError, problem_response

__all__ = ["GROUPS", "api_routes", "openapi_document"]

GROUPS: Sequence[Operations] = (
    workflows.operation,
    messages.operation,
    control.operation,
    histories.operation,
    activities.operation,
    schedules.operation,
    task_queues.operation,
    deployments.operation,
    cluster.operation,
)

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@cache
def openapi_document() -> dict[str, Any]:
    """The OpenAPI document of this version."""
    return document(GROUPS, version("perdure"))


def api_routes(api: Api) -> list[BaseRoute]:
    """All routes below ``/api/v1``."""

    async def openapi(_: Request) -> Response:
        return JSONResponse(openapi_document())

    async def missing(request: Request) -> Response:
        detail = f"there is no {request.method} {request.url.path}; {PREFIX}/openapi.json lists what there is"
        return problem_response(ProblemError(404, "NOT_FOUND", detail, "path").problem)

    by_path: dict[str, list[str]] = {}
    routes: list[BaseRoute] = [Route(f"{PREFIX}/openapi.json", openapi, methods=["GET"])]
    for group in GROUPS:
        for operation in group.all:
            routes.append(operation.route(api))
            by_path.setdefault(PREFIX + operation.path, []).append(operation.method)
    routes += [Route(path, _wrong_method(methods), methods=_METHODS) for path, methods in by_path.items()]
    return [*routes, Route(f"{PREFIX}/{{rest:path}}", missing, methods=_METHODS)]


def _wrong_method(methods: Sequence[str]) -> Any:
    async def endpoint(request: Request) -> Response:
        allowed = ", ".join(sorted(methods))
        detail = f"{request.url.path} takes {allowed}, not {request.method}"
        error = ProblemError(405, "METHOD_NOT_ALLOWED", detail, "method", {"Allow": allowed})
        return problem_response(error.problem, error.headers)

    return endpoint
