"""Health, readiness and metrics over HTTP: ``/healthz``, ``/readyz``, ``/partitions``, ``/metrics`` and an index page.

The socket is bound when the endpoints are made, so that a port in use is an error before anything else is started; the
HTTP server itself is loaded and run in a thread of its own after :meth:`HttpEndpoints.start`. Called by the development
server and by the engine's processes.
"""

from __future__ import annotations

import html
import logging
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from perdure_ops.errors import CliError

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from perdure_ops.metrics import EngineView, Source
    from perdure_runtime.stats import PartitionStatus

_logger = logging.getLogger("perdure.http")

_INDEX = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: system-ui, sans-serif; margin: 3rem auto; max-width: 40rem; line-height: 1.6 }}</style>
</head><body><h1>{title}</h1><p>{text}</p>
<ul><li><a href="healthz">healthz</a>: the process is alive</li>
<li><a href="readyz">readyz</a>: every partition it owns is restored and worked on</li>
<li><a href="partitions">partitions</a>: where each partition stands, as JSON</li>
<li><a href="metrics">metrics</a>: counters for Prometheus</li></ul>
</body></html>
"""


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


class HttpEndpoints:
    """Serves the endpoints for one engine.

    Args:
        listener: where to listen; closed by :meth:`stop`.
        engine: whose health is told.
        title: heading of the index page.
        text: what the index page says below it.
        sources: what else ``/metrics`` shows; asked each time.
    """

    def __init__(
        self, listener: socket.socket, engine: EngineView, title: str, text: str, sources: Sequence[Source] = ()
    ) -> None:
        self._listener = listener
        self._engine = engine
        self._title = title
        self._text = text
        self._sources = sources
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
        with self._lock:
            self._stopping = True
            if self._server is not None:
                self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._listener.close()

    def application(self) -> Starlette:
        """The endpoints as an ASGI application."""
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
        from starlette.routing import Route

        from perdure_ops.metrics import engine_registry, render

        registry = engine_registry(self._engine, self._sources)

        async def index(_: Request) -> Response:
            return HTMLResponse(_INDEX.format(title=html.escape(self._title), text=html.escape(self._text)))

        async def healthz(_: Request) -> Response:
            return PlainTextResponse("ok\n")

        async def readyz(_: Request) -> Response:
            if self._engine.ready:
                return PlainTextResponse("ready\n")
            return PlainTextResponse(_not_ready(self._engine.status()), status_code=503)

        async def partitions(_: Request) -> Response:
            return JSONResponse([status._asdict() for status in self._engine.status()])

        async def metrics(_: Request) -> Response:
            return Response(
                await run_in_threadpool(render, registry), media_type="text/plain; version=0.0.4; charset=utf-8"
            )

        routes = {"/": index, "/healthz": healthz, "/readyz": readyz, "/partitions": partitions, "/metrics": metrics}
        return Starlette(routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in routes.items()])

    def _run(self) -> None:
        try:
            import uvicorn

            config = uvicorn.Config(
                self.application(),
                log_config=None,
                access_log=False,
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
