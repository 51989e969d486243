"""Load a file row by row, and go on where the last attempt was."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from perdure import activity, workflow
from perdure.client import Client
from perdure.worker import Worker

TASK_QUEUE = "pipeline"
#: A worker that is silent for so long is taken for dead, and another one gets the activity.
HEARTBEAT_TIMEOUT = timedelta(seconds=2)
#: So often at most a position is sent, and so many rows at most are loaded twice after a kill.
POSITION_EVERY = timedelta(milliseconds=200)


@dataclass
class Job:
    """What to load, and how long each row takes: the part where a real pipeline would work."""

    source: str
    target: str
    row_s: float = 0.002


@dataclass
class Position:
    """How far an attempt has come: rows, and bytes of the source."""

    rows: int = 0
    byte: int = 0


@dataclass
class Loaded:
    """How many rows the source has, at which one the last attempt went on, and which attempt that was."""

    rows: int
    resumed_at: int
    attempts: int


@activity.defn
def load_rows(job: Job) -> Loaded:
    """Appends each row to the target. A plain function: it runs on a thread of the worker's executor."""
    details = activity.info().heartbeat_details
    begun = here = Position(**details[0]) if details else Position()
    with Path(job.source).open("rb") as source, Path(job.target).open("ab", buffering=0) as target:
        source.seek(here.byte)
        for row in source:
            time.sleep(job.row_s)
            target.write(row)
            here = Position(here.rows + 1, here.byte + len(row))
            # After the row: one that is killed here is loaded again, and none is left out. Costs next to nothing.
            activity.heartbeat(here)
    return Loaded(here.rows, begun.rows, activity.info().attempt)


@workflow.defn
class Pipeline:
    """One file."""

    @workflow.run
    async def run(self, job: Job) -> Loaded:
        return await workflow.execute_activity(
            load_rows,
            job,
            start_to_close_timeout=timedelta(hours=6),  # one attempt, however large the file
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
        )


def make_worker(client: Client) -> Worker:
    """Also for ``python -m perdure.worker examples.pipeline.workflow:make_worker``."""
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Pipeline],
        activities=[load_rows],
        activity_executor=ThreadPoolExecutor(4),
        max_heartbeat_throttle_interval=POSITION_EVERY,
    )
