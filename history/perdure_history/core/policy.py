"""The numbers decisions depend on, in one place, so that tests can make them small.

They are part of the engine's configuration; two owners with different ones still agree on everything that is decided
already, since deciding writes events and folding only reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from perdure_schemas import limits
from perdure_schemas.records import ScheduleSpec

__all__ = ["Policy", "Times"]


def _no_calendar(schedule: str, _base_ms: int, _after_ms: int) -> int:
    raise ValueError(f"cron schedule {schedule!r}: no calendar is configured")


class Times(Protocol):
    """When a schedule fires; times in milliseconds since 1970."""

    def next_ms(self, after_ms: int) -> int | None:
        """The first time behind ``after_ms``, without jitter; ``None`` if there is none."""

    def scheduled_ms(self, nominal_ms: int) -> int:
        """A time with its jitter."""

    def text(self, time_ms: int) -> str:
        """A time for people and ids, in ISO 8601 and UTC."""


def _no_times(_spec: ScheduleSpec, _seed: str) -> Times:
    raise ValueError("no calendar is configured")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and intervals of decisions; durations in milliseconds."""

    history_events_max: int = limits.HISTORY_EVENTS_MAX
    history_bytes_max: int = limits.HISTORY_BYTES_MAX
    pending_activities_max: int = limits.PENDING_ACTIVITIES_MAX
    pending_timers_max: int = limits.PENDING_TIMERS_MAX
    pending_children_max: int = limits.PENDING_CHILDREN_MAX
    pending_external_requests_max: int = limits.PENDING_EXTERNAL_REQUESTS_MAX
    updates_max: int = limits.UPDATES_MAX
    update_input_bytes_max: int = limits.UPDATE_INPUT_BYTES_MAX
    payload_bytes_max: int = limits.PAYLOAD_BYTES_MAX
    memo_bytes_max: int = limits.MEMO_BYTES_MAX
    search_attributes_max: int = limits.SEARCH_ATTRIBUTES_MAX
    search_attribute_bytes_max: int = limits.SEARCH_ATTRIBUTE_BYTES_MAX
    search_attributes_bytes_max: int = limits.SEARCH_ATTRIBUTES_BYTES_MAX
    static_text_bytes_max: int = limits.STATIC_TEXT_BYTES_MAX
    carried_bytes_max: int = limits.CARRIED_BYTES_MAX
    reason_chars_max: int = limits.REASON_CHARS_MAX
    heartbeat_bytes_max: int = limits.HEARTBEAT_BYTES_MAX
    name_chars_max: int = limits.NAME_CHARS_MAX
    workflow_id_chars_max: int = limits.WORKFLOW_ID_CHARS_MAX
    #: The back-off of a failing workflow task: the second attempt goes out at once, the third after this, then doubled.
    task_retry_initial_ms: int = limits.TASK_RETRY_INITIAL_MS
    task_retry_interval_ms_max: int = limits.TASK_RETRY_INTERVAL_MS_MAX
    history_page_bytes_max: int = limits.HISTORY_PAGE_BYTES_MAX
    #: (schedule, when the run before began, after when) → when a cron schedule is due next; times in milliseconds since
    #: 1970. Raises ``ValueError`` for a schedule that cannot be read. The core knows no calendar, so it is handed in.
    next_cron_ms: Callable[[str, int, int], int] = _no_calendar
    #: (spec, seed of the jitter) → the times of a schedule. Raises ``ValueError`` for a spec that cannot be.
    schedule_times: Callable[[ScheduleSpec, str], Times] = _no_times
