"""The OpenAPI document of the HTTP API, made from the same declarations as its routes. Pure.

Called by the application, which serves it at ``/api/v1/openapi.json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from perdure_ops.http_api.operations import PREFIX, Operation, Operations
from perdure_ops.http_api.problems import MEDIA_TYPE, Problem

__all__ = ["document"]

_REFERENCE = "#/components/schemas/{name}"
_PATH_TEXTS = {
    "workflow_id": "Workflow id, percent-encoded.",
    "schedule_id": "Schedule id, percent-encoded.",
    "update_id": "Update id, percent-encoded.",
    "deployment": "The deployment's name, percent-encoded.",
    "build_id": "The version's build id, percent-encoded.",
    "task_queue": "The task queue's name, percent-encoded.",
}
_OVERVIEW = """\
Start workflows and talk to them from any language.

Values (arguments, results, details) are plain JSON. A payload that is no JSON, for example an encrypted one, is an \
object with `metadata` and `data`, both in base64; the same form may be sent. Times are RFC 3339 in UTC, durations \
whole milliseconds. Errors are `application/problem+json`. Requests that change something must have the header \
`Content-Type: application/json` if they have a body, and must not come from web pages of other origins.\
"""


def document(groups: Sequence[Operations], version: str) -> dict[str, Any]:
    """The document.

    Args:
        groups: The operations by module.
        version: Of the server.
    """
    operations = [operation for group in groups for operation in group.all]
    schemas, components = msgspec.json.schema_components(_types(operations), ref_template=_REFERENCE)
    components = _markdown(components)
    by_type = dict(zip(_types(operations), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        item = paths.setdefault(PREFIX + operation.path, {})
        item[operation.method.lower()] = _operation(operation, by_type, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Perdure", "version": version, "description": _OVERVIEW},
        "tags": [{"name": group.tag, "description": group.description} for group in groups],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        # A server on a loopback address may do without a token.
        "security": [{"token": []}, {}],
    }


def _markdown(part: Any) -> Any:
    """A schema whose texts have Markdown's backticks, where docstrings have two."""
    if isinstance(part, dict):
        return {key: _markdown(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_markdown(value) for value in part]
    return " ".join(part.replace("``", "`").split()) if isinstance(part, str) else part


def _types(operations: Iterable[Operation]) -> list[type[msgspec.Struct]]:
    found: dict[type[msgspec.Struct], None] = {Problem: None}
    for operation in operations:
        for kind in (operation.query, operation.body, operation.answer):
            if kind is not None:
                found[kind] = None
    return list(found)


def _operation(
    operation: Operation, by_type: dict[type[msgspec.Struct], Any], components: dict[str, Any]
) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": _PATH_TEXTS[name]}
        for name in operation.path_parameters
    ]
    if operation.query is not None:
        parameters += _query_parameters(by_type[operation.query], components)
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": _responses(operation, by_type),
    }
    if operation.description:
        described["description"] = _markdown(operation.description)
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": by_type[operation.body]}},
        }
    return described


def _query_parameters(reference: dict[str, Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    schema = components[reference["$ref"].rpartition("/")[2]]
    required = schema.get("required", [])
    parameters = []
    for name, part in schema["properties"].items():
        shown = {key: value for key, value in part.items() if key != "description"}
        parameter = {"name": name, "in": "query", "required": name in required, "schema": shown}
        if "description" in part:
            parameter["description"] = part["description"]
        parameters.append(parameter)
    return parameters


def _responses(operation: Operation, by_type: dict[type[msgspec.Struct], Any]) -> dict[str, Any]:
    answer = by_type[operation.answer]
    media = "text/event-stream" if operation.is_stream else "application/json"
    good = {status: text for status, text in operation.statuses.items() if status < 400}
    if 201 not in good:
        good = {200: "Done.", **good}
    responses: dict[str, Any] = {
        str(status): {"description": text, "content": {media: {"schema": answer}}} for status, text in good.items()
    }
    problem = {"content": {MEDIA_TYPE: {"schema": by_type[Problem]}}}
    for status, text in operation.statuses.items():
        if status >= 400:
            responses[str(status)] = {"description": text, **problem}
    responses["default"] = {"description": "What was wrong, where, and what to do.", **problem}
    return responses
