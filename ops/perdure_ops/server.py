"""The engine on Kafka: checks or creates the topics, then runs roles in this process or in several.

Called by ``perdure server``; its children are the same command with ``--processes one``.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from perdure_ops.addresses import check_kafka_address
from perdure_ops.errors import CliError
from perdure_ops.http_endpoints import NO_READ_SIDE, HttpEndpoints, bind, check_access
from perdure_ops.roles import ROLE_NAMES, make_roles
from perdure_ops.stopping import StopRequest
from perdure_ops.supervisor import READY_PREFIX, ChildSpec, Supervisor
from perdure_runtime.connect import without_secrets
from perdure_runtime.garbage import collect_less_often

if TYPE_CHECKING:
    from perdure_ops.web.site import Site
    from perdure_runtime.engine import Engine
    from perdure_runtime.log import Log
    from perdure_schemas.framing import SchemaIds
    from perdure_schemas.topics import TopicNames

_logger = logging.getLogger("perdure.server")

#: How children are told the address.
ADDRESS_VARIABLE = "PERDURE_ADDRESS"
#: How they are told the token of the HTTP API.
TOKEN_VARIABLE = "PERDURE_API_TOKEN"  # noqa: S105 # a name, not a secret
#: How they are told the schema registry.
REGISTRY_VARIABLE = "PERDURE_SCHEMA_REGISTRY"
REGISTRY_AUTH_VARIABLE = "PERDURE_SCHEMA_REGISTRY_AUTH"
ONE_PROCESS = "one"
PROCESS_PER_ROLE = "roles"
PROCESSES_MAX = 64
#: A takeover waits for the group, and a restore reads the whole of the owned topics.
READY_LOG_INTERVAL_S = 30.0


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What ``perdure server`` was asked for.

    Attributes:
        address: ``kafka://…``.
        namespace: the namespace to work for.
        partitions: partition count; ``None``: as it is, or the default for new topics.
        replication: replication factor of topics that are created now; -1: the brokers' default.
        create_topics: create what is missing; else missing topics are an error.
        roles: what to run.
        processes: ``one``, ``roles`` (one for each role), or a number, each with all the roles.
        state_dir: folder for state stores; one folder in it for each instance.
        instance: this engine's name across restarts.
        standbys: fold the partitions of other engines all the time, to take them over at once.
        session_timeout_ms: after how long without a sign of life others take over.
        read_side: answer lists and counts, too. Each process that does keeps an index of all runs.
        relay: write what workflows emit, too. Those of a namespace share its partitions.
        schema_registry: the registry whose ids ``history`` and ``executions`` name their schemas by; ``None``: they
            name them by fingerprint.
        registry_auth: the ``Authorization`` header for it.
        http_port: port of health and metrics; ``None`` for none. With several processes each takes the next port.
        http_host: address to listen on.
        ui_port: port of the web UI and the HTTP API; ``None`` for none. With several processes the first serves it.
        ui_host: address it listens on.
        api_token: what its callers must show; ``None``: nothing, on a loopback address only.
        allowed_hosts: names it is reached by, besides those of this machine.
        supervised: stop at the end of stdin.
    """

    address: str
    namespace: str = "default"
    partitions: int | None = None
    replication: int = -1
    create_topics: bool = True
    roles: tuple[str, ...] = ROLE_NAMES
    processes: str = ONE_PROCESS
    state_dir: Path = Path(".perdure/server")
    instance: str = ""
    standbys: bool = True
    session_timeout_ms: int | None = None
    read_side: bool = True
    relay: bool = True
    schema_registry: str | None = None
    registry_auth: str | None = None
    http_port: int | None = None
    http_host: str = "127.0.0.1"
    ui_port: int | None = None
    ui_host: str = "127.0.0.1"
    api_token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    log_level: str = "info"
    supervised: bool = False


def child_specs(options: ServerOptions, instance: str) -> list[ChildSpec]:
    """The processes to run; empty when this process does the work itself.

    Raises:
        CliError: ``processes`` is neither ``one``, ``roles`` nor a sensible number.
    """
    if options.processes in (ONE_PROCESS, "1"):
        return []
    if options.processes == PROCESS_PER_ROLE:
        shares: list[tuple[str, tuple[str, ...]]] = [(f"{instance}-{role}", (role,)) for role in options.roles]
    elif options.processes.isdecimal() and 1 < int(options.processes) <= PROCESSES_MAX:
        shares = [(f"{instance}-{number}", options.roles) for number in range(1, int(options.processes) + 1)]
    else:
        raise CliError(
            f"--processes: {options.processes!r} is neither {ONE_PROCESS}, {PROCESS_PER_ROLE} nor a number up to"
            f" {PROCESSES_MAX}"
        )
    # The address may hold secrets, and command lines can be read by every user of the machine.
    environment = {ADDRESS_VARIABLE: options.address}
    if options.api_token is not None:
        environment[TOKEN_VARIABLE] = options.api_token
    if options.schema_registry is not None:
        environment[REGISTRY_VARIABLE] = options.schema_registry
    if options.registry_auth is not None:
        environment[REGISTRY_AUTH_VARIABLE] = options.registry_auth
    return [
        ChildSpec(name, _child_command(options, name, roles, number), environment)
        for number, (name, roles) in enumerate(shares)
    ]


def _child_command(options: ServerOptions, instance: str, roles: tuple[str, ...], number: int) -> tuple[str, ...]:
    command = [sys.executable, "-m", "perdure_ops", "server", "--supervised", "--no-create-topics"]
    command += ["--namespace", options.namespace, "--roles", ",".join(roles)]
    command += ["--processes", ONE_PROCESS, "--instance", instance, "--state-dir", str(options.state_dir)]
    command += ["--log-level", options.log_level, "--http-host", options.http_host]
    command.append("--standbys" if options.standbys else "--no-standbys")
    if options.session_timeout_ms is not None:
        command += ["--session-timeout-ms", str(options.session_timeout_ms)]
    if number or not options.read_side:
        # One index for this server is enough.
        command += ["--no-read-side"]
    if number or not options.relay:
        # Its processes would only share the partitions; one is enough for what a server's workflows emit.
        command += ["--no-relay"]
    if options.http_port is not None:
        command += ["--http-port", str(options.http_port + number)]
    if options.ui_port is not None and not number:
        command += ["--ui-port", str(options.ui_port), "--ui-host", options.ui_host]
        command += [part for name in options.allowed_hosts for part in ("--allowed-host", name)]
    return tuple(command)


def run_server(options: ServerOptions, announce: Callable[[str], None]) -> None:
    """Run the engine until a signal stops it.

    Args:
        options: what was asked for.
        announce: told the one line that says it is ready.

    Raises:
        CliError: the address or the options are wrong.
        LogError: Kafka does not answer, or its topics are not as they must be.
    """
    check_kafka_address(options.address)
    if options.ui_port is not None:
        check_access(options.ui_host, options.api_token)
    instance = options.instance or socket.gethostname()
    children = child_specs(options, instance)
    names = prepare_topics(options)
    where = f"{without_secrets(options.address)} (namespace {names.namespace}, {names.partitions} partitions"
    if children:
        line = f"{READY_PREFIX}: {where}, {len(children)} processes)"
        Supervisor(children, lambda: announce(line), time.monotonic).run()
    else:
        line = f"{READY_PREFIX}: {where}, roles {', '.join(options.roles)}, instance {instance})"
        _run_here(options, names, instance, lambda: announce(line))


def prepare_topics(options: ServerOptions) -> TopicNames:
    """Create missing topics, and check the others. Returns the names, with the partition count as it is."""
    from perdure_ops.topic_changes import ensure_topics
    from perdure_runtime.connect import open_log

    log = open_log(options.address)
    try:
        return ensure_topics(
            log, options.namespace, options.partitions, options.replication, create=options.create_topics
        )
    finally:
        log.close()


def _run_here(options: ServerOptions, names: TopicNames, instance: str, announce: Callable[[], None]) -> None:
    from perdure_ops.metrics import LagSource, Source, read_side_samples
    from perdure_readside.service import ReadSide
    from perdure_runtime.connect import open_log
    from perdure_runtime.engine import Engine
    from perdure_runtime.relay.service import Relay

    stop = StopRequest()
    stop.install_signal_handlers()
    if options.supervised:
        stop.ask_at_end_of_input()
    with ExitStack() as started:
        page = None if options.http_port is None else bind(options.http_host, options.http_port, "--http-port")
        if page is not None:
            started.callback(page.close)
        ui = None if options.ui_port is None else bind(options.ui_host, options.ui_port, "--ui-port")
        if ui is not None:
            started.callback(ui.close)
        settings = {}
        if options.session_timeout_ms is not None:
            settings["session.timeout.ms"] = str(options.session_timeout_ms)
        state_folder = options.state_dir / options.namespace / instance
        log = open_log(options.address, options=settings, schema_ids=_schema_ids(options, names, state_folder))
        started.callback(log.close)
        roles = make_roles(options.roles, names)
        engine = Engine(log, names, state_folder, roles, instance=instance, standbys=options.standbys)
        engine.start()
        started.callback(engine.stop)
        sources: list[Source] = [LagSource(log, names, instance)]
        waiting_for: Callable[[], str] = str
        note = NO_READ_SIDE
        if options.read_side:
            read_side = ReadSide(log, names, state_folder / "readside", instance=instance)
            read_side.start()
            started.callback(read_side.stop)
            sources.append(partial(read_side_samples, read_side, names.namespace))
            waiting_for, note = read_side.waiting_for, ""
        if options.relay:
            relay = Relay(log, names, instance=instance)
            relay.start()
            started.callback(relay.stop)
        if page is not None:
            text = f"Instance {instance}, {without_secrets(options.address)}."
            endpoints = HttpEndpoints(page, engine, "Perdure server", text, sources, waiting_for=waiting_for, note=note)
            endpoints.start()
            started.callback(endpoints.stop)
        if ui is not None:
            text, site = f"Instance {instance}.", _site(options, log, names)
            served = HttpEndpoints(ui, engine, "Perdure server", text, site=site, waiting_for=waiting_for, note=note)
            served.start()
            _logger.info("event=web_ui host=%s port=%d", options.ui_host, served.port)
            started.callback(served.stop)
        watching = threading.Thread(
            target=_watch_start, args=(engine, announce, stop), name="perdure-starting", daemon=True
        )
        watching.start()
        collect_less_often()
        stop.wait()
        _logger.info("event=stopping")


def _schema_ids(options: ServerOptions, names: TopicNames, state_folder: Path) -> SchemaIds | None:
    if options.schema_registry is None:
        return None
    from perdure_ops.registry_client import RegistryClient
    from perdure_ops.schema_framing import learn_schema_ids

    return learn_schema_ids(RegistryClient(options.schema_registry, options.registry_auth), names, state_folder)


def _site(options: ServerOptions, log: Log, names: TopicNames) -> Site:
    from perdure_ops.http_api.guards import Access
    from perdure_ops.web.site import Site

    return Site(log, names, Access(options.ui_host, options.api_token, options.allowed_hosts))


def _watch_start(engine: Engine, announce: Callable[[], None], stop: StopRequest) -> None:
    """Announce readiness, however long the restore takes; a bug that shows before that ends the process."""
    started_s = time.monotonic()
    while not engine.wait_ready(READY_LOG_INTERVAL_S):
        failure = engine.failure()
        if failure is not None:
            stop.ask(CliError(f"the engine failed before it was ready: {failure!r}"))
            return
        _logger.info("event=not_ready_yet waited_s=%d", time.monotonic() - started_s)
    announce()
