"""``perdure dev`` and ``perdure server``: their options. :mod:`perdure_ops.dev` and ``.server`` do the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure_ops.logs import LogLevel, configure_logging
from perdure_ops.options import DEFAULT_NAMESPACE, Level, Namespace, RegistryAuth

ApiToken = Annotated[
    str | None,
    typer.Option(
        envvar="PERDURE_API_TOKEN",
        metavar="TOKEN",
        help="What callers of the web UI and the HTTP API must show. Needed on other than loopback addresses.",
        show_default=False,
    ),
]
AllowedHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--allowed-host", metavar="NAME", help="A name the web UI is reached by, e.g. of a proxy.", show_default=False
    ),
]
FramedFor = Annotated[
    str | None,
    typer.Option(
        envvar="PERDURE_SCHEMA_REGISTRY",
        metavar="URL",
        help="Write history and executions in the wire format of this schema registry.",
        show_default=False,
    ),
]


def _announce(line: str) -> None:
    print(line, flush=True)


def dev(
    workers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODULE:WORKER]...",
            help="Workers to run in this process: functions that take a client and return a Worker.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port for clients and workers; 0: any free one.", min=0, max=65535)] = 7233,
    ui_port: Annotated[
        int, typer.Option(help="Port of the web UI, the HTTP API and metrics; 0: none.", min=0, max=65535)
    ] = 8233,
    headless: Annotated[bool, typer.Option("--headless", help="Without web UI, HTTP API and metrics.")] = False,
    api_token: ApiToken = None,
    allowed_hosts: AllowedHosts = None,
    data: Annotated[Path, typer.Option(help="Folder for everything that must survive.")] = Path(".perdure/dev"),
    in_memory: Annotated[bool, typer.Option("--in-memory", help="Keep nothing on disk.")] = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    partitions: Annotated[
        int | None,
        typer.Option(help="Partitions of a new data folder; 4 if not given.", min=1, max=1024, show_default=False),
    ] = None,
    log_level: Level = LogLevel.WARNING,
) -> None:
    """Run a development server: an embedded log and the whole engine in one process, without Kafka.

    Example: perdure dev shop.worker:make_worker
    """
    from perdure_ops.dev import DevOptions, run_dev

    configure_logging(log_level)
    options = DevOptions(
        workers=tuple(workers or ()),
        host=host,
        port=port,
        ui_port=None if headless or ui_port == 0 else ui_port,
        data=None if in_memory else data,
        namespace=namespace,
        partitions=partitions,
        api_token=api_token,
        allowed_hosts=tuple(allowed_hosts or ()),
    )
    run_dev(options, _announce)


def server(
    address: Annotated[
        str,
        typer.Option(envvar="PERDURE_ADDRESS", metavar="ADDRESS", help="kafka://BROKER:PORT,… of the Kafka cluster."),
    ],
    namespace: Namespace = DEFAULT_NAMESPACE,
    partitions: Annotated[
        int | None,
        typer.Option(help="Partitions of a new namespace; 16 if not given.", min=1, max=1024, show_default=False),
    ] = None,
    roles: Annotated[str, typer.Option(metavar="ROLE,…", help="What to run.")] = "history,matching,timers",
    processes: Annotated[
        str,
        typer.Option(
            metavar="one|roles|N",
            help="one: threads of this process; roles: a process for each role; N: that many, each with all roles.",
        ),
    ] = "one",
    state_dir: Annotated[Path, typer.Option(help="Folder for state stores; never precious.")] = Path(".perdure/server"),
    instance: Annotated[
        str, typer.Option(metavar="NAME", help="Name of this engine across restarts; the host name if not given.")
    ] = "",
    replication: Annotated[
        int, typer.Option(help="Replication factor of topics created now; -1: as the brokers are set up.")
    ] = -1,
    create_topics: Annotated[bool, typer.Option(help="Create topics that are missing.")] = True,
    standbys: Annotated[
        bool, typer.Option(help="Fold the partitions of other engines all the time, to take them over at once.")
    ] = True,
    session_timeout_ms: Annotated[
        int | None,
        typer.Option(help="Milliseconds without a sign of life after which others take over.", show_default=False),
    ] = None,
    read_side: Annotated[
        bool, typer.Option(help="Answer lists and counts, too, from an index of all runs in the state folder.")
    ] = True,
    relay: Annotated[bool, typer.Option(help="Write the records that workflows emit, too.")] = True,
    schema_registry: FramedFor = None,
    registry_auth: RegistryAuth = None,
    http_port: Annotated[int, typer.Option(help="Port of health and metrics; 0: none.", min=0, max=65535)] = 0,
    http_host: Annotated[str, typer.Option(help="Address of health and metrics.")] = "127.0.0.1",
    ui_port: Annotated[int, typer.Option(help="Port of the web UI and the HTTP API; 0: none.", min=0, max=65535)] = 0,
    ui_host: Annotated[str, typer.Option(help="Address of the web UI and the HTTP API.")] = "127.0.0.1",
    api_token: ApiToken = None,
    allowed_hosts: AllowedHosts = None,
    log_level: Level = LogLevel.INFO,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Run the engine on Kafka. Options for the Kafka client are taken from KAFKA_… variables.

    Example: perdure server --address kafka://b1:9092,b2:9092 --processes roles --http-port 8080
    """
    from perdure_ops.roles import parse_roles
    from perdure_ops.server import ServerOptions, run_server

    configure_logging(log_level)
    options = ServerOptions(
        address=address,
        namespace=namespace,
        partitions=partitions,
        replication=replication,
        create_topics=create_topics,
        roles=parse_roles(roles),
        processes=processes,
        state_dir=state_dir,
        instance=instance,
        standbys=standbys,
        session_timeout_ms=session_timeout_ms,
        read_side=read_side,
        relay=relay,
        schema_registry=schema_registry or None,
        registry_auth=registry_auth or None,
        http_port=http_port or None,
        http_host=http_host,
        ui_port=ui_port or None,
        ui_host=ui_host,
        api_token=api_token,
        allowed_hosts=tuple(allowed_hosts or ()),
        log_level=log_level.value,
        supervised=supervised,
    )
    run_server(options, _announce)
