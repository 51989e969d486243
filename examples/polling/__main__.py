"""Wait for a page to change, through an outage: ``python -m examples.polling``."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from examples.polling.source import Polling, Source
from examples.polling.workflow import TASK_QUEUE, WaitForChange, Watch
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker


async def main() -> None:
    logging.getLogger("perdure").setLevel(logging.ERROR)  # the outage is part of the show
    page = Source("version 1")
    polling = Polling({"page": page})
    async with (
        await WorkflowEnvironment.start_time_skipping() as env,
        Worker(env.client, task_queue=TASK_QUEUE, workflows=[WaitForChange], activities=[polling.poll]),
    ):
        watch = Watch("page", seen="version 1")
        handle = await env.client.start_workflow(WaitForChange.run, watch, id="watch-page", task_queue=TASK_QUEUE)
        await env.sleep(timedelta(hours=2))
        print(f"{page.polls} polls in two hours")
        page.down = True
        before = page.polls
        await env.sleep(timedelta(hours=6))
        print(f"{page.polls - before} polls in six hours of an outage")
        page.down, page.value = False, "version 2"
        print(await handle.result())


if __name__ == "__main__":
    asyncio.run(main())
