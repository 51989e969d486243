"""Our own targets as measured programs: ``python -m bench.peers.perdure_peer TARGET [BOOTSTRAP]``."""

from __future__ import annotations

import asyncio
import sys

from bench.peers.protocol import answers_on_stdout, check, serve
from bench.stage import TASK_QUEUE
from bench.targets import TargetOptions, open_target
from bench.workloads.base import fresh_id
from bench.workloads.sequence import WORKFLOWS


async def _main(target: str, bootstrap: str | None) -> None:
    answers = answers_on_stdout()
    async with open_target(target, TargetOptions(bootstrap=bootstrap)) as stage:

        async def run(workload: str) -> None:
            workflow_id = fresh_id(workload)
            check(
                await stage.client.execute_workflow(WORKFLOWS[workload].run, "x", id=workflow_id, task_queue=TASK_QUEUE)
            )

        folders = [str(folder) for folder in stage.folders]
        await serve(run, answers, processes=stage.processes, folders=folders, records=stage.records_written)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
