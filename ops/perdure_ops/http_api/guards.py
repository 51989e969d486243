"""What stands in front of the HTTP API: who may ask, from where, and how much at once.

Invariants: without a token only names of this machine are served, so that no web page can reach the API by a name of
its own (DNS rebinding); a request that changes something never comes from a page of another origin (CSRF); a token is
compared in constant time and never logged. Probes for health and the page's static files are open. Called by the HTTP
server, for every request.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perdure_ops.http_api.operations import PREFIX
from perdure_ops.http_api.problems import ProblemError, problem_response
from perdure_schemas.limits import HTTP_REQUESTS_MAX

__all__ = ["Access", "Guard"]

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_SITE = frozenset({"same-origin", "none"})
#: Pages run scripts and styles of this server only. Codec servers are asked by the page itself: over TLS, or on the
#: user's own machine.
_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
        "connect-src 'self' https: http://localhost:* http://127.0.0.1:*; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use the API; :func:`perdure_ops.http_endpoints.check_access` says what may be open without a token.

    Attributes:
        host: The address that is listened on.
        token: What callers must show; ``None``: nothing.
        allowed_hosts: Names the server is reached by, besides ``host`` and those of this machine.
    """

    host: str
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()

    def knows(self, host: str) -> bool:
        """Whether a request may name this host."""
        if host in _LOOPBACK_NAMES or host in self.allowed_hosts or host == self.host:
            return True
        # With a token, and no names given, any name will do: a page of another origin does not have the token.
        return self.token is not None and not self.allowed_hosts

    def admits(self, authorization: str) -> bool:
        """Whether a request with this header may be served."""
        if self.token is None:
            return True
        scheme, _, shown = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), self.token.encode())


class Guard:
    """The ASGI middleware.

    Args:
        app: What it stands in front of.
        access: Who may use the API.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Routes match the path as it was sent, so that an encoded slash is part of an id.
        scope = {**scope, "path": scope.get("raw_path", scope["path"].encode()).partition(b"?")[0].decode("latin-1")}

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if self._running >= HTTP_REQUESTS_MAX:
            detail = f"{HTTP_REQUESTS_MAX} requests are being served, which is the limit; try again later"
            refusal = ProblemError(429, "RESOURCE_EXHAUSTED", detail, headers={"Retry-After": "1"})
            await problem_response(refusal.problem, refusal.headers)(scope, receive, send_secured)
            return
        self._running += 1
        try:
            self._check(scope)
            await self._app(scope, receive, send_secured)
        except ProblemError as error:
            await problem_response(error.problem, error.headers)(scope, receive, send_secured)
        finally:
            self._running -= 1

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = _host_of(headers.get("host", ""))
        if not self._access.knows(host):
            detail = (
                f"this server is not known as {host!r}; use the address it prints when it starts, or start it with"
                " --allowed-host"
            )
            raise ProblemError(421, "UNKNOWN_HOST", detail, "Host")
        if not scope["path"].startswith(f"{PREFIX}/"):
            return
        if not self._access.admits(headers.get("authorization", "")):
            detail = "this server needs its token: send it as Authorization: Bearer TOKEN"
            raise ProblemError(401, "UNAUTHENTICATED", detail, "Authorization", {"WWW-Authenticate": "Bearer"})
        if scope["method"] not in _SAFE_METHODS:
            _check_origin(headers)


def _check_origin(headers: Headers) -> None:
    origin = headers.get("origin")
    same_site = headers.get("sec-fetch-site", "none") in _SAME_SITE
    if same_site and (origin is None or urlsplit(origin).netloc == headers.get("host")):
        return
    detail = f"a request that changes something must not come from a page of another origin, like {origin}"
    raise ProblemError(403, "CROSS_ORIGIN", detail, "Origin")


def _host_of(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
