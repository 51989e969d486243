"""Load a file while the worker is killed: ``python -m examples.pipeline``. Exit code 1: a row was lost."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.pipeline.workflow import TASK_QUEUE, Job, Loaded, Pipeline, make_worker
from perdure.client import Client, WorkflowHandle

ROWS = 2_000
SERVER = ["-m", "perdure_ops", "dev", "--in-memory", "--headless", "--port", "0"]
WORKER = ["-m", "perdure.worker", "examples.pipeline.workflow:make_worker", "--address"]


@dataclass
class Outcome:
    """What became of the rows.

    Attributes:
        at_kill: How many were loaded when the worker was killed.
        resumed_at: Where the last attempt went on.
        attempts: How many there were.
        doubled: How many stand in the target twice.
        lost: How many are missing there.
    """

    at_kill: int
    resumed_at: int
    attempts: int
    doubled: int
    lost: int


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed with SIGKILL at the end of the block."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


async def run(address: str, rows: int, folder: Path) -> Outcome:
    """Load so many rows, with a kill after a third of them."""
    source, target = folder / "source.csv", folder / "target.csv"
    written = [f"{number},row {number}" for number in range(rows)]
    source.write_text("".join(f"{row}\n" for row in written))
    client = await Client.connect(address)
    job = Job(str(source), str(target))
    handle = await client.start_workflow(Pipeline.run, job, id="load", task_queue=TASK_QUEUE)
    with process(*WORKER, address):
        await until_under_way(handle, target, rows // 3)
    at_kill = count(target)
    async with make_worker(client):  # another one, in this process
        loaded = await handle.result()
    await client.close()
    found = target.read_text().splitlines()
    lost = set(written) - set(found)
    return Outcome(at_kill, loaded.resumed_at, loaded.attempts, len(found) - len(set(found)), len(lost))


async def until_under_way(handle: WorkflowHandle[Pipeline, Loaded], target: Path, rows: int) -> None:
    """Until so many rows are loaded, and the engine has heard of some of them."""
    while True:
        pending = (await handle.describe()).raw_description.pending_activities
        heard = all(activity.last_heartbeat_time_ms is not None for activity in pending)
        if heard and count(target) >= rows:
            return
        await asyncio.sleep(0.05)


def count(target: Path) -> int:
    """How many rows are loaded."""
    return target.read_bytes().count(b"\n") if target.exists() else 0


def address_of(server: subprocess.Popen[str]) -> str:
    """Out of the line that says that the server is ready."""
    assert server.stdout is not None
    ready = server.stdout.readline()
    found = re.search(r"localhost:\d+", ready)
    if found is None:
        raise RuntimeError(f"the server did not start: {ready!r}")
    return found[0]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="perdure-pipeline-") as folder, process(*SERVER) as server:
        outcome = asyncio.run(run(address_of(server), ROWS, Path(folder)))
    print(f"the worker was killed after {outcome.at_kill} of {ROWS} rows; the next one went on at {outcome.resumed_at}")
    print(f"{outcome.lost} rows lost, {outcome.doubled} loaded twice")
    return 1 if outcome.lost else 0


if __name__ == "__main__":
    sys.exit(main())
