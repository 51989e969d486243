"""Signals to a server that is busy."""

from __future__ import annotations

import signal
import time

import pytest

from perdure.client import Client
from tests.e2e.cli.processes import start_dev
from tests.e2e.cli.worker_module import TASK_QUEUE, Basket

pytestmark = pytest.mark.e2e

#: Looser than what is promised (5 s), because the machine of a test run may be busy; the figure is printed.
STOP_S_MAX = 15.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_with_workflows_in_flight(number: signal.Signals) -> None:
    server = start_dev("--in-memory", "--headless", "tests.e2e.cli.worker_module:make_worker")
    client = await Client.connect(server.address)
    for index in range(5):
        await client.start_workflow(Basket.run, id=f"open-{index}", task_queue=TASK_QUEUE)
    started_s = time.monotonic()
    server.process.send_signal(number)
    _, err = server.process.communicate(timeout=60)
    stop_s = time.monotonic() - started_s
    print(f"perdure dev stopped after {stop_s:.2f} s")
    assert server.process.returncode == 0
    assert "Traceback" not in err
    assert stop_s < STOP_S_MAX


def test_a_second_signal_ends_it_at_once() -> None:
    server = start_dev("--in-memory", "--headless")
    server.process.send_signal(signal.SIGSTOP)  # so that both signals wait for it
    server.process.send_signal(signal.SIGINT)
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGCONT)
    server.process.communicate(timeout=60)
    assert server.process.returncode in (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)
