"""The loan: both have to agree, in time; what does not count is refused and leaves no trace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from examples.loan_approval.workflow import TASK_QUEUE, Application, Decision, LoanApproval, Outcome
from perdure import activity
from perdure.client import WorkflowHandle, WorkflowUpdateFailedError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

Loan = WorkflowHandle[LoanApproval, Outcome]


@asynccontextmanager
async def _asked_for(env: WorkflowEnvironment, letters: list[tuple[str, str]]) -> AsyncIterator[Loan]:
    @activity.defn(name="write_to")
    async def write(person: str, message: str) -> None:
        letters.append((person, message))

    async with Worker(env.client, task_queue=TASK_QUEUE, workflows=[LoanApproval], activities=[write]):
        application = Application("ada", 12_000, ["bea", "cem"])
        yield await env.client.start_workflow(LoanApproval.run, application, id="loan", task_queue=TASK_QUEUE)


@pytest.mark.parametrize(("first", "second"), [("bea", "cem"), ("cem", "bea")])
async def test_both_approve_in_either_order(skipping: WorkflowEnvironment, first: str, second: str) -> None:
    letters: list[tuple[str, str]] = []
    async with _asked_for(skipping, letters) as loan:
        assert await loan.execute_update(LoanApproval.decide, Decision(first, True)) == "open"
        assert await loan.query(LoanApproval.waiting_for) == [second]
        assert await loan.execute_update(LoanApproval.decide, Decision(second, True)) == "approved"
        outcome = await loan.result()
    assert outcome == Outcome("approved", [Decision(first, True), Decision(second, True)])
    assert [person for person, _ in letters] == ["bea", "cem", "ada"]


@pytest.mark.parametrize("approved_before", [False, True])
async def test_one_refusal_is_enough(skipping: WorkflowEnvironment, approved_before: bool) -> None:
    letters: list[tuple[str, str]] = []
    async with _asked_for(skipping, letters) as loan:
        if approved_before:
            await loan.execute_update(LoanApproval.decide, Decision("bea", True))
        assert await loan.execute_update(LoanApproval.decide, Decision("cem", False, "too much")) == "refused"
        outcome = await loan.result()
    assert outcome.status == "refused"
    assert outcome.decisions[-1] == Decision("cem", False, "too much")
    assert letters[-1] == ("ada", "your loan is refused")


async def test_only_those_who_are_asked_decide_and_only_once(skipping: WorkflowEnvironment) -> None:
    async with _asked_for(skipping, []) as loan:
        await loan.execute_update(LoanApproval.decide, Decision("bea", True))
        for decision, reason in (
            (Decision("bea", False), "bea has decided already"),
            (Decision("eve", True), "eve is not one of bea, cem"),
        ):
            with pytest.raises(WorkflowUpdateFailedError) as caught:
                await loan.execute_update(LoanApproval.decide, decision)
            assert reason in str(caught.value.cause)
        await loan.execute_update(LoanApproval.decide, Decision("cem", True))
        assert len((await loan.result()).decisions) == 2


async def test_who_has_not_decided_is_reminded_and_then_it_is_too_late(skipping: WorkflowEnvironment) -> None:
    letters: list[tuple[str, str]] = []
    async with _asked_for(skipping, letters) as loan:
        await loan.execute_update(LoanApproval.decide, Decision("bea", True))
        await skipping.sleep(timedelta(days=2, hours=1))
        assert letters[2:] == [("cem", "ada still waits for you")]
        outcome = await loan.result()
        waited = (await skipping.get_current_time()) - (await loan.describe()).start_time
    assert outcome == Outcome("expired", [Decision("bea", True)])
    assert waited >= timedelta(days=5)
    assert letters[3:] == [("ada", "your loan is expired")]
