"""Restate as a measured program: ``python -m bench.peers.restate_peer SERVER``. Runs in its own environment.

Three processes: this one calls the server's ingress over HTTP, the server (one node, its defaults, data on disk), and
the services, served by hypercorn.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import restate

from bench.driving import collect_less_often
from bench.peers.protocol import answers_on_stdout, check, serve
from bench.usage import descendants

START_TIMEOUT_S = 90.0

bench = restate.Service("Bench")


async def echo(text: str) -> str:
    """The cheapest step there is."""
    return text


@bench.handler()
async def one(ctx: restate.Context, text: str) -> str:
    """One step."""
    return await ctx.run_typed("echo", echo, restate.RunOptions(), text)


@bench.handler()
async def ten(ctx: restate.Context, text: str) -> str:
    """Ten steps, one after the other."""
    for _ in range(10):
        text = await ctx.run_typed("echo", echo, restate.RunOptions(), text)
    return text


app = restate.app([bench])
# Here, because hypercorn's process is a measured program, too.
collect_less_often()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def _process(
    log: Path, *command: str, env: dict[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | (env or {})
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _register(
    session: aiohttp.ClientSession,
    admin_port: int,
    service_port: int,
    folder: Path,
    processes: Sequence[asyncio.subprocess.Process],
) -> None:
    """Tell the server where the services are, as soon as both answer."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    problem: object = None
    while time.monotonic() < deadline_s and all(process.returncode is None for process in processes):
        with contextlib.suppress(aiohttp.ClientError):
            target = {"uri": f"http://127.0.0.1:{service_port}", "force": True}
            async with session.post(f"http://127.0.0.1:{admin_port}/deployments", json=target) as answer:
                if answer.ok:
                    return
                problem = await answer.text()
        await asyncio.sleep(0.25)
    logs = "\n".join(log.read_text(errors="replace")[-1500:] for log in folder.glob("*.log"))
    raise RuntimeError(f"Restate did not take the services: {problem or 'a process ended, or did not answer'}\n{logs}")


async def _main(server: str) -> None:
    answers = answers_on_stdout()
    ingress, admin, node, services = (_free_port() for _ in range(4))
    env = {
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RUST_LOG": "warn",
    }
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-restate-")))
        data = folder / "data"
        server_process = await stack.enter_async_context(
            _process(folder / "server.log", server, "--no-logo", "--base-dir", str(data), env=env)
        )
        hypercorn = [sys.executable, "-m", "hypercorn", "bench.peers.restate_peer:app"]
        services_process = await stack.enter_async_context(
            _process(folder / "services.log", *hypercorn, "--bind", f"127.0.0.1:{services}")
        )
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        await _register(session, admin, services, folder, [server_process, services_process])

        async def run(workload: str) -> None:
            async with session.post(f"http://127.0.0.1:{ingress}/Bench/{workload}", json="x") as answer:
                answer.raise_for_status()
                check(await answer.json())

        workers = [services_process.pid, *descendants(services_process.pid)]
        processes = {"client": [os.getpid()], "worker": workers, "engine": [server_process.pid]}
        await serve(run, answers, processes=processes, folders=[str(data)])


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
