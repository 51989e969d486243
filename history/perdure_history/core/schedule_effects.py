"""What a schedule sends to workflows: starts, and requests to make room. Pure.

Invariants (I3): the id of each such command, and of the run it starts, follows from the schedule's run and the number
of the fire, so a start that is sent again after a takeover makes no second run. What became of a start, and how its
workflow ended, come back as they do to the parent of a child. Called by ``react``.
"""

from __future__ import annotations

import msgspec

from perdure_history.core.effects import Effect, SendCommand, StartFire, Summarize
from perdure_history.core.state import RunState
from perdure_schemas import records
from perdure_schemas.keys import workflow_message_id
from perdure_schemas.records import (
    CancelWorkflow,
    Command,
    CommandBody,
    CommandOrigin,
    Event,
    OverlapPolicy,
    Payload,
    ReplyTo,
    ScheduleFire,
    ScheduleOrigin,
    ScheduleStop,
    StartWorkflow,
    TerminateWorkflow,
)

__all__ = ["SCHEDULED_BY", "SCHEDULED_START", "recorded", "scheduled_attributes"]

#: Search attributes of the workflows that schedules start: the schedule's id, and the time of the fire.
SCHEDULED_BY = "ScheduledById"
SCHEDULED_START = "ScheduledStartTime"


def scheduled_attributes(schedule_id: str, time: str) -> dict[str, Payload]:
    """What a workflow that a schedule starts can be found by. ``time`` in ISO 8601."""
    return {SCHEDULED_BY: _attribute(b"Keyword", schedule_id), SCHEDULED_START: _attribute(b"Datetime", time)}


def _attribute(kind: bytes, value: str) -> Payload:
    return Payload(metadata={"encoding": b"json/plain", "type": kind}, data=msgspec.json.encode(value))


def recorded(state: RunState, _event: Event, attributes: records.ScheduleRecorded, effects: list[Effect]) -> None:
    """Add what a decision about a schedule asks of workflows; ``state`` is as it was before."""
    effects.append(Summarize())
    assert state.schedule is not None
    definition = attributes.definition or state.schedule.definition
    assert definition is not None
    fires = {fire.number: fire for fire in attributes.progress.running}
    for stop in attributes.stopped:
        effects.append(_stop(state, stop))
    for number in attributes.started:
        effects.append(_start(state, fires[number], definition.action, attributes.progress))


def _start(
    state: RunState, fire: ScheduleFire, action: records.ScheduleAction, progress: records.ScheduleProgress
) -> StartFire:
    schedule = state.schedule
    assert schedule is not None
    # Workflows that run beside each other do not follow each other.
    follows = fire.overlap is not OverlapPolicy.ALLOW_ALL
    body = StartWorkflow(
        run_id=fire.run_id,
        workflow_type=action.workflow_type,
        task_queue=action.task_queue,
        input=action.input,
        header=action.header,
        execution_timeout_ms=action.execution_timeout_ms,
        run_timeout_ms=action.run_timeout_ms,
        task_timeout_ms=action.task_timeout_ms,
        memo=action.memo,
        retry_policy=action.retry_policy,
        search_attributes={
            **action.search_attributes,
            **scheduled_attributes(schedule.schedule_id, fire.workflow_id[len(action.workflow_id) + 1 :]),
        },
        static_summary=action.static_summary,
        static_details=action.static_details,
        priority=action.priority,
        scheduled_by=ScheduleOrigin(
            workflow_id=state.workflow_id,
            run_id=state.run_id,
            number=fire.number,
            schedule_id=schedule.schedule_id,
            nominal_ms=fire.nominal_ms,
        ),
        last_completion_result=progress.last_completion_result if follows else [],
        last_failure=progress.last_failure if follows else None,
    )
    origin = CommandOrigin(
        workflow_id=state.workflow_id, run_id=state.run_id, event_id=fire.number, asks_for_start=True
    )
    reply = ReplyTo(client_id=state.run_id, partition=0, request_id=str(fire.number), origin=origin)
    return StartFire(fire.number, _command(state, fire.number, fire.workflow_id, "start", body, reply))


def _stop(state: RunState, stop: ScheduleStop) -> SendCommand:
    reason = "by the overlap policy of its schedule"
    body: CommandBody
    if stop.terminate:
        what, body = "terminate", TerminateWorkflow(reason=reason, first_execution_run_id=stop.run_id)
    else:
        what, body = "cancel", CancelWorkflow(reason=reason, first_execution_run_id=stop.run_id)
    return SendCommand(_command(state, stop.number, stop.workflow_id, what, body, None))


def _command(
    state: RunState, number: int, workflow_id: str, what: str, body: CommandBody, reply: ReplyTo | None
) -> Command:
    return Command(
        command_id=workflow_message_id(state.run_id, number, what),
        workflow_id=workflow_id,
        identity=f"schedule {state.schedule.schedule_id if state.schedule else ''}",
        reply=reply,
        body=body,
    )
