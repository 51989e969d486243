"""The interpreter: one workflow type that runs every definition."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from examples.dsl.activities import ACTIVITIES
from examples.dsl.definition import OPERATORS, DefinitionError, check
from perdure import workflow
from perdure.client import Client, WorkflowHandle
from perdure.exceptions import ApplicationError

TASK_QUEUE = "definitions"
WITHIN = timedelta(seconds=30)


@workflow.defn
class Interpreter:
    """Runs a definition. It stands in the history, so editing a file changes no run that has begun."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {}

    @workflow.run
    async def run(self, definition: dict[str, Any], inputs: dict[str, Any]) -> Any:
        try:
            check(definition, ACTIVITIES, inputs)
        except DefinitionError as error:
            # Whoever started it has not checked it.
            raise ApplicationError(str(error), type="BadDefinition", non_retryable=True) from error
        self._names = dict(inputs)
        await self._do(definition["do"])
        return self._value(definition.get("result"))

    async def _do(self, step: Any) -> None:
        match step:
            case list():
                for each in step:
                    await self._do(each)
            case {"call": name}:
                result = await workflow.execute_activity(
                    name, args=self._value(step.get("with", [])), start_to_close_timeout=WITHIN
                )
                if "as" in step:
                    self._names[step["as"]] = result
            case {"parallel": branches}:
                await asyncio.gather(*(self._do(branch) for branch in branches))
            case {"if": [left, compared, right]}:
                holds = OPERATORS[compared](self._value(left), self._value(right))
                await self._do(step["then"] if holds else step.get("else", []))
            case {"wait": seconds}:
                await workflow.sleep(seconds)

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(each) for each in value]
        if isinstance(value, str) and value.startswith("$"):
            return self._names[value[1:]]
        return value


async def start(
    client: Client, definition: dict[str, Any], inputs: dict[str, Any], *, id: str
) -> WorkflowHandle[Interpreter, Any]:
    """Start a definition, if it can be run.

    Raises:
        DefinitionError: it cannot; nothing was started.
    """
    check(definition, ACTIVITIES, inputs)
    return await client.start_workflow(Interpreter.run, args=[definition, inputs], id=id, task_queue=TASK_QUEUE)
