"""An index whose process is killed again and again while runs come and go has in the end what one built anew has."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import uuid
from pathlib import Path
from typing import cast

import pytest

from perdure.client import Client
from perdure.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from perdure_readside.folding import Folder
from perdure_readside.index import ExecutionIndex
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames
from tests.support.platform import embedded_platform
from tests.support.processes import REPOSITORY

TIMEOUT_S = 60.0
REGION = SearchAttributeKey.for_keyword("Region")
#: Behind so many lines of each life it is killed: an odd one was printed within a transaction, an even one behind it.
LIVES = (1, 2, 9)
_ROWS = """
SELECT e.run_id, e.workflow_id, e.status, e.start_ms, e.close_ms, e.history_length, e.version, e.summary,
    a.name, a.value
FROM executions e LEFT JOIN attributes a ON a.execution_id = e.id ORDER BY e.run_id, a.name, a.value
"""


async def runs_come_and_go(client: Client, stopped: asyncio.Event) -> None:
    """Workflows that start, some of which end, and some of which are deleted."""
    stem, numbers = f"k{uuid.uuid4().hex[:8]}", itertools.count()
    while not stopped.is_set():
        handles = []
        for number in itertools.islice(numbers, 6):
            attributes = TypedSearchAttributes([SearchAttributePair(REGION, f"r{number % 4}")])
            handles.append(
                await client.start_workflow(
                    "Nobody", id=f"{stem}-{number}", task_queue=stem, search_attributes=attributes
                )
            )
        await asyncio.gather(*(handle.terminate() for handle in handles[:3]))
        await asyncio.gather(*(handle.delete() for handle in handles[2:4]))
        await asyncio.sleep(0.05)  # the machine is for others, too


def follow_and_be_killed(address: str, namespace: str, file: Path) -> None:
    """Several lives of a process that folds the same index."""
    command = [sys.executable, "-m", "tests.integration.readside.follower", address, namespace, str(file)]
    for lines in LIVES:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
        )
        assert child.stdout is not None
        for _ in range(lines):
            assert child.stdout.readline()
        child.kill()
        _, err = child.communicate(timeout=TIMEOUT_S)
        # It went on where it was, and did not begin anew.
        assert "index_rebuilt" not in err


def caught_up(log: Log, names: TopicNames, index: ExecutionIndex) -> tuple[list[object], dict[int, int]]:
    """All rows of an index, and its places, once it holds what the topic does."""
    folder = Folder(log, names.executions, names.partitions, index, wall_clock_ms)
    assert folder.catch_up(TIMEOUT_S)
    folder.close()
    rows = index._database.execute(_ROWS).fetchall()
    return rows, {partition: position for partition, (position, _) in index.places().items()}


@pytest.mark.timeout(300)  # processes start slowly where many run
async def test_killed_again_and_again_it_has_every_row_once(tmp_path: Path) -> None:
    with embedded_platform() as (log, names):
        server = cast("EmbeddedLog", log).serve("127.0.0.1", 0)
        client = Client.from_log(log, namespace=names.namespace, names=names)
        stopped, file = asyncio.Event(), tmp_path / "executions.sqlite3"
        flow = asyncio.create_task(runs_come_and_go(client, stopped))
        await asyncio.to_thread(follow_and_be_killed, f"127.0.0.1:{server.port}", names.namespace, file)
        stopped.set()
        await flow
        await client.close()
        live = ExecutionIndex(file, names.executions)
        assert sum(position for position, _ in live.places().values()) > 0
        rows, places = await asyncio.to_thread(caught_up, log, names, live)
        again = ExecutionIndex(None, names.executions)
        assert await asyncio.to_thread(caught_up, log, names, again) == (rows, places)
        assert len(rows) > 10
        live.close()
        again.close()
        server.close()
