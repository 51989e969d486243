"""Requests about schedules: commands made of what users gave, sent, and their answers read.

Invariant: a request that the connection repeats is known by its command id; an update names the revision it was made
from, so two of them never undo each other. Called by the innermost of a client's interceptors.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from perdure._ids import new_run_id
from perdure._limits import check_memo, check_reason, check_search_attributes, check_workflow_id
from perdure._search_attributes import encode_search_attributes
from perdure.client._description import utc_time
from perdure.client._errors import ScheduleAlreadyRunningError, rpc_error
from perdure.client._replies import REQUEST_TIMEOUT, expect
from perdure.client._schedule_action import definition_record
from perdure.client._schedule_description import ScheduleDescription, description_of
from perdure.client._schedule_spec import backfill_record, overlap_record, time_ms
from perdure.common import require_unused
from perdure.service import RPCError, RPCStatusCode
from perdure_schemas import records
from perdure_schemas.keys import schedule_workflow_id
from perdure_schemas.records import (
    BackfillSchedule,
    CommandBody,
    CreateSchedule,
    DeleteSchedule,
    DescribeSchedule,
    Done,
    ErrorCode,
    ListScheduleTimes,
    PauseSchedule,
    Rejected,
    ReplyBody,
    ScheduleDescribed,
    ScheduleTimes,
    Started,
    TriggerSchedule,
    UnpauseSchedule,
    UpdateSchedule,
)

if TYPE_CHECKING:
    from perdure.client._client import Client
    from perdure.client._schedule import ScheduleUpdate
    from perdure.client._schedule_interceptor import (
        BackfillScheduleInput,
        CreateScheduleInput,
        DeleteScheduleInput,
        DescribeScheduleInput,
        PauseScheduleInput,
        TriggerScheduleInput,
        UnpauseScheduleInput,
        UpdateScheduleInput,
    )

#: How often an update is made anew because somebody else was faster.
_UPDATES_MAX = 10


async def create(client: Client, input: CreateScheduleInput) -> None:
    """Make a schedule.

    Raises:
        ScheduleAlreadyRunningError: there is one of that id. RPCError: it was refused. TypeError, ValueError: a value
            makes no sense.
    """
    state = input.schedule.state
    if state.limited_actions and not state.remaining_actions:
        raise ValueError("limited_actions is set, but no actions remain; set remaining_actions, too")
    if state.remaining_actions and not state.limited_actions:
        raise ValueError("remaining_actions is set, but limited_actions is not; set both, or neither")
    memo = {key: (await client.data_converter.encode([value]))[0] for key, value in (input.memo or {}).items()}
    check_memo(memo, f"the memo of schedule {input.id!r}")
    attributes = encode_search_attributes(input.search_attributes)
    check_search_attributes(attributes)
    body = CreateSchedule(
        run_id=new_run_id(),
        schedule_id=input.id,
        definition=await definition_record(input.schedule, client.data_converter, memo, attributes),
        paused=state.paused,
        note=state.note or "",
        limited_actions=state.limited_actions,
        remaining_actions=state.remaining_actions,
        trigger=input.trigger_immediately,
        backfills=[backfill_record(backfill) for backfill in input.backfill],
    )
    reply = await _ask(client, input, body)
    if isinstance(reply, Rejected) and reply.code is ErrorCode.ALREADY_EXISTS:
        raise ScheduleAlreadyRunningError from rpc_error(reply)
    expect(reply, Started)


async def backfill(client: Client, input: BackfillScheduleInput) -> None:
    """Fire for ranges of times."""
    ranges = [backfill_record(part) for part in input.backfills]
    expect(await _ask(client, input, BackfillSchedule(ranges=ranges)), Done)


async def delete(client: Client, input: DeleteScheduleInput) -> None:
    """Remove a schedule."""
    expect(await _ask(client, input, DeleteSchedule()), Done)


async def describe(client: Client, input: DescribeScheduleInput) -> ScheduleDescription:
    """Describe a schedule."""
    described = expect(await _ask(client, input, DescribeSchedule()), ScheduleDescribed)
    return description_of(described, client.data_converter)


async def pause(client: Client, input: PauseScheduleInput) -> None:
    """Pause a schedule."""
    note = f"paused by {client.identity}" if input.note is None else input.note
    check_reason(note)
    expect(await _ask(client, input, PauseSchedule(note=note)), Done)


async def unpause(client: Client, input: UnpauseScheduleInput) -> None:
    """Let a schedule fire again."""
    note = f"unpaused by {client.identity}" if input.note is None else input.note
    check_reason(note)
    expect(await _ask(client, input, UnpauseSchedule(note=note)), Done)


async def trigger(client: Client, input: TriggerScheduleInput) -> None:
    """Fire now."""
    overlap = None if input.overlap is None else overlap_record(input.overlap)
    expect(await _ask(client, input, TriggerSchedule(overlap=overlap)), Done)


async def update(client: Client, input: UpdateScheduleInput) -> None:
    """Change a schedule.

    Raises:
        RPCError: somebody else was faster each time (``ABORTED``), or the change was refused.
    """
    from perdure.client._schedule import ScheduleUpdateInput

    for _ in range(_UPDATES_MAX):
        described = expect(await _ask(client, input, DescribeSchedule()), ScheduleDescribed)
        found: Any = input.updater(ScheduleUpdateInput(description_of(described, client.data_converter)))
        if inspect.isawaitable(found):
            found = await found
        if found is None:
            return
        reply = await _ask(client, input, await _update_record(client, described, found))
        if not isinstance(reply, Rejected) or reply.code is not ErrorCode.FAILED_PRECONDITION:
            expect(reply, Done)
            return
    raise RPCError(
        f"schedule {input.id!r} was changed by somebody else each of {_UPDATES_MAX} times; try again",
        RPCStatusCode.ABORTED,
    )


async def list_times(
    client: Client, schedule_id: str, start_at: datetime, end_at: datetime, limit: int, rpc_timeout: timedelta | None
) -> Sequence[datetime]:
    """The times of a spec in a range, with jitter."""
    body = ListScheduleTimes(start_ms=time_ms(start_at, "start_at"), end_ms=time_ms(end_at, "end_at"), times_max=limit)
    timeout_s = (rpc_timeout or REQUEST_TIMEOUT).total_seconds()
    found = expect(await _send(client, schedule_id, body, timeout_s), ScheduleTimes)
    return [utc_time(each_ms) for each_ms in found.times_ms]


async def _update_record(client: Client, described: ScheduleDescribed, found: ScheduleUpdate) -> records.UpdateSchedule:
    attributes: Mapping[str, records.Payload] = described.definition.search_attributes
    if found.search_attributes is not None:
        attributes = encode_search_attributes(found.search_attributes)
        check_search_attributes(attributes)
    schedule = found.schedule
    return UpdateSchedule(
        definition=await definition_record(schedule, client.data_converter, described.definition.memo, attributes),
        paused=schedule.state.paused,
        note=schedule.state.note or "",
        limited_actions=schedule.state.limited_actions,
        remaining_actions=schedule.state.remaining_actions,
        revision=described.progress.revision,
    )


async def _ask(client: Client, input: Any, body: CommandBody) -> ReplyBody:
    require_unused({"rpc_metadata": input.rpc_metadata}, "a request about a schedule")
    timeout_s = (input.rpc_timeout or REQUEST_TIMEOUT).total_seconds()
    return await _send(client, input.id, body, timeout_s)


async def _send(client: Client, schedule_id: str, body: CommandBody, timeout_s: float) -> ReplyBody:
    workflow_id = schedule_workflow_id(schedule_id)
    check_workflow_id(workflow_id if schedule_id else "")
    connection = await client.connection()
    return await connection.ask(workflow_id, "", body, timeout_s, f"the answer of schedule {schedule_id!r}")
