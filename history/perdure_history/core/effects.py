"""What a decision asks for besides its events, as plain data without topics, keys or bytes.

``react`` and the command handlers make them; the service turns them into records once the decision's events are
encoded, against the state after the decision (so a dispatch whose task is over by then is dropped). Every effect that
reaches another processor has a deterministic identity, so doing one twice is harmless (I3).
"""

from __future__ import annotations

import msgspec

from perdure_schemas.records import (
    ActivityOptions,
    Command,
    ErrorCode,
    Failure,
    Payload,
    ReplyBody,
    ReplyTo,
    UpdateRequest,
    UpdateStage,
    WorkflowClosed,
    WorkflowExecutionStarted,
)

__all__ = [
    "Answer",
    "AnswerResult",
    "AnswerUnlessClosed",
    "AnswerWaiters",
    "ArmWakeUp",
    "AwaitHeldUpdate",
    "AwaitUpdateOutcome",
    "DispatchActivity",
    "DispatchQuery",
    "DispatchUpdates",
    "DispatchWorkflowTask",
    "DropQuery",
    "DropSummary",
    "DropTask",
    "DropWakeUp",
    "Effect",
    "EndUpdates",
    "HoldQuery",
    "HoldUpdate",
    "Ignored",
    "KeepWaiter",
    "PendingQuery",
    "RejectQueries",
    "RejectUpdateOf",
    "ReleaseQueries",
    "ReleaseUpdates",
    "SendCommand",
    "SendHistoryPage",
    "StartFire",
    "StartNextRun",
    "Summarize",
    "UpdateAccepted",
    "UpdateCompleted",
    "WakeUpSpent",
]


class Effect(msgspec.Struct, frozen=True, gc=False):
    """Base of all effects."""


# --- for matching and timers --------------------------------------------------------------------------------------


class DispatchWorkflowTask(Effect, frozen=True):
    """Hand this attempt of the workflow task to matching."""

    scheduled_event_id: int
    attempt: int


class DispatchActivity(Effect, frozen=True):
    """Hand this attempt of an activity to matching, or tell matching that it was asked to stop.

    ``options`` are the full ones where the decision has them at hand; else they are read from the history.
    """

    scheduled_event_id: int
    attempt: int
    options: ActivityOptions | None = None


class DropTask(Effect, frozen=True):
    """The task is needed no more. ``since_epoch``: the owner's epoch when it was handed over.

    ``interrupted``: something else than its worker ended it, so the worker has to be told.
    """

    task_id: str
    task_queue: str
    since_epoch: int
    interrupted: bool = False


class ArmWakeUp(Effect, frozen=True):
    """Wake the run up at this time."""

    number: int
    due_time_ms: int


class DropWakeUp(Effect, frozen=True):
    """The wake-up fired or is void."""

    number: int
    since_epoch: int


class WakeUpSpent(Effect, frozen=True):
    """The armed wake-up has come: whatever deadline is next needs a new one. Used by the driver, not sent."""


class StartNextRun(Effect, frozen=True):
    """The run closes and this one follows, in the same decision. Used by the driver, not sent."""

    run_id: str
    started: WorkflowExecutionStarted


# --- for other workflows ---------------------------------------------------------------------------------------------


class SendCommand(Effect, frozen=True):
    """Send a command to another workflow. Its id is deterministic, so it may be sent again."""

    command: Command


class StartFire(Effect, frozen=True):
    """Start the workflow of a schedule's fire, unless the fire is known to be over by then."""

    number: int
    command: Command


# --- for those who ask --------------------------------------------------------------------------------------------


class Answer(Effect, frozen=True):
    """Answer one request."""

    to: ReplyTo
    body: ReplyBody


class AnswerUnlessClosed(Effect, frozen=True):
    """Answer one request after ``delay_ms``, unless the run closes before, of which the asker is told anyway."""

    to: ReplyTo
    body: ReplyBody
    delay_ms: int


class AnswerResult(Effect, frozen=True):
    """Answer with the result of the run, which is closed; it is read from the history."""

    to: ReplyTo


class KeepWaiter(Effect, frozen=True):
    """Answer this request when the run closes."""

    to: ReplyTo


class AnswerWaiters(Effect, frozen=True):
    """The run is closed: answer everybody who waits, and ``starter``, who waits since the start."""

    body: WorkflowClosed
    starter: ReplyTo | None


class SendHistoryPage(Effect, frozen=True):
    """Answer with history records from ``first_event_id`` on, up to about ``bytes_max`` bytes."""

    to: ReplyTo
    first_event_id: int
    bytes_max: int


class PendingQuery(msgspec.Struct, frozen=True, gc=False):
    """A query on its way. ``seen_event_id``: how far the workflow code must have seen the history before it."""

    query_id: str
    query_type: str
    args: list[Payload]
    header: dict[str, Payload]
    to: ReplyTo
    expires_at_ms: int
    seen_event_id: int


class DispatchQuery(Effect, frozen=True):
    """Hand a query to a worker."""

    query: PendingQuery


class HoldQuery(Effect, frozen=True):
    """Keep a query until the workflow code has seen what it must have seen."""

    query: PendingQuery


class ReleaseQueries(Effect, frozen=True):
    """The workflow code has seen the history up to here (``None``: the run is closed): kept queries may go out."""

    seen_event_id: int | None


class RejectQueries(Effect, frozen=True):
    """The workflow code fails: kept queries cannot be answered for now."""

    message: str


class DropQuery(Effect, frozen=True):
    """A query was answered or has expired: its task is needed no more."""

    query_id: str


# --- updates: what the owner's memory has to do with them -----------------------------------------------------------


class HoldUpdate(Effect, frozen=True):
    """Keep an update until a worker has said of it, and answer this request when it has come as far as ``stage``."""

    request: UpdateRequest
    to: ReplyTo
    stage: UpdateStage
    expires_at_ms: int


class DispatchUpdates(Effect, frozen=True):
    """Hand the kept updates to a worker in a speculative workflow task, if none is out. ``number``: its id."""

    number: str


class ReleaseUpdates(Effect, frozen=True):
    """A workflow task was answered (``answered``: the speculative one of this id): what is kept still goes out."""

    number: str
    answered: str = ""


class AwaitUpdateOutcome(Effect, frozen=True):
    """Answer this request when an accepted update has come as far as ``stage``, maybe at once."""

    to: ReplyTo
    update_id: str
    stage: UpdateStage


class AwaitHeldUpdate(Effect, frozen=True):
    """The same for an update that is not accepted: it is kept, or unknown."""

    to: ReplyTo
    update_id: str
    stage: UpdateStage


class UpdateAccepted(Effect, frozen=True):
    """Tell those who wait that an update is accepted, unless it is completed already."""

    update_id: str


class UpdateCompleted(Effect, frozen=True):
    """Tell those who wait how an update ended."""

    update_id: str
    result: list[Payload]
    failure: Failure | None


class RejectUpdateOf(Effect, frozen=True):
    """Tell those who wait that an update was rejected, and forget it."""

    update_id: str
    failure: Failure


class EndUpdates(Effect, frozen=True):
    """The run takes no updates any more: refuse those kept and, if it ``is_closed``, fail those accepted."""

    code: ErrorCode
    message: str
    is_closed: bool


class Summarize(Effect, frozen=True):
    """Tell the visibility feed how the run stands."""


class DropSummary(Effect, frozen=True):
    """The run is deleted: the visibility feed forgets it."""


class Ignored(Effect, frozen=True):
    """The command changes nothing (late, doubled, unknown): counted under ``reason`` (I3, I6)."""

    reason: str
