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
from perdure.worker._outbox import Outbox, Outgoing
from perdure.worker._registration import Registration
from perdure.worker._timers import TimerThread
from perdure_runtime.log import Log, LogError, LogRecord, Reader
from perdure_schemas import codec
from perdure_schemas.records import (
    ActivityTask,
    CancelActivity,
    Dispatch,
    QueryTask,
    RunTask,
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
                self._take_task(body, dispatch.source_partition, code_tasks, activities)
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
        self,
        run: RunTask,
        partition: int,
        code_tasks: list[CodeTask],
        activities: list[tuple[RunTask, ActivityTask]],
    ) -> None:
        task = codec.decode(run.task)
        if not isinstance(task, (ActivityTask, WorkflowTask, QueryTask)):
            raise codec.DecodeError(f"a {type(task).__name__} was dispatched as a task")
        if not self._inbox.hold(run.task_id, partition, self._now_ms()):
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
