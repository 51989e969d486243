"""A codec over HTTP: a server around a payload codec, and the codec that asks such a server.

The server lets command lines and web pages show encrypted payloads without having the keys. It speaks the protocol of
Temporal's codec servers: ``POST /encode`` and ``POST /decode`` with ``{"payloads": [{"metadata": {…}, "data": …}]}``,
metadata values and data in base64, the namespace in the header ``X-Namespace``. Run it with an ASGI server, for example
``uvicorn my_codecs:app`` with ``app = codec_server(EncryptionCodec(…), authorize=…)``.

Invariant: the server keeps nothing. Whoever reaches it can decrypt: put it where only those do who may, and check them
with ``authorize``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from perdure.converter import PayloadCodec
from perdure_schemas.limits import CODEC_BODY_BYTES_MAX, NESTING_MAX
from perdure_schemas.nesting import is_too_deep
from perdure_schemas.records import Payload

_logger = logging.getLogger("perdure.codec_server")
_TIMEOUT_S = 30.0
NAMESPACE_HEADER = "X-Namespace"


class CodecServerError(RuntimeError):
    """A codec server cannot be reached, or refused."""


def codec_server(
    codec: PayloadCodec | Mapping[str, PayloadCodec],
    *,
    authorize: Callable[[Request], bool] | None = None,
    cors_origins: Sequence[str] = (),
) -> Starlette:
    """An ASGI application around a codec.

    Args:
        codec: The codec, or one for each namespace.
        authorize: Says whether a request may be served, by its headers for example; all may if not given.
        cors_origins: Origins of web pages that may ask, for example ``https://ui.example.com``.
    """

    def route(path: str, operation: str) -> Route:
        async def endpoint(request: Request) -> Response:
            if authorize is not None and not authorize(request):
                return JSONResponse({"error": "not authorized"}, status_code=403)
            namespace = request.headers.get(NAMESPACE_HEADER, "")
            found = codec if isinstance(codec, PayloadCodec) else codec.get(namespace)
            if found is None:
                return JSONResponse({"error": f"there is no codec for namespace {namespace!r}"}, status_code=404)
            change = found.encode if operation == "encode" else found.decode
            return await _answer(request, change, operation)

        return Route(path, endpoint, methods=["POST"])

    middleware = []
    if cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(cors_origins),
                allow_methods=["POST"],
                allow_headers=["content-type", NAMESPACE_HEADER, "authorization"],
                allow_credentials=True,
            )
        )
    return Starlette(routes=[route("/encode", "encode"), route("/decode", "decode")], middleware=middleware)


async def _answer(
    request: Request, change: Callable[[Sequence[Payload]], Awaitable[list[Payload]]], operation: str
) -> Response:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > CODEC_BODY_BYTES_MAX:
            return JSONResponse({"error": f"the body is larger than {CODEC_BODY_BYTES_MAX} bytes"}, status_code=413)
    try:
        payloads = payloads_from_text(bytes(body))
    except ValueError as error:
        return JSONResponse({"error": str(error)}, status_code=400)
    try:
        changed = await change(payloads)
    except Exception as error:
        _logger.warning("event=codec_failed operation=%s reason=%r", operation, str(error))
        return JSONResponse({"error": f"{type(error).__name__}: {error}"}, status_code=400)
    return JSONResponse(payloads_to_json(changed))


class RemoteCodec(PayloadCodec):
    """Asks a codec server.

    Args:
        endpoint: Its address; ``/encode`` and ``/decode`` are put behind it.
        namespace: Sent as ``X-Namespace``.
        authorization: Sent as the header ``Authorization``, if given.

    Raises:
        ValueError: the address is none of HTTP.
    """

    def __init__(self, endpoint: str, *, namespace: str = "default", authorization: str | None = None) -> None:
        if not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"the codec endpoint {endpoint!r} must begin with http:// or https://")
        self._endpoint = endpoint.rstrip("/")
        self._headers = {"Content-Type": "application/json", NAMESPACE_HEADER: namespace}
        if authorization is not None:
            self._headers["Authorization"] = authorization

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Have payloads encoded.

        Raises:
            CodecServerError: the server cannot be reached, or refused.
        """
        return await asyncio.to_thread(self._ask, "encode", payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Have payloads decoded.

        Raises:
            CodecServerError: the server cannot be reached, or refused.
        """
        return await asyncio.to_thread(self._ask, "decode", payloads)

    def _ask(self, operation: str, payloads: Sequence[Payload]) -> list[Payload]:
        url = f"{self._endpoint}/{operation}"
        body = json.dumps(payloads_to_json(payloads)).encode()
        request = urllib.request.Request(url, body, self._headers, method="POST")  # noqa: S310 # checked: HTTP only
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
                return payloads_from_text(_bounded(response))
        except urllib.error.HTTPError as error:
            said = error.read(1000).decode(errors="replace")
            raise CodecServerError(f"the codec server {url} answered {error.code}: {said}") from error
        except (OSError, ValueError) as error:
            raise CodecServerError(f"the codec server {url} gave no usable answer: {error}") from error


def _bounded(response: Any) -> bytes:
    body: bytes = response.read(CODEC_BODY_BYTES_MAX + 1)
    if len(body) > CODEC_BODY_BYTES_MAX:
        raise ValueError(f"it is larger than {CODEC_BODY_BYTES_MAX} bytes")
    return body


def payloads_from_text(body: bytes) -> list[Payload]:
    """Payloads of a request's or an answer's body.

    Raises:
        ValueError: it is something else; the message says where.
    """
    if is_too_deep(body):
        raise ValueError(f"the body is nested more than {NESTING_MAX} times")
    return payloads_from_json(json.loads(body))


def payloads_to_json(payloads: Sequence[Payload]) -> dict[str, Any]:
    """Payloads as the protocol has them."""
    return {
        "payloads": [
            {
                "metadata": {key: base64.b64encode(value).decode() for key, value in payload.metadata.items()},
                "data": base64.b64encode(payload.data).decode(),
            }
            for payload in payloads
        ]
    }


def payloads_from_json(document: Any) -> list[Payload]:
    """Payloads of what :meth:`payloads_to_json` made, or another implementation of the protocol.

    Raises:
        ValueError: it is something else; the message says where.
    """
    payloads = document.get("payloads") if isinstance(document, dict) else None
    if not isinstance(payloads, list):
        raise ValueError('the body must be a JSON object with a list "payloads"')
    return [_payload(index, payload) for index, payload in enumerate(payloads)]


def _payload(index: int, document: Any) -> Payload:
    try:
        # A field that is empty may be left out by other implementations.
        metadata, data = document.get("metadata") or {}, document.get("data") or ""
        return Payload(
            metadata={key: base64.b64decode(value, validate=True) for key, value in metadata.items()},
            data=base64.b64decode(data, validate=True),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"payload {index} is none: {error}") from error
