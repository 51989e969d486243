"""Workers for the processes that the tests start."""

from __future__ import annotations

import os
import signal

from perdure import activity
from perdure.client import Client
from perdure.worker import Worker


@activity.defn
async def process_id() -> int:
    return os.getpid()


@activity.defn
async def crash_once(process: int) -> int:
    """Kill the process it runs in, unless it is another one than last time."""
    if activity.info().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def make_worker(client: Client) -> Worker:
    return Worker(
        client,
        task_queue=os.environ["TASK_QUEUE"],
        activities=[process_id, crash_once],
        max_concurrent_activities=1,
    )
