"""Every bound of the platform, in one place: what is refused, and where memory, time and state end.

Invariant: nothing that a user or a failure can make grow is without a bound here (or beside its use in a role's
configuration, with the default taken from here). Durations are milliseconds, sizes bytes. Read by all parts; pure data.
The size of a record itself stands with the topics (``perdure_schemas.topics.RECORD_BYTES_MAX``).
"""

from __future__ import annotations

from typing import Final

# --- what a caller may send; more is refused with an error that names the bound ------------------------------------

#: All payloads of one call together: the input of a start, a signal, a query, an activity; a result; a memo.
PAYLOAD_BYTES_MAX: Final = 2 * 1024 * 1024
#: One encoded command. Leaves room below ``RECORD_BYTES_MAX`` for the events it becomes.
COMMAND_BYTES_MAX: Final = 3_670_016
#: Characters of a workflow id, and of every other name a user chooses (types, task queues, signals, activity ids).
WORKFLOW_ID_CHARS_MAX: Final = 1_000
NAME_CHARS_MAX: Final = 1_000
#: Bytes of a fairness key; its weight is clamped to this range.
FAIRNESS_KEY_BYTES_MAX: Final = 64
FAIRNESS_WEIGHT_MIN: Final = 0.001
FAIRNESS_WEIGHT_MAX: Final = 1_000.0
#: Priorities: 1 is served first.
PRIORITY_FIRST: Final = 1
PRIORITY_LAST: Final = 5

# --- one run; beyond the history bounds it is terminated with that reason ---------------------------------------------

HISTORY_EVENTS_MAX: Final = 51_200
HISTORY_BYTES_MAX: Final = 50 * 1024 * 1024
PENDING_ACTIVITIES_MAX: Final = 2_000
PENDING_TIMERS_MAX: Final = 10_000
#: Updates that one run accepts in its life; their ids stay in its state. Later ones are for the next run.
UPDATES_MAX: Final = 2_000
#: Input of one update: it travels to the worker and comes back with its acceptance and maybe its result.
UPDATE_INPUT_BYTES_MAX: Final = 1024 * 1024
PENDING_CHILDREN_MAX: Final = 2_000
#: Signals and requests to cancel that a run sent to other workflows, and that are not answered yet.
PENDING_EXTERNAL_REQUESTS_MAX: Final = 2_000
#: Encoded history that travels with a workflow task; a longer one is fetched in pages of about the second number.
TASK_HISTORY_BYTES_MAX: Final = 512 * 1024
HISTORY_PAGE_BYTES_MAX: Final = 512 * 1024
#: A reset copies the history into one record; a larger one cannot be reset.
RESET_BYTES_MAX: Final = COMMAND_BYTES_MAX

# --- state ----------------------------------------------------------------------------------------------------------

#: Stored state older than this is rebuilt: compaction may have dropped tombstones that it never saw. Below the topics'
#: ``delete.retention.ms`` by an hour of margin.
STATE_AGE_MS_MAX: Final = 23 * 3_600_000

# --- matching -------------------------------------------------------------------------------------------------------

#: Encoded task bodies that one partition keeps in memory; the bodies of a deeper backlog wait in the state store.
TASK_BODIES_BYTES_MAX: Final = 16 * 1024 * 1024
#: Slots of one kind that one worker may offer.
WORKER_SLOTS_MAX: Final = 10_000
#: A heartbeat that is older than this when it is read says nothing about now.
HEARTBEAT_AGE_MS_MAX: Final = 60_000

# --- timers ---------------------------------------------------------------------------------------------------------

#: The near future that one partition keeps in memory, by time and by count; later timers wait in the state store.
TIMER_HORIZON_MS: Final = 60_000
TIMERS_IN_MEMORY_MAX: Final = 20_000
#: Timers taken into memory, and wake-ups sent, in one tick, so that a burst never holds up the partition's records.
TIMERS_LOADED_PER_TICK_MAX: Final = 4_000
TIMERS_FIRED_PER_TICK_MAX: Final = 2_000
