"""Book three trips: ``python -m examples.saga``."""

from __future__ import annotations

import asyncio
import logging

from examples.saga.bookings import Agency, Bookings
from examples.saga.workflow import TASK_QUEUE, BookTrip, Trip
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

TRIPS = {
    "lisbon": Trip("Hotel Lisboa", ["TP 573", "TP 574"]),
    "rome": Trip("Hotel Roma", ["AZ 421", "AZ 422"]),  # the hotel is full
    "oslo": Trip("Hotel Oslo", ["SK 673", "SK 674"]),  # the flight back is sold out
}


async def main() -> None:
    logging.getLogger("perdure").setLevel(logging.ERROR)  # failures are what this shows
    agency = Agency(sold_out={"Hotel Roma", "SK 674"}, lost_replies={"book TP 573", "give back Hotel Oslo"})
    bookings = Bookings(agency)
    async with (
        await WorkflowEnvironment.start_time_skipping() as env,
        Worker(
            env.client,
            task_queue=TASK_QUEUE,
            workflows=[BookTrip],
            activities=[bookings.book, bookings.give_back],
        ),
    ):
        for name, trip in TRIPS.items():
            outcome = await env.client.execute_workflow(BookTrip.run, trip, id=f"trip-{name}", task_queue=TASK_QUEUE)
            print(f"{name}: booked {outcome.booked}, given back {outcome.given_back} {outcome.reason}")
    print(f"the agency holds {sorted(agency.bookings.values())}")


if __name__ == "__main__":
    asyncio.run(main())
