"""What is served to people and to other languages: the web UI and the HTTP API, behind one guard.

The UI is static files; all it knows comes from the API. Made by the development server and by ``perdure server``.
"""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from perdure_ops.http_api.application import api_routes
from perdure_ops.http_api.context import Api
from perdure_ops.http_api.guards import Access, Guard
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames

__all__ = ["Site"]

STATIC = Path(__file__).parent / "static"
#: The addresses of pages; the page itself finds out which of them it is.
PAGES = (
    "/",
    "/workflows",
    "/workflows/{rest:path}",
    "/schedules",
    "/schedules/{rest:path}",
    "/new-schedule",
    "/change-schedule/{rest:path}",
    "/start",
    "/task-queues",
    "/deployments",
    "/cluster",
    "/settings",
)


class _Files(StaticFiles):
    """Files that browsers keep, and ask about each time: a new version of the server shows at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The answer for a file."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


class Site:
    """The web UI and the HTTP API of one namespace.

    Args:
        log: The log; it is not closed here.
        names: The namespace's topics.
        access: Who may use them.
    """

    def __init__(self, log: Log, names: TopicNames, access: Access) -> None:
        self._api = Api(log, names)
        self._access = access

    def routes(self) -> list[BaseRoute]:
        """Everything that is served."""
        page = (STATIC / "index.html").read_text(encoding="utf-8")

        async def show(_: Request) -> Response:
            return HTMLResponse(page)

        pages = [Route(path, show, methods=["GET"]) for path in PAGES]
        return [*api_routes(self._api), *pages, Mount("/static", _Files(directory=STATIC))]

    def guarded(self, app: ASGIApp) -> ASGIApp:
        """An application with the guard in front of it."""
        return Guard(app, self._access)

    def end_streams(self) -> None:
        """Have streams end, before the server stops."""
        self._api.end_streams()

    def close(self) -> None:
        """Let go of everything but the log. Called when no request is served any more."""
        self._api.close()
