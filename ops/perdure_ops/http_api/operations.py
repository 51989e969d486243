"""From functions to routes: the signature of a handler is the declaration of its operation.

A handler takes the API's context first; then the parameters that stand in its path; ``query``, a struct of query
parameters; ``body``, a struct of the request's JSON. It returns a struct, or an asynchronous iterator of structs, which
is sent as server-sent events. Its docstring documents it. Invariant: endpoints and the OpenAPI document are made from
the same declaration, so they cannot differ. Called by the modules of resources and by
:mod:`perdure_ops.http_api.application`.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import unquote

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from perdure_ops.http_api.problems import ProblemError, problem_of, problem_response
from perdure_schemas.limits import HTTP_BODY_BYTES_MAX, HTTP_BODY_MS_MAX, HTTP_REQUEST_MS_MAX, NESTING_MAX
from perdure_schemas.nesting import is_too_deep

if TYPE_CHECKING:
    from perdure_ops.http_api.context import Api

__all__ = ["PREFIX", "Answer", "Nothing", "Operation", "Operations"]

PREFIX = "/api/v1"

H = TypeVar("H", bound=Callable[..., Any])

_PATH_PARAMETER = re.compile(r"{(\w+)}")
#: How often a stream without news says that it lives, so that proxies keep it and a dead peer is noticed.
_HEARTBEAT_S = 15.0


class Answer(msgspec.Struct, kw_only=True):
    """What an operation answers."""

    def status_code(self) -> int:
        """The HTTP status that goes with it."""
        return 200


class Nothing(Answer, kw_only=True):
    """The request was taken; there is nothing to tell."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, as its handler declares it."""

    method: str
    path: str
    tag: str
    name: str
    summary: str
    description: str
    handler: Callable[..., Any]
    path_parameters: tuple[str, ...]
    query: type[msgspec.Struct] | None
    body: type[msgspec.Struct] | None
    answer: type[Answer]
    is_stream: bool
    #: Other statuses of answers than 200, and what they mean.
    statuses: Mapping[int, str]

    def route(self, api: Api) -> Route:
        """The operation as a route."""
        endpoint = self._stream_endpoint(api) if self.is_stream else self._endpoint(api)
        return Route(PREFIX + self.path, endpoint, methods=[self.method], name=self.name)

    def _endpoint(self, api: Api) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                arguments = await self._arguments(request)
                async with asyncio.timeout(HTTP_REQUEST_MS_MAX / 1000):
                    answer = await self.handler(api, **arguments)
            except Exception as error:
                return _error_response(error)
            return Response(msgspec.json.encode(answer), answer.status_code(), media_type="application/json")

        return endpoint

    def _stream_endpoint(self, api: Api) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                arguments = await self._arguments(request)
                items = self.handler(api, **arguments)
                # What is wrong with the request shows with the first item, while a status can still be sent.
                first = await anext(items, None)
            except Exception as error:
                return _error_response(error)
            body = _events(first, items)
            return StreamingResponse(body, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

        return endpoint

    async def _arguments(self, request: Request) -> dict[str, Any]:
        arguments: dict[str, Any] = {name: unquote(request.path_params[name]) for name in self.path_parameters}
        if self.query is not None:
            arguments["query"] = _query_of(request.query_params, self.query)
        elif request.query_params:
            raise _unknown(next(iter(request.query_params)), ())
        if self.body is not None:
            arguments["body"] = _body_of(await _read(request), self.body)
        return arguments


class Operations:
    """The operations of one module.

    Args:
        tag: Their heading in the documentation.
        description: What they are about.
    """

    def __init__(self, tag: str, description: str) -> None:
        self.tag = tag
        self.description = description
        self.all: list[Operation] = []

    def __call__(self, method: str, path: str, statuses: Mapping[int, str] = {}) -> Callable[[H], H]:
        """Declare the decorated function to be the handler of an operation.

        Args:
            method: HTTP method.
            path: Below :data:`PREFIX`, with parameters in braces.
            statuses: Other statuses of answers than 200, and what they mean.
        """

        def declare(handler: H) -> H:
            self.all.append(_declared(self.tag, method, path, handler, statuses))
            return handler

        return declare


def _declared(tag: str, method: str, path: str, handler: Callable[..., Any], statuses: Mapping[int, str]) -> Operation:
    hints = get_type_hints(handler, include_extras=True)
    answer = hints["return"]
    is_stream = get_origin(answer) is AsyncIterator
    summary, _, description = inspect.cleandoc(handler.__doc__ or "").partition("\n\n")
    operation = Operation(
        method=method,
        path=path,
        tag=tag,
        name=handler.__name__,
        summary=" ".join(summary.split()),
        description=description,
        handler=handler,
        path_parameters=tuple(_PATH_PARAMETER.findall(path)),
        query=hints.get("query"),
        body=hints.get("body"),
        answer=get_args(answer)[0] if is_stream else answer,
        is_stream=is_stream,
        statuses=statuses,
    )
    expected = {*operation.path_parameters, *(name for name in ("query", "body") if name in hints)}
    assert set(inspect.signature(handler).parameters) == {"api", *expected}, f"{handler.__name__} does not fit {path}"
    return operation


# --- requests -------------------------------------------------------------------------------------------------------


def _query_of(given: QueryParams, kind: type[msgspec.Struct]) -> msgspec.Struct:
    names = [field.name for field in msgspec.structs.fields(kind)]
    values: dict[str, str] = {}
    for name, value in given.multi_items():
        if name not in names:
            raise _unknown(name, names)
        if name in values:
            raise ProblemError(400, "INVALID_ARGUMENT", f"query parameter {name} is given twice; give it once", name)
        if value != "":
            values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        message, where = _split(error)
        raise ProblemError(400, "INVALID_ARGUMENT", f"the query parameters are wrong: {message}", where) from None


def _unknown(name: str, known: Any) -> ProblemError:
    what = f"it takes {', '.join(known)}" if known else "it takes none"
    return ProblemError(400, "INVALID_ARGUMENT", f"this request has no query parameter {name!r}; {what}", name)


async def _read(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        what = f"it is {kind}" if kind else "it has none"
        detail = f"the body must be JSON with the header Content-Type: application/json; {what}"
        raise ProblemError(415, "UNSUPPORTED_MEDIA_TYPE", detail, "Content-Type")
    body = bytearray()
    try:
        async with asyncio.timeout(HTTP_BODY_MS_MAX / 1000):
            async for part in request.stream():
                body += part
                if len(body) > HTTP_BODY_BYTES_MAX:
                    detail = f"the body is larger than {HTTP_BODY_BYTES_MAX} bytes; send a reference instead"
                    raise ProblemError(413, "TOO_LARGE", detail, "body", {"Connection": "close"})
    except TimeoutError:
        detail = f"the body did not arrive within {HTTP_BODY_MS_MAX / 1000:g} s; send it faster, or less of it"
        raise ProblemError(408, "TOO_SLOW", detail, "body", {"Connection": "close"}) from None
    return bytes(body)


def _body_of(body: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    try:
        body.decode()
        if is_too_deep(body):
            raise ProblemError(400, "INVALID_ARGUMENT", f"the body is nested more than {NESTING_MAX} times", "body")
        return msgspec.json.decode(body or b"{}", type=kind)
    except UnicodeDecodeError as error:
        detail = f"the body is not UTF-8 text: byte {error.start} cannot be read; send JSON in UTF-8"
        raise ProblemError(400, "INVALID_ARGUMENT", detail, "body") from None
    except msgspec.ValidationError as error:
        message, where = _split(error)
        raise ProblemError(400, "INVALID_ARGUMENT", f"the body is wrong: {message}", where) from None
    except msgspec.DecodeError as error:
        raise ProblemError(400, "INVALID_ARGUMENT", f"the body is no JSON: {error}", "body") from None


def _split(error: msgspec.ValidationError) -> tuple[str, str]:
    """A message, and the place it names; the whole if it names none."""
    message, separator, where = str(error).rpartition(" - at `")
    return (message, where.removesuffix("`")) if separator else (str(error), "$")


# --- answers --------------------------------------------------------------------------------------------------------


def _error_response(error: Exception) -> Response:
    headers = error.headers if isinstance(error, ProblemError) else None
    return problem_response(problem_of(error), headers)


async def _events(first: Any, rest: Any) -> AsyncIterator[bytes]:
    """A stream of items in the format of server-sent events, with a comment now and then when nothing happens."""
    async with aclosing(rest):
        if first is None:
            return
        yield _event("message", first)
        following: asyncio.Task[Any] | None = None
        try:
            while True:
                following = following or asyncio.ensure_future(anext(rest, None))
                done, _ = await asyncio.wait([following], timeout=_HEARTBEAT_S)
                if not done:
                    yield b": alive\n\n"
                    continue
                item, following = following.result(), None
                if item is None:
                    return
                yield _event("message", item)
        except Exception as error:
            yield _event("problem", problem_of(error))
        finally:
            if following is not None:
                following.cancel()
                await asyncio.wait([following])


def _event(kind: str, item: Any) -> bytes:
    lines = b"" if kind == "message" else f"event: {kind}\n".encode()
    # JSON text that users sent may have line breaks between its tokens.
    data = msgspec.json.encode(item).replace(b"\r", b" ").replace(b"\n", b" ")
    return lines + b"data: " + data + b"\n\n"
