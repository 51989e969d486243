"""The audit: what must hold of everything in the log, checked record by record, with no I/O.

Invariants: records of one partition are taken in the order of their offsets, partitions in any order; what concerns one
partition is told at once (:attr:`Audit.breaches`), what concerns several, or may be on its way while a cluster works,
is asked for at the end (:meth:`Audit.open_questions`). It shares no code with what decides, except names of records and
keys. Memory: what is open, and a few words for each closed run whose history is kept. Called by the command, the
simulator and the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from perdure_ops.audit.breach import Breach, Place
from perdure_ops.audit.histories import ClosedRun, HistoryCheck
from perdure_ops.audit.outstanding import FencedCheck, OutstandingCheck, SummaryCheck, Thing
from perdure_ops.audit.run_view import RunView
from perdure_runtime.log import LogRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import Command, DeadLetter, DeadlineReached, TaskRecord, TimerRecord, WorkflowStatus
from perdure_schemas.topics import COMMANDS, DEAD_LETTERS, EXECUTIONS, HISTORY, TASKS, TIMERS, TopicNames, TopicSpec

__all__ = ["AUDITED", "Audit", "Counts", "audit"]

#: The topics an audit looks at, in the order in which it is best read while a cluster works: a task or timer that is
#: read after its run's history is never one that the history did not know yet.
AUDITED: tuple[TopicSpec, ...] = (TASKS, TIMERS, EXECUTIONS, HISTORY, DEAD_LETTERS, COMMANDS)
#: Told once for each: more of the same helps nobody, and memory is bounded.
_BREACHES_MAX = 10_000


@dataclass(slots=True)
class Counts:
    """What an audit has seen. ``tasks_scheduled`` = ``tasks_done`` + ``tasks_outstanding`` (+ ``tasks_dead``)."""

    records: int = 0
    events: int = 0
    void_records: int = 0
    runs_open: int = 0
    runs_closed: int = 0
    tasks_scheduled: int = 0
    tasks_done: int = 0
    tasks_outstanding: int = 0
    tasks_dead: int = 0
    timers_outstanding: int = 0
    dead_letters: int = 0
    breaches: int = 0


def audit(records: Iterable[LogRecord], names: TopicNames, topics: Iterable[TopicSpec] = AUDITED) -> list[Breach]:
    """All breaches in these records.

    Parameters:
        records: of any topics; those of one partition in the order of their offsets.
        names: the namespace, with its number of partitions.
        topics: the topics that are there in full; a check that needs another one is left out.
    """
    check = Audit(names, topics)
    for record in records:
        check.take(record)
    return check.finish()


class Audit:
    """Takes records one by one. See :func:`audit` for the parameters."""

    def __init__(self, names: TopicNames, topics: Iterable[TopicSpec] = AUDITED) -> None:
        self._names = names
        self._topics = frozenset(spec.name for spec in topics)
        self.breaches: list[Breach] = []
        self._counts = Counts()
        self._histories: dict[int, HistoryCheck] = {}
        self._tasks: dict[int, OutstandingCheck] = {}
        self._timers: dict[int, OutstandingCheck] = {}
        self._summaries_of: dict[int, SummaryCheck] = {}
        #: Closed runs without a summary that says so, and summaries that have no such run yet.
        self._unsummarized: dict[str, ClosedRun] = {}
        self._summaries: dict[str, tuple[WorkflowStatus, str, Place]] = {}
        #: Records that a role has given up, by where they stand.
        self._dead: set[Place] = set()
        self._takers: dict[str, Callable[[LogRecord], None]] = {
            names.history: lambda record: self._history(record.partition).take(record),
            names.tasks: lambda record: self._outstanding(self._tasks, record.partition).take(record),
            names.timers: lambda record: self._outstanding(self._timers, record.partition).take(record),
            names.executions: lambda record: self._summary(record.partition).take(record),
            names.dead_letters: self._take_dead_letter,
            names.commands: self._take_command,
        }

    def take(self, record: LogRecord) -> None:
        """Take in a record; one of a topic that is not audited changes nothing."""
        taker = self._takers.get(record.topic)
        if taker is not None:
            self._counts.records += 1
            taker(record)

    def finish(self) -> list[Breach]:
        """All breaches, of a log that was taken in to its end while nothing was on its way."""
        return [*self.told(), *self.open_questions()]

    def counts(self) -> Counts:
        """What has been seen so far."""
        counts = self._counts
        histories, tasks = self._histories.values(), self._tasks.values()
        counts.events = sum(check.events for check in histories)
        fenced: list[FencedCheck] = [*tasks, *self._timers.values(), *self._summaries_of.values()]
        counts.void_records = sum(check.void_records for check in histories)
        counts.void_records += sum(check.void_records for check in fenced)
        counts.runs_open = sum(len(check.runs) for check in histories)
        counts.runs_closed = sum(len(check.closed) for check in histories)
        counts.tasks_scheduled = sum(check.scheduled for check in tasks)
        counts.tasks_done = sum(check.done for check in tasks)
        live = [thing for check in tasks for thing in check.things.values() if thing.live]
        counts.tasks_dead = sum(thing.newest.place in self._dead for thing in live)
        counts.tasks_outstanding = len(live) - counts.tasks_dead
        counts.timers_outstanding = sum(
            thing.live for check in self._timers.values() for thing in check.things.values()
        )
        return counts

    # --- records --------------------------------------------------------------------------------------------------

    def _found(self, breach: Breach) -> None:
        self._counts.breaches += 1
        if len(self.breaches) < _BREACHES_MAX:
            self.breaches.append(breach)

    def _history(self, partition: int) -> HistoryCheck:
        check = self._histories.get(partition)
        if check is None:
            check = self._histories[partition] = HistoryCheck(
                partition, self._names.partitions, self._found, self._run_closed, self._run_removed
            )
        return check

    def _outstanding(self, checks: dict[int, OutstandingCheck], partition: int) -> OutstandingCheck:
        check = checks.get(partition)
        if check is None:
            check = checks[partition] = OutstandingCheck(
                self._found, partial(_right_partition, partitions=self._names.partitions)
            )
        return check

    def _summary(self, partition: int) -> SummaryCheck:
        check = self._summaries_of.get(partition)
        if check is None:
            check = self._summaries_of[partition] = SummaryCheck(self._found, self._summary_seen, self._summary_gone)
        return check

    def _take_dead_letter(self, record: LogRecord) -> None:
        try:
            letter = codec.decode_as(record.value, DeadLetter)
        except codec.DecodeError as error:
            self._found(Breach("unreadable", str(error), record.topic, record.partition, record.offset))
            return
        self._counts.dead_letters += 1
        self._dead.add(Place(letter.topic, letter.partition, letter.offset))

    def _take_command(self, record: LogRecord) -> None:
        try:
            command = codec.decode_as(record.value, Command)
        except codec.DecodeError:
            return  # the engine writes a dead letter for it; anybody may write to this topic
        body = command.body
        if isinstance(body, DeadlineReached) and record.timestamp_ms < body.due_time_ms:
            early_ms = body.due_time_ms - record.timestamp_ms
            message = f"wake-up {body.arm_number} comes {early_ms} ms before it is due"
            self._found(
                Breach(
                    "timer-early", message, record.topic, record.partition, record.offset,
                    command.workflow_id, command.run_id,
                )
            )  # fmt: skip

    # --- summaries ------------------------------------------------------------------------------------------------

    def _run_closed(self, run_id: str, run: ClosedRun) -> None:
        if EXECUTIONS.name not in self._topics:
            return
        summary = self._summaries.get(run_id)
        if summary is not None and summary[0] is run.status:
            del self._summaries[run_id]
        else:
            self._unsummarized[run_id] = run

    def _run_removed(self, run_id: str) -> None:
        self._unsummarized.pop(run_id, None)

    def _summary_gone(self, run_id: str) -> None:
        self._summaries.pop(run_id, None)

    def _summary_seen(self, run_id: str, status: WorkflowStatus, workflow_id: str, place: Place) -> None:
        run = self._history(place.partition).closed.get(run_id)
        if run is not None and run.status is status:
            self._unsummarized.pop(run_id, None)
            self._summaries.pop(run_id, None)
        else:
            self._summaries[run_id] = (status, workflow_id, place)

    # --- what concerns several topics -------------------------------------------------------------------------------

    def told(self) -> list[Breach]:
        """The breaches told so far, without records that the engine has given up, which have a dead letter."""
        return [
            breach
            for breach in self.breaches
            if breach.check != "unreadable" or Place(breach.topic, breach.partition, breach.offset) not in self._dead
        ]

    def open_questions(self) -> Iterator[Breach]:
        """What is a breach unless it is on its way: ask again a while later in a cluster that works."""
        for check in self._histories.values():
            yield from check.open_questions()
        if TASKS.name in self._topics and HISTORY.name in self._topics:
            yield from self._compare_tasks()
        if TIMERS.name in self._topics and HISTORY.name in self._topics:
            yield from self._compare_timers()
        if EXECUTIONS.name in self._topics and HISTORY.name in self._topics:
            yield from self._compare_summaries()
        if HISTORY.name in self._topics:
            yield from self._compare_epochs()

    def _open_runs(self) -> Iterator[RunView]:
        for check in self._histories.values():
            yield from check.runs.values()

    def _damaged(self, run_id: str) -> bool:
        return any(run_id in check.damaged for check in self._histories.values())

    def _compare_tasks(self) -> Iterator[Breach]:
        things = {key: thing for check in self._tasks.values() for key, thing in check.things.items()}
        waited_for = set()
        open_ids = set()
        for run in self._open_runs():
            open_ids.add(run.run_id)
            for task_id, task_queue in run.tasks().items():
                waited_for.add(task_id)
                if task_id not in things or not things[task_id].live:
                    partition = keys.queue_partition(task_queue, run.workflow_id, self._names.partitions)
                    message = f"the run waits for task {task_id!r}, which is not in partition {partition} of `tasks`"
                    yield Breach("task-lost", message, *run.place, run.workflow_id, run.run_id)
        for task_id, thing in things.items():
            if not thing.live:
                yield from _left_keys(task_id, thing)
            # Queries, and tasks for updates only, are no part of the history.
            elif task_id not in waited_for and thing.newest.kind != "query":
                what = "that its run does not wait for" if thing.newest.run_id in open_ids else "of no open run"
                yield from self._left("task-left", task_id, thing, what)

    def _compare_timers(self) -> Iterator[Breach]:
        things = {key: thing for check in self._timers.values() for key, thing in check.things.items()}
        armed = {}
        for run in self._open_runs():
            if run.wake_up_due_ms:
                armed[keys.timer_id(run.run_id, run.wake_up_number)] = run
        for timer_id, run in armed.items():
            thing = things.get(timer_id)
            if thing is None or not thing.live:
                message = f"the run's wake-up {timer_id!r} is not in `timers`"
                yield Breach("timer-lost", message, *run.place, run.workflow_id, run.run_id)
            elif thing.newest.readable and thing.newest.due_time_ms != run.wake_up_due_ms:
                found_ms, right_ms = thing.newest.due_time_ms, run.wake_up_due_ms
                message = f"{timer_id!r} is due at {found_ms} ms, by the history at {right_ms} ms"
                yield Breach("timer-lost", message, *thing.newest.place, run.workflow_id, run.run_id)
        for timer_id, thing in things.items():
            if not thing.live:
                yield from _left_keys(timer_id, thing)
            elif timer_id not in armed:
                yield from self._left("timer-left", timer_id, thing, "that no open run has armed")

    def _left(self, check: str, thing_id: str, thing: Thing, what: str) -> Iterator[Breach]:
        entry = thing.newest
        if entry.place in self._dead or self._damaged(entry.run_id):
            return
        if not entry.readable:
            yield Breach("unreadable", f"the value of {thing_id!r} cannot be read", *entry.place, "", entry.run_id)
            return
        noun = check.partition("-")[0]
        message = f"there is a {noun} {thing_id!r} {what}"
        yield Breach(check, message, *entry.place, entry.workflow_id, entry.run_id)

    def _compare_summaries(self) -> Iterator[Breach]:
        running = {run.run_id: run for run in self._open_runs()}
        for run_id, closed in self._unsummarized.items():
            summary = self._summaries.get(run_id)
            if not self._damaged(run_id):
                found = "there is none" if summary is None else f"it says {summary[0]}"
                place = closed.place if summary is None else summary[2]
                message = f"the run is {closed.status} and its summary should say so; {found}"
                yield Breach("summary", message, *place, closed.workflow_id, run_id)
        for run_id, (status, workflow_id, place) in self._summaries.items():
            run = running.pop(run_id, None)
            if run_id in self._unsummarized or self._damaged(run_id):
                continue
            if run is None:
                over = self._history(place.partition).closed.get(run_id)
                found = "there is no such run" if over is None else f"the run is {over.status}"
                yield Breach("summary", f"it says {status}, but {found}", *place, workflow_id, run_id)
            elif status is not WorkflowStatus.RUNNING:
                yield Breach("summary", f"it says {status}, but the run is open", *place, workflow_id, run_id)
        for run in running.values():
            yield Breach("summary", "the run has no summary", *run.place, run.workflow_id, run.run_id)

    def _compare_epochs(self) -> Iterator[Breach]:
        marks = {partition: set(check.marks) for partition, check in self._histories.items()}
        for check in [*self._tasks.values(), *self._timers.values(), *self._summaries_of.values()]:
            for (source, epoch), place in check.epochs.items():
                if source in marks and epoch not in marks[source]:
                    message = f"epoch {epoch} of history/{source} is not the offset of a mark in `history`"
                    yield Breach("unmarked", message, *place)


def _left_keys(thing_id: str, thing: Thing) -> Iterator[Breach]:
    """Of a thing that is over: what compaction would bring back."""
    entry = thing.newest
    for epoch, place in thing.keys.items():
        message = f"{thing_id!r} is over, but its record of epoch {epoch} has no tombstone: compaction brings it back"
        yield Breach("key-left", message, *place, entry.workflow_id, entry.run_id)


def _right_partition(value: TaskRecord | TimerRecord, partitions: int) -> int:
    if isinstance(value, TaskRecord):
        return keys.queue_partition(value.task_queue, value.workflow_id, partitions)
    return keys.partition_of(value.workflow_id, partitions)
