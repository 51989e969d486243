"""``python -m perdure.worker MODULE:FUNCTION``: runs workers, in one process or in several.

The function takes a connected client and returns a worker, or a list of workers; it may be ``async``. With
``--processes N`` there are N children, each with its own client and workers; one that crashes is started again.
SIGTERM and SIGINT stop everything in good order.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

from perdure.client import Client
from perdure.envconfig import ClientConfig
from perdure.runtime import PrometheusConfig, Runtime, TelemetryConfig
from perdure.service import RPCError
from perdure.worker._processes import CHILD_OPTION, load_maker, run_workers, stop_event_of_process, supervise
from perdure_runtime.garbage import collect_less_often


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m perdure.worker", description="Run workers until a signal comes.")
    parser.add_argument("reference", metavar="MODULE:FUNCTION", help="takes a client and returns a worker or a list")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many processes; 1 if not given")
    parser.add_argument("--address", metavar="ADDRESS", help="where the engine is")
    parser.add_argument("--namespace", metavar="NAME", help="the namespace; default if not given")
    parser.add_argument("--profile", metavar="NAME", help="a connection profile; see perdure.envconfig")
    parser.add_argument("--config-file", metavar="FILE", help="the file of connection profiles")
    parser.add_argument(
        "--metrics-address",
        metavar="HOST:PORT",
        help="serve metrics for Prometheus; of several processes each takes the next port",
    )
    parser.add_argument(CHILD_OPTION, action="store_true", help=argparse.SUPPRESS)
    return parser


async def _run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    stop = stop_event_of_process(with_stdin=arguments.child)
    if arguments.processes > 1:
        command = [sys.executable, "-m", "perdure.worker", *argv, "--processes", "1", CHILD_OPTION]
        await supervise([[*command, *_metrics_of(arguments, n)] for n in range(arguments.processes)], stop)
        return
    if arguments.metrics_address is not None:
        Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(arguments.metrics_address)))
    maker = load_maker(arguments.reference)
    config = ClientConfig.load_client_connect_config(arguments.profile, config_file=arguments.config_file)
    if arguments.address is not None:
        config["target_host"] = arguments.address
    if arguments.namespace is not None:
        config["namespace"] = arguments.namespace
    client = await Client.connect(**config)
    collect_less_often()
    await run_workers(maker, client, stop)


def _metrics_of(arguments: argparse.Namespace, number: int) -> list[str]:
    """Where one of several processes serves its metrics. The last option of a kind counts."""
    if arguments.metrics_address is None:
        return []
    host, port = PrometheusConfig(arguments.metrics_address).host_and_port()
    return ["--metrics-address", f"{host}:{port + number if port else 0}"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit code: 0 after a signal, 1 after an error, 2 for wrong arguments."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    arguments = parser.parse_args(given)
    if arguments.processes < 1:
        parser.error(f"--processes is {arguments.processes}; it must be 1 or more")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s pid=%(process)d %(message)s")
    try:
        load_maker(arguments.reference)
        asyncio.run(_run(arguments, given))
    except (ValueError, TypeError, RPCError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
