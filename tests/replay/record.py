"""Records golden histories: ``python -m tests.replay.record [NAME …]``; without names, those that have no file yet.

Each scenario of :mod:`tests.replay.golden_workflows` runs against an engine in this process whose clock skips.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from perdure.client import WorkflowFailureError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker
from tests.replay.golden_workflows import ACTIVITIES, SCENARIOS, WORKFLOWS

FOLDER = Path(__file__).parent / "golden"


def path_of(name: str) -> Path:
    """Where a history is kept."""
    return FOLDER / f"{name}.json"


async def record(names: list[str]) -> None:
    """Run scenarios and write their histories."""
    async with await WorkflowEnvironment.start_time_skipping(identity="golden") as environment:
        client = environment.client
        async with Worker(client, task_queue="golden", workflows=WORKFLOWS, activities=ACTIVITIES):
            for name in names:
                handle = await SCENARIOS[name](client, {"id": f"golden-{name}", "task_queue": "golden"})
                try:
                    await handle.result()
                except WorkflowFailureError as error:
                    print(f"{name} ended with {error.cause!r}")
                text = (await handle.fetch_history()).to_json()
                path_of(name).write_bytes(msgspec.json.format(text.encode(), indent=1) + b"\n")
                print(f"wrote {path_of(name)}")


def main(names: list[str]) -> int:
    """Record what is asked for; the exit code."""
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        print(f"no scenario is called {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    asyncio.run(record(names or [name for name in SCENARIOS if not path_of(name).exists()]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
