"""The subscription: a year of it, a card that fails, and what may be changed meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from examples.subscription.billing import Billing, Provider
from examples.subscription.workflow import TASK_QUEUE, TRIAL, Account, Subscription, months_after
from perdure.client import WorkflowHandle, WorkflowUpdateFailedError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

ID = "subscription-ada"


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest_asyncio.fixture
async def subscription(
    skipping: WorkflowEnvironment, provider: Provider
) -> AsyncIterator[WorkflowHandle[Subscription, str]]:
    billing = Billing(provider)
    activities = [billing.charge, billing.write_to]
    async with Worker(skipping.client, task_queue=TASK_QUEUE, workflows=[Subscription], activities=activities):
        yield await skipping.client.start_workflow(
            Subscription.run, Account("ada", "basic"), id=ID, task_queue=TASK_QUEUE
        )


async def _until_charged(env: WorkflowEnvironment, provider: Provider, charges: int) -> None:
    """Into the month after so many charges."""
    while len(provider.charges) < charges:
        await env.sleep(timedelta(days=20))


async def test_a_year_with_a_change_of_plan(
    skipping: WorkflowEnvironment, provider: Provider, subscription: WorkflowHandle[Subscription, str]
) -> None:
    started = await skipping.get_current_time()
    await _until_charged(skipping, provider, 4)
    assert await subscription.execute_update(Subscription.change_plan, "pro") == "basic"
    await _until_charged(skipping, provider, 12)
    account = await subscription.query(Subscription.account)
    assert (account.plan, account.charges) == ("pro", 12)
    assert (await subscription.describe()).run_id != subscription.first_execution_run_id  # it has continued as new
    await subscription.signal(Subscription.cancel)
    assert await subscription.result() == "cancelled"

    charges = list(provider.charges.values())
    assert [charge.cents for charge in charges] == [900] * 4 + [2900] * 8
    assert [charge.invoice for charge in charges] == [f"{ID}/{number}" for number in range(1, 13)]
    assert abs(charges[0].due - started - TRIAL) < timedelta(hours=1)
    assert [charge.due for charge in charges] == [months_after(charges[0].due, number) for number in range(12)]
    assert not provider.letters


async def test_who_cancels_in_the_trial_pays_nothing(
    skipping: WorkflowEnvironment, provider: Provider, subscription: WorkflowHandle[Subscription, str]
) -> None:
    await subscription.signal(Subscription.cancel)
    assert await subscription.result() == "cancelled"
    assert not provider.charges


async def test_a_declined_card_is_tried_again_and_a_new_one_at_once(
    skipping: WorkflowEnvironment, provider: Provider, subscription: WorkflowHandle[Subscription, str]
) -> None:
    provider.declined.add("ada")
    await skipping.sleep(TRIAL + timedelta(days=4))
    assert len(provider.letters) == 2  # on the day, and three days later
    provider.declined.clear()
    await subscription.signal(Subscription.card_changed)
    await skipping.sleep(timedelta(minutes=1))
    assert len(provider.charges) == 1
    await subscription.signal(Subscription.cancel)
    assert await subscription.result() == "cancelled"
    assert len(provider.charges) == 1


async def test_a_card_that_stays_declined_ends_the_subscription(
    skipping: WorkflowEnvironment, provider: Provider, subscription: WorkflowHandle[Subscription, str]
) -> None:
    provider.declined.add("ada")
    assert await subscription.result() == "unpaid"
    assert not provider.charges
    declined = ("ada", "your card was declined")
    assert provider.letters == [declined, declined, declined, ("ada", "your subscription has ended")]
    waited = (await skipping.get_current_time()) - (await subscription.describe()).start_time
    assert waited >= TRIAL + timedelta(days=15)


async def test_a_plan_that_makes_no_sense_is_refused(
    provider: Provider, subscription: WorkflowHandle[Subscription, str]
) -> None:
    for plan, reason in (("gold", "there are basic, pro"), ("basic", "basic already")):
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await subscription.execute_update(Subscription.change_plan, plan)
        assert reason in str(caught.value.cause)


def test_months_that_are_too_short_end_earlier() -> None:
    first = datetime(2027, 10, 31, 8, tzinfo=UTC)
    days = [months_after(first, number).strftime("%Y-%m-%d") for number in (0, 1, 4, 5, 16)]
    assert days == ["2027-10-31", "2027-11-30", "2028-02-29", "2028-03-31", "2029-02-28"]
