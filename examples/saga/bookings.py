"""The activities, and a travel agency in memory that stands in for the real ones."""

from __future__ import annotations

from collections.abc import Collection

from perdure import activity
from perdure.exceptions import ApplicationError


class Agency:
    """Books by id: the same id twice is one booking.

    Args:
        sold_out: What cannot be had.
        lost_replies: Calls whose reply gets lost, each as often as it stands there, such as ``"book Hotel Roma"``.
    """

    def __init__(self, sold_out: Collection[str] = (), lost_replies: Collection[str] = ()) -> None:
        self.sold_out = set(sold_out)
        self.lost_replies = list(lost_replies)
        self.bookings: dict[str, str] = {}
        self.given_back: list[str] = []

    def book(self, booking_id: str, what: str) -> None:
        if what in self.sold_out:
            raise LookupError(f"{what} is sold out")
        self.bookings[booking_id] = what
        self._reply(f"book {what}")

    def give_back(self, booking_id: str) -> bool:
        """Whether there is such a booking that is given back now, or was before."""
        if self.bookings.pop(booking_id, None) is not None:
            self.given_back.append(booking_id)
        self._reply(f"give back {booking_id.partition('/')[2]}")
        return booking_id in self.given_back

    def _reply(self, call: str) -> None:
        if call in self.lost_replies:
            self.lost_replies.remove(call)
            raise ConnectionError(f"no reply to: {call}")


class Bookings:
    """The steps of the saga. Each may be called again with the same booking id, and does nothing twice."""

    def __init__(self, agency: Agency) -> None:
        self._agency = agency

    @activity.defn
    async def book(self, booking_id: str, what: str) -> None:
        try:
            self._agency.book(booking_id, what)
        except LookupError as error:
            # Trying again would not help; any other error is retried.
            raise ApplicationError(str(error), type="SoldOut", non_retryable=True) from error

    @activity.defn
    async def give_back(self, booking_id: str) -> bool:
        return self._agency.give_back(booking_id)
