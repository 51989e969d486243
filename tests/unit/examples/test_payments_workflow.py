"""The payments example: the saga's order of steps, with the activities replaced by a script."""

from __future__ import annotations

from typing import Any

import pytest

from examples.payments import workflows
from examples.payments.models import Outcome, Payment, PaymentResult
from perdure import workflow
from perdure.exceptions import ActivityError, ApplicationError, CancelledError

PAYMENT = Payment("M:1", "1", "DEBTOR", "Creditor", "CREDITOR", 1000)


class Script:
    """Stands in for the engine: notes every activity, and fails the one it was told to for good."""

    def __init__(self, failing: str = "", cause: Exception | None = None) -> None:
        self.calls: list[str] = []
        self._failing = failing
        self._cause = cause

    async def execute_activity_method(self, method: Any, payment: Payment, **options: Any) -> str:
        assert payment == PAYMENT
        assert options["retry_policy"].maximum_attempts == 0
        self.calls.append(method.__name__)
        if method.__name__ == self._failing:
            raise ActivityError(
                "failed",
                scheduled_event_id=1,
                started_event_id=2,
                identity="test",
                activity_type=method.__name__,
                activity_id="1",
                retry_state=None,
            ) from self._cause
        return "done"


async def run(monkeypatch: pytest.MonkeyPatch, script: Script) -> PaymentResult:
    monkeypatch.setattr(workflow, "execute_activity_method", script.execute_activity_method)
    return await workflows.PaymentWorkflow().run(PAYMENT)


async def test_a_payment_goes_all_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()
    assert await run(monkeypatch, script) == PaymentResult("M:1", Outcome.SETTLED)
    assert script.calls == ["screen", "reserve", "transfer", "notify"]


@pytest.mark.parametrize(
    ("failing", "outcome", "undone"),
    [
        ("screen", Outcome.REFUSED, []),
        ("reserve", Outcome.REFUSED, []),
        ("transfer", Outcome.COMPENSATED, ["release"]),
        ("notify", Outcome.COMPENSATED, ["refund", "release"]),
    ],
)
async def test_a_step_refused_for_good_undoes_the_earlier_ones_in_reverse(
    monkeypatch: pytest.MonkeyPatch, failing: str, outcome: Outcome, undone: list[str]
) -> None:
    script = Script(failing, ApplicationError("never", type="Closed", non_retryable=True))
    result = await run(monkeypatch, script)
    assert result == PaymentResult("M:1", outcome, failing, "Closed: never", undone)
    steps = ["screen", "reserve", "transfer", "notify"]
    assert script.calls == steps[: steps.index(failing) + 1] + undone


@pytest.mark.parametrize(
    ("during", "undone"),
    [("screen", []), ("reserve", ["release"]), ("transfer", ["refund", "release"]), ("notify", ["refund", "release"])],
)
async def test_a_cancelled_payment_also_undoes_the_step_it_was_in(
    monkeypatch: pytest.MonkeyPatch, during: str, undone: list[str]
) -> None:
    script = Script(during, CancelledError("cancelled"))
    with pytest.raises(ActivityError):
        await run(monkeypatch, script)
    assert script.calls[-len(undone) :] == undone if undone else script.calls == [during]
