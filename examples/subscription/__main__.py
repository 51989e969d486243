"""A year of a subscription, in a few seconds: ``python -m examples.subscription``."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from examples.subscription.billing import Billing, Provider
from examples.subscription.workflow import TASK_QUEUE, Account, Subscription
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker


async def main() -> None:
    logging.getLogger("perdure").setLevel(logging.ERROR)  # declined cards are expected here
    async with await WorkflowEnvironment.start_time_skipping() as env:
        provider = Provider()
        billing = Billing(provider)
        async with Worker(
            env.client,
            task_queue=TASK_QUEUE,
            workflows=[Subscription],
            activities=[billing.charge, billing.write_to],
        ):
            subscription = await env.client.start_workflow(
                Subscription.run, Account("ada", "basic"), id="subscription-ada", task_queue=TASK_QUEUE
            )
            await env.sleep(timedelta(days=100))
            await subscription.execute_update(Subscription.change_plan, "pro")
            await env.sleep(timedelta(days=100))
            provider.declined.add("ada")
            await env.sleep(timedelta(days=32))
            provider.declined.clear()
            await subscription.signal(Subscription.card_changed)
            await env.sleep(timedelta(days=130))
            await subscription.signal(Subscription.cancel)
            print(f"ended: {await subscription.result()}")
    for charge in provider.charges.values():
        print(f"{charge.due:%d %B %Y}  {charge.cents / 100:6.2f}")
    for customer, letter in provider.letters:
        print(f"to {customer}: {letter}")


if __name__ == "__main__":
    asyncio.run(main())
