"""What interceptors of clients see of requests about schedules. Names are those of ``temporalio.client``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from perdure._search_attributes import TypedSearchAttributes
    from perdure.client._schedule import ScheduleAsyncIterator, ScheduleHandle, Updater
    from perdure.client._schedule_action import Schedule
    from perdure.client._schedule_description import ScheduleDescription
    from perdure.client._schedule_spec import ScheduleBackfill, ScheduleOverlapPolicy

_NextT = TypeVar("_NextT", bound="ScheduleInterceptor[Any]")


@dataclass
class CreateScheduleInput:
    """A schedule that is to be made."""

    id: str
    schedule: Schedule
    trigger_immediately: bool
    backfill: Sequence[ScheduleBackfill]
    memo: Mapping[str, Any] | None
    search_attributes: TypedSearchAttributes | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class ListSchedulesInput:
    """A list of schedules."""

    page_size: int
    next_page_token: bytes | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None
    query: str | None = None


@dataclass
class BackfillScheduleInput:
    """Ranges of times to fire for."""

    id: str
    backfills: Sequence[ScheduleBackfill]
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class DeleteScheduleInput:
    """A schedule that is to be removed."""

    id: str
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class DescribeScheduleInput:
    """A schedule that is to be described."""

    id: str
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class PauseScheduleInput:
    """A schedule that is to be paused."""

    id: str
    note: str | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class TriggerScheduleInput:
    """A schedule that is to fire now."""

    id: str
    overlap: ScheduleOverlapPolicy | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class UnpauseScheduleInput:
    """A schedule that is to fire again."""

    id: str
    note: str | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class UpdateScheduleInput:
    """A schedule that is to be changed."""

    id: str
    updater: Updater
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


class ScheduleInterceptor(Generic[_NextT]):
    """The base of :class:`perdure.client.OutboundInterceptor` that has what concerns schedules."""

    next: _NextT

    async def create_schedule(self, input: CreateScheduleInput) -> ScheduleHandle:
        """For ``Client.create_schedule``."""
        return await self.next.create_schedule(input)

    def list_schedules(self, input: ListSchedulesInput) -> ScheduleAsyncIterator:
        """For ``Client.list_schedules``."""
        return self.next.list_schedules(input)

    async def backfill_schedule(self, input: BackfillScheduleInput) -> None:
        """For ``ScheduleHandle.backfill``."""
        await self.next.backfill_schedule(input)

    async def delete_schedule(self, input: DeleteScheduleInput) -> None:
        """For ``ScheduleHandle.delete``."""
        await self.next.delete_schedule(input)

    async def describe_schedule(self, input: DescribeScheduleInput) -> ScheduleDescription:
        """For ``ScheduleHandle.describe``."""
        return await self.next.describe_schedule(input)

    async def pause_schedule(self, input: PauseScheduleInput) -> None:
        """For ``ScheduleHandle.pause``."""
        await self.next.pause_schedule(input)

    async def trigger_schedule(self, input: TriggerScheduleInput) -> None:
        """For ``ScheduleHandle.trigger``."""
        await self.next.trigger_schedule(input)

    async def unpause_schedule(self, input: UnpauseScheduleInput) -> None:
        """For ``ScheduleHandle.unpause``."""
        await self.next.unpause_schedule(input)

    async def update_schedule(self, input: UpdateScheduleInput) -> None:
        """For ``ScheduleHandle.update``."""
        await self.next.update_schedule(input)
