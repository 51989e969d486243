"""Effects become records: topics, partitions, keys with epochs, bytes.

Invariants: a dispatch is made against the state after the decision, so one whose task is over by then is dropped; a
tombstone is written under the epoch in which its thing was made and under every later one, since an owner in between
may have sent it again (I1, I4). Called by the partition handler, once the decision's history records are encoded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from perdure_history.config import HistoryConfig
from perdure_history.core import effects as e
from perdure_history.core.answers import closed_answer, summary
from perdure_history.core.composition import answer_to_workflow
from perdure_history.core.state import ActivityState, ActivityStatus, WorkflowTaskStatus, was_reset
from perdure_history.core.versioning import pinned_version
from perdure_history.late_answers import LateAnswer, LateAnswers
from perdure_history.runs import Run, Runs
from perdure_history.update_reactions import UpdateReactions
from perdure_history.waiting import Waiting
from perdure_runtime.log import NewRecord
from perdure_schemas import codec, keys, records
from perdure_schemas.records import (
    ActivityOptions,
    ActivityTask,
    Command,
    ErrorCode,
    HistoryPage,
    QueryTask,
    Rejected,
    Reply,
    ReplyBody,
    ReplyTo,
    TaskRecord,
    TimerRecord,
    WorkflowTask,
)
from perdure_schemas.topics import TopicNames

__all__ = ["Reactions"]


class Reactions:
    """Makes the records of one partition's effects.

    Args:
        marks: the partition's epochs, kept by the handler; the newest one is the owner's.
        ignored: counts what changed nothing, by reason.
        clock: the time, in milliseconds since the epoch.
    """

    def __init__(
        self,
        names: TopicNames,
        config: HistoryConfig,
        partition: int,
        runs: Runs,
        marks: list[int],
        ignored: Counter[str],
        clock: Callable[[], int],
    ) -> None:
        self._config = config
        self._partition = partition
        self._partitions = names.partitions
        self._runs = runs
        self._marks = marks
        self._ignored = ignored
        self._clock = clock
        self.waiting = Waiting(config.waiters_max, config.queries_max)
        self.late = LateAnswers()
        self._tasks = names.tasks
        self._timers = names.timers
        self._executions = names.executions
        self._replies = names.replies
        self._commands = names.commands
        self._updates = UpdateReactions(self, config, runs)
        self._make: dict[type, Callable[[Run, Any, int, int, list[NewRecord]], None]] = {
            e.DispatchWorkflowTask: self._dispatch_workflow_task,
            e.DispatchActivity: self._dispatch_activity,
            e.DispatchQuery: self._dispatch_query,
            e.DropTask: self._drop_task,
            e.DropQuery: self.drop_query,
            e.ArmWakeUp: self._arm_wake_up,
            e.DropWakeUp: self._drop_wake_up,
            e.Summarize: self._summarize,
            e.DropSummary: self._drop_summary,
            e.Answer: self._answer,
            e.AnswerUnlessClosed: self._answer_late,
            e.AnswerResult: self._answer_result,
            e.AnswerWaiters: self._answer_waiters,
            e.KeepWaiter: self._keep_waiter,
            e.SendHistoryPage: self._send_history_page,
            e.HoldQuery: self._hold_query,
            e.ReleaseQueries: self._release_queries,
            e.RejectQueries: self._reject_queries,
            e.Ignored: self._ignore,
            e.SendCommand: self._send_command,
            e.StartFire: self._start_fire,
            **self._updates.makers,
        }

    def of(self, run: Run, effect: e.Effect, now_ms: int, offset: int, out: list[NewRecord]) -> None:
        """Add to ``out`` the records of an effect.

        Parameters:
            run: the run it is about, as it is after the decision.
            now_ms: the time of the decision.
            offset: the offset of the command.
        """
        self._make[type(effect)](run, effect, now_ms, offset, out)

    def reply(self, to: ReplyTo, workflow_id: str, body: ReplyBody, now_ms: int, out: list[NewRecord]) -> None:
        """Add the record of an answer. One to a partition that does not exist is dropped: it can only come from a
        client that knows the topics wrongly, and must not stop the engine (I5). A workflow is answered by a command."""
        if to.origin is not None:
            command = answer_to_workflow(to.origin, body)
            if command is not None:
                out.append(self._command(command, now_ms))
            return
        if not 0 <= to.partition < self._partitions:
            self._ignored["asker has no partition"] += 1
            return
        value = codec.encode(
            Reply(client_id=to.client_id, request_id=to.request_id, workflow_id=workflow_id, body=body)
        )
        out.append(NewRecord(self._replies, to.partition, to.client_id.encode(), value, now_ms))

    def epochs_since(self, epoch: int) -> list[int]:
        """Every epoch from this one on, which need not be one of the marks any more known."""
        later = self._marks[bisect_left(self._marks, epoch) :]
        return later if later and later[0] == epoch else [epoch, *later]

    # --- tasks ----------------------------------------------------------------------------------------------------

    def _dispatch_workflow_task(
        self, run: Run, effect: e.DispatchWorkflowTask, now_ms: int, offset: int, out: list[NewRecord]
    ) -> None:
        state = run.state
        task = state.workflow_task
        if (
            task is None
            or task.scheduled_event_id != effect.scheduled_event_id
            or task.attempt != effect.attempt
            or task.status is not WorkflowTaskStatus.DISPATCHED
        ):
            return
        first_event_id = state.seen_event_id + 1 if state.sticky_worker_id else 1
        body = WorkflowTask(
            workflow_type=state.workflow_type,
            scheduled_event_id=task.scheduled_event_id,
            attempt=task.attempt,
            first_event_id=first_event_id,
            last_event_id=state.last_event_id,
            history=self.history(run, first_event_id),
            start_to_close_timeout_ms=state.task_timeout_ms,
            updates=self._updates.take_along(run, now_ms, offset, out),
        )
        record = TaskRecord(
            task_id=keys.workflow_task_id(state.run_id, task.scheduled_event_id, task.attempt),
            task_queue=state.task_queue,
            kind="workflow",
            workflow_id=state.workflow_id,
            run_id=state.run_id,
            scheduled_event_id=task.scheduled_event_id,
            attempt=task.attempt,
            created_time_ms=now_ms,
            sticky_worker_id=state.sticky_worker_id,
            sticky_until_ms=now_ms + self._config.sticky_ms if state.sticky_worker_id else 0,
            priority=state.priority.priority,
            fairness_key=state.priority.fairness_key,
            fairness_weight=state.priority.fairness_weight,
            lease_ms_max=state.task_timeout_ms,
            held=state.paused,
            version=pinned_version(state),
            prefers_ramping=state.prefers_ramping,
            body=codec.encode(body),
        )
        out.append(self.task(record, now_ms))

    def _dispatch_activity(
        self, run: Run, effect: e.DispatchActivity, now_ms: int, _offset: int, out: list[NewRecord]
    ) -> None:
        state = run.state
        activity = state.activities.get(effect.scheduled_event_id)
        if activity is None or activity.attempt != effect.attempt or activity.status is ActivityStatus.BACKING_OFF:
            return
        options = effect.options or self._options(run, activity)
        body = ActivityTask(
            workflow_type=state.workflow_type,
            scheduled_event_id=activity.scheduled_event_id,
            attempt=activity.attempt,
            options=options,
            scheduled_time_ms=activity.scheduled_time_ms,
            attempt_scheduled_time_ms=activity.attempt_scheduled_time_ms,
            heartbeat_details=activity.heartbeat_details,
            attempts_before=activity.attempts_before,
        )
        record = TaskRecord(
            task_id=keys.activity_task_id(state.run_id, activity.task_event_id, activity.attempt),
            task_queue=options.task_queue,
            kind="activity",
            workflow_id=state.workflow_id,
            run_id=state.run_id,
            scheduled_event_id=activity.scheduled_event_id,
            attempt=activity.attempt,
            created_time_ms=now_ms,
            sticky_worker_id=activity.eager_worker_id if activity.attempt == 1 else "",
            priority=options.priority,
            fairness_key=options.fairness_key,
            fairness_weight=options.fairness_weight,
            start_notice_delay_ms=self._start_notice_delay_ms(options),
            cancel_requested=activity.cancel_requested,
            left_open=activity.left_open,
            held=state.paused or activity.paused,
            paused=activity.paused,
            reset=was_reset(activity),
            version=pinned_version(state),
            body=codec.encode(body),
        )
        out.append(self.task(record, now_ms))

    def _dispatch_query(
        self, run: Run, effect: e.DispatchQuery, now_ms: int, _offset: int, out: list[NewRecord]
    ) -> None:
        state = run.state
        query = effect.query
        first_event_id = state.seen_event_id + 1 if state.sticky_worker_id else 1
        body = QueryTask(
            workflow_type=state.workflow_type,
            query_id=query.query_id,
            query_type=query.query_type,
            args=query.args,
            header=query.header,
            reply=query.to,
            first_event_id=first_event_id,
            last_event_id=state.last_event_id,
            history=self.history(run, first_event_id),
        )
        record = TaskRecord(
            task_id=keys.query_task_id(state.run_id, query.query_id),
            task_queue=state.task_queue,
            kind="query",
            workflow_id=state.workflow_id,
            run_id=state.run_id,
            created_time_ms=now_ms,
            sticky_worker_id=state.sticky_worker_id,
            sticky_until_ms=now_ms + self._config.sticky_ms if state.sticky_worker_id else 0,
            priority=state.priority.priority,
            fairness_key=state.priority.fairness_key,
            fairness_weight=state.priority.fairness_weight,
            expires_at_ms=query.expires_at_ms,
            version=pinned_version(state),
            body=codec.encode(body),
        )
        out.append(self.task(record, now_ms))

    def _drop_task(self, run: Run, effect: e.DropTask, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        partition = keys.queue_partition(effect.task_queue, run.state.workflow_id, self._partitions)
        first = len(out)
        self._drop(self._tasks, partition, effect.task_id, effect.since_epoch, now_ms, out)
        if effect.interrupted:
            out[first:] = [record._replace(headers=keys.INTERRUPTED_HEADERS) for record in out[first:]]

    def drop_query(self, run: Run, effect: e.DropQuery, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        epoch = effect.query_id.partition(".")[0]
        if not epoch.isdecimal():
            self._ignored["query id is not ours"] += 1
            return
        if int(epoch) > self._marks[-1]:
            # Our successor handed it out, of whom we have not heard yet: nothing is written under its epoch (I1).
            self._ignored["query is a newer owner's"] += 1
            return
        task_id = keys.query_task_id(run.state.run_id, effect.query_id)
        partition = keys.queue_partition(run.state.task_queue, run.state.workflow_id, self._partitions)
        self._drop(self._tasks, partition, task_id, int(epoch), now_ms, out)

    def task(self, record: TaskRecord, now_ms: int) -> NewRecord:
        key = keys.fenced_key(record.task_id, self._partition, self._marks[-1])
        partition = keys.queue_partition(record.task_queue, record.workflow_id, self._partitions)
        return NewRecord(self._tasks, partition, key, codec.encode(record), now_ms)

    def history(self, run: Run, first_event_id: int) -> list[bytes]:
        """Encoded records to travel with a task; cut where they are too large, for the worker to fetch the rest."""
        values = []
        left_bytes = self._config.task_history_bytes_max
        for _, _, value in self._runs.records_from(run, first_event_id):
            left_bytes -= len(value)
            if left_bytes < 0:
                break
            values.append(value)
        return values

    def _options(self, run: Run, activity: ActivityState) -> ActivityOptions:
        for event in self._runs.events_of_record(run.state.run_id, activity.record_event_id):
            if event.event_id == activity.scheduled_event_id:
                assert isinstance(event.attributes, records.ActivityTaskScheduled)
                options = event.attributes.options
                if not activity.has_new_options:
                    return options
                return msgspec.structs.replace(
                    activity.options, input=options.input, header=options.header, summary=options.summary
                )
        raise LookupError(
            f"run {run.state.run_id} has no event {activity.scheduled_event_id} where it scheduled an activity"
        )

    def _start_notice_delay_ms(self, options: ActivityOptions) -> int:
        start_to_close_ms = options.start_to_close_timeout_ms
        if (
            options.schedule_to_start_timeout_ms is not None
            or options.heartbeat_timeout_ms is not None
            or (start_to_close_ms is not None and start_to_close_ms <= self._config.short_start_to_close_ms)
        ):
            return 0
        return self._config.start_notice_delay_ms

    # --- timers and the visibility feed ---------------------------------------------------------------------------

    def _arm_wake_up(self, run: Run, effect: e.ArmWakeUp, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        state = run.state
        if effect.number != state.wake_up_number or not state.wake_up_due_ms:
            return
        timer_id = keys.timer_id(state.run_id, effect.number)
        value = codec.encode(
            TimerRecord(
                timer_id=timer_id,
                workflow_id=state.workflow_id,
                run_id=state.run_id,
                arm_number=effect.number,
                due_time_ms=effect.due_time_ms,
            )
        )
        key = keys.fenced_key(timer_id, self._partition, self._marks[-1])
        out.append(NewRecord(self._timers, self._partition, key, value, now_ms))

    def _drop_wake_up(self, run: Run, effect: e.DropWakeUp, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        timer_id = keys.timer_id(run.state.run_id, effect.number)
        self._drop(self._timers, self._partition, timer_id, effect.since_epoch, now_ms, out)

    def _summarize(self, run: Run, _effect: e.Summarize, now_ms: int, offset: int, out: list[NewRecord]) -> None:
        key = keys.fenced_key(run.state.run_id, self._partition, self._marks[-1])
        value = codec.encode(summary(run.state, offset))
        headers = keys.WAITS_HEADERS if run.state.record_waits else ()
        out.append(NewRecord(self._executions, self._partition, key, value, now_ms, headers))

    def _drop_summary(self, run: Run, _effect: e.DropSummary, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        state = run.state
        self._drop(self._executions, self._partition, state.run_id, state.first_epoch, now_ms, out)

    def _drop(
        self, topic: str, partition: int, record_id: str, since_epoch: int, now_ms: int, out: list[NewRecord]
    ) -> None:
        if since_epoch == self._marks[-1]:
            out.append(
                NewRecord(topic, partition, keys.fenced_key(record_id, self._partition, since_epoch), None, now_ms)
            )
            return
        for epoch in self.epochs_since(since_epoch):
            out.append(NewRecord(topic, partition, keys.fenced_key(record_id, self._partition, epoch), None, now_ms))

    # --- those who ask --------------------------------------------------------------------------------------------

    def _answer(self, run: Run, effect: e.Answer, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        self.reply(effect.to, run.state.workflow_id, effect.body, now_ms, out)

    def _answer_late(
        self, run: Run, effect: e.AnswerUnlessClosed, _now_ms: int, _offset: int, _out: list[NewRecord]
    ) -> None:
        # By our own clock: the asker's, which the command may have its time from, can be another.
        due_ms = self._clock() + min(effect.delay_ms, self._config.answer_delay_ms_max)
        self.late.keep(run.state.run_id, due_ms, LateAnswer(effect.to, run.state.workflow_id, effect.body))

    def answer_late(self, now_ms: int, out: list[NewRecord]) -> None:
        """Add the answers that have waited long enough."""
        for answer in self.late.take(now_ms):
            self.reply(answer.to, answer.workflow_id, answer.body, now_ms, out)

    def _answer_result(self, run: Run, effect: e.AnswerResult, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        state = run.state
        for event in reversed(self._runs.events_of_record(state.run_id, state.record_event_id)):
            answer = closed_answer(state.run_id, event.attributes)
            if answer is not None:
                self.reply(effect.to, state.workflow_id, answer, now_ms, out)
                return
        raise LookupError(f"the last history record of closed run {state.run_id} does not close it")

    def _answer_waiters(
        self, run: Run, effect: e.AnswerWaiters, now_ms: int, _offset: int, out: list[NewRecord]
    ) -> None:
        state = run.state
        self.late.drop(state.run_id)
        waiters = self.waiting.take_waiters(state.run_id)
        if effect.starter is not None and effect.starter not in waiters:
            waiters.append(effect.starter)
        for waiter in waiters:
            self.reply(waiter, state.workflow_id, effect.body, now_ms, out)

    def _keep_waiter(self, run: Run, effect: e.KeepWaiter, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        state = run.state
        if effect.to == state.await_result or self.waiting.wait(state.run_id, effect.to):
            return
        message = f"{self._config.waiters_max} requests wait for this run's result already"
        rejected = Rejected(code=ErrorCode.RESOURCE_EXHAUSTED, message=message, run_id=state.run_id)
        self.reply(effect.to, state.workflow_id, rejected, now_ms, out)

    def _send_history_page(
        self, run: Run, effect: e.SendHistoryPage, now_ms: int, _offset: int, out: list[NewRecord]
    ) -> None:
        state = run.state
        values: list[bytes] = []
        size_bytes = 0
        next_event_id = 0
        for first_event_id, _, value in self._runs.records_from(run, effect.first_event_id):
            size_bytes += len(value)
            if values and size_bytes > effect.bytes_max:
                next_event_id = first_event_id
                break
            values.append(value)
        page = HistoryPage(run_id=state.run_id, records=values, next_event_id=next_event_id, closed=not state.is_open)
        self.reply(effect.to, state.workflow_id, page, now_ms, out)

    # --- other workflows ------------------------------------------------------------------------------------------

    def _send_command(self, _run: Run, effect: e.SendCommand, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        out.append(self._command(effect.command, now_ms))

    def _start_fire(self, run: Run, effect: e.StartFire, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        schedule = run.state.schedule
        # A start that was refused must not be taken when a new owner sends it again.
        if schedule is not None and any(fire.number == effect.number for fire in schedule.progress.running):
            out.append(self._command(effect.command, now_ms))

    def _command(self, command: Command, now_ms: int) -> NewRecord:
        # Commands carry no epoch: a repeated one is known by its id, whoever sends it (I3).
        partition = keys.partition_of(command.workflow_id, self._partitions)
        return NewRecord(self._commands, partition, command.workflow_id.encode(), codec.encode(command), now_ms)

    # --- queries --------------------------------------------------------------------------------------------------

    def _hold_query(self, run: Run, effect: e.HoldQuery, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        if self.waiting.hold(run.state.run_id, effect.query):
            return
        message = f"{self._config.queries_max} queries wait for this run already"
        rejected = Rejected(code=ErrorCode.RESOURCE_EXHAUSTED, message=message, run_id=run.state.run_id)
        self.reply(effect.query.to, run.state.workflow_id, rejected, now_ms, out)

    def _release_queries(
        self, run: Run, effect: e.ReleaseQueries, now_ms: int, offset: int, out: list[NewRecord]
    ) -> None:
        for query in self.waiting.take_queries(run.state.run_id, effect.seen_event_id, now_ms):
            self._dispatch_query(run, e.DispatchQuery(query), now_ms, offset, out)

    def _reject_queries(
        self, run: Run, effect: e.RejectQueries, now_ms: int, _offset: int, out: list[NewRecord]
    ) -> None:
        for query in self.waiting.take_queries(run.state.run_id, None, now_ms):
            rejected = Rejected(code=ErrorCode.FAILED_PRECONDITION, message=effect.message, run_id=run.state.run_id)
            self.reply(query.to, run.state.workflow_id, rejected, now_ms, out)

    def _ignore(self, _run: Run, effect: e.Ignored, _now_ms: int, _offset: int, _out: list[NewRecord]) -> None:
        self._ignored[effect.reason] += 1
