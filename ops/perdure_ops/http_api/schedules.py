"""Schedules over HTTP: made, listed, described, changed, fired by hand, followed and removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from perdure.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleOverlapPolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from perdure.common import TypedSearchAttributes
from perdure_history.schedules.times import SpecTimes
from perdure_ops.http_api import fields
from perdure_ops.http_api.context import REQUEST_S, Api
from perdure_ops.http_api.operations import Answer, Nothing, Operations
from perdure_ops.http_api.paging import page_token, page_token_text
from perdure_ops.http_api.problems import ProblemError
from perdure_ops.http_api.schedule_fields import (
    ActionField,
    PolicyField,
    RangeField,
    ScheduleRow,
    ScheduleView,
    SpecField,
    Time,
    schedule_row,
    schedule_view,
)
from perdure_ops.http_api.values import SearchAttribute, raw_values, typed_attributes
from perdure_schemas import records
from perdure_schemas.keys import schedule_workflow_id
from perdure_schemas.limits import (
    REASON_CHARS_MAX,
    SCHEDULE_BACKFILLS_MAX,
    SCHEDULE_PARTS_MAX,
    SCHEDULE_TIMES_LISTED_MAX,
)
from perdure_schemas.records import FetchHistory, HistoryPage, OverlapPolicy

__all__ = ["operation"]

operation = Operations("Schedules", "Workflows that start at given times: what there is, when it fires, what it did.")

_PAGE_SIZE = 100
_TIMES = 1_000
#: Without any change a schedule is looked at again after so long, in case a change was missed.
_LOOK_S = 30.0
#: Changes that come in so short a time make one message.
_QUIET_S = 0.1

Note = Annotated[str, Meta(description="What people should know about it.", max_length=REASON_CHARS_MAX)]
Remaining = Annotated[int, Meta(ge=0, description="It fires so many times by its spec, then no more.")]
Ranges = Annotated[list[RangeField], Meta(max_length=SCHEDULE_BACKFILLS_MAX)]


class ListSchedulesQuery(fields.Query, kw_only=True):
    """Which schedules."""

    query: Annotated[str, Meta(description="A filter; all schedules if empty.")] = ""
    page_size: Annotated[int, Meta(ge=1, le=1000, description="How many schedules at most.")] = _PAGE_SIZE
    page_token: Annotated[str, Meta(description="`next_page_token` of the page before, with the same filter.")] = ""


class SchedulePage(Answer, kw_only=True):
    """A page of schedules, by id. Without ``next_page_token`` it is the last one."""

    schedules: list[ScheduleRow]
    next_page_token: str | None


class NewScheduleBody(fields.Body, kw_only=True):
    """A schedule to make. Names are those of the client's ``Schedule``.

    With ``trigger_immediately`` it fires once now. ``memo`` and ``search_attributes`` are those of the schedule; those
    of its workflows belong to the action.
    """

    schedule_id: fields.WorkflowId
    action: ActionField
    spec: SpecField
    policy: PolicyField = msgspec.field(default_factory=PolicyField)
    paused: bool = False
    note: Note = ""
    remaining_actions: Remaining | None = None
    trigger_immediately: bool = False
    backfill: Ranges = []
    memo: dict[str, msgspec.Raw] = {}
    search_attributes: dict[str, SearchAttribute] = {}


class CreatedSchedule(Answer, kw_only=True):
    """The schedule was made."""

    schedule_id: str

    def status_code(self) -> int:
        """Created."""
        return 201


class UpdateScheduleBody(fields.Body, kw_only=True):
    """What becomes of a schedule. What is not given stays as it is; what is given replaces that part as a whole.

    With ``revision`` (of the description that the change was made from) nothing is changed if somebody else was faster.
    """

    action: ActionField | None = None
    spec: SpecField | None = None
    policy: PolicyField | None = None
    paused: bool | None = None
    note: Note | None = None
    remaining_actions: Remaining | UnsetType | None = UNSET
    search_attributes: dict[str, SearchAttribute] | None = None
    revision: Annotated[int, Meta(ge=0)] | None = None


class NoteBody(fields.Body, kw_only=True):
    """Why; who does it if not given."""

    note: Note | None = None


class TriggerBody(fields.Body, kw_only=True):
    """What to do while a workflow of the schedule runs; by its policy if not given."""

    overlap: OverlapPolicy | None = None


class BackfillBody(fields.Body, kw_only=True):
    """Ranges of times."""

    ranges: Annotated[list[RangeField], Meta(min_length=1, max_length=SCHEDULE_BACKFILLS_MAX)]


class TimesQuery(fields.Query, kw_only=True):
    """A range, both ends included."""

    start_at: Time
    end_at: Time
    limit: Annotated[int, Meta(ge=1, le=SCHEDULE_TIMES_LISTED_MAX, description="How many times at most.")] = _TIMES


class Times(Answer, kw_only=True):
    """Times of a spec, with jitter."""

    times: list[datetime]


# --- all of them ------------------------------------------------------------------------------------------------------


@operation("GET", "/schedules")
async def list_schedules(api: Api, query: ListSchedulesQuery) -> SchedulePage:
    """List schedules, by id."""
    found = await api.client.list_schedules(
        query.query or None, page_size=query.page_size, next_page_token=page_token(query.page_token)
    )
    await found.fetch_next_page()
    now_ms = (await api.client.connection()).now_ms()
    return SchedulePage(
        schedules=[schedule_row(entry.raw_entry, now_ms) for entry in found.current_page or ()],
        next_page_token=page_token_text(found.next_page_token),
    )


@operation("POST", "/schedules", {201: "It is there.", 409: "There is a schedule of that id."})
async def create_schedule(api: Api, body: NewScheduleBody) -> CreatedSchedule:
    """Make a schedule."""
    schedule = Schedule(
        action=body.action.action(),
        spec=_spec(body.spec),
        policy=body.policy.policy(),
        state=ScheduleState(
            note=body.note,
            paused=body.paused,
            limited_actions=body.remaining_actions is not None,
            remaining_actions=body.remaining_actions or 0,
        ),
    )
    await api.client.create_schedule(
        body.schedule_id,
        schedule,
        trigger_immediately=body.trigger_immediately,
        backfill=[part.backfill() for part in body.backfill],
        memo={key: raw_values([value], f"memo.{key}")[0] for key, value in body.memo.items()} or None,
        search_attributes=typed_attributes(body.search_attributes),
    )
    return CreatedSchedule(schedule_id=body.schedule_id)


def _spec(given: SpecField) -> ScheduleSpec:
    """The spec as the client takes it.

    Raises:
        ProblemError: a part of it makes no sense; it says which.
    """
    crons = [(f"cron_expressions[{n}]", {"cron_expressions": [text]}) for n, text in enumerate(given.cron_expressions)]
    intervals = [
        (f"intervals[{n}]", {"intervals": [records.ScheduleInterval(every_ms=part.every_ms, offset_ms=part.offset_ms)]})
        for n, part in enumerate(given.intervals)
    ]
    parts: list[tuple[str, dict[str, Any]]] = [
        ("time_zone_name", {"time_zone_name": given.time_zone_name}), *crons, *intervals,
    ]  # fmt: skip
    for where, part in parts[:SCHEDULE_PARTS_MAX]:  # more are refused anyway
        try:
            SpecTimes(records.ScheduleSpec(**part), "")
        except ValueError as error:
            raise ProblemError(400, "INVALID_ARGUMENT", str(error), f"$.spec.{where}") from error
    try:
        return given.spec()
    except ValueError as error:
        # Errors of calendars begin with the path of the field.
        where, _, detail = str(error).partition(": ")
        raise ProblemError(400, "INVALID_ARGUMENT", str(error), f"$.{where}" if detail else "$.spec") from error


# --- one of them ------------------------------------------------------------------------------------------------------


@operation("GET", "/schedules/{schedule_id}")
async def describe_schedule(api: Api, schedule_id: str) -> ScheduleView:
    """Describe a schedule: what it does and when, its next and recent fires, and what was left out and why."""
    return schedule_view((await api.client.get_schedule_handle(schedule_id).describe()).raw_description)


@operation("GET", "/schedules/{schedule_id}/stream")
async def follow_schedule(api: Api, schedule_id: str) -> AsyncIterator[ScheduleView]:
    """Follow a schedule, by server-sent events: as it is, then a message for each change, until it is removed."""
    workflow_id = schedule_workflow_id(schedule_id)
    first = await describe_schedule(api, schedule_id)
    page = await api.ask(workflow_id, "", FetchHistory(first_event_id=1, page_bytes_max=1), HistoryPage, REQUEST_S)
    async with api.streaming(), api.feed.run(workflow_id, page.run_id) as watch:
        yield first
        while not api.feed.closed:
            found = await describe_schedule(api, schedule_id)
            if found != first:
                yield found
                first = found
            if await watch.wait(_LOOK_S):
                await watch.settle(_QUIET_S)


@operation("POST", "/schedules/{schedule_id}/update", {409: "Somebody else has changed it."})
async def update_schedule(api: Api, schedule_id: str, body: UpdateScheduleBody) -> Nothing:
    """Change a schedule."""
    action = None if body.action is None else body.action.action()
    spec = None if body.spec is None else _spec(body.spec)
    attributes: TypedSearchAttributes | None = None
    if body.search_attributes is not None:
        attributes = typed_attributes(body.search_attributes) or TypedSearchAttributes.empty

    def change(found: ScheduleUpdateInput) -> ScheduleUpdate:
        revision = found.description.raw_description.progress.revision
        if body.revision not in (None, revision):
            detail = f"it is at revision {revision}, not {body.revision}: describe it, and change that"
            raise ProblemError(409, "FAILED_PRECONDITION", detail, "$.revision")
        schedule = found.description.schedule
        if action is not None:
            assert isinstance(schedule.action, ScheduleActionStartWorkflow)
            action.headers = schedule.action.headers
            schedule.action = action
        schedule.spec = spec or schedule.spec
        schedule.policy = schedule.policy if body.policy is None else body.policy.policy()
        _change_state(schedule.state, body)
        return ScheduleUpdate(schedule, attributes)

    await api.client.get_schedule_handle(schedule_id).update(change)
    return Nothing()


def _change_state(state: ScheduleState, body: UpdateScheduleBody) -> None:
    if body.paused is not None:
        state.paused = body.paused
    if body.note is not None:
        state.note = body.note
    if not isinstance(body.remaining_actions, UnsetType):
        state.limited_actions = body.remaining_actions is not None
        state.remaining_actions = body.remaining_actions or 0


@operation("POST", "/schedules/{schedule_id}/pause")
async def pause_schedule(api: Api, schedule_id: str, body: NoteBody) -> Nothing:
    """Have a schedule fire by hand only."""
    await api.client.get_schedule_handle(schedule_id).pause(note=body.note)
    return Nothing()


@operation("POST", "/schedules/{schedule_id}/unpause")
async def unpause_schedule(api: Api, schedule_id: str, body: NoteBody) -> Nothing:
    """Have a schedule fire by its spec again. Times that passed meanwhile are not made up for; see backfill."""
    await api.client.get_schedule_handle(schedule_id).unpause(note=body.note)
    return Nothing()


@operation("POST", "/schedules/{schedule_id}/trigger")
async def trigger_schedule(api: Api, schedule_id: str, body: TriggerBody) -> Nothing:
    """Fire now, also while it is paused."""
    overlap = None if body.overlap is None else ScheduleOverlapPolicy[body.overlap.name]
    await api.client.get_schedule_handle(schedule_id).trigger(overlap=overlap)
    return Nothing()


@operation("POST", "/schedules/{schedule_id}/backfill")
async def backfill_schedule(api: Api, schedule_id: str, body: BackfillBody) -> Nothing:
    """Fire for all times of the spec in ranges, as if they were now; also while it is paused."""
    await api.client.get_schedule_handle(schedule_id).backfill(*(part.backfill() for part in body.ranges))
    return Nothing()


@operation("GET", "/schedules/{schedule_id}/matching-times")
async def list_matching_times(api: Api, schedule_id: str, query: TimesQuery) -> Times:
    """List the times of the spec in a range. Starts nothing."""
    handle = api.client.get_schedule_handle(schedule_id)
    return Times(times=list(await handle.matching_times(query.start_at, query.end_at, limit=query.limit)))


@operation("DELETE", "/schedules/{schedule_id}")
async def delete_schedule(api: Api, schedule_id: str) -> Nothing:
    """Remove a schedule. Workflows that it has started go on."""
    await api.client.get_schedule_handle(schedule_id).delete()
    return Nothing()
