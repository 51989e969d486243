"""The development server: log, engine, health page and, if wanted, the user's workers, all in one process.

Invariants: nothing is announced before it works; what was started is stopped in the opposite order, whatever failed;
one data folder belongs to one process. Called by ``perdure dev``.
"""

from __future__ import annotations

import logging
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from perdure_ops.errors import CliError
from perdure_ops.http_endpoints import HttpEndpoints, bind, check_access
from perdure_ops.roles import ROLE_NAMES, make_roles
from perdure_ops.stopping import StopRequest
from perdure_runtime.garbage import collect_less_often

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure_ops.web.site import Site
    from perdure_runtime.embedded import EmbeddedLog
    from perdure_runtime.engine import Engine
    from perdure_schemas.topics import TopicNames

_logger = logging.getLogger("perdure.dev")

DEFAULT_DATA_FOLDER = Path(".perdure/dev")
DEFAULT_DEV_PARTITIONS = 4
READY_TIMEOUT_S = 60.0
#: How soon a signal is noticed during the start.
READY_SLICE_S = 0.25
WORKERS_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What ``perdure dev`` was asked for.

    Attributes:
        workers: ``MODULE:ATTRIBUTE`` references of workers to run in this process.
        host: address to listen on.
        port: port for clients and workers; 0 takes any free one.
        ui_port: port of the web UI, the HTTP API and the health page; ``None`` for none.
        data: folder for everything; ``None`` keeps it in memory.
        namespace: the namespace to create.
        partitions: partition count; ``None``: that of the data folder, or the default.
        api_token: what callers of the web UI's API must show; ``None``: nothing, on a loopback address only.
        allowed_hosts: names the web UI is reached by, besides those of this machine.
    """

    workers: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 7233
    ui_port: int | None = 8233
    data: Path | None = DEFAULT_DATA_FOLDER
    namespace: str = "default"
    partitions: int | None = None
    api_token: str | None = None
    allowed_hosts: tuple[str, ...] = ()


def run_dev(options: DevOptions, announce: Callable[[str], None]) -> None:
    """Run the development server until a signal stops it.

    Args:
        options: what was asked for.
        announce: told the one line that says it is ready.

    Raises:
        CliError: a port is in use, a worker reference is wrong, or the engine did not come up.
        LogError, StateStoreError: the data folder is in use, damaged or of another version.
    """
    from perdure_ops.metrics import LagSource, read_side_samples
    from perdure_ops.user_workers import UserWorkers, load_worker_makers
    from perdure_readside.service import ReadSide
    from perdure_runtime.engine import Engine
    from perdure_runtime.relay.service import Relay

    stop = StopRequest()
    stop.install_signal_handlers()
    makers = load_worker_makers(options.workers)
    with ExitStack() as started:
        page = _bind_ui(options)
        if page is not None:
            started.callback(page.close)
        log = _open_log(options, started)
        names = _create_topics(log, options)
        port = log.serve(options.host, options.port).port
        state_folder = _state_folder(options, started)
        engine = Engine(log, names, state_folder, make_roles(ROLE_NAMES, names), instance="dev")
        engine.start()
        started.callback(engine.stop)
        if not _wait_ready(engine, stop):
            return
        read_side = ReadSide(log, names, None if options.data is None else state_folder / "readside", instance="dev")
        read_side.start()
        started.callback(read_side.stop)
        collect_less_often()
        relay = Relay(log, names, instance="dev")
        relay.start()
        started.callback(relay.stop)
        if makers:
            workers = UserWorkers(makers, lambda: _client(log, names), stop.ask)
            started.callback(workers.stop)
            workers.start(WORKERS_TIMEOUT_S)
        announce(_ready_line(options, port, page, len(makers)))
        if page is not None:
            text = f"Development server at {options.host}:{port}, namespace {options.namespace}."
            sources = (LagSource(log, names, "dev"), partial(read_side_samples, read_side, names.namespace))
            site = _site(options, log, names)
            endpoints = HttpEndpoints(
                page, engine, "Perdure dev", text, sources, site=site, waiting_for=read_side.waiting_for
            )
            endpoints.start()
            started.callback(endpoints.stop)
        stop.wait()
        _logger.info("event=stopping")


def _bind_ui(options: DevOptions) -> socket.socket | None:
    if options.ui_port is None:
        return None
    check_access(options.host, options.api_token)
    return bind(options.host, options.ui_port, "--ui-port")


def _site(options: DevOptions, log: EmbeddedLog, names: TopicNames) -> Site:
    from perdure_ops.http_api.guards import Access
    from perdure_ops.web.site import Site

    return Site(log, names, Access(options.host, options.api_token, options.allowed_hosts))


def _wait_ready(engine: Engine, stop: StopRequest) -> bool:
    """Wait for the engine; false if a stop was asked for meanwhile.

    Raises:
        CliError: it failed, or took too long.
    """
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while not engine.wait_ready(READY_SLICE_S):
        if stop.asked:
            return False
        if engine.failure() is not None:
            raise CliError("the engine failed before it was ready") from engine.failure()
        if time.monotonic() > deadline_s:
            raise CliError(f"the engine was not ready after {READY_TIMEOUT_S:g} s")
    return True


def _open_log(options: DevOptions, started: ExitStack) -> EmbeddedLog:
    from perdure_runtime.embedded import EmbeddedLog

    if options.data is not None:
        try:
            options.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CliError(
                f"the data folder {options.data} cannot be made: {error.strerror}; choose one with --data"
            ) from error
    log = EmbeddedLog(None if options.data is None else options.data / "log")
    started.callback(log.close)
    return log


def _create_topics(log: EmbeddedLog, options: DevOptions) -> TopicNames:
    from perdure_runtime.connect import create_platform_topics
    from perdure_schemas.topics import TopicNames

    names = TopicNames(namespace=options.namespace, partitions=options.partitions or DEFAULT_DEV_PARTITIONS)
    existing = log.describe_topics([names.commands]).get(names.commands)
    if existing is not None and existing.partitions != names.partitions:
        if options.partitions is not None:
            raise CliError(
                f"namespace {options.namespace} in {options.data} has {existing.partitions} partitions, and their"
                f" number cannot be changed to {options.partitions}: leave --partitions out, or use another --data"
            )
        names = TopicNames(namespace=options.namespace, partitions=existing.partitions)
    create_platform_topics(log, names)
    return names


def _state_folder(options: DevOptions, started: ExitStack) -> Path:
    if options.data is not None:
        return options.data / "state" / options.namespace
    return Path(started.enter_context(tempfile.TemporaryDirectory(prefix="perdure-dev-")))


async def _client(log: EmbeddedLog, names: TopicNames) -> Client:
    """A client that shares the log with the engine: its records cross no socket."""
    from perdure.client import Client

    return Client.from_log(log, namespace=names.namespace, names=names)


def _ready_line(options: DevOptions, port: int, page: socket.socket | None, worker_count: int) -> str:
    host = "localhost" if options.host in ("127.0.0.1", "::1") else options.host
    parts = [f"namespace {options.namespace}", "data in memory" if options.data is None else f"data in {options.data}"]
    if page is not None:
        parts.append(f"web UI at http://{host}:{page.getsockname()[1]}")
    if worker_count:
        parts.append(f"{worker_count} worker{'s' if worker_count > 1 else ''}")
    return f"Perdure dev is ready: {host}:{port} ({', '.join(parts)})"
