"""Run a definition: ``python -m examples.dsl``, or ``python -m examples.dsl FILE customer=Bea``.

Exit codes: 0 it ran, 2 the file cannot be read or the definition cannot be run.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from examples.dsl.activities import ACTIVITIES
from examples.dsl.definition import DefinitionError
from examples.dsl.workflow import TASK_QUEUE, Interpreter, start
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

SHIPPED = Path(__file__).parent / "onboarding.json"


def main(file: Path, inputs: dict[str, str]) -> int:
    try:
        definition = json.loads(file.read_text())
        print(asyncio.run(run(definition, inputs)))
    except DefinitionError as error:
        for fault in error.faults:
            print(f"{file.name}: {fault}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"{file}: {error}", file=sys.stderr)
        return 2
    return 0


async def run(definition: Any, inputs: dict[str, str]) -> Any:
    async with (
        await WorkflowEnvironment.start_time_skipping() as env,
        Worker(env.client, task_queue=TASK_QUEUE, workflows=[Interpreter], activities=[*ACTIVITIES.values()]),
    ):
        handle = await start(env.client, definition, inputs, id="definition")
        return await handle.result()


if __name__ == "__main__":
    path, *pairs = sys.argv[1:] or [str(SHIPPED), "customer=Ada Lovelace"]
    given = {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
    sys.exit(main(Path(path), given))
