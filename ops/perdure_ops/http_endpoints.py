"""Health, readiness and metrics over HTTP: ``/healthz``, ``/readyz``, ``/partitions``, ``/metrics`` and an index page.

With a site, the web UI and the HTTP API are served beside them, and the index page is at ``/health``.

The socket is bound when the endpoints are made, so that a port in use is an error before anything else is started; the
HTTP server itself is loaded and run in a thread of its own after :meth:`HttpEndpoints.start`. Called by the development
server and by the engine's processes.
"""

from __future__ import annotations

import html
import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from perdure_ops.errors import CliError

if TYPE_CHECKING:
    import uvicorn
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from perdure_ops.metrics import EngineView, Source
    from perdure_ops.web.site import Site
    from perdure_runtime.stats import PartitionStatus

_logger = logging.getLogger("perdure.http")

_INDEX = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: system-ui, sans-serif; margin: 3rem auto; max-width: 40rem; line-height: 1.6 }}</style>
</head><body><h1>{title}</h1><p>{text}</p>
<ul><li><a href="healthz">healthz</a>: the process is alive</li>
<li><a href="readyz">readyz</a>: every partition it owns is restored and worked on, and its lists are complete</li>
<li><a href="partitions">partitions</a>: where each partition stands, as JSON</li>
<li><a href="metrics">metrics</a>: counters for Prometheus</li></ul>
</body></html>
"""


#: What readiness says besides, in a process that does not answer lists.
NO_READ_SIDE = "there is no read side in this process: lists and counts are answered by others of this namespace"


def _not_ready(partitions: Sequence[PartitionStatus]) -> str:
    """What an engine that is not ready is waiting for."""
    open_ = [status for status in partitions if status.state in ("marking", "restoring")]
    if not open_:
        return "not ready: waiting for a share of the partitions\n"
    lines = [f"{s.role}/{s.partition}: {s.state}, {s.remaining} to fold\n" for s in open_]
    return "not ready: partitions are being restored\n" + "".join(lines)


def bind(host: str, port: int, option: str) -> socket.socket:
    """A listening socket.

    Args:
        host: address to listen on.
        port: port; 0 takes any free one.
        option: the option the port came from, for the error.

    Raises:
        CliError: the port is in use, or the address is not one of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CliError(f"cannot listen on {host}:{port}: {reason}; choose another port with {option}") from error


def check_access(host: str, token: str | None) -> None:
    """Refuse to open the web UI to others without a token.

    Args:
        host: address to listen on.
        token: what callers must show; ``None``: nothing.

    Raises:
        CliError: it would be open to everybody who reaches the address, or the token is none that a header may have.
    """
    if token is not None and not (token.strip() and token.isascii() and token.isprintable()):
        raise CliError("--api-token: it is empty, or has characters that no header may have; choose another one")
    if token is None and not _is_loopback(host):
        raise CliError(
            f"the web UI and the HTTP API would be open to everybody who reaches {host}: give a token with --api-token"
            " or PERDURE_API_TOKEN, or leave them out with --ui-port 0"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class HttpEndpoints:
    """Serves the endpoints for one engine.

    Args:
        listener: where to listen; closed by :meth:`stop`.
        engine: whose health is told.
        title: heading of the index page.
        text: what the index page says below it.
        sources: what else ``/metrics`` shows; asked each time.
        site: the web UI and the HTTP API; closed by :meth:`stop`.
        waiting_for: what the process waits for besides its engine, asked each time; empty: nothing.
        note: what readiness says besides.
    """

    def __init__(
        self,
        listener: socket.socket,
        engine: EngineView,
        title: str,
        text: str,
        sources: Sequence[Source] = (),
        *,
        site: Site | None = None,
        waiting_for: Callable[[], str] = str,
        note: str = "",
    ) -> None:
        self._listener = listener
        self._engine = engine
        self._title = title
        self._text = text
        self._sources = sources
        self._site = site
        self._waiting_for = waiting_for
        self._note = note
        self._server: uvicorn.Server | None = None
        self._stopping = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="perdure-http", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        port: int = self._listener.getsockname()[1]
        return port

    def start(self) -> None:
        """Serve from now on, in a thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Serve no more."""
        if self._site is not None:
            self._site.end_streams()
        with self._lock:
            self._stopping = True
            if self._server is not None:
                self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._listener.close()
        if self._site is not None:
            self._site.close()

    def application(self) -> ASGIApp:
        """The endpoints as an ASGI application."""
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
        from starlette.routing import BaseRoute, Route

        from perdure_ops.metrics import engine_registry, render

        registry = engine_registry(self._engine, self._sources)

        async def index(_: Request) -> Response:
            return HTMLResponse(_INDEX.format(title=html.escape(self._title), text=html.escape(self._text)))

        async def healthz(_: Request) -> Response:
            return PlainTextResponse("ok\n")

        async def readyz(_: Request) -> Response:
            if not self._engine.ready:
                return PlainTextResponse(_not_ready(self._engine.status()), status_code=503)
            waiting_for = self._waiting_for()
            if waiting_for:
                return PlainTextResponse(f"not ready: {waiting_for}\n", status_code=503)
            return PlainTextResponse(f"ready\n{self._note}\n" if self._note else "ready\n")

        async def partitions(_: Request) -> Response:
            return JSONResponse([status._asdict() for status in self._engine.status()])

        async def metrics(_: Request) -> Response:
            return Response(
                await run_in_threadpool(render, registry), media_type="text/plain; version=0.0.4; charset=utf-8"
            )

        found = {"/healthz": healthz, "/readyz": readyz, "/partitions": partitions, "/metrics": metrics}
        found["/" if self._site is None else "/health"] = index
        routes: list[BaseRoute] = [Route(path, endpoint, methods=["GET"]) for path, endpoint in found.items()]
        if self._site is None:
            return Starlette(routes=routes)
        return self._site.guarded(Starlette(routes=[*routes, *self._site.routes()]))

    def _run(self) -> None:
        try:
            import uvicorn

            config = uvicorn.Config(
                self.application(),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=1,
            )
            with self._lock:
                if self._stopping:
                    return
                self._server = uvicorn.Server(config)
            self._server.run(sockets=[self._listener])
        except Exception:
            # The endpoints are not worth stopping the engine for.
            _logger.exception("event=http_endpoints_failed")
