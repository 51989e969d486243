"""From an order to its parcel, with a person in between where the order looks odd."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from examples.fulfilment.warehouse import Warehouse
from perdure import workflow

TASK_QUEUE = "fulfilment"
RISK_MAX = 50
#: Who is asked, one after the other, and for how long each has the order alone. The last one is waited for.
CLERKS = ("clerk", "supervisor", "head of sales")
ESCALATE_AFTER = timedelta(hours=4)
WITHIN = timedelta(seconds=30)


class Stage(StrEnum):
    """Where an order stands."""

    CHECKING = "checking"
    WAITING_FOR_DECISION = "waiting for a decision"
    PACKING = "packing"
    SHIPPED = "shipped"
    REJECTED = "rejected"


@dataclass
class Order:
    """What a customer wants."""

    id: str
    item: str
    amount: int


@dataclass
class Decision:
    """What a person says."""

    accepted: bool
    by: str


@dataclass
class Status:
    """What the query tells: the stage, who has been asked, and the parcel's number."""

    stage: Stage = Stage.CHECKING
    asked: str = ""
    parcel: str = ""


@workflow.defn
class Fulfilment:
    """One order. Returns its last status."""

    def __init__(self) -> None:
        self._status = Status()
        self._decision: Decision | None = None

    @workflow.run
    async def run(self, order: Order) -> Status:
        risk = await workflow.execute_activity_method(Warehouse.risk_of, order.amount, start_to_close_timeout=WITHIN)
        if risk > RISK_MAX:
            decision = await self._decision_on(order)
            if not decision.accepted:
                self._status.stage = Stage.REJECTED
                return self._status
        self._status.stage = Stage.PACKING
        self._status.parcel = await workflow.execute_activity_method(
            Warehouse.pack, args=[order.id, order.item], start_to_close_timeout=WITHIN
        )
        self._status.stage = Stage.SHIPPED
        return self._status

    async def _decision_on(self, order: Order) -> Decision:
        """Ask one person after the other, until one of them has answered: any of them may."""
        self._status.stage = Stage.WAITING_FOR_DECISION
        for clerk in CLERKS:
            self._status.asked = clerk
            await workflow.execute_activity_method(Warehouse.ask, args=[clerk, order.id], start_to_close_timeout=WITHIN)
            try:
                patience = None if clerk == CLERKS[-1] else ESCALATE_AFTER
                await workflow.wait_condition(lambda: self._decision is not None, timeout=patience)
                break
            except TimeoutError:
                workflow.logger.info("%s has not decided on order %s", clerk, order.id)
        assert self._decision is not None
        return self._decision

    @workflow.signal
    def decide(self, decision: Decision) -> None:
        # The first one counts, even if it comes before anybody was asked.
        self._decision = self._decision or decision

    @workflow.query
    def status(self) -> Status:
        return self._status
