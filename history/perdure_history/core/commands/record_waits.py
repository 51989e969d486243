"""Records of users' topics that a workflow waits for: the wait begins, is given up, or its record is found.

Invariants: the record of a wait that is over changes nothing (I3, I6); so the first one that is found counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure_history.core.commands.context import Context, Steps
from perdure_history.core.effects import Ignored
from perdure_history.core.state import RunState
from perdure_schemas import limits, records
from perdure_schemas.records import CancelRecordWait, Command, DeliverRecord, RecordWait, WaitForRecord
from perdure_schemas.topics import user_topic_fault

__all__ = ["APPLY", "delivered", "wait_fault"]


def wait_fault(command: WaitForRecord, waiting: set[str]) -> str:
    """What is wrong with a wait; empty if nothing is. ``waiting``: the ids of the waits that are open."""
    if not command.wait_id or command.wait_id in waiting:
        return f"the record wait {command.wait_id!r} is open already, or has no id"
    if len(waiting) >= limits.PENDING_RECORD_WAITS_MAX:
        return f"the run waits for {limits.PENDING_RECORD_WAITS_MAX} records, which is the limit"
    if len(command.key or b"") > limits.NAME_CHARS_MAX or len(command.where) > limits.RECORD_WHERE_CHARS_MAX:
        return (
            f"a key of {len(command.key or b'')} bytes or a condition of {len(command.where)} characters is too long:"
            f" {limits.NAME_CHARS_MAX} and {limits.RECORD_WHERE_CHARS_MAX} are allowed"
        )
    if command.look_back_ms < 0:
        return f"look_back_ms {command.look_back_ms} is below zero"
    return user_topic_fault(command.topic)


def _wait(_run: RunState, command: WaitForRecord, completed_id: int, context: Context) -> Steps:
    wait = RecordWait(
        wait_id=command.wait_id,
        topic=command.topic,
        key=command.key,
        where=command.where,
        since_ms=max(0, context.now_ms - command.look_back_ms),
    )
    yield records.RecordWaitStarted(wait=wait, workflow_task_completed_event_id=completed_id)


def _cancel(run: RunState, command: CancelRecordWait, completed_id: int, _: Context) -> Steps:
    if command.wait_id in run.record_waits:
        yield records.RecordWaitCanceled(wait_id=command.wait_id, workflow_task_completed_event_id=completed_id)


def delivered(run: RunState, _command: Command, body: DeliverRecord, _: Context) -> Steps:
    """The record was found."""
    if body.wait_id not in run.record_waits:
        yield Ignored("record wait is over")
        return
    yield records.RecordArrived(**{name: getattr(body, name) for name in body.__struct_fields__})


APPLY: dict[type, Callable[[RunState, Any, int, Context], Steps]] = {
    WaitForRecord: _wait,
    CancelRecordWait: _cancel,
}
