"""A worker in a process of its own, as source text for ``python -c``; takes the address and the namespace."""

WORKER_PROCESS = """
import asyncio, sys
from perdure.client import Client
from tests.e2e.cli.worker_module import make_worker
async def main():
    worker = make_worker(await Client.connect(sys.argv[1], namespace=sys.argv[2]))
    print("worker", flush=True)
    await worker.run()
asyncio.run(main())
"""
