"""What effects about updates become: tasks that carry them, answers to those who wait, and the owner's memory of both.

Invariants: an update is handed out again until a worker has said of it, its time is over, or it went out too often; a
normal workflow task that goes out takes every kept update along, and with it a speculative one is void. Made and
called by :class:`perdure_history.reactions.Reactions`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from perdure_history.config import HistoryConfig
from perdure_history.core import effects as e
from perdure_history.core.commands.update import closed_failure
from perdure_history.core.state import RunState
from perdure_history.core.versioning import pinned_version
from perdure_history.held_updates import HeldUpdate, HeldUpdates
from perdure_history.runs import Run, Runs
from perdure_runtime.log import NewRecord
from perdure_schemas import codec, keys, records
from perdure_schemas.limits import TASK_UPDATES_BYTES_MAX
from perdure_schemas.records import (
    ErrorCode,
    HistoryRecord,
    Rejected,
    ReplyBody,
    ReplyTo,
    TaskRecord,
    UpdateAnswer,
    UpdateRequest,
    UpdateStage,
    WorkflowTask,
)

__all__ = ["UpdateReactions"]

#: A worker that answers tasks and says nothing of an update that was in this many of them never will.
_HANDED_OUT_MAX = 20


class Sender(Protocol):
    """What is needed of :class:`perdure_history.reactions.Reactions`."""

    def reply(self, to: ReplyTo, workflow_id: str, body: ReplyBody, now_ms: int, out: list[NewRecord]) -> None:
        """Add the record of an answer."""

    def history(self, run: Run, first_event_id: int) -> list[bytes]:
        """Encoded records to travel with a task."""

    def task(self, record: TaskRecord, now_ms: int) -> NewRecord:
        """The record of a task."""

    def drop_query(self, run: Run, effect: e.DropQuery, now_ms: int, offset: int, out: list[NewRecord]) -> None:
        """Add the tombstones of a task that is named as a query's is."""


class UpdateReactions:
    """See the module. ``makers`` go into the table of reactions."""

    def __init__(self, sender: Sender, config: HistoryConfig, runs: Runs) -> None:
        self._sender = sender
        self._config = config
        self._runs = runs
        self._held = HeldUpdates(config.updates_held_max, config.waiters_max)
        self.makers: dict[type, Callable[[Run, Any, int, int, list[NewRecord]], None]] = {
            e.HoldUpdate: self._hold,
            e.DispatchUpdates: self._dispatch,
            e.ReleaseUpdates: self._release,
            e.AwaitUpdateOutcome: self._await_outcome,
            e.AwaitHeldUpdate: self._await_held,
            e.UpdateAccepted: self._accepted,
            e.UpdateCompleted: self._completed,
            e.RejectUpdateOf: self._rejected,
            e.EndUpdates: self._end,
        }

    def take_along(self, run: Run, now_ms: int, offset: int, out: list[NewRecord]) -> list[UpdateRequest]:
        """The updates that a normal workflow task of the run carries; a speculative one that is out is void with it."""
        self._drop_task(run, now_ms, offset, out)
        return [update.request for update in self._fitting(run.state.run_id, now_ms)]

    def _fitting(self, run_id: str, now_ms: int) -> list[HeldUpdate]:
        fitting: list[HeldUpdate] = []
        left_bytes = TASK_UPDATES_BYTES_MAX
        for update in self._held.held(run_id, now_ms):
            left_bytes -= sum(len(payload.data) for payload in update.request.input)
            if fitting and left_bytes < 0:
                break
            fitting.append(update)
        return fitting

    # --- tasks ----------------------------------------------------------------------------------------------------

    def _hold(self, run: Run, effect: e.HoldUpdate, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        run_id, update_id = run.state.run_id, effect.request.update_id
        if not self._held.hold(run_id, effect.request, effect.expires_at_ms):
            message = f"{self._config.updates_held_max} updates wait for this run already"
        elif not self._held.wait(run_id, update_id, effect.to, effect.stage):
            message = f"{self._config.waiters_max} requests wait for update {update_id!r} already"
        else:
            return
        rejected = Rejected(code=ErrorCode.RESOURCE_EXHAUSTED, message=message, run_id=run_id)
        self._sender.reply(effect.to, run.state.workflow_id, rejected, now_ms, out)

    def _dispatch(self, run: Run, effect: e.DispatchUpdates, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        state = run.state
        is_busy = state.workflow_task is not None or state.waking_event_id > state.seen_event_id or state.paused
        if not state.is_open or is_busy or self._held.task_number(state.run_id):
            return
        for update in self._held.held(state.run_id, now_ms):
            if update.handed_out >= _HANDED_OUT_MAX:
                message = f"{_HANDED_OUT_MAX} workflow tasks were answered without a word on the update"
                self._refuse(state, update.request.update_id, ErrorCode.INTERNAL, message, now_ms, out)
        updates = self._fitting(state.run_id, now_ms)
        if not updates:
            return
        for update in updates:
            update.handed_out += 1
        self._held.set_task_number(state.run_id, effect.number)
        out.append(self._task(run, effect.number, updates, now_ms))

    def _task(self, run: Run, number: str, updates: list[HeldUpdate], now_ms: int) -> NewRecord:
        state = run.state
        first_event_id = state.seen_event_id + 1 if state.sticky_worker_id else 1
        body = WorkflowTask(
            workflow_type=state.workflow_type,
            scheduled_event_id=state.last_event_id + 1,
            attempt=1,
            first_event_id=first_event_id,
            last_event_id=state.last_event_id + 1,
            history=self._sender.history(run, first_event_id),
            start_to_close_timeout_ms=state.task_timeout_ms,
            updates=[update.request for update in updates],
            speculative_id=number,
            history_bytes=state.history_bytes,
        )
        record = TaskRecord(
            task_id=keys.query_task_id(state.run_id, number),
            task_queue=state.task_queue,
            kind="query",
            workflow_id=state.workflow_id,
            run_id=state.run_id,
            created_time_ms=now_ms,
            sticky_worker_id=state.sticky_worker_id,
            sticky_until_ms=now_ms + self._config.sticky_ms if state.sticky_worker_id else 0,
            lease_ms_max=state.task_timeout_ms,
            version=pinned_version(state),
            expires_at_ms=max(update.expires_at_ms for update in updates),
            body=codec.encode(body),
        )
        return self._sender.task(record, now_ms)

    def _release(self, run: Run, effect: e.ReleaseUpdates, now_ms: int, offset: int, out: list[NewRecord]) -> None:
        run_id = run.state.run_id
        if effect.answered and effect.answered == self._held.task_number(run_id):
            self._held.set_task_number(run_id, "")
        self._dispatch(run, e.DispatchUpdates(effect.number), now_ms, offset, out)

    def _drop_task(self, run: Run, now_ms: int, offset: int, out: list[NewRecord]) -> None:
        number = self._held.task_number(run.state.run_id)
        if number:
            self._held.set_task_number(run.state.run_id, "")
            self._sender.drop_query(run, e.DropQuery(number), now_ms, offset, out)

    # --- those who ask --------------------------------------------------------------------------------------------

    def _await_outcome(
        self, run: Run, effect: e.AwaitUpdateOutcome, now_ms: int, _offset: int, out: list[NewRecord]
    ) -> None:
        state = run.state
        update = state.updates[effect.update_id]
        if update.completed_event_id:
            self._sender.reply(effect.to, state.workflow_id, self._outcome(run, effect.update_id), now_ms, out)
            return
        if not state.is_open:
            answer = UpdateAnswer(
                run_id=state.run_id,
                update_id=effect.update_id,
                stage=UpdateStage.COMPLETED,
                failure=closed_failure(),
            )
            self._sender.reply(effect.to, state.workflow_id, answer, now_ms, out)
            return
        accepted = UpdateAnswer(run_id=state.run_id, update_id=effect.update_id, stage=UpdateStage.ACCEPTED)
        if effect.stage is UpdateStage.ACCEPTED or self._held.wait(
            state.run_id, effect.update_id, effect.to, effect.stage
        ):
            self._sender.reply(effect.to, state.workflow_id, accepted, now_ms, out)
            return
        message = f"{self._config.waiters_max} requests wait for update {effect.update_id!r} already"
        rejected = Rejected(code=ErrorCode.RESOURCE_EXHAUSTED, message=message, run_id=state.run_id)
        self._sender.reply(effect.to, state.workflow_id, rejected, now_ms, out)

    def _outcome(self, run: Run, update_id: str) -> UpdateAnswer:
        """How a completed update ended, from the history.

        Raises:
            LookupError: the event is not there.
        """
        event_id = run.state.updates[update_id].completed_event_id
        for _, _, value in self._runs.records_from(run, event_id):
            for event in codec.decode_as(value, HistoryRecord).events:
                attributes = event.attributes
                if event.event_id == event_id and isinstance(attributes, records.WorkflowExecutionUpdateCompleted):
                    return UpdateAnswer(
                        run_id=run.state.run_id,
                        update_id=update_id,
                        stage=UpdateStage.COMPLETED,
                        result=attributes.result,
                        failure=attributes.failure,
                    )
            break
        raise LookupError(f"run {run.state.run_id} has no event {event_id} where update {update_id!r} completed")

    def _await_held(self, run: Run, effect: e.AwaitHeldUpdate, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        state = run.state
        if self._held.is_held(state.run_id, effect.update_id) and self._held.wait(
            state.run_id, effect.update_id, effect.to, effect.stage
        ):
            return
        message = f"workflow {state.workflow_id!r} has accepted no update {effect.update_id!r}"
        rejected = Rejected(code=ErrorCode.NOT_FOUND, message=message, run_id=state.run_id, status=state.status)
        self._sender.reply(effect.to, state.workflow_id, rejected, now_ms, out)

    def _accepted(self, run: Run, effect: e.UpdateAccepted, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        state = run.state
        update = state.updates.get(effect.update_id)
        if update is None or update.completed_event_id or not state.is_open:
            return  # those who wait hear of its end at once
        answer = UpdateAnswer(run_id=state.run_id, update_id=effect.update_id, stage=UpdateStage.ACCEPTED)
        for to in self._held.accepted(state.run_id, effect.update_id):
            self._sender.reply(to, state.workflow_id, answer, now_ms, out)

    def _completed(self, run: Run, effect: e.UpdateCompleted, now_ms: int, _offset: int, out: list[NewRecord]) -> None:
        state = run.state
        answer = UpdateAnswer(
            run_id=state.run_id,
            update_id=effect.update_id,
            stage=UpdateStage.COMPLETED,
            result=effect.result,
            failure=effect.failure,
        )
        for to in self._held.take_askers(state.run_id, effect.update_id):
            self._sender.reply(to, state.workflow_id, answer, now_ms, out)

    def _rejected(self, run: Run, effect: e.RejectUpdateOf, now_ms: int, offset: int, out: list[NewRecord]) -> None:
        if effect.update_id not in run.state.updates:
            self._completed(run, e.UpdateCompleted(effect.update_id, [], effect.failure), now_ms, offset, out)

    def _end(self, run: Run, effect: e.EndUpdates, now_ms: int, offset: int, out: list[NewRecord]) -> None:
        state = run.state
        self._drop_task(run, now_ms, offset, out)
        for update_id in self._held.updates_asked_for(state.run_id):
            if update_id not in state.updates:
                self._refuse(state, update_id, effect.code, effect.message, now_ms, out)
            elif effect.is_closed:
                self._completed(run, e.UpdateCompleted(update_id, [], closed_failure()), now_ms, offset, out)

    def _refuse(
        self, state: RunState, update_id: str, code: ErrorCode, message: str, now_ms: int, out: list[NewRecord]
    ) -> None:
        rejected = Rejected(code=code, message=message, run_id=state.run_id, status=state.status)
        for to in self._held.take_askers(state.run_id, update_id):
            self._sender.reply(to, state.workflow_id, rejected, now_ms, out)
