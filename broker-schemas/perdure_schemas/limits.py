"""Every bound of the platform, in one place: what is refused, and where memory, time and state end.

Invariant: nothing that a user or a failure can make grow is without a bound here. Durations are milliseconds, sizes
bytes. Read by all parts; pure data. ``docs/limits.md`` is made from this (``python -m tests.support.limits_table``):
each heading says what happens beyond the bounds under it, and the comment in front of a bound is its description.
Numbers that tune speed without bounding anything stand beside their use.
"""

from __future__ import annotations

from typing import Final

_KIB: Final = 1024
_MIB: Final = 1024 * 1024

# --- What a caller may send. More is refused where the call is made, with an error that names the bound. --------------

#: All payloads of one call together, its headers included: the input of a start, a signal, a query, an activity; a
#: result; the details of a marker.
PAYLOAD_BYTES_MAX: Final = 2 * _MIB
#: One encoded command. Leaves room below the largest record for the events it becomes.
COMMAND_BYTES_MAX: Final = 3_670_016
#: Characters of a workflow id.
WORKFLOW_ID_CHARS_MAX: Final = 1_000
#: Characters of every other name a user chooses: types, task queues, signals, queries, updates, activity ids, timer
#: ids, markers, keys of memos and search attributes.
NAME_CHARS_MAX: Final = 1_000
#: Characters of the reason of a cancellation, a termination, a reset or a pause.
REASON_CHARS_MAX: Final = 10_000
#: All values of a run's memo.
MEMO_BYTES_MAX: Final = 1 * _MIB
#: Search attributes of a run, by number, by the size of one value and of all.
SEARCH_ATTRIBUTES_MAX: Final = 100
SEARCH_ATTRIBUTE_BYTES_MAX: Final = 2 * _KIB
SEARCH_ATTRIBUTES_BYTES_MAX: Final = 40 * _KIB
#: A run's static summary, and its static details.
STATIC_TEXT_BYTES_MAX: Final = 32 * _KIB
#: Input of one update: it travels to the worker and comes back with its acceptance and maybe its result.
UPDATE_INPUT_BYTES_MAX: Final = 1 * _MIB
#: Heartbeat details of an activity; they stand in one record with its input.
HEARTBEAT_BYTES_MAX: Final = 512 * _KIB
#: What one run of a cron workflow hands to the next: its input and its result.
CARRIED_BYTES_MAX: Final = 5 * _MIB // 2
#: History of a run that is reset; it is copied into one record.
RESET_BYTES_MAX: Final = COMMAND_BYTES_MAX
#: Bytes of a fairness key; its weight has to be in this range.
FAIRNESS_KEY_BYTES_MAX: Final = 64
FAIRNESS_WEIGHT_MIN: Final = 0.001
FAIRNESS_WEIGHT_MAX: Final = 1_000.0
#: Fairness keys of one task queue and type that have settings of their own.
FLOW_KEYS_MAX: Final = 1_000
#: The largest rate, in tasks a second, and the most tasks at once, that settings of a task queue may name.
FLOW_RATE_MAX: Final = 1_000_000.0
FLOW_CONCURRENCY_MAX: Final = 1_000_000
#: Characters of the name of a topic that a workflow emits to, as Kafka has it.
TOPIC_CHARS_MAX: Final = 249
#: Priorities: 1 is served first.
PRIORITY_FIRST: Final = 1
PRIORITY_LAST: Final = 5

# --- What one run may hold. More fails the workflow task, which is tried again and shows the cause in `describe`. -----

#: Activities that are not closed yet, and timers that run.
PENDING_ACTIVITIES_MAX: Final = 2_000
PENDING_TIMERS_MAX: Final = 10_000
#: Child workflows that are open or being started.
PENDING_CHILDREN_MAX: Final = 2_000
#: Signals and requests to cancel that a run sent to other workflows, and that are not answered yet.
PENDING_EXTERNAL_REQUESTS_MAX: Final = 2_000
#: Records that it waits for; and the characters of what their values have to hold.
PENDING_RECORD_WAITS_MAX: Final = 100
RECORD_WHERE_CHARS_MAX: Final = 2_000

# --- What one schedule may hold. More is refused; a fire that finds the buffer full starts nothing, and says so. ------

#: Calendars, intervals and cron expressions of a schedule.
SCHEDULE_PARTS_MAX: Final = 100
#: The shortest interval, and the shortest catch-up window.
SCHEDULE_INTERVAL_MS_MIN: Final = 1_000
SCHEDULE_CATCHUP_MS_MIN: Final = 10_000
#: The last year with times of a calendar.
SCHEDULE_YEAR_MAX: Final = 2_100
#: Fires that wait for a workflow to end, and ranges of backfills that are not done.
SCHEDULE_BUFFERED_MAX: Final = 1_000
SCHEDULE_BACKFILLS_MAX: Final = 100
#: Running workflows that a schedule keeps in view, and newest fires, of either kind, in its description.
SCHEDULE_RUNNING_MAX: Final = 100
SCHEDULE_RECENT_MAX: Final = 10
#: Commands of clients that a schedule knows again.
SCHEDULE_COMMANDS_KEPT_MAX: Final = 20
#: Times that one decision covers, and workflows that it starts; the next decision follows at once.
SCHEDULE_TIMES_PER_DECISION_MAX: Final = 200
SCHEDULE_STARTS_PER_DECISION_MAX: Final = 50
#: Times that one answer lists.
SCHEDULE_TIMES_LISTED_MAX: Final = 10_000

# --- How long a run may grow. Beyond the first two it is asked to continue as new, beyond the last two terminated. ----

#: History from which on `workflow.info().is_continue_as_new_suggested()` is true.
SUGGESTED_EVENTS_MAX: Final = 4_096
SUGGESTED_BYTES_MAX: Final = 4 * _MIB
#: A run with a longer history is terminated, with that reason.
HISTORY_EVENTS_MAX: Final = 51_200
HISTORY_BYTES_MAX: Final = 50 * _MIB

# --- How many may ask at once. More is refused with RESOURCE_EXHAUSTED; ask again later. ------------------------------

#: Updates that one run accepts in its life; their ids stay in its state. Later ones are for the next run.
UPDATES_MAX: Final = 2_000
#: Updates of one run that wait for a worker to accept them.
UPDATES_HELD_MAX: Final = 100
#: Queries of one run that wait for a worker.
QUERIES_HELD_MAX: Final = 100
#: Requests that wait for the result of one run, or of one update.
WAITERS_MAX: Final = 1_000

# --- What is cut, because refusing it would help nobody. What is left says that it was cut. ---------------------------

#: A failure in the history; a larger one keeps its texts, cut, and neither details nor causes.
FAILURE_BYTES_MAX: Final = 256 * _KIB
#: Causes of a failure: of an exception's own, and with those of a failure it was raised from.
FAILURE_CAUSES_MAX: Final = 20
FAILURE_CHAIN_MAX: Final = 50
#: Characters of a failure's message and of its stack trace, where an exception is recorded.
FAILURE_MESSAGE_CHARS_MAX: Final = 16_384
FAILURE_STACK_TRACE_CHARS_MAX: Final = 16_384
#: Characters of the failure of a stuck workflow task, as lists show it.
STUCK_FAILURE_CHARS_MAX: Final = 500
#: Heartbeat details of all pending activities in one description; what does not fit is left out.
DESCRIBED_HEARTBEATS_BYTES_MAX: Final = 256 * _KIB

# --- What is read from outside. More is refused before it is decoded. -------------------------------------------------

#: The largest record in any topic. Payload and command limits keep every record the platform writes below it.
RECORD_BYTES_MAX: Final = 4 * _MIB
#: Levels of nesting: arrays and objects in JSON, causes of a failure.
NESTING_MAX: Final = 200
#: Characters of a task queue in the name of its topic; Kafka allows 249 for all. A longer one gets a checksum.
QUEUE_TOPIC_CHARS_MAX: Final = 140
#: A frame of the embedded log's socket; holds the largest record, and leaves room for many small ones.
FRAME_BYTES_MAX: Final = 4 * RECORD_BYTES_MAX
#: A frame before the handshake is over.
HELLO_BYTES_MAX: Final = 4 * _KIB
#: The body of a request to a codec server, and of its answer.
CODEC_BODY_BYTES_MAX: Final = 64 * _MIB
#: A task token.
TASK_TOKEN_BYTES_MAX: Final = 8 * _KIB
#: Characters of a list filter, and how deep its brackets and NOTs may stand in each other.
FILTER_CHARS_MAX: Final = 10_000
FILTER_DEPTH_MAX: Final = 50

# --- The embedded log. More connections, readers and partitions are refused; a writer waits, then gets an error. ------

#: Partitions of one topic.
PARTITIONS_MAX: Final = 10_000
#: Connections to one server.
SESSIONS_MAX: Final = 256
#: Readers in one connection.
READERS_MAX: Final = 1_000
#: Appended, and not on disk yet.
UNWRITTEN_BYTES_MAX: Final = 128 * _MIB
#: Appended by a client over the socket, and not acknowledged yet.
UNACKNOWLEDGED_BYTES_MAX: Final = 64 * _MIB
#: Sent to a reader over the socket, and not taken yet.
CREDIT_BYTES: Final = 4 * _MIB

# --- What travels in pieces. Longer things are split or fetched in pages; nothing is refused. -------------------------

#: Encoded history that travels with a workflow task; a longer one is fetched in pages of about the second number.
TASK_HISTORY_BYTES_MAX: Final = 512 * _KIB
HISTORY_PAGE_BYTES_MAX: Final = 512 * _KIB
#: Runs and bytes of one page of a list, and runs that are looked at for it, so that a filter that hardly any run
#: fulfils delays no other question.
LIST_PAGE_ROWS_MAX: Final = 1_000
LIST_PAGE_BYTES_MAX: Final = 1 * _MIB
LIST_EXAMINED_MAX: Final = 20_000
#: Updates that travel with one workflow task.
TASK_UPDATES_BYTES_MAX: Final = 1 * _MIB
#: Appends are cut so that a frame stays below the limit, whatever the framing adds.
APPEND_BYTES_MAX: Final = 2 * RECORD_BYTES_MAX
#: What is taken from a partition at once to be pushed: one turn of a reader, so how far it may overdraw its credit.
PUSH_RECORDS_MAX: Final = 1_000
PUSH_BYTES_MAX: Final = 1 * _MIB
#: Closed runs that one tick removes.
RUNS_REMOVED_PER_TICK_MAX: Final = 200
#: Timers taken into memory, and wake-ups sent, in one tick, so that a burst never holds up the partition's records.
TIMERS_LOADED_PER_TICK_MAX: Final = 4_000
TIMERS_FIRED_PER_TICK_MAX: Final = 2_000

# --- Memory and state. What is beyond stays on disk, or is rebuilt from the topics. -----------------------------------

#: Runs, and bytes of their records, that one history partition keeps in memory.
CACHED_RUNS_MAX: Final = 10_000
CACHED_RUNS_BYTES_MAX: Final = 64 * _MIB
#: How many of these runs may be closed ones, which are rarely asked for again.
CACHED_CLOSED_RUNS_MAX: Final = 1_000
#: Encoded task bodies that one matching partition keeps in memory.
TASK_BODIES_BYTES_MAX: Final = 16 * _MIB
#: The near future that one timers partition keeps in memory, by time and by count.
TIMER_HORIZON_MS: Final = 60_000
TIMERS_IN_MEMORY_MAX: Final = 20_000
#: Stored state older than this is rebuilt: compaction may have dropped tombstones that it never saw. Below the topics'
#: ``delete.retention.ms`` by an hour of margin.
STATE_AGE_MS_MAX: Final = 23 * 3_600_000

# --- Workers. What is beyond counts as the bound. ---------------------------------------------------------------------

#: Partitions of one task queue, behind the tilde in its name; a name that asks for more is a name like any other.
TASK_QUEUE_PARTITIONS_MAX: Final = 64
#: Slots of one kind that one worker may offer, so how many tasks it is dispatched at once.
WORKER_SLOTS_MAX: Final = 10_000
#: Activities that one answer of a workflow task schedules and its worker begins by itself: the others are shared out.
EAGER_ACTIVITIES_MAX: Final = 3
#: A heartbeat that is older than this when it is read says nothing about now.
HEARTBEAT_AGE_MS_MAX: Final = 60_000
#: The wait before the third attempt of a failing workflow task, doubled with each, and its end. The second goes out at
#: once.
TASK_RETRY_INITIAL_MS: Final = 1_000
TASK_RETRY_INTERVAL_MS_MAX: Final = 60_000
#: The attempt of a workflow task from which on its run is shown as stuck, with the failure of the attempt before.
STUCK_ATTEMPT_MIN: Final = 3

# --- The HTTP API and the web UI. More is refused with a status that says which bound it is. --------------------------

#: The body of a request. Holds the payloads of one call in base64, as a codec server has them.
HTTP_BODY_BYTES_MAX: Final = 4 * _MIB
#: How long a body may take to arrive, how long a caller may ask to wait, and how long any request may take.
HTTP_BODY_MS_MAX: Final = 30_000
HTTP_WAIT_MS_MAX: Final = 60_000
HTTP_REQUEST_MS_MAX: Final = 120_000
#: Requests that are served at once, and streams of events among them.
HTTP_REQUESTS_MAX: Final = 500
HTTP_STREAMS_MAX: Final = 200
