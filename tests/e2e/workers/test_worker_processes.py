"""``python -m perdure.worker``: one process and several, crashes, signals."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from perdure import workflow
from perdure.client import Client
from perdure.worker import Worker
from perdure.worker._processes import RESTART_DELAY_S_MAX, RUN_S_GOOD, load_maker, restart_delay_s
from perdure_runtime.embedded import EmbeddedLog
from tests.support.platform import embedded_platform
from tests.support.processes import REPOSITORY

_FACTORY = "tests.e2e.workers.workers_of_the_test:make_worker"


@workflow.defn
class Calls:
    @workflow.run
    async def run(self, name: str) -> int:
        result: int = await workflow.execute_activity(
            name,
            args=[1] if name == "crash_once" else [],
            task_queue=f"{workflow.info().task_queue}-processes",
            result_type=int,
            start_to_close_timeout=timedelta(seconds=30),
        )
        return result


@pytest.fixture
def supervised(task_queue: str) -> Iterator[tuple[Client, subprocess.Popen[str]]]:
    """A client of an engine in this process, and a supervisor of two worker processes."""
    with embedded_platform() as (log, names):
        assert isinstance(log, EmbeddedLog)
        server = log.serve("127.0.0.1", 0)
        process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "perdure.worker", _FACTORY),
                *("--processes", "2", "--address", f"127.0.0.1:{server.port}"),
            ],
            cwd=REPOSITORY,
            env=os.environ | {"TASK_QUEUE": f"{task_queue}-processes"},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield Client.from_log(log, namespace=names.namespace), process
        finally:
            process.kill()
            process.communicate()


async def test_a_crashed_process_is_replaced_and_all_stop_on_a_signal(
    supervised: tuple[Client, subprocess.Popen[str]], task_queue: str
) -> None:
    client, process = supervised
    async with Worker(client, task_queue=task_queue, workflows=[Calls]):
        first = await client.execute_workflow(Calls.run, "process_id", id=f"{task_queue}-1", task_queue=task_queue)
        assert first != process.pid
        await client.execute_workflow(Calls.run, "crash_once", id=f"{task_queue}-2", task_queue=task_queue)
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert errors.count("event=started process=worker-") >= 3, errors
    assert errors.count("event=worker_stopped") == 2, errors


def test_the_wait_before_a_restart_doubles_until_a_good_run() -> None:
    assert [restart_delay_s(0, 1), restart_delay_s(0.5, 1), restart_delay_s(1.0, 1)] == [0.5, 1.0, 2.0]
    assert restart_delay_s(RESTART_DELAY_S_MAX, 1) == RESTART_DELAY_S_MAX
    assert restart_delay_s(RESTART_DELAY_S_MAX, RUN_S_GOOD) == 0.5


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("no_colon", "MODULE:FUNCTION"),
        ("no_such_module_here:f", "no module 'no_such_module_here'"),
        ("json:nothing", "has no 'nothing'"),
        ("json:JSONDecoder", "must be a function"),
    ],
)
def test_a_wrong_reference_is_refused(reference: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load_maker(reference)
