"""The web UI and the HTTP API of an engine on an embedded log, with a worker, served on a port of this machine.

One for all tests of a module: workflows use ids of their own. Called by the tests of the API and of the UI.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from perdure.client import Client
from perdure.worker import Worker
from perdure_ops.http_api.guards import Access
from perdure_ops.http_endpoints import HttpEndpoints, bind
from perdure_ops.web.site import Site
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames
from tests.support.auditing import assert_sound
from tests.support.platform import embedded_platform

TIMEOUT_S = 60.0


class NoEngine:
    """Stands for an engine whose health nobody asks for."""

    ready = True

    def stats(self) -> dict[str, Any]:
        return {}

    def status(self) -> list[Any]:
        return []


@dataclass
class ServedSite:
    """A site that is served."""

    url: str
    log: Log
    names: TopicNames

    def http(self, **options: Any) -> httpx.Client:
        """A client of the HTTP API."""
        return httpx.Client(base_url=f"{self.url}/api/v1/", timeout=TIMEOUT_S, **options)


@contextlib.contextmanager
def served_site(log: Log, names: TopicNames, access: Access) -> Iterator[ServedSite]:
    """A site on a log, until the end of the block."""
    endpoints = HttpEndpoints(bind("127.0.0.1", 0, "--ui-port"), NoEngine(), "", "", site=Site(log, names, access))
    endpoints.start()
    try:
        yield ServedSite(f"http://127.0.0.1:{endpoints.port}", log, names)
    finally:
        endpoints.stop()


@contextlib.contextmanager
def served_platform(make_worker: Callable[[Client], Worker]) -> Iterator[ServedSite]:
    """An engine, a worker and a site; what they leave in the log must be sound."""
    with embedded_platform() as (log, names):
        with (
            running_worker(log, names, make_worker),
            served_site(log, names, Access("127.0.0.1")) as site,
        ):
            yield site
        assert_sound(log, names)


@contextlib.contextmanager
def running_worker(log: Log, names: TopicNames, make_worker: Callable[[Client], Worker]) -> Iterator[None]:
    """A worker on a thread and an event loop of its own."""
    started = threading.Event()
    stop: asyncio.Event
    loop: asyncio.AbstractEventLoop

    async def run() -> None:
        nonlocal stop, loop
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        client = Client.from_log(log, namespace=names.namespace, names=names)
        async with make_worker(client):
            started.set()
            await stop.wait()
        await client.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="test-worker", daemon=True)
    thread.start()
    assert started.wait(TIMEOUT_S)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(TIMEOUT_S)
