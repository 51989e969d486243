"""The dispatch thread: reads the worker's inbox, runs workflow code, starts activities, and says that the worker lives.

Invariants: it is the only thread that touches the inbox reader and workflow code; it sleeps in the reader's poll only;
the worker is registered after its inbox is read, so that no dispatch is missed. Heartbeats come from the timer thread,
so that long workflow code does not make the worker look lost. Made by :class:`perdure.worker.Worker`.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from perdure._connection import Connection
from perdure._runtime.runner import WorkflowRunner
from perdure.worker._activities import Activities
from perdure.worker._code_tasks import CodeTasks
from perdure.worker._histories import CodeTask
from perdure.worker._inbox import Inbox
from perdure.worker._local_activities import LocalEvent
from perdure.worker._options import WorkerOptions
from perdure.worker._outbox import Outbox, Outgoing
from perdure.worker._timers import TimerThread
from perdure_runtime.log import Log, LogError, LogRecord, NewRecord, Producer, Reader, TopicPartition
from perdure_schemas import codec
from perdure_schemas.keys import is_activity_task, partition_of
from perdure_schemas.records import (
    ActivityTask,
    CancelActivity,
    Dispatch,
    QueryTask,
    RunTask,
    WorkerHeartbeat,
    WorkerStopped,
    WorkflowTask,
)
from perdure_schemas.topics import WORK

_logger = logging.getLogger("perdure.worker")

HEARTBEAT_INTERVAL_S = 1.0
_POLL_S = 5.0
_RECORDS_PER_POLL_MAX = 500
#: Answers of workflow tasks go out together, but none waits for more than this many others.
_ANSWERS_PER_APPEND_MAX = 8
_REOPEN_DELAY_S = 1.0
_TOPIC_TIMEOUT_S = 10.0
_TOPIC_RETRY_S = 0.1


class Registration:
    """Tells matching that the worker lives, and what it holds.

    Args:
        worker_id: The worker.
        options: Its options.
        connection: Knows the topics.
        producer: Takes the heartbeats.
        inbox: Knows the tasks held.
    """

    def __init__(
        self, worker_id: str, options: WorkerOptions, connection: Connection, producer: Producer, inbox: Inbox
    ) -> None:
        self._worker_id = worker_id
        self._options = options
        self._version = options.routed_version
        self._producer = producer
        self._inbox = inbox
        self._now_ms = connection.now_ms
        names = connection.names
        self.inbox_partition = TopicPartition(names.work(options.task_queue), partition_of(worker_id, names.partitions))
        self._target = TopicPartition(names.workers, partition_of(options.task_queue, names.partitions))
        self.draining = False
        #: As they were said last: of workflow tasks, and of activities.
        self._slots_said = (0, 0)

    def slots(self) -> dict[str, tuple[int, int]]:
        """By kind, for metrics: how many slots there are, and how many are used. May be called from any thread."""
        held = self._inbox.held()
        activities = sum(1 for one in held if is_activity_task(one.task_id))
        workflow_slots, activity_slots = self._slots_said
        return {
            "WorkflowWorker": (workflow_slots, len(held) - activities),
            "ActivityWorker": (activity_slots, activities),
        }

    def heartbeat(self, *, probed: bool = False) -> None:
        """Say that the worker lives. A log that is away makes no error here: the next heartbeat follows.

        Args:
            probed: It is the answer to a new matching owner, which must also know what was finished just now.
        """
        # Read before what is held: a task that comes in between must not look as if it was here and done.
        epoch, number = self._inbox.last_dispatch
        held = self._inbox.held()
        activities_held = sum(1 for one in held if is_activity_task(one.task_id))
        tuner, options = self._options.tuner, self._options
        self._slots_said = (
            tuner.workflow.slots(len(held) - activities_held) if options.workflows else 0,
            tuner.activity.slots(activities_held) if options.has_activities else 0,
        )
        self._append(
            WorkerHeartbeat(
                worker_id=self._worker_id,
                task_queue=self._options.task_queue,
                identity=self._options.identity,
                inbox_partition=self.inbox_partition.partition,
                workflow_slots=self._slots_said[0],
                activity_slots=self._slots_said[1],
                held=held,
                last_dispatch_epoch=epoch,
                last_dispatch_number=number,
                finished=self._inbox.finished() if probed else [],
                time_ms=self._now_ms(),
                draining=self.draining,
                queue_activities_per_second=self._options.queue_activities_per_second,
                activities_per_second=self._options.activities_per_second,
                deployment_name=self._version[0],
                build_id=self._version[1],
            )
        )

    def stopped(self) -> None:
        """Say that the worker is gone."""
        epoch, number = self._inbox.last_dispatch
        self._append(
            WorkerStopped(
                worker_id=self._worker_id,
                task_queue=self._options.task_queue,
                time_ms=self._now_ms(),
                last_dispatch_epoch=epoch,
                last_dispatch_number=number,
                deployment_name=self._version[0],
                build_id=self._version[1],
            )
        )

    def _append(self, message: WorkerHeartbeat | WorkerStopped) -> None:
        record = NewRecord(self._target.topic, self._target.partition, self._worker_id.encode(), codec.encode(message))
        try:
            self._producer.append([record])
        except LogError as error:
            _logger.warning("event=heartbeat_unsent worker=%s reason=%r", self._worker_id, str(error))


class DispatchThread:
    """See the module.

    Args:
        worker_id: The worker.
        connection: The client's connection.
        registration: Sends heartbeats.
        inbox: Keeps the tasks.
        outbox: Takes completions.
        timers: Sends heartbeats in time.
        runner: Runs workflow code.
        activities: Runs activities.
        code_tasks: Makes the runner of workflow tasks, given where fetched ones go.
        on_fatal: Takes an error after which the thread is over.
    """

    def __init__(
        self,
        worker_id: str,
        connection: Connection,
        registration: Registration,
        inbox: Inbox,
        outbox: Outbox,
        timers: TimerThread,
        runner: WorkflowRunner,
        activities: Activities,
        code_tasks: Callable[[Callable[[CodeTask | LocalEvent], None]], CodeTasks],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._key = worker_id.encode()
        self._log: Log = connection.log
        self._names = connection.names
        self._now_ms = connection.now_ms
        self._registration = registration
        self._inbox = inbox
        self._outbox = outbox
        self._timers = timers
        self._runner = runner
        self._activities = activities
        self._fetched: queue.SimpleQueue[CodeTask | LocalEvent] = queue.SimpleQueue()
        self._code_tasks = code_tasks(self._take_fetched)
        self._on_fatal = on_fatal
        self._stopped = threading.Event()
        self._reader: Reader | None = None
        #: The offset behind the last dispatch that was taken; ``None`` before the inbox was read for the first time.
        self._next_offset: int | None = None
        self._thread = threading.Thread(target=self._run, name=f"perdure-worker-{worker_id[-8:]}", daemon=True)

    def start(self) -> None:
        """Open the inbox, register, and begin. Blocks for a few round trips.

        Raises:
            LogError: the inbox cannot be made or read.
        """
        self.open()
        self._thread.start()
        self.register()

    def open(self) -> Reader:
        """Make the inbox if there is none, and open it. Called by :meth:`start`, or by whoever has no use for a thread
        and calls :meth:`register` and :meth:`serve` himself.

        Raises:
            LogError: the inbox cannot be made or read.
        """
        partition = self._registration.inbox_partition
        self._log.create_topics({partition.topic: WORK}, self._names.partitions)
        self._reader = self._open_reader(_TOPIC_TIMEOUT_S)
        return self._reader

    def stop(self) -> None:
        """Take nothing more, finish the task that runs, and end. Blocks."""
        self._stopped.set()
        if self._reader is not None:
            self._reader.wake()
        if self._thread.is_alive():
            self._thread.join()

    def register(self) -> None:
        """Say that the worker lives, now and in every interval until it is stopped."""
        if not self._stopped.is_set():
            self._registration.heartbeat()
            self._timers.call_later(HEARTBEAT_INTERVAL_S, self.register)

    def serve(self, timeout_s: float) -> None:
        """Do what there is to do, waiting up to ``timeout_s`` for it.

        Raises:
            LogError: the inbox cannot be read.
        """
        reader = self._reader
        assert reader is not None
        records = reader.poll(_RECORDS_PER_POLL_MAX, timeout_s)
        code_tasks: list[CodeTask | LocalEvent] = [*self._take(records)] if records else []
        if records:
            self._next_offset = records[-1].offset + 1
        while not self._fetched.empty():
            code_tasks.append(self._fetched.get())
        if code_tasks:
            self._run_code(code_tasks)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _take_fetched(self, code_task: CodeTask | LocalEvent) -> None:
        self._fetched.put(code_task)
        if self._reader is not None:
            self._reader.wake()

    def _open_reader(self, timeout_s: float) -> Reader:
        partition = self._registration.inbox_partition
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                low, end = self._log.watermarks(partition)
                break
            except LogError:
                # A topic that was just made may be unknown to some brokers for a moment.
                if time.monotonic() > deadline_s:
                    raise
                self._stopped.wait(_TOPIC_RETRY_S)
        if self._next_offset is None:
            self._next_offset = end
        elif not low <= self._next_offset <= end:
            # Retention was faster than we, or the topic was made anew: what is kept was sent after what we have read.
            _logger.warning("event=inbox_moved from=%d to=%d", self._next_offset, low)
            self._next_offset = low
        reader = self._log.reader("worker-inbox")
        reader.assign({partition: self._next_offset})
        return reader

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    self.serve(_POLL_S)
                except LogError as error:
                    _logger.warning("event=inbox_interrupted reason=%r", str(error))
                    self._reopen()
        except BaseException as error:
            _logger.exception("event=dispatch_thread_failed")
            self._on_fatal(error)
        finally:
            self._runner.evict_all()
            if self._reader is not None:
                self._reader.close()

    def _reopen(self) -> None:
        """A new reader after an error. It goes on where the last one was: what was dispatched meanwhile is taken."""
        while not self._stopped.wait(_REOPEN_DELAY_S):
            try:
                if self._reader is not None:
                    self._reader.close()
                    self._reader = None
                self._reader = self._open_reader(0.0)
                return
            except LogError as error:
                _logger.warning("event=inbox_unreachable reason=%r", str(error))

    def _take(self, records: Sequence[LogRecord]) -> list[CodeTask]:
        """Sort dispatches: activities are started at once, so that they run beside the workflow code that follows."""
        code_tasks: list[CodeTask] = []
        activities: list[tuple[RunTask, ActivityTask]] = []
        for record in records:
            if record.key != self._key:
                continue
            try:
                self._take_one(record, code_tasks, activities)
            except codec.DecodeError as error:
                _logger.error("event=dispatch_unreadable offset=%d reason=%r", record.offset, str(error))
        if activities:
            self._activities.start(activities)
        return code_tasks

    def _take_one(
        self, record: LogRecord, code_tasks: list[CodeTask], activities: list[tuple[RunTask, ActivityTask]]
    ) -> None:
        dispatch = codec.decode_as(record.value, Dispatch)
        body = dispatch.body
        admitted = self._inbox.admit(dispatch)
        if admitted and isinstance(body, RunTask):
            try:
                self._take_task(body, code_tasks, activities)
            finally:
                self._inbox.note(dispatch)
            return
        self._inbox.note(dispatch)
        if admitted and isinstance(body, CancelActivity):
            if activities:  # it may be about one of these, which come in the same batch
                self._activities.start(activities)
                activities.clear()
            self._activities.cancel(body.task_id, gone=body.gone, paused=body.paused, reset=body.reset)
        elif admitted:  # ProbeWorker
            self._registration.heartbeat(probed=True)

    def _take_task(
        self, run: RunTask, code_tasks: list[CodeTask], activities: list[tuple[RunTask, ActivityTask]]
    ) -> None:
        task = codec.decode(run.task)
        if not isinstance(task, (ActivityTask, WorkflowTask, QueryTask)):
            raise codec.DecodeError(f"a {type(task).__name__} was dispatched as a task")
        if not self._inbox.hold(run.task_id, self._now_ms()):
            return  # an activity that was begun by the worker itself, just now
        if isinstance(task, ActivityTask):
            activities.append((run, task))
        else:
            code_tasks.append(CodeTask(run, task))

    def _run_code(self, code_tasks: Sequence[CodeTask | LocalEvent]) -> None:
        answers: list[Outgoing] = []
        for code_task in code_tasks:
            answer = self._code_tasks.run(code_task)
            if answer is not None:
                answers.append(answer)
            if len(answers) >= _ANSWERS_PER_APPEND_MAX:
                self._outbox.send(answers)
                answers = []
        self._outbox.send(answers)
