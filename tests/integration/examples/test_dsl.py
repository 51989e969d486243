"""The interpreter: what definitions do, and what is said of those that cannot be run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from examples.dsl import activities as activities_module
from examples.dsl.activities import ACTIVITIES
from examples.dsl.definition import DefinitionError, check
from examples.dsl.workflow import TASK_QUEUE, Interpreter, start
from perdure.client import Client, WorkflowFailureError
from perdure.exceptions import ApplicationError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

SHIPPED = Path(activities_module.__file__).parent / "onboarding.json"
SCORE = {"call": "credit_score", "with": ["$customer"], "as": "score"}


@pytest_asyncio.fixture
async def client(skipping: WorkflowEnvironment) -> AsyncIterator[Client]:
    """Of an engine with a worker for definitions."""
    async with Worker(
        skipping.client, task_queue=TASK_QUEUE, workflows=[Interpreter], activities=[*ACTIVITIES.values()]
    ):
        yield skipping.client


@pytest.mark.parametrize(("customer", "letter"), [("Ada", "welcome"), ("Ada Lovelace", "your card is on its way")])
async def test_the_shipped_definition(
    client: Client, skipping: WorkflowEnvironment, customer: str, letter: str
) -> None:
    begun = await skipping.get_current_time()
    handle = await start(client, json.loads(SHIPPED.read_text()), {"customer": customer}, id="onboarding")
    assert await handle.result() == [f"account of {customer}", f"to {customer}: {letter}"]
    assert await skipping.get_current_time() - begun >= timedelta(days=1)


async def test_steps_nest(client: Client) -> None:
    steps = [
        SCORE,
        {
            "parallel": [
                [{"call": "send", "with": ["a", "1"], "as": "a"}, {"call": "send", "with": ["$a", "2"], "as": "b"}],
                {"if": ["$score", "<", 5], "then": [{"parallel": [SCORE, SCORE]}]},
            ]
        },
    ]
    handle = await start(client, {"inputs": ["customer"], "do": steps, "result": "$b"}, {"customer": "x"}, id="nested")
    assert await handle.result() == "to to a: 1: 2"


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ([{"call": "nothing"}], 'do[0]: no activity "nothing"; there are create_account, credit_score, send'),
        ([{"call": "send", "with": ["$late", "x"]}], "do[0].with: $late is not known here"),
        ([{"parallel": [SCORE, {"call": "send", "with": ["$score", "x"]}]}], "do[0].parallel[1].with: $score is not"),
        ([{"if": ["$customer", "==", "x"], "then": [SCORE]}, {"wait": 1, "until": 2}], 'do[1]: "wait" has no field'),
        ([{"if": ["$customer", "~", "x"], "then": []}], "do[0]: a condition is [value, operator, value]"),
        ([{"if": [1, "==", 1]}], 'do[0]: "if" needs "then"'),
        ([{"wait": "long"}], 'do[0]: "wait" takes a number of seconds'),
        ([{"call": "send", "parallel": []}], "do[0]: a step is a list, or has one of call, parallel, if, wait"),
        (["send"], "do[0]: a step is a list, or has one of call"),
        ([{"parallel": {}}], "do[0].parallel: a list of steps is needed"),
        ([{"call": "send", "with": "x"}], 'do[0]: "with" is a list of values'),
    ],
)
def test_what_cannot_be_run_is_said_with_its_place(steps: list[Any], fault: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check({"inputs": ["customer"], "do": steps}, ACTIVITIES, ["customer"])
    (found,) = caught.value.faults
    assert found.startswith(fault)


def test_all_faults_are_said_at_once() -> None:
    with pytest.raises(DefinitionError) as caught:
        check({"inputs": ["customer"], "doo": 1, "do": [{"call": "x"}, 5], "result": "$y"}, ACTIVITIES, [])
    assert [fault.split(":")[0] for fault in caught.value.faults] == [
        "definition",
        "inputs",
        "do[0]",
        "do[1]",
        "result",
    ]


def test_a_result_of_one_branch_only_is_not_known_behind_it() -> None:
    steps = [{"if": ["$customer", "==", "x"], "then": [SCORE]}]
    with pytest.raises(DefinitionError, match=r"result: \$score is not known here"):
        check({"inputs": ["customer"], "do": steps, "result": "$score"}, ACTIVITIES, ["customer"])


async def test_a_definition_that_nobody_checked_fails_its_run(client: Client) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await client.execute_workflow(
            Interpreter.run, args=[{"do": [{"call": "x"}]}, {}], id="unchecked", task_queue=TASK_QUEUE
        )
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "BadDefinition"
