"""The saga: all of a trip, or nothing of it."""

from __future__ import annotations

import asyncio

import pytest

from examples.saga.bookings import Agency, Bookings
from examples.saga.workflow import TASK_QUEUE, BookTrip, Outcome, Trip
from perdure.client import WorkflowFailureError
from perdure.exceptions import CancelledError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

TRIP = Trip("hotel", ["flight out", "flight back"])


async def _book(env: WorkflowEnvironment, agency: Agency) -> Outcome:
    bookings = Bookings(agency)
    activities = [bookings.book, bookings.give_back]
    async with Worker(env.client, task_queue=TASK_QUEUE, workflows=[BookTrip], activities=activities):
        return await env.client.execute_workflow(BookTrip.run, TRIP, id="trip", task_queue=TASK_QUEUE)


async def test_a_trip_is_booked_once_though_a_reply_is_lost(skipping: WorkflowEnvironment) -> None:
    agency = Agency(lost_replies={"book hotel", "book flight back"})
    outcome = await _book(skipping, agency)
    assert outcome == Outcome(["hotel", "flight out", "flight back"], [])
    assert list(agency.bookings.values()) == outcome.booked


async def test_without_a_hotel_nothing_is_booked(skipping: WorkflowEnvironment) -> None:
    agency = Agency(sold_out={"hotel"})
    outcome = await _book(skipping, agency)
    assert (outcome.booked, outcome.given_back) == ([], [])
    assert "hotel is sold out" in outcome.reason
    assert not agency.bookings
    assert not agency.given_back


async def test_without_a_flight_all_is_given_back_in_reverse_order(skipping: WorkflowEnvironment) -> None:
    agency = Agency(sold_out={"flight back"})
    outcome = await _book(skipping, agency)
    assert outcome.given_back == ["flight out", "hotel"]
    assert "flight back is sold out" in outcome.reason
    assert agency.given_back == ["trip/flight out", "trip/hotel"]
    assert not agency.bookings


async def test_giving_back_is_repeated_until_it_succeeds_and_does_nothing_twice(skipping: WorkflowEnvironment) -> None:
    agency = Agency(sold_out={"flight back"}, lost_replies={"give back flight out", "give back hotel"})
    outcome = await _book(skipping, agency)
    assert outcome.given_back == ["flight out", "hotel"]
    assert agency.given_back == ["trip/flight out", "trip/hotel"]


async def test_a_booking_whose_reply_never_comes_is_given_back(skipping: WorkflowEnvironment) -> None:
    agency = Agency(lost_replies=["book flight out"] * 3)
    outcome = await _book(skipping, agency)
    assert outcome.given_back == ["flight out", "hotel"]
    assert not agency.bookings


async def test_a_trip_that_is_cancelled_is_given_back(skipping: WorkflowEnvironment) -> None:
    agency = Agency(lost_replies=["book flight out"])
    bookings = Bookings(agency)
    activities = [bookings.book, bookings.give_back]
    # Nothing skips the second that the flight's next attempt waits for, unless somebody waits for the result.
    async with Worker(skipping.client, task_queue=TASK_QUEUE, workflows=[BookTrip], activities=activities):
        handle = await skipping.client.start_workflow(BookTrip.run, TRIP, id="trip", task_queue=TASK_QUEUE)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, CancelledError)
    assert not agency.bookings


async def test_a_cancellation_does_not_stop_the_way_back(skipping: WorkflowEnvironment) -> None:
    agency = Agency(sold_out={"flight back"}, lost_replies=["give back flight out"] * 6)
    bookings = Bookings(agency)
    activities = [bookings.book, bookings.give_back]
    async with Worker(skipping.client, task_queue=TASK_QUEUE, workflows=[BookTrip], activities=activities):
        handle = await skipping.client.start_workflow(BookTrip.run, TRIP, id="trip", task_queue=TASK_QUEUE)
        async with asyncio.timeout(60):
            while not agency.given_back:
                await asyncio.sleep(0.02)
        await handle.cancel()  # the next attempts to give back the flight take a minute, without the hotel
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, CancelledError)
    assert agency.given_back == ["trip/flight out", "trip/hotel"]
