"""The state folder of a stopped engine, compared with the log: sound as it is, and each damage is named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import rocksdict

from perdure import activity, workflow
from perdure.client import Client
from perdure.worker import Worker
from perdure_ops.audit import AUDITED, Breach
from perdure_ops.audit.reading import TopicScan
from perdure_ops.audit.state import StateCheck
from perdure_ops.errors import CliError
from perdure_ops.roles import ROLE_NAMES, make_roles
from perdure_runtime.connect import create_platform_topics
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.engine import Engine
from perdure_schemas.topics import TopicNames

NAMES = TopicNames(partitions=2)
CLOSED = 6


@activity.defn
async def double(number: int) -> int:
    return number * 2


@workflow.defn
class Doubling:
    """Doubles a number; an odd one waits for a signal, an activity that nobody runs, and a timer."""

    def __init__(self) -> None:
        self.done = False

    @workflow.run
    async def run(self, number: int) -> int:
        doubled = await workflow.execute_activity(double, number, start_to_close_timeout=timedelta(seconds=30))
        if number % 2:
            nobody = workflow.start_activity(
                double, number, task_queue="nobody", schedule_to_close_timeout=timedelta(days=1)
            )
            await workflow.wait_condition(lambda: self.done, timeout=timedelta(days=1))
            nobody.cancel()
        return doubled

    @workflow.signal
    def finish(self) -> None:
        self.done = True


async def run_workflows(log: EmbeddedLog, task_queue: str) -> None:
    client = Client.from_log(log)
    async with Worker(client, task_queue=task_queue, workflows=[Doubling], activities=[double]):
        started = [
            await client.start_workflow(Doubling.run, n, id=f"{task_queue}-{n}", task_queue=task_queue)
            for n in range(CLOSED * 2)
        ]
        assert [await handle.result() for handle in started[::2]] == [n * 2 for n in range(0, CLOSED * 2, 2)]
        for handle in started[1::2]:
            async with asyncio.timeout(60):
                while len((await handle.describe()).raw_description.pending_activities) == 0:
                    await asyncio.sleep(0.02)
    await client.close()


def compare(log: EmbeddedLog, folder: Path) -> list[Breach]:
    scan = TopicScan(log, NAMES, AUDITED)
    check = StateCheck(NAMES, folder)
    try:
        for record in scan.to_end():
            check.take(record)
        return check.finish()
    finally:
        check.close()
        scan.close()


def change(folder: Path, role: str, prefix: bytes, how: Callable[[rocksdict.Rdict, bytes], None]) -> bytes:
    """Change the first entry with this prefix, in any partition, as a bug would; returns its key."""
    options = rocksdict.Options(raw_mode=True)
    database = rocksdict.Rdict(str(folder / role), options)
    try:
        key = next(key for key in list(database.keys()) if key[2:].startswith(prefix))
        how(database, key)
        return bytes(key[2:])
    finally:
        database.close()


def delete(database: rocksdict.Rdict, key: bytes) -> None:
    database.delete(key)


def flip(database: rocksdict.Rdict, key: bytes) -> None:
    value = bytearray(database[key])
    value[-1] ^= 1
    database[key] = bytes(value)


def rename(database: rocksdict.Rdict, key: bytes) -> None:
    database[key + b"x"] = database[key]


@pytest.mark.timeout(300)
async def test_a_state_folder_is_compared_key_by_key(tmp_path: Path, task_queue: str) -> None:
    log = EmbeddedLog(None)
    folder = tmp_path / "state"
    create_platform_topics(log, NAMES)
    engine = Engine(log, NAMES, folder, make_roles(ROLE_NAMES, NAMES), instance="state")
    engine.start()
    try:
        assert engine.wait_ready(60)
        await run_workflows(log, task_queue)
    finally:
        engine.stop(60)
    try:
        assert compare(log, folder) == []
        for role, prefix, how, what in (
            ("history", b"s/", delete, "is missing in the folder"),
            ("history", b"h/", flip, "differs in its value"),
            ("history", b"c/", rename, "is in the folder and should not be"),
        ):
            key = change(folder, role, prefix, how)
            found = compare(log, folder)
            assert any(key.decode() in b.message and what in b.message for b in found), (key, what, found)
            assert {(b.check, b.topic) for b in found} == {("state", NAMES.history)}
        with pytest.raises(CliError, match="did you mean"):
            StateCheck(NAMES, tmp_path)
    finally:
        log.close()
