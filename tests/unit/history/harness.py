"""A history partition without a log: fakes for the store and the outbox, and short ways to send commands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from perdure_history.config import HistoryConfig
from perdure_history.core.state import RunState
from perdure_history.partition import HistoryPartition
from perdure_history.runs import Runs
from perdure_history.service import HistoryRole
from perdure_runtime.log import LogRecord, NewRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import (
    ActivityOptions,
    ActivityTask,
    ActivityTaskCompleted,
    Command,
    CompleteWorkflowExecution,
    Event,
    HistoryRecord,
    OwnerMark,
    Payload,
    Record,
    Reply,
    ReplyTo,
    RetryPolicy,
    ScheduleActivityTask,
    StartWorkflow,
    TaskRecord,
    TimerRecord,
    WorkflowTask,
    WorkflowTaskCompleted,
)
from perdure_schemas.topics import TopicNames

NAMES = TopicNames(namespace="test", partitions=4)
START_MS = 1_700_000_000_000
CLIENT = ReplyTo(client_id="client", partition=1, request_id="r")
R = TypeVar("R", bound=Record)


class DictStore:
    """A partition store in memory."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.entries[key] = value

    def delete(self, key: bytes) -> None:
        self.entries.pop(key, None)

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(self.entries):
            if key.startswith(prefix) and (start is None or key >= start):
                yield key, self.entries[key]


@dataclass
class ListOutbox:
    """Keeps what was sent."""

    records: list[NewRecord] = field(default_factory=list)

    def send(self, record: NewRecord) -> None:
        self.records.append(record)


def payload(text: str) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=text.encode())


def reply_to(request_id: str = "r") -> ReplyTo:
    return ReplyTo(client_id="client", partition=1, request_id=request_id)


def start(run_id: str = "run", **fields: Any) -> StartWorkflow:
    return StartWorkflow(**{"run_id": run_id, "workflow_type": "Order", "task_queue": "orders", **fields})


def options(activity_id: str = "a", **fields: Any) -> ActivityOptions:
    defaults = {
        "activity_id": activity_id,
        "activity_type": "charge",
        "task_queue": "payments",
        "start_to_close_timeout_ms": 30_000,
        "input": [payload("in")],
    }
    return ActivityOptions(**{**defaults, **fields})


def once(**fields: Any) -> RetryPolicy:
    return RetryPolicy(maximum_attempts=1, **fields)


class History:
    """One partition of the role with an imitation of the log around it.

    ``log`` is the history topic as a broker would hold it; ``sent`` what the last command sent.
    """

    def __init__(
        self,
        config: HistoryConfig | None = None,
        *,
        store: DictStore | None = None,
        log: list[LogRecord] | None = None,
        committed: int | None = None,
        command_offset: int = 0,
        now_ms: int = START_MS,
    ) -> None:
        self.config = config or HistoryConfig()
        self.store = store or DictStore()
        self.log = log if log is not None else []
        self.now_ms = now_ms
        self.offset = command_offset
        self.sent: list[NewRecord] = []
        self.all_sent: list[NewRecord] = []
        self.command_log: list[LogRecord] = []
        self.role = HistoryRole(NAMES, self.config, clock=lambda: self.now_ms)
        self.handler: HistoryPartition = self.role.open(0, self.store, committed)
        # The workflows of a test share one partition, whatever their ids are.
        self.handler._partitions = 1
        self.epoch = self.append_mark()
        self.restored_from = self.handler.restore_offset()
        begin = self.restored_from or 0
        for record in list(self.log):
            if record.offset >= begin:
                self.handler.fold(record)
        outbox = ListOutbox()
        self.live_offsets = self.handler.take_over(self.epoch, committed, self.now_ms, outbox)
        self._take(outbox)

    # --- the log ------------------------------------------------------------------------------------------------

    def append_mark(self) -> int:
        mark = codec.encode(OwnerMark(source="history/0", owner="test", time_ms=self.now_ms))
        offset = self.log[-1].offset + 1 if self.log else 0
        key = keys.mark_key("history/0", str(offset))
        self.log.append(LogRecord(NAMES.history, 0, offset, key, mark, self.now_ms))
        return offset

    def append_history(self, record: NewRecord) -> None:
        offset = self.log[-1].offset + 1 if self.log else 0
        kept = LogRecord(NAMES.history, 0, offset, record.key, record.value, record.timestamp_ms, record.headers)
        self.log.append(kept)

    def _take(self, outbox: ListOutbox) -> None:
        self.sent = outbox.records
        self.all_sent += outbox.records
        for record in outbox.records:
            if record.topic == NAMES.history:
                self.append_history(record)

    # --- commands -----------------------------------------------------------------------------------------------

    def record(
        self, body: Any, *, workflow_id: str = "wf", run_id: str = "", command_id: str = "", **more: Any
    ) -> LogRecord:
        command = Command(
            command_id=command_id or f"c{self.offset}", workflow_id=workflow_id, run_id=run_id, body=body, **more
        )
        record = LogRecord(NAMES.commands, 0, self.offset, workflow_id.encode(), codec.encode(command), self.now_ms)
        self.offset += 1
        return record

    def send(self, body: Any, **fields: Any) -> list[NewRecord]:
        """Handle a command; returns what was sent."""
        return self.deliver(self.record(body, **fields))

    def ask(self, body: Any, **fields: Any) -> Any:
        """Handle a request and return the body of its one answer."""
        self.send(body, reply=reply_to(), **fields)
        (answer,) = self.replies()
        return answer.body

    def deliver(self, record: LogRecord) -> list[NewRecord]:
        self.command_log.append(record)
        outbox = ListOutbox()
        self.handler.handle(record, outbox)
        self._take(outbox)
        return self.sent

    def quarantine(self, record: LogRecord, reason: str = "boom") -> list[NewRecord]:
        outbox = ListOutbox()
        self.handler.quarantine(record, reason, outbox)
        self._take(outbox)
        return self.sent

    def tick(self) -> list[NewRecord]:
        outbox = ListOutbox()
        self.handler.tick(self.now_ms, outbox)
        self._take(outbox)
        return self.sent

    # --- what is there --------------------------------------------------------------------------------------------

    def run(self, run_id: str = "run") -> RunState:
        found = runs_of(self.handler).get(run_id)
        assert found is not None
        return found.state

    def events(self, sent: list[NewRecord] | None = None) -> list[Event]:
        """The events of the history records among what was sent."""
        values = self.values(NAMES.history, HistoryRecord, sent)
        return [event for value in values for event in value.events]

    def kinds(self, sent: list[NewRecord] | None = None) -> list[str]:
        return [type(event.attributes).__name__ for event in self.events(sent)]

    def history(self, run_id: str = "run") -> list[Event]:
        """All numbered events of a run, from the log."""
        found = []
        for record in self.log:
            if record.value is not None and not keys.is_mark(record.key):
                value = codec.decode_as(record.value, HistoryRecord)
                if value.run_id == run_id:
                    found += [event for event in value.events if event.event_id]
        return found

    def values(self, topic: str, kind: type[R], sent: list[NewRecord] | None = None) -> list[R]:
        records = self.sent if sent is None else sent
        return [codec.decode_as(r.value, kind) for r in records if r.topic == topic and r.value is not None]

    def replies(self) -> list[Reply]:
        return self.values(NAMES.replies, Reply)

    def tasks(self, kind: str = "") -> list[TaskRecord]:
        return [task for task in self.values(NAMES.tasks, TaskRecord) if not kind or task.kind == kind]

    def timers(self) -> list[TimerRecord]:
        return self.values(NAMES.timers, TimerRecord)

    def tombstones(self, topic: str) -> list[str]:
        """The ids of the tombstones that were sent to a topic."""
        return [keys.parse_fenced_key(r.key or b"").id for r in self.sent if r.topic == topic and r.value is None]

    def outstanding(self, topic: str) -> dict[str, bytes]:
        """What is left of a compacted topic, by id, after everything that was sent."""
        left: dict[str, bytes] = {}
        for record in self.all_sent:
            if record.topic == topic:
                record_id = keys.parse_fenced_key(record.key or b"").id
                if record.value is None:
                    left.pop(record_id, None)
                else:
                    left[record_id] = record.value
        return left

    # --- a worker ---------------------------------------------------------------------------------------------------

    def complete_task(self, *commands: Any, run_id: str = "run", **fields: Any) -> list[NewRecord]:
        """Answer the outstanding workflow task, having seen everything."""
        run = self.run(run_id)
        task = run.workflow_task
        assert task is not None
        body = WorkflowTaskCompleted(
            **{
                "scheduled_event_id": task.scheduled_event_id,
                "attempt": task.attempt,
                "last_event_id": run.last_event_id,
                "started_time_ms": self.now_ms,
                "commands": list(commands),
                **fields,
            }
        )
        return self.send(body, run_id=run_id, workflow_id=run.workflow_id)

    def schedule(self, *activities: ActivityOptions) -> list[int]:
        """Start the workflow and schedule activities; returns their event ids."""
        self.send(start())
        self.complete_task(*(ScheduleActivityTask(options=each) for each in activities))
        return list(self.run().activities)

    def complete_activity(self, scheduled_event_id: int, *, attempt: int = 1, run_id: str = "run") -> list[NewRecord]:
        body = ActivityTaskCompleted(
            scheduled_event_id=scheduled_event_id,
            attempt=attempt,
            started_time_ms=self.now_ms,
            result=[payload("out")],
        )
        return self.send(body, run_id=run_id)

    def run_to_end(self, run_id: str = "run") -> None:
        """A whole one-activity workflow."""
        self.send(start(run_id), workflow_id=f"wf-{run_id}")
        fields = {"workflow_id": f"wf-{run_id}", "run_id": run_id}
        self.complete_task(ScheduleActivityTask(options=options()), run_id=run_id)
        (scheduled,) = self.run(run_id).activities
        done = ActivityTaskCompleted(scheduled_event_id=scheduled, attempt=1, started_time_ms=1, result=[payload("x")])
        self.send(done, **fields)
        self.complete_task(CompleteWorkflowExecution(result=[payload("x")]), run_id=run_id)


def runs_of(handler: HistoryPartition) -> Runs:
    return handler._runs


def state_of(handler: HistoryPartition, run_id: str) -> RunState | None:
    run = runs_of(handler).get(run_id)
    return None if run is None else run.state


def body_of(task: TaskRecord) -> WorkflowTask | ActivityTask:
    value = codec.decode(task.body)
    assert isinstance(value, WorkflowTask | ActivityTask)
    return value
