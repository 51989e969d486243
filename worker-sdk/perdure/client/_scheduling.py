"""Schedules: the part of the client that makes and lists them, and the part of its innermost interceptor that asks.

Invariant: every request goes through the interceptors; what is checked is checked behind them. Bases of
:class:`perdure.client.Client` and of its innermost interceptor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from perdure._search_attributes import TypedSearchAttributes
from perdure.client import _schedule_outbound as requests
from perdure.client._interceptor import OutboundInterceptor
from perdure.client._schedule import ScheduleAsyncIterator, ScheduleHandle
from perdure.client._schedule_action import Schedule
from perdure.client._schedule_description import ScheduleDescription
from perdure.client._schedule_interceptor import (
    BackfillScheduleInput,
    CreateScheduleInput,
    DeleteScheduleInput,
    DescribeScheduleInput,
    ListSchedulesInput,
    PauseScheduleInput,
    TriggerScheduleInput,
    UnpauseScheduleInput,
    UpdateScheduleInput,
)
from perdure.client._schedule_spec import ScheduleBackfill
from perdure.common import require_unused

if TYPE_CHECKING:
    from perdure.client._client import Client


class HasSchedules:
    """The base of :class:`perdure.client.Client` that makes and lists schedules."""

    outbound: OutboundInterceptor

    async def create_schedule(
        self,
        id: str,
        schedule: Schedule,
        *,
        trigger_immediately: bool = False,
        backfill: Sequence[ScheduleBackfill] = [],
        memo: Mapping[str, Any] | None = None,
        search_attributes: TypedSearchAttributes | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> ScheduleHandle:
        """Make a schedule and return its handle.

        Args:
            id: Its id.
            schedule: What it does, and when.
            trigger_immediately: Fire once now.
            backfill: Ranges of times to fire for, as if they were now.
            memo: Values to keep with the schedule; those of its workflows belong to the action.
            search_attributes: Of the schedule; those of its workflows belong to the action.
            rpc_metadata: Not supported.
            rpc_timeout: How long the engine has to answer; 30 s if not given.

        Raises:
            ScheduleAlreadyRunningError: there is a schedule of that id.
            RPCError: the engine did not answer, or refused (``INVALID_ARGUMENT`` says what is wrong with the schedule).
        """
        return await self.outbound.create_schedule(
            CreateScheduleInput(
                id, schedule, trigger_immediately, backfill, memo, search_attributes, rpc_metadata, rpc_timeout
            )
        )

    def get_schedule_handle(self, id: str) -> ScheduleHandle:
        """The handle of a schedule that exists; whether it does is not checked here."""
        return ScheduleHandle(cast("Client", self), id)

    async def list_schedules(
        self,
        query: str | None = None,
        *,
        page_size: int = 1000,
        next_page_token: bytes | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> ScheduleAsyncIterator:
        """The schedules of the namespace, by id.

        Args:
            query: A filter in the language of :meth:`Client.list_workflows`, of ``ScheduleId``,
                ``TemporalSchedulePaused`` (or ``Paused``) and the schedules' own search attributes; all if not given.
                What is wrong with it is said with the first page.
            page_size: How many schedules to ask for at a time; at most 1,000.
            next_page_token: Where to begin: of an earlier list.
            rpc_metadata: Not supported.
            rpc_timeout: How long each page may take; 30 s if not given.

        Raises:
            ValueError: ``page_size`` is below 1.
        """
        found = ListSchedulesInput(page_size, next_page_token, rpc_metadata, rpc_timeout, query)
        return self.outbound.list_schedules(found)


class ScheduleOutbound(OutboundInterceptor):
    """The part of the innermost interceptor that asks about schedules."""

    _client: Client

    async def create_schedule(self, input: CreateScheduleInput) -> ScheduleHandle:
        """Send a new schedule."""
        await requests.create(self._client, input)
        return ScheduleHandle(self._client, input.id)

    def list_schedules(self, input: ListSchedulesInput) -> ScheduleAsyncIterator:
        """Ask the read side, page by page."""
        require_unused({"rpc_metadata": input.rpc_metadata}, "list_schedules")
        if input.page_size < 1:
            raise ValueError(f"page_size is {input.page_size}; a page has at least one schedule")
        return ScheduleAsyncIterator(self._client, input)

    async def backfill_schedule(self, input: BackfillScheduleInput) -> None:
        """Send ranges of times."""
        await requests.backfill(self._client, input)

    async def delete_schedule(self, input: DeleteScheduleInput) -> None:
        """Remove a schedule."""
        await requests.delete(self._client, input)

    async def describe_schedule(self, input: DescribeScheduleInput) -> ScheduleDescription:
        """Ask the engine what it knows."""
        return await requests.describe(self._client, input)

    async def pause_schedule(self, input: PauseScheduleInput) -> None:
        """Pause a schedule."""
        await requests.pause(self._client, input)

    async def trigger_schedule(self, input: TriggerScheduleInput) -> None:
        """Let a schedule fire now."""
        await requests.trigger(self._client, input)

    async def unpause_schedule(self, input: UnpauseScheduleInput) -> None:
        """Let a schedule fire again."""
        await requests.unpause(self._client, input)

    async def update_schedule(self, input: UpdateScheduleInput) -> None:
        """Ask what a schedule is, and send what it is to be."""
        await requests.update(self._client, input)
