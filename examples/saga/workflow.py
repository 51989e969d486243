"""Book a hotel, a flight out and a flight back; if one cannot be had, give back what was booked."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from examples.saga.bookings import Bookings
from perdure import workflow
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError, is_cancelled_exception

TASK_QUEUE = "trips"
WITHIN = timedelta(seconds=10)
#: Booking may give up. Giving back must not: without a policy an activity is retried until it succeeds.
BOOKING_RETRIES = RetryPolicy(maximum_attempts=3)


@dataclass
class Trip:
    """What a customer wants."""

    hotel: str
    flights: list[str]


@dataclass
class Outcome:
    """How it went.

    Attributes:
        booked: What the customer has.
        given_back: What was booked and given back, in that order.
        reason: Why there is no trip.
    """

    booked: list[str]
    given_back: list[str]
    reason: str = ""


@workflow.defn
class BookTrip:
    """All of the trip, or nothing of it."""

    @workflow.run
    async def run(self, trip: Trip) -> Outcome:
        wanted = [trip.hotel, *trip.flights]
        tried: list[str] = []
        try:
            for what in wanted:
                # Noted before the call: one that failed may have booked all the same.
                tried.append(what)
                await workflow.execute_activity_method(
                    Bookings.book,
                    args=[self._booking_id(what), what],
                    start_to_close_timeout=WITHIN,
                    retry_policy=BOOKING_RETRIES,
                )
        except (ActivityError, asyncio.CancelledError) as error:
            given_back = await self._finish(self._give_back(tried))
            if is_cancelled_exception(error):
                raise
            return Outcome([], given_back, str(error.__cause__))
        return Outcome(wanted, [])

    async def _give_back(self, tried: list[str]) -> list[str]:
        """Give back in reverse order. Returns what had been booked indeed."""
        given_back = []
        for what in reversed(tried):
            if await workflow.execute_activity_method(
                Bookings.give_back, self._booking_id(what), start_to_close_timeout=WITHIN
            ):
                given_back.append(what)
        return given_back

    async def _finish(self, way_back: Coroutine[Any, Any, list[str]]) -> list[str]:
        """Go all of the way back, even if the workflow is cancelled in the middle of it."""
        going = asyncio.create_task(way_back)
        try:
            return await asyncio.shield(going)
        except asyncio.CancelledError:
            await going
            raise

    def _booking_id(self, what: str) -> str:
        # The same in every attempt, so that a repeated call finds the booking it has made.
        return f"{workflow.info().workflow_id}/{what}"
