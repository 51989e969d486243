"""The configuration of the history role."""

from __future__ import annotations

import msgspec

from perdure_history.core.policy import Policy
from perdure_schemas import limits

__all__ = ["HistoryConfig"]


class HistoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of the history role. Durations in milliseconds, sizes in bytes.

    Attributes:
        policy: what decisions depend on.
        retention_ms: how long a closed run is kept.
        answer_delay_ms_max: how long an answer may wait at most that its asker does not need at once.
        sticky_ms: how long a workflow task waits for the worker that has the run in its cache.
        start_notice_delay_ms: how long an attempt runs before history is told that it has started (at once where one of
            its timeouts needs it).
        short_start_to_close_ms: a start-to-close timeout up to here needs it at once.
        cached_runs_max / cached_bytes_max: runs, and bytes of their records, that one partition keeps in memory.
        cached_closed_runs_max: how many of them may be closed.
        task_history_bytes_max: encoded history that travels with a task; workers fetch the rest.
        waiters_max / queries_max / updates_held_max: requests of one run that are kept in memory.
        runs_removed_per_tick_max: how many closed runs one tick removes, so that it never holds up the partition.
    """

    policy: Policy = Policy()
    retention_ms: int = 3 * 24 * 3_600_000
    answer_delay_ms_max: int = 1_000
    sticky_ms: int = 10_000
    start_notice_delay_ms: int = 1_000
    short_start_to_close_ms: int = 5_000
    cached_runs_max: int = limits.CACHED_RUNS_MAX
    cached_bytes_max: int = limits.CACHED_RUNS_BYTES_MAX
    cached_closed_runs_max: int = limits.CACHED_CLOSED_RUNS_MAX
    task_history_bytes_max: int = limits.TASK_HISTORY_BYTES_MAX
    waiters_max: int = limits.WAITERS_MAX
    queries_max: int = limits.QUERIES_HELD_MAX
    updates_held_max: int = limits.UPDATES_HELD_MAX
    runs_removed_per_tick_max: int = limits.RUNS_REMOVED_PER_TICK_MAX
    history_events_warned: int = 10_240
