"""A loan of two approvers, one of whom has to be reminded: ``python -m examples.loan_approval``."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from examples.loan_approval.workflow import TASK_QUEUE, Application, Decision, LoanApproval, write_to
from perdure.client import WorkflowUpdateFailedError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker


async def main() -> None:
    async with (
        await WorkflowEnvironment.start_time_skipping() as env,
        Worker(env.client, task_queue=TASK_QUEUE, workflows=[LoanApproval], activities=[write_to]),
    ):
        application = Application("Ada", 12_000, ["Bea", "Cem"])
        loan = await env.client.start_workflow(LoanApproval.run, application, id="loan-1", task_queue=TASK_QUEUE)
        print(await loan.execute_update(LoanApproval.decide, Decision("Cem", True)))
        try:
            await loan.execute_update(LoanApproval.decide, Decision("Cem", False))
        except WorkflowUpdateFailedError as error:
            print(f"refused: {error.cause}")
        await env.sleep(timedelta(days=3))
        print(await loan.execute_update(LoanApproval.decide, Decision("Bea", True, "good figures")))
        print(await loan.result())


if __name__ == "__main__":
    asyncio.run(main())
