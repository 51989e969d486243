"""The handle of a schedule, and the list of schedules. Names are those of ``temporalio.client``.

Invariant: each method is one request through the client's interceptors (an update is two: what is there, and what it
becomes, again if somebody else was faster). Made by the client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from perdure._search_attributes import TypedSearchAttributes
from perdure.client._replies import REQUEST_TIMEOUT, expect
from perdure.client._schedule_action import Schedule
from perdure.client._schedule_description import ScheduleDescription, ScheduleListDescription, listed_of
from perdure.client._schedule_interceptor import (
    BackfillScheduleInput,
    DeleteScheduleInput,
    DescribeScheduleInput,
    ListSchedulesInput,
    PauseScheduleInput,
    TriggerScheduleInput,
    UnpauseScheduleInput,
    UpdateScheduleInput,
)
from perdure.client._schedule_outbound import list_times
from perdure.client._schedule_spec import ScheduleBackfill, ScheduleOverlapPolicy
from perdure_schemas import codec
from perdure_schemas.records import ExecutionSummary, ListSchedules, SchedulesPage

if TYPE_CHECKING:
    from perdure.client._client import Client


@dataclass
class ScheduleUpdateInput:
    """What an updater gets: the schedule as it is."""

    description: ScheduleDescription


@dataclass
class ScheduleUpdate:
    """What an updater returns: the schedule as it is to be, and its search attributes, if they change."""

    schedule: Schedule
    search_attributes: TypedSearchAttributes | None = None


Updater = Callable[[ScheduleUpdateInput], ScheduleUpdate | Awaitable[ScheduleUpdate | None] | None]


class ScheduleHandle:
    """A schedule that exists; whether it does is not checked before the first request.

    Every method takes ``rpc_timeout``, how long the engine has to answer (30 s if not given), and raises
    :class:`perdure.service.RPCError`: ``NOT_FOUND`` if there is no such schedule. ``rpc_metadata`` is refused.

    Attributes:
        id: The schedule's id.
    """

    def __init__(self, client: Client, id: str) -> None:
        self._client = client
        self.id = id

    async def backfill(
        self,
        *backfill: ScheduleBackfill,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Fire for every time of the spec in these ranges, as if they were now; also while it is paused.

        Raises:
            ValueError: there is no range, or a time has no zone.
        """
        if not backfill:
            raise ValueError("a backfill needs at least one range")
        found = BackfillScheduleInput(self.id, backfill, rpc_metadata, rpc_timeout)
        await self._client.outbound.backfill_schedule(found)

    async def delete(
        self, *, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> None:
        """Remove the schedule. Workflows that it has started go on."""
        await self._client.outbound.delete_schedule(DeleteScheduleInput(self.id, rpc_metadata, rpc_timeout))

    async def describe(
        self, *, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> ScheduleDescription:
        """All that is known of the schedule."""
        found = DescribeScheduleInput(self.id, rpc_metadata, rpc_timeout)
        return await self._client.outbound.describe_schedule(found)

    async def pause(
        self,
        *,
        note: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Fire by hand only from now on.

        Args:
            note: What people should know about it.
        """
        await self._client.outbound.pause_schedule(PauseScheduleInput(self.id, note, rpc_metadata, rpc_timeout))

    async def trigger(
        self,
        *,
        overlap: ScheduleOverlapPolicy | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Fire now, also while it is paused.

        Args:
            overlap: Instead of the schedule's policy.
        """
        found = TriggerScheduleInput(self.id, overlap, rpc_metadata, rpc_timeout)
        await self._client.outbound.trigger_schedule(found)

    async def unpause(
        self,
        *,
        note: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Fire by the spec again. Times that passed meanwhile are not made up for; see :meth:`backfill`.

        Args:
            note: What people should know about it.
        """
        found = UnpauseScheduleInput(self.id, note, rpc_metadata, rpc_timeout)
        await self._client.outbound.unpause_schedule(found)

    async def update(
        self,
        updater: Updater,
        *,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Change the schedule.

        Args:
            updater: Takes the schedule as it is, and returns it as it is to be; ``None`` leaves it. It may be a
                coroutine function, and is called again if somebody else changes the schedule meanwhile.
            rpc_timeout: For each request.
        """
        found = UpdateScheduleInput(self.id, updater, rpc_metadata, rpc_timeout)
        await self._client.outbound.update_schedule(found)

    async def matching_times(
        self, start_at: datetime, end_at: datetime, *, limit: int = 1_000, rpc_timeout: timedelta | None = None
    ) -> Sequence[datetime]:
        """The times of the spec in a range, with jitter. Not part of ``temporalio``'s handle.

        Args:
            start_at, end_at: The range, both ends included.
            limit: No more than this many; at most 10,000.
        """
        return await list_times(self._client, self.id, start_at, end_at, limit, rpc_timeout)


class ScheduleAsyncIterator:
    """What :meth:`Client.list_schedules` returns: iterate with ``async for``, once.

    Args:
        client: The client.
        input: What was asked for.
    """

    def __init__(self, client: Client, input: ListSchedulesInput) -> None:
        self._client = client
        self._input = input
        self._next_page_token: bytes | None = input.next_page_token or b""
        self._current_page: Sequence[ScheduleListDescription] | None = None
        self._current_page_index = 0

    @property
    def current_page_index(self) -> int:
        """Which schedule of the current page is next."""
        return self._current_page_index

    @property
    def current_page(self) -> Sequence[ScheduleListDescription] | None:
        """The page that was fetched last; ``None`` before the first."""
        return self._current_page

    @property
    def next_page_token(self) -> bytes | None:
        """The token of the next page; ``None`` if there is none."""
        return self._next_page_token

    async def fetch_next_page(self, *, page_size: int | None = None) -> None:
        """Fetch the next page; it becomes the current one. Without a next page the current one is empty.

        Args:
            page_size: How many schedules it may have; as the list was asked for if not given.

        Raises:
            RPCError: the request makes no sense (``INVALID_ARGUMENT``), or nobody answered (``DEADLINE_EXCEEDED``).
        """
        self._current_page, self._current_page_index = [], 0
        if self._next_page_token is None:
            return
        question = ListSchedules(
            query=self._input.query or "",
            page_size=page_size or self._input.page_size,
            page_token=self._next_page_token,
        )
        timeout_s = (self._input.rpc_timeout or REQUEST_TIMEOUT).total_seconds()
        connection = await self._client.connection()
        page = expect(await connection.ask_read_side(question, timeout_s, "the list of schedules"), SchedulesPage)
        self._next_page_token = page.next_page_token or None
        converter, now_ms = self._client.data_converter, connection.now_ms()
        self._current_page = [
            listed_of(codec.decode_as(value, ExecutionSummary), converter, now_ms) for value in page.summaries
        ]

    def __aiter__(self) -> ScheduleAsyncIterator:
        """The iterator itself."""
        return self

    async def __anext__(self) -> ScheduleListDescription:
        """The next schedule."""
        while self._current_page is None or self._current_page_index >= len(self._current_page):
            if self._next_page_token is None:
                raise StopAsyncIteration
            await self.fetch_next_page()
        listed = self._current_page[self._current_page_index]
        self._current_page_index += 1
        return listed
