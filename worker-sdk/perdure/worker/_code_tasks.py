"""Runs workflow and query tasks, one after the other, and makes of each the command that answers it.

Invariants: all workflow code of a worker runs on the dispatch thread, which is the only caller; a task that lacks
history comes back when it was fetched, and with a payload codec when it was decoded, meanwhile others run; every task
ends in a command, or is released so that another worker can have it; what a codec refused to encode is sent by nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any

from perdure._connection import Connection
from perdure._limits import PayloadTooLargeError, check_payloads
from perdure._runtime.errors import HistoryIncompleteError
from perdure._runtime.local_activities import StartLocalActivity
from perdure._runtime.runner import WorkflowRunner
from perdure.converter import DataConverter
from perdure.converter._codec import codec_failure
from perdure.converter._walk import payloads_in
from perdure.service import RPCError
from perdure.worker._activities import Activities
from perdure.worker._codec import Codec
from perdure.worker._eager import Begun, begin_by_itself
from perdure.worker._histories import CodeTask, HistoryFetcher
from perdure.worker._inbox import Inbox
from perdure.worker._local_activities import LocalActivityRunner, LocalEvent
from perdure.worker._metrics import WorkerMetrics
from perdure.worker._outbox import Outgoing
from perdure.worker._timers import Timer, TimerThread
from perdure_schemas.limits import PAYLOAD_BYTES_MAX
from perdure_schemas.records import (
    Command,
    Failure,
    HistoryRecord,
    QueryTask,
    QueryTaskCompleted,
    RunTask,
    WorkflowTask,
    WorkflowTaskCompleted,
    WorkflowTaskFailed,
)

_logger = logging.getLogger("perdure.worker")
#: A workflow task with local activities is answered after this share of its timeout at the latest.
_TASK_SHARE = 0.8
_Answer = WorkflowTaskCompleted | WorkflowTaskFailed | QueryTaskCompleted


class CodeTasks:
    """The workflow and query tasks of one worker.

    Args:
        runner: Runs workflow code.
        connection: Makes records, and fetches history.
        inbox: Holds the tasks.
        converter: For failures made here.
        payload_codec: Applied to what comes and goes.
        on_fetched: Takes a task that waited for its history or its codec, from any thread; it is to be given to
            :meth:`run` again.
        on_released: Called when a task was given up.
        send: Takes answers that went through the codec, from any thread.
        identity: Stands in every answer.
        activities: Begins what the answer of a workflow task may begin at once.
        local_activities: Makes the runner of local activities, given where its news go.
        timers: Calls later.
        metrics: Told of each workflow task.
    """

    def __init__(
        self,
        runner: WorkflowRunner,
        connection: Connection,
        inbox: Inbox,
        converter: DataConverter,
        payload_codec: Codec,
        on_fetched: Callable[[CodeTask | LocalEvent], None],
        on_released: Callable[[], None],
        send: Callable[[Sequence[Outgoing]], None],
        identity: str,
        activities: Activities,
        local_activities: Callable[[Callable[[LocalEvent], None]], LocalActivityRunner],
        timers: TimerThread,
        metrics: WorkerMetrics,
    ) -> None:
        self._metrics = metrics
        self._identity = identity
        self._runner = runner
        self._connection = connection
        self._inbox = inbox
        self._converter = converter
        self._codec = payload_codec
        self._again = on_fetched
        self._send = send
        self._fetcher = HistoryFetcher(connection, on_fetched, self._fail, self._give_up)
        self._on_released = on_released
        self._activities = activities
        self._local = local_activities(on_fetched)
        runner.on_forgotten = self._local.forget
        self._timers = timers
        #: The workflow tasks that wait for local activities, by run.
        self._open: dict[str, CodeTask] = {}
        self._cuts: dict[str, Timer] = {}

    def run(self, code_task: CodeTask | LocalEvent) -> Outgoing | None:
        """Run a task, or go on with one; its answer, or ``None`` if it is answered later or was given up."""
        if isinstance(code_task, LocalEvent):
            return self._take_local(code_task)
        if code_task.codec_error is not None:
            return self._answer_with_codec_error(code_task, code_task.codec_error)
        if self._codec.active and code_task.records is None:
            self._later(code_task, self._decode(code_task))
            return None
        try:
            records = code_task.history()
            body: _Answer | None
            if isinstance(code_task.task, WorkflowTask):
                body = self._run_workflow_task(code_task.run, code_task.task, records)
                self._serve_local_requests(code_task.run, code_task.task.workflow_type)
                self._give_up_open(code_task.run.run_id)
                if body is None:
                    self._leave_open(code_task, code_task.task)
                    return None
            else:
                body = self._answer_query(code_task.run, code_task.task, records)
        except HistoryIncompleteError as error:
            if code_task.fetched_from is not None and code_task.fetched_from <= error.first_event_id:
                self._fail(code_task, f"the fetched history has gaps: {error}")
            else:
                # Again from further back, if the run has left the cache while its pages were on their way.
                self._fetcher.fetch(code_task, error.first_event_id)
            return None
        except Exception as error:
            # Damaged history: what fails here would fail again, so it must be visible.
            _logger.exception("event=task_failed task=%s", code_task.run.task_id)
            body = self._failed(code_task.task, error)
        return self._answer(code_task, body)

    def _answer(self, code_task: CodeTask, body: _Answer) -> Outgoing | None:
        if self._codec.active:
            self._later(code_task, self._encode_and_send(code_task, body))
            return None
        return self._checked(code_task, body)

    # --- local activities -----------------------------------------------------------------------------------------

    def _serve_local_requests(self, run: RunTask, workflow_type: str) -> None:
        for request in self._runner.take_local_requests(run.run_id):
            if isinstance(request, StartLocalActivity):
                self._local.start(run, workflow_type, request)
            else:
                self._local.cancel(run.run_id, request)

    def _leave_open(self, code_task: CodeTask, task: WorkflowTask) -> None:
        """The task waits for local activities, but not so long that another worker would get it."""
        run = code_task.run
        self._open[run.run_id] = code_task
        cut = LocalEvent(run.run_id, task_id=run.task_id)
        wait_s = task.start_to_close_timeout_ms / 1000 * _TASK_SHARE
        self._cuts[run.run_id] = self._timers.call_later(wait_s, lambda: self._again(cut))

    def _take_local(self, event: LocalEvent) -> Outgoing | None:
        code_task = self._open.get(event.run_id)
        body: _Answer | None
        if event.abandoned:
            self._runner.evict(event.run_id)
            if code_task is not None:
                self._close(event.run_id)
                self._give_up(code_task, "the worker stops while it runs a local activity")
            return None
        if event.outcome is None:
            if code_task is None or code_task.run.task_id != event.task_id:
                return None
            body = self._runner.cut_short(event.run_id)
        else:
            body = self._runner.end_local_activity(event.run_id, event.outcome, self._connection.now_ms())
        if code_task is None:
            return None
        assert isinstance(code_task.task, WorkflowTask)
        self._serve_local_requests(code_task.run, code_task.task.workflow_type)
        if body is None:
            return None
        self._close(event.run_id)
        return self._answer(code_task, body)

    def _give_up_open(self, run_id: str) -> None:
        """Another task of the run is here: the one that waits is void."""
        earlier = self._open.get(run_id)
        if earlier is not None:
            self._close(run_id)
            self._give_up(earlier, "another workflow task of the run has come")

    def _close(self, run_id: str) -> None:
        del self._open[run_id]
        self._cuts.pop(run_id).cancel()

    def _run_workflow_task(self, run: RunTask, task: WorkflowTask, records: list[HistoryRecord]) -> _Answer | None:
        newest_ms = _newest_event_time_ms(records)
        now_ms = max(self._connection.now_ms(), newest_ms)
        cached = self._runner.next_event_id(run.run_id) > 1
        started_s = perf_counter()
        answer = self._runner.run_task(run.workflow_id, run.run_id, task, records, now_ms)
        ran_s = perf_counter() - started_s
        self._metrics.workflow_task(task, records, now_ms - newest_ms, ran_s, answer, cached=cached)
        return answer

    def _answer_query(self, run: RunTask, task: QueryTask, records: list[HistoryRecord]) -> QueryTaskCompleted:
        result, failure = self._runner.query(run.workflow_id, run.run_id, task, records)
        return QueryTaskCompleted(query_id=task.query_id, reply=task.reply, result=result, failure=failure)

    # --- answers --------------------------------------------------------------------------------------------------

    def _checked(self, code_task: CodeTask, body: _Answer) -> Outgoing:
        """The answer, or a failure instead of one that is too large. On the dispatch thread."""
        try:
            return self._outgoing(code_task, body)
        except (PayloadTooLargeError, RPCError) as error:
            self._runner.evict(code_task.run.run_id)
            return self._outgoing(code_task, self._failed(code_task.task, error))

    def _outgoing(self, code_task: CodeTask, body: _Answer) -> Outgoing:
        """The record of an answer whose payloads went through the codec.

        Raises:
            PayloadTooLargeError, RPCError: it is too large.
        """
        run = code_task.run
        begun: Begun = ()
        if isinstance(body, WorkflowTaskCompleted) and isinstance(code_task.task, WorkflowTask):
            body, begun = begin_by_itself(
                run,
                code_task.task,
                body,
                room=self._activities.room(),
                serves=self._activities.serves,
                now_ms=self._connection.now_ms(),
            )
        command = Command(
            command_id=run.task_id,
            workflow_id=run.workflow_id,
            run_id=run.run_id,
            identity=self._identity,
            body=body,
        )
        outgoing = Outgoing(self._connection.record_of(command), run.task_id, self._activities.promise(begun))
        if len(outgoing.record.value or b"") > PAYLOAD_BYTES_MAX:
            if isinstance(body, WorkflowTaskCompleted):
                for one in body.commands:
                    check_payloads(payloads_in(one), f"a {type(one).__name__} of workflow {run.workflow_id!r}")
            elif isinstance(body, QueryTaskCompleted):
                check_payloads(body.result, f"the answer of a query of workflow {run.workflow_id!r}")
        return outgoing

    # --- with a codec ---------------------------------------------------------------------------------------------

    def _later(self, code_task: CodeTask, work: Coroutine[Any, Any, None]) -> None:
        if not self._codec.run(work):
            self._give_up(code_task, "the event loop of the worker is closed")

    async def _decode(self, code_task: CodeTask) -> None:
        try:
            if code_task.fetched_from is None:  # else it was decoded before its history was fetched
                code_task.task = await self._codec.decode_async(code_task.task)
            code_task.records = await self._codec.decode_async(code_task.history())
        except Exception as error:
            code_task.codec_error = error
        self._again(code_task)

    async def _encode_and_send(self, code_task: CodeTask, body: _Answer) -> None:
        try:
            self._send([self._outgoing(code_task, await self._codec.encode_async(body))])
        except Exception as error:
            # The dispatch thread must forget the run, whose commands the engine never sees.
            code_task.codec_error = error
            self._again(code_task)

    def _answer_with_codec_error(self, code_task: CodeTask, error: Exception) -> Outgoing:
        _logger.error("event=payload_codec_failed task=%s", code_task.run.task_id, exc_info=error)
        self._runner.evict(code_task.run.run_id)
        too_large = isinstance(error, (PayloadTooLargeError, RPCError))
        failure = self._failure_of(error) if too_large else codec_failure(error)
        return self._outgoing(code_task, self._failed_with(code_task.task, failure))

    def _failed(self, task: WorkflowTask | QueryTask, error: Exception) -> _Answer:
        return self._failed_with(task, self._failure_of(error))

    def _failure_of(self, error: Exception) -> Failure:
        return self._converter.failure_converter.to_failure(error, self._converter.payload_converter)

    def _failed_with(self, task: WorkflowTask | QueryTask, failure: Failure) -> _Answer:
        if isinstance(task, QueryTask):
            return QueryTaskCompleted(query_id=task.query_id, reply=task.reply, failure=failure)
        return WorkflowTaskFailed(
            scheduled_event_id=task.scheduled_event_id,
            attempt=task.attempt,
            cause="WORKFLOW_WORKER_UNHANDLED_FAILURE",
            failure=failure,
            speculative_id=task.speculative_id,
        )

    def _fail(self, code_task: CodeTask, reason: str) -> None:
        """The task cannot be run here: say so, so that it need not wait for its lease to end. From any thread."""
        _logger.warning(
            "event=task_failed task=%s workflow=%s run=%s reason=%r",
            code_task.run.task_id,
            code_task.run.workflow_id,
            code_task.run.run_id,
            reason,
        )
        failure = self._failure_of(RuntimeError(f"the worker has no history to run this on: {reason}"))
        self._send([self._outgoing(code_task, self._failed_with(code_task.task, failure))])

    def _give_up(self, code_task: CodeTask, reason: str) -> None:
        _logger.warning(
            "event=task_given_up task=%s workflow=%s run=%s reason=%r",
            code_task.run.task_id,
            code_task.run.workflow_id,
            code_task.run.run_id,
            reason,
        )
        self._inbox.release(code_task.run.task_id)
        self._on_released()


def _newest_event_time_ms(records: list[HistoryRecord]) -> int:
    return records[-1].events[-1].event_time_ms if records else 0
