"""Wait for two people: with a reminder, a deadline, and answers that are checked before they count."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from perdure import activity, workflow
from perdure.exceptions import ApplicationError

TASK_QUEUE = "loans"
REMIND_AFTER = timedelta(days=2)
DEADLINE = timedelta(days=5)


@dataclass
class Application:
    """What is asked for, and who has to agree."""

    customer: str
    amount: int
    approvers: list[str]


@dataclass
class Decision:
    """What one approver says."""

    approver: str
    approved: bool
    comment: str = ""


@dataclass
class Outcome:
    """How it ended: ``"approved"``, ``"refused"`` or ``"expired"``, and what was said, in order."""

    status: str
    decisions: list[Decision] = field(default_factory=list)


@activity.defn
async def write_to(person: str, message: str) -> None:
    """Send a message. Here it is printed."""
    print(f"to {person}: {message}")


@workflow.defn
class LoanApproval:
    """Approved when all approvers agree; refused as soon as one does not."""

    @workflow.init
    def __init__(self, application: Application) -> None:
        self._application = application
        self._decisions: list[Decision] = []
        self._status = "open"

    @workflow.run
    async def run(self, application: Application) -> Outcome:
        for approver in application.approvers:
            await self._write(approver, f"please decide on {application.amount} for {application.customer}")
        if not await self._decided_within(REMIND_AFTER):
            for approver in self.waiting_for():
                await self._write(approver, f"{application.customer} still waits for you")
            if not await self._decided_within(DEADLINE - REMIND_AFTER):
                self._status = "expired"
        await self._write(application.customer, f"your loan is {self._status}")
        return Outcome(self._status, self._decisions)

    @workflow.update
    def decide(self, decision: Decision) -> str:
        """Returns how the application stands now."""
        self._decisions.append(decision)
        if not decision.approved:
            self._status = "refused"
        elif not self.waiting_for():
            self._status = "approved"
        return self._status

    @decide.validator
    def _check(self, decision: Decision) -> None:
        """What is refused here never happened: it leaves no trace in the history."""
        if self._status != "open":
            raise ApplicationError(f"too late: the application is {self._status}")
        if decision.approver not in self._application.approvers:
            raise ApplicationError(f"{decision.approver} is not one of {', '.join(self._application.approvers)}")
        if decision.approver not in self.waiting_for():
            raise ApplicationError(f"{decision.approver} has decided already")

    @workflow.query
    def waiting_for(self) -> list[str]:
        decided = {decision.approver for decision in self._decisions}
        return [approver for approver in self._application.approvers if approver not in decided]

    async def _decided_within(self, patience: timedelta) -> bool:
        try:
            await workflow.wait_condition(lambda: self._status != "open", timeout=patience)
        except TimeoutError:
            return False
        return True

    async def _write(self, person: str, message: str) -> None:
        await workflow.execute_activity(write_to, args=[person, message], start_to_close_timeout=timedelta(seconds=30))
