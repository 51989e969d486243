"""Writes a log by hand, right or wrong, for the audit to look at."""

from __future__ import annotations

from typing import Any

from perdure_ops.audit import AUDITED, Breach, audit
from perdure_runtime.log import LogRecord
from perdure_schemas import codec, keys, records
from perdure_schemas.records import Event, HistoryRecord, OwnerMark, TaskRecord, TimerRecord, WorkflowStatus
from perdure_schemas.topics import TopicNames, TopicSpec

NAMES = TopicNames(namespace="audit", partitions=1)
START_MS = 1_700_000_000_000


def options(activity_id: str = "a") -> records.ActivityOptions:
    return records.ActivityOptions(
        activity_id=activity_id, activity_type="charge", task_queue="q", start_to_close_timeout_ms=1_000
    )


class LogBuilder:
    """Topics of one partition each. Offsets count from 0; the first owner's epoch is 0."""

    def __init__(self, names: TopicNames = NAMES) -> None:
        self.names = names
        self.records: list[LogRecord] = []
        self.epoch = 0
        self.command_offset = -1
        self._last_ids: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self.take_over()

    def append(
        self, topic: str, key: bytes | None, value: bytes | None, *, time_ms: int = START_MS, partition: int = 0
    ) -> LogRecord:
        offset = self._ends.get(topic, 0)
        self._ends[topic] = offset + 1
        record = LogRecord(topic, partition, offset, key, value, time_ms)
        self.records.append(record)
        return record

    def take_over(self) -> int:
        """A new owner: its marks, everywhere. Returns its epoch."""
        self.epoch = self.mark(self.names.history, -1)
        for topic in (self.names.tasks, self.names.timers, self.names.executions):
            self.mark(topic, self.epoch)
        return self.epoch

    def mark(self, topic: str, epoch: int) -> int:
        value = codec.encode(OwnerMark(source="history/0", epoch=epoch, owner="test", time_ms=START_MS))
        return self.append(topic, keys.mark_key("history/0", str(len(self.records))), value).offset

    # --- history --------------------------------------------------------------------------------------------------

    def decide(
        self,
        *happenings: Any,
        run_id: str = "run",
        workflow_id: str = "wf",
        time_ms: int = START_MS,
        first_id: int | None = None,
        epoch: int | None = None,
        command_offset: int | None = None,
        key: bytes | None = None,
        **fields: Any,
    ) -> LogRecord:
        """One history record; events get the next ids of their run unless ``first_id`` says otherwise."""
        if fields.get("part", 1) == 1:
            self.command_offset = self.command_offset + 1 if command_offset is None else command_offset
        last = self._last_ids.get(run_id, 0) if first_id is None else first_id - 1
        events = []
        for attributes in happenings:
            unnumbered = isinstance(
                attributes,
                records.ActivityAttemptRecorded | records.WorkflowTaskAttemptRecorded | records.WorkflowQuarantined,
            )
            last += not unnumbered
            events.append(Event(event_id=0 if unnumbered else last, event_time_ms=time_ms, attributes=attributes))
        self._last_ids[run_id] = last
        written = self.epoch if epoch is None else epoch
        record = HistoryRecord(
            workflow_id=workflow_id,
            run_id=run_id,
            command_offset=self.command_offset,
            epoch=written,
            events=events,
            **fields,
        )
        numbered = [event.event_id for event in events if event.event_id]
        record_id = keys.history_id(run_id, numbered[0]) if numbered else _unnumbered_id(record)
        return self.append(self.names.history, key or keys.fenced_key(record_id, 0, written), codec.encode(record))

    def start(self, run_id: str = "run", workflow_id: str = "wf", **fields: Any) -> LogRecord:
        """The run's first record, with its first workflow task, and what follows from it."""
        started = records.WorkflowExecutionStarted(
            workflow_type="Order", task_queue="q", first_execution_run_id=run_id, start_command_id=f"start-{run_id}"
        )
        scheduled = records.WorkflowTaskScheduled(task_queue="q", start_to_close_timeout_ms=10_000)
        record = self.decide(started, scheduled, run_id=run_id, workflow_id=workflow_id, **fields)
        self.task(keys.workflow_task_id(run_id, 2, 1), run_id=run_id, workflow_id=workflow_id, kind="workflow")
        self.summary(run_id, workflow_id)
        return record

    def complete_task(
        self, *happenings: Any, run_id: str = "run", scheduled_event_id: int = 2, attempt: int = 1, **fields: Any
    ) -> LogRecord:
        """The workflow task is answered with these events; its task is done."""
        completed = records.WorkflowTaskCompletedEvent(
            scheduled_event_id=scheduled_event_id,
            started_time_ms=START_MS,
            last_event_id=scheduled_event_id,
            sticky_worker_id="",
        )
        record = self.decide(completed, *happenings, run_id=run_id, **fields)
        self.done(keys.workflow_task_id(run_id, scheduled_event_id, attempt))
        return record

    def close(self, run_id: str = "run", workflow_id: str = "wf") -> LogRecord:
        """The workflow task is answered with the end of the run, which waits for nothing else."""
        completed = records.WorkflowExecutionCompleted(workflow_task_completed_event_id=3)
        record = self.complete_task(completed, run_id=run_id, workflow_id=workflow_id)
        self.summary(run_id, workflow_id, WorkflowStatus.COMPLETED)
        return record

    def with_activity(self) -> None:
        """A run with one activity, event 4."""
        self.start()
        self.complete_task(records.ActivityTaskScheduled(options=options(), workflow_task_completed_event_id=3))
        self.task("run/a4.1")

    # --- the other topics -----------------------------------------------------------------------------------------

    def task(
        self, task_id: str, run_id: str = "run", workflow_id: str = "wf", kind: str = "activity", **fields: Any
    ) -> LogRecord:
        epoch = fields.pop("epoch", self.epoch)
        key = fields.pop("key", None) or keys.fenced_key(task_id, 0, epoch)
        record = TaskRecord(
            task_id=task_id, task_queue="q", kind=kind, workflow_id=workflow_id, run_id=run_id,
            created_time_ms=START_MS, body=b"",
        )  # fmt: skip
        return self.append(self.names.tasks, key, codec.encode(record), **fields)

    def done(self, task_id: str, epoch: int | None = None) -> LogRecord:
        key = keys.fenced_key(task_id, 0, self.epoch if epoch is None else epoch)
        return self.append(self.names.tasks, key, None)

    def timer(self, number: int, due_ms: int, run_id: str = "run") -> LogRecord:
        timer_id = keys.timer_id(run_id, number)
        value = TimerRecord(timer_id=timer_id, workflow_id="wf", run_id=run_id, arm_number=number, due_time_ms=due_ms)
        return self.append(self.names.timers, keys.fenced_key(timer_id, 0, self.epoch), codec.encode(value))

    def timer_done(self, number: int, run_id: str = "run") -> LogRecord:
        return self.append(self.names.timers, keys.fenced_key(keys.timer_id(run_id, number), 0, self.epoch), None)

    def summary(
        self, run_id: str = "run", workflow_id: str = "wf", status: WorkflowStatus = WorkflowStatus.RUNNING
    ) -> LogRecord:
        value = records.ExecutionSummary(
            workflow_id=workflow_id, run_id=run_id, first_execution_run_id=run_id, workflow_type="Order",
            task_queue="q", status=status, start_time_ms=START_MS, execution_time_ms=START_MS, history_length=1,
            version=self.command_offset,
        )  # fmt: skip
        return self.append(self.names.executions, keys.fenced_key(run_id, 0, self.epoch), codec.encode(value))

    def dead_letter(self, record: LogRecord) -> LogRecord:
        letter = records.DeadLetter(
            topic=record.topic, partition=record.partition, offset=record.offset, key=record.key, value=record.value,
            reason="broken", time_ms=START_MS,
        )  # fmt: skip
        return self.append(self.names.dead_letters, b"letter", codec.encode(letter))

    # --- the verdict ----------------------------------------------------------------------------------------------

    def audit(self, topics: tuple[TopicSpec, ...] = AUDITED) -> list[Breach]:
        return audit(self.records, self.names, topics)

    def only(self, check: str) -> Breach:
        """The one breach there has to be."""
        found = self.audit()
        assert [breach.check for breach in found] == [check], found
        return found[0]


def _unnumbered_id(record: HistoryRecord) -> str:
    if not record.events:
        return keys.wake_up_id(record.run_id)
    attributes = record.events[0].attributes
    if isinstance(attributes, records.ActivityAttemptRecorded):
        return keys.activity_attempt_id(record.run_id, attributes.scheduled_event_id)
    if isinstance(attributes, records.WorkflowTaskAttemptRecorded):
        return keys.workflow_task_attempt_id(record.run_id)
    return keys.quarantine_id(record.run_id)


def place_of(record: LogRecord) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def where(breach: Breach) -> tuple[str, int, int]:
    return breach.topic, breach.partition, breach.offset
