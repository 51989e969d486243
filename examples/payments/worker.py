"""A worker process of the payments example.

`python -m examples.payments.worker --address localhost:7233 --bank-url http://127.0.0.1:8080 --task-queue payments`

Runs until SIGTERM or Ctrl-C. The demo starts two of them and kills one.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from examples.payments.activities import PaymentActivities
from examples.payments.bank_client import BankClient
from examples.payments.connecting import NoEngineError, connect
from examples.payments.workflows import PaymentWorkflow
from perdure.worker import Worker

# The bank takes one call at a time; more calls at once would only wait in its queue.
ACTIVITIES_MAX = 32


async def run_worker(address: str, bank_url: str, task_queue: str) -> None:
    """Serves a task queue until the process is told to stop.

    Args:
        address: The engine, as `Client.connect` takes it.
        bank_url: Where the bank listens.
        task_queue: The queue to serve.

    Raises:
        NoEngineError: No engine answers.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await connect(address)
    async with BankClient(bank_url, connections_max=ACTIVITIES_MAX) as bank:
        activities = PaymentActivities(bank)
        worker = Worker(
            client,
            task_queue=task_queue,
            workflows=[PaymentWorkflow],
            activities=[
                activities.screen,
                activities.reserve,
                activities.transfer,
                activities.notify,
                activities.refund,
                activities.release,
            ],
            max_concurrent_activities=ACTIVITIES_MAX,
        )
        async with worker:
            print("the worker is running", flush=True)
            await stop.wait()


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.payments.worker", description="Run payment workflows.")
    parser.add_argument("--address", required=True, help="the engine: localhost:PORT or kafka://host:port")
    parser.add_argument("--bank-url", required=True, help="the bank, for example http://127.0.0.1:8080")
    parser.add_argument("--task-queue", default="payments", help="the task queue to serve (payments)")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(run_worker(options.address, options.bank_url, options.task_queue))
    except (NoEngineError, ValueError) as error:
        print(f"the worker cannot run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
