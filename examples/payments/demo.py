"""The demo's course: start everything, pay the batch while processes are killed, reconcile, stop everything.

Called by __main__.py with checked options. The decisions (validation, reconciliation) are elsewhere; this is the shell.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import socket
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.payments.bank_statement import read_statement
from examples.payments.connecting import connect
from examples.payments.models import Batch
from examples.payments.payer import Payer
from examples.payments.processes import Child, Children
from examples.payments.reconcile import Difference, reconcile
from examples.payments.report import Kill, RunFacts, print_report
from examples.payments.run_directory import RunDirectory

T = TypeVar("T")

WORKERS = 2
START_S_MAX = 60.0
STALL_S_MAX = 90.0
START_POLL_S = 0.05
WORKER_KILL_SHARE = 0.25
ENGINE_KILL_SHARE = 0.50


class StalledError(Exception):
    """The bank did not start in time, or no payment ended for too long; the message says which."""


@dataclass(frozen=True)
class Options:
    """What the command line asked for.

    Attributes:
        address: The engine; None starts one of the demo's own.
        books: The bank's opening books.
        in_flight_max: Workflows open at the same time.
        seed: Chooses the calls that the bank fails.
        unavailable_share: The share of calls that the bank fails before it acts.
        drop_share: The share of replies that the bank drops after it acted.
        kills: Whether a worker and the engine are killed.
    """

    address: str | None
    books: Path
    in_flight_max: int
    seed: int
    unavailable_share: float
    drop_share: float
    kills: bool


class Milestones:
    """Counts the payments that ended, and wakes those who wait for a count."""

    def __init__(self) -> None:
        self.ended = 0
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    def note(self) -> None:
        """One more payment has ended."""
        self.ended += 1
        while self._waiting and self._waiting[0][0] <= self.ended:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    async def reached(self, count: int) -> None:
        """Returns once that many payments have ended."""
        if self.ended < count:
            future = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (count, next(self._order), future))
            await future


async def run_demo(console: Console, batch: Batch, run: RunDirectory, options: Options) -> bool:
    """Runs the demo to its end; every process it started is stopped when this returns or raises.

    Returns:
        Whether the batch reconciles.

    Raises:
        ChildDiedError: A process of the demo ended by itself.
        NoEngineError: No engine answers.
        StalledError: The bank did not start, or no payment ended for too long.
    """
    milestones = Milestones()
    kills: list[Kill] = []
    async with Children(run.logs) as children:
        address, engine = await _start_engine(console, children, run, options.address)
        bank_url = await _start_bank(children, run, options)
        client = await _guarded(connect(address), children.watch())
        workers = [await _start_worker(children, number, address, bank_url, run) for number in range(1, WORKERS + 1)]
        console.print(
            f"bank at {bank_url}, {WORKERS} workers, data and logs in {run.path}", soft_wrap=True, highlight=False
        )
        started_s = time.monotonic()
        with _progress(console) as progress:
            bar = progress.add_task("payments", total=len(batch.payments))

            def on_end() -> None:
                milestones.note()
                progress.advance(bar)

            payer = Payer(client, run, in_flight_max=options.in_flight_max, on_end=on_end)
            guards = [children.watch(), _watchdog(milestones, payer)]
            if options.kills:
                guards.append(
                    _kill_on_the_way(progress.console, milestones, len(batch.payments), workers[0], engine, kills)
                )
            await _guarded(payer.pay(batch), *guards)
        elapsed_s = time.monotonic() - started_s
    # The bank has stopped as well: what its file holds now is final.
    statement = read_statement(run.ledger)
    reconciliation = reconcile(batch, statement, payer.paid.results)
    reconciliation.differences.extend(Difference(key, reason) for key, reason in payer.paid.failures.items())
    facts = RunFacts(kills, payer.paid.client_retries, elapsed_s)
    print_report(console, batch, payer.paid.results, reconciliation, statement.calls, facts)
    return not reconciliation.differences


async def _start_engine(
    console: Console, children: Children, run: RunDirectory, address: str | None
) -> tuple[str, Child | None]:
    """Starts the engine unless it is somebody else's.

    Returns:
        Its address, and its process where it is the demo's own.
    """
    if address is None:
        port, ui_port = _free_ports(2)
        address = f"localhost:{port}"
        arguments = ["dev", "--port", str(port), "--ui-port", str(ui_port), "--data", str(run.engine)]
        console.print(f"engine at {address}, web UI at http://localhost:{ui_port}", soft_wrap=True, highlight=False)
    elif address.startswith("kafka://"):
        arguments = ["server", "--address", address]
        console.print(f"engine on {address}", soft_wrap=True, highlight=False)
    else:
        console.print(
            f"using the engine at {address}; it is not the demo's own, so it is not killed",
            soft_wrap=True,
            highlight=False,
        )
        return address, None
    return address, await children.start("engine", ["-m", "perdure_ops", *arguments])


async def _start_bank(children: Children, run: RunDirectory, options: Options) -> str:
    """Starts the bank and returns its URL."""
    run.bank_ready.unlink(missing_ok=True)
    arguments = ["-m", "examples.payments.bank", "--db", str(run.ledger), "--ready-file", str(run.bank_ready)]
    arguments += ["--books", str(options.books), "--seed", str(options.seed)]
    arguments += ["--unavailable-share", str(options.unavailable_share), "--drop-share", str(options.drop_share)]
    await children.start("bank", arguments)

    async def ready() -> str:
        for _ in range(int(START_S_MAX / START_POLL_S)):
            if run.bank_ready.exists():
                return run.bank_ready.read_text(encoding="utf-8")
            await asyncio.sleep(START_POLL_S)
        raise StalledError(f"the bank did not start within {START_S_MAX:.0f} s; its log is in {run.logs}")

    return await _guarded(ready(), children.watch())


async def _start_worker(children: Children, number: int, address: str, bank_url: str, run: RunDirectory) -> Child:
    arguments = ["--address", address, "--bank-url", bank_url, "--task-queue", run.task_queue]
    return await children.start(f"worker {number}", ["-m", "examples.payments.worker", *arguments])


async def _kill_on_the_way(
    console: Console, milestones: Milestones, total: int, worker: Child, engine: Child | None, kills: list[Kill]
) -> None:
    """Kills a worker, later the engine, each with SIGKILL, and starts them again at once."""
    await _kill(console, milestones, max(1, int(total * WORKER_KILL_SHARE)), worker, kills)
    if engine is not None:
        await _kill(console, milestones, max(1, int(total * ENGINE_KILL_SHARE)), engine, kills)


async def _kill(console: Console, milestones: Milestones, count: int, child: Child, kills: list[Kill]) -> None:
    await milestones.reached(count)
    killed_pid, killed_s, ended = child.pid, time.monotonic(), milestones.ended
    await child.kill()
    await child.start()
    console.print(
        f"[bold yellow]killed {child.name}[/] (pid {killed_pid}, SIGKILL) after {ended:,} payments; "
        f"started again as pid {child.pid}",
        soft_wrap=True,
        highlight=False,
    )
    await milestones.reached(milestones.ended + 1)
    kills.append(Kill(child.name, ended, time.monotonic() - killed_s))


async def _watchdog(milestones: Milestones, payer: Payer) -> None:
    """Ends by raising StalledError where no payment ends for too long."""
    while True:
        try:
            async with asyncio.timeout(STALL_S_MAX):
                await milestones.reached(milestones.ended + 1)
        except TimeoutError:
            why = f"; the client's last error: {payer.paid.last_error}" if payer.paid.last_error else ""
            raise StalledError(f"no payment ended for {STALL_S_MAX:.0f} s, after {milestones.ended:,}{why}") from None


async def _guarded(work: Coroutine[Any, Any, T], *guards: Coroutine[Any, Any, None]) -> T:
    """Runs `work` to its end, unless a guard raises before; a guard may also just end."""
    task = asyncio.create_task(work)
    watching = {asyncio.create_task(guard) for guard in guards}
    try:
        while not task.done():
            done, _ = await asyncio.wait({task, *watching}, return_when=asyncio.FIRST_COMPLETED)
            for guard in watching & done:
                guard.result()
            watching -= done
        return task.result()
    finally:
        for each in (task, *watching):
            each.cancel()
        await asyncio.gather(task, *watching, return_exceptions=True)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
