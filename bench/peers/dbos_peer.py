"""DBOS as a measured program: ``python -m bench.peers.dbos_peer [--wal]``. Runs in its own environment.

Everything is in this process, on an SQLite file, by the shortest way there is: a workflow is called as a function.
With ``--wal`` the file is one with a write-ahead log, which SQLite writes faster; by itself DBOS makes one without.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import tempfile
from pathlib import Path

from dbos import DBOS

from bench.peers.protocol import answers_on_stdout, check, serve


@DBOS.step()
async def echo(text: str) -> str:
    """The cheapest step there is."""
    return text


@DBOS.workflow()
async def one(text: str) -> str:
    """One step."""
    return await echo(text)


@DBOS.workflow()
async def ten(text: str) -> str:
    """Ten steps, one after the other."""
    for _ in range(10):
        text = await echo(text)
    return text


async def _main() -> None:
    answers = answers_on_stdout()
    with tempfile.TemporaryDirectory(prefix="bench-dbos-") as folder:
        file = Path(folder) / "dbos.sqlite"
        if "--wal" in sys.argv:
            with sqlite3.connect(file) as database:
                database.execute("PRAGMA journal_mode=WAL")
        DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{file}", "log_level": "ERROR"})
        DBOS.launch()
        workflows = {"one": one, "ten": ten}

        async def run(workload: str) -> None:
            check(await workflows[workload]("x"))

        await serve(run, answers, processes={"all": [os.getpid()]}, folders=[folder])
        DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(_main())
