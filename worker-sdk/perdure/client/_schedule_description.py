"""What clients get to see of schedules. Names are those of ``temporalio.client``. Made by the requests about them."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perdure._search_attributes import TypedSearchAttributes, decode_search_attributes
from perdure.client._description import CarriesMemo, utc_time
from perdure.client._schedule_action import Schedule, schedule_of
from perdure.client._schedule_spec import ScheduleSpec, spec_of
from perdure.common import Payload
from perdure.converter import DataConverter
from perdure_schemas.records import ExecutionSummary, ScheduleDescribed, ScheduleFire, ScheduleOmission


class ScheduleActionExecution(ABC):  # noqa: B024 - a base to test for
    """What a fire did."""


@dataclass
class ScheduleActionExecutionStartWorkflow(ScheduleActionExecution):
    """A workflow that a fire started."""

    workflow_id: str
    first_execution_run_id: str


@dataclass
class ScheduleActionResult:
    """A fire: when it was due (with jitter), when its workflow was started, and which."""

    scheduled_at: datetime
    started_at: datetime
    action: ScheduleActionExecution


@dataclass
class ScheduleOmittedAction:
    """A fire that started no workflow. ``reason`` is a word such as ``OVERLAP``; ``detail`` may say more."""

    scheduled_at: datetime
    omitted_at: datetime
    reason: str
    detail: str


@dataclass
class ScheduleInfo:
    """How far a schedule has come.

    Attributes:
        num_actions: Workflows it has started.
        num_actions_missed_catchup_window: Fires that were later than the catch-up window allows.
        num_actions_skipped_overlap: Fires left out by the overlap policy.
        running_actions: Workflows that are not known to have ended.
        recent_actions: The newest 10 fires, oldest first.
        next_action_times: The next 10 times, with jitter; also while it is paused.
        created_at: When it was made.
        last_updated_at: When it was updated last.
        num_actions_dropped_buffer: Fires that found the buffer full.
        num_actions_refused: Fires whose workflow could not be started.
        omitted_actions: The newest 10 fires that started no workflow, oldest first, and why.
    """

    num_actions: int
    num_actions_missed_catchup_window: int
    num_actions_skipped_overlap: int
    running_actions: Sequence[ScheduleActionExecution]
    recent_actions: Sequence[ScheduleActionResult]
    next_action_times: Sequence[datetime]
    created_at: datetime
    last_updated_at: datetime | None
    num_actions_dropped_buffer: int = 0
    num_actions_refused: int = 0
    omitted_actions: Sequence[ScheduleOmittedAction] = ()


@dataclass
class ScheduleDescription(CarriesMemo):
    """A schedule, as the engine describes it."""

    id: str
    schedule: Schedule
    info: ScheduleInfo
    typed_search_attributes: TypedSearchAttributes
    data_converter: DataConverter
    raw_description: ScheduleDescribed

    @property
    def search_attributes(self) -> Mapping[str, Sequence[Any]]:
        """The search attributes without their types: each name with its values."""
        return _untyped(self.typed_search_attributes)

    def _memo_payloads(self) -> Mapping[str, Payload]:
        return self.raw_description.definition.memo


class ScheduleListAction(ABC):  # noqa: B024 - a base to test for
    """What a listed schedule does."""


@dataclass
class ScheduleListActionStartWorkflow(ScheduleListAction):
    """It starts a workflow of this type."""

    workflow: str


@dataclass
class ScheduleListState:
    """The switches of a listed schedule."""

    note: str | None
    paused: bool


@dataclass
class ScheduleListSchedule:
    """A listed schedule: what it does, when, and its switches."""

    action: ScheduleListAction
    spec: ScheduleSpec
    state: ScheduleListState


@dataclass
class ScheduleListInfo:
    """The newest 5 fires of a listed schedule, oldest first, and its next 5 times."""

    recent_actions: Sequence[ScheduleActionResult]
    next_action_times: Sequence[datetime]


@dataclass
class ScheduleListDescription(CarriesMemo):
    """A listed schedule."""

    id: str
    schedule: ScheduleListSchedule | None
    info: ScheduleListInfo | None
    typed_search_attributes: TypedSearchAttributes
    data_converter: DataConverter
    raw_entry: ExecutionSummary

    @property
    def search_attributes(self) -> Mapping[str, Sequence[Any]]:
        """The search attributes without their types: each name with its values."""
        return _untyped(self.typed_search_attributes)

    def _memo_payloads(self) -> Mapping[str, Payload]:
        return self.raw_entry.memo


def description_of(described: ScheduleDescribed, converter: DataConverter) -> ScheduleDescription:
    """A schedule from the engine's answer."""
    definition, progress = described.definition, described.progress
    return ScheduleDescription(
        id=described.schedule_id,
        schedule=schedule_of(definition, progress),
        info=ScheduleInfo(
            num_actions=progress.actions,
            num_actions_missed_catchup_window=progress.missed_catchup_window,
            num_actions_skipped_overlap=progress.skipped_overlap,
            running_actions=[_execution(fire) for fire in progress.running],
            recent_actions=[_result(fire) for fire in progress.recent],
            next_action_times=[utc_time(time_ms) for time_ms in described.next_ms],
            created_at=utc_time(progress.created_ms),
            last_updated_at=utc_time(progress.updated_ms) if progress.updated_ms else None,
            num_actions_dropped_buffer=progress.dropped_buffer,
            num_actions_refused=progress.refused,
            omitted_actions=[_omitted(gap) for gap in progress.omitted],
        ),
        typed_search_attributes=decode_search_attributes(definition.search_attributes),
        data_converter=converter,
        raw_description=described,
    )


def listed_of(summary: ExecutionSummary, converter: DataConverter, now_ms: int) -> ScheduleListDescription:
    """A schedule from a list. Times that have passed since its summary was written are left out."""
    shown = summary.schedule
    assert shown is not None, f"the list of schedules has run {summary.run_id}, which is none"
    return ScheduleListDescription(
        id=shown.schedule_id,
        schedule=ScheduleListSchedule(
            action=ScheduleListActionStartWorkflow(shown.workflow_type),
            spec=spec_of(shown.spec),
            state=ScheduleListState(shown.note or None, shown.paused),
        ),
        info=ScheduleListInfo(
            recent_actions=[_result(fire) for fire in shown.recent],
            next_action_times=[utc_time(time_ms) for time_ms in shown.next_ms if time_ms >= now_ms],
        ),
        typed_search_attributes=decode_search_attributes(summary.search_attributes),
        data_converter=converter,
        raw_entry=summary,
    )


def _execution(fire: ScheduleFire) -> ScheduleActionExecutionStartWorkflow:
    return ScheduleActionExecutionStartWorkflow(fire.workflow_id, fire.run_id)


def _result(fire: ScheduleFire) -> ScheduleActionResult:
    return ScheduleActionResult(utc_time(fire.scheduled_ms), utc_time(fire.started_ms), _execution(fire))


def _omitted(gap: ScheduleOmission) -> ScheduleOmittedAction:
    return ScheduleOmittedAction(utc_time(gap.nominal_ms), utc_time(gap.time_ms), gap.reason.value, gap.detail)


def _untyped(attributes: TypedSearchAttributes) -> Mapping[str, Sequence[Any]]:
    return {pair.key.name: list(pair.value) if isinstance(pair.value, list) else [pair.value] for pair in attributes}
