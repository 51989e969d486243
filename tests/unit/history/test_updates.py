"""Updates in the core and the partition: speculative tasks, acceptance, rejection, ids, ends and takeovers."""

from __future__ import annotations

from typing import Any

from perdure_history.config import HistoryConfig
from perdure_history.core.policy import Policy
from perdure_schemas import codec, keys
from perdure_schemas.records import (
    AcceptUpdate,
    AwaitUpdate,
    Command,
    CompleteUpdate,
    CompleteWorkflowExecution,
    ErrorCode,
    Failure,
    FailureKind,
    IdConflictPolicy,
    QueryTaskExpired,
    Rejected,
    RejectUpdate,
    ReplyBody,
    ScheduleActivityTask,
    SignalInput,
    SignalWorkflow,
    Started,
    TerminateWorkflow,
    UpdateAnswer,
    UpdateRequest,
    UpdateStage,
    UpdateWorkflow,
    WorkflowTask,
    WorkflowTaskCompleted,
    WorkflowTaskFailed,
)
from tests.unit.history.harness import NAMES, START_MS, History, body_of, options, payload, reply_to, start
from tests.unit.history.test_takeover import epochs, successor

REQUEST = UpdateRequest(update_id="u", name="add", input=[payload("1")])
SIGNAL = SignalWorkflow(signal=SignalInput(signal_name="s"))
NO = Failure(kind=FailureKind.APPLICATION, message="no")
DONE = CompleteUpdate(update_id="u", result=[payload("2")])
COMPLETED = UpdateAnswer(run_id="run", update_id="u", stage=UpdateStage.COMPLETED, result=[payload("2")])
ACCEPTED = UpdateAnswer(run_id="run", update_id="u", stage=UpdateStage.ACCEPTED)


def update(request: UpdateRequest = REQUEST, **fields: Any) -> UpdateWorkflow:
    return UpdateWorkflow(**{"request": request, "expires_at_ms": START_MS + 60_000, **fields})


def idle(config: HistoryConfig | None = None) -> History:
    """A run whose code waits."""
    history = History(config)
    history.send(start())
    history.complete_task(sticky_worker_id="w")
    return history


def ask(history: History, body: Any, request_id: str = "r") -> list[ReplyBody]:
    history.send(body, reply=reply_to(request_id))
    return answers(history)


def answers(history: History) -> list[ReplyBody]:
    return [reply.body for reply in history.replies()]


def task_of(history: History) -> WorkflowTask:
    """The one task that was sent."""
    (task,) = history.tasks()
    body = body_of(task)
    assert isinstance(body, WorkflowTask)
    return body


def answer(history: History, task: WorkflowTask, *commands: Any, **fields: Any) -> list[ReplyBody]:
    body = WorkflowTaskCompleted(
        scheduled_event_id=task.scheduled_event_id,
        attempt=task.attempt,
        last_event_id=task.last_event_id,
        started_time_ms=history.now_ms,
        commands=list(commands),
        sticky_worker_id="w",
        speculative_id=task.speculative_id,
    )
    history.send(body, run_id="run", **fields)
    return answers(history)


def accept(request: UpdateRequest = REQUEST) -> AcceptUpdate:
    return AcceptUpdate(request=request)


def test_an_update_for_an_idle_run_is_one_history_record() -> None:
    history = idle()
    assert ask(history, update()) == []
    assert history.kinds() == [], "nothing has happened yet"
    task = task_of(history)
    assert (task.updates, task.scheduled_event_id, task.last_event_id) == ([REQUEST], 4, 4)
    assert answer(history, task, accept(), DONE) == [COMPLETED]
    assert history.kinds() == [
        "WorkflowTaskScheduled",
        "WorkflowTaskCompletedEvent",
        "WorkflowExecutionUpdateAccepted",
        "WorkflowExecutionUpdateCompleted",
    ]
    assert history.outstanding(NAMES.tasks) == {}
    assert len([record for record in history.sent if record.topic == NAMES.history]) == 1


def test_a_rejected_update_leaves_nothing() -> None:
    history = idle()
    ask(history, update())
    before = history.run().last_event_id
    rejected = UpdateAnswer(run_id="run", update_id="u", stage=UpdateStage.COMPLETED, failure=NO)
    assert answer(history, task_of(history), RejectUpdate(update_id="u", failure=NO)) == [rejected]
    assert history.run().last_event_id == before
    assert [record for record in history.sent if record.topic == NAMES.history] == []
    assert history.outstanding(NAMES.tasks) == {}
    ask(history, update())
    assert task_of(history).updates == [REQUEST], "a rejected id may be tried again"


def test_stages() -> None:
    history = idle()
    history.send(update(), reply=reply_to("c"))
    task = task_of(history)
    history.send(update(wait_stage=UpdateStage.ACCEPTED), reply=reply_to("a"))
    assert history.sent == [], "the same update is sent out once"
    answer(history, task, accept())
    assert {reply.request_id: reply.body for reply in history.replies()} == {"a": ACCEPTED, "c": ACCEPTED}
    assert ask(history, AwaitUpdate(update_id="u"), "later") == [ACCEPTED]
    history.send(SIGNAL)
    history.complete_task(DONE)
    assert {reply.request_id: reply.body for reply in history.replies()} == {"c": COMPLETED, "later": COMPLETED}


def test_i3_the_same_update_has_the_same_outcome_also_after_the_end() -> None:
    history = idle()
    ask(history, update())
    answer(history, task_of(history), accept(), DONE, CompleteWorkflowExecution())
    for body in (update(), AwaitUpdate(update_id="u")):
        assert ask(history, body) == [COMPLETED]
        assert history.kinds() == []
    (refused,) = ask(history, AwaitUpdate(update_id="other"))
    assert isinstance(refused, Rejected) and refused.code is ErrorCode.NOT_FOUND
    (refused,) = ask(history, update(UpdateRequest(update_id="new", name="add")))
    assert isinstance(refused, Rejected) and "already completed" in refused.message


def test_a_repeated_answer_changes_nothing() -> None:
    history = idle()
    ask(history, update())
    task = task_of(history)
    answer(history, task, accept(), DONE)
    assert answer(history, task, accept(), DONE) == []
    assert history.kinds() == []


def test_what_happens_meanwhile_voids_the_speculative_task() -> None:
    history = idle()
    ask(history, update())
    speculative = task_of(history)
    history.send(SIGNAL)
    real = task_of(history)
    assert real.updates == [REQUEST], "the task that stands in the history takes the update along"
    assert list(history.outstanding(NAMES.tasks)) == [keys.workflow_task_id("run", real.scheduled_event_id, 1)]
    assert answer(history, speculative, accept(), DONE) == []
    assert history.kinds() == []
    assert answer(history, real, accept(), DONE) == [COMPLETED]


def test_an_update_that_comes_while_a_task_is_out_goes_out_after_it() -> None:
    history = History()
    history.send(start())
    first = task_of(history)
    ask(history, update())
    assert history.sent == []
    answer(history, first)
    assert task_of(history).updates == [REQUEST]
    assert answer(history, task_of(history), accept(), DONE) == [COMPLETED]


def test_a_failed_speculative_task_becomes_one_of_the_history() -> None:
    history = idle()
    ask(history, update())
    task = task_of(history)
    failed = WorkflowTaskFailed(
        scheduled_event_id=task.scheduled_event_id,
        attempt=1,
        cause="WORKFLOW_WORKER_UNHANDLED_FAILURE",
        failure=NO,
        speculative_id=task.speculative_id,
    )
    history.send(failed, run_id="run")
    assert history.kinds() == ["WorkflowTaskScheduled"]
    assert task_of(history).updates == [REQUEST]
    assert answer(history, task_of(history), accept(), DONE) == [COMPLETED]


def test_ends_answer_everybody() -> None:
    history = idle()
    history.send(update(), reply=reply_to("accepted"))
    answer(history, task_of(history), accept())
    history.send(update(UpdateRequest(update_id="v", name="add")), reply=reply_to("held"))
    history.send(TerminateWorkflow())
    told = {reply.request_id: reply.body for reply in history.replies()}
    ended = told["accepted"]
    assert isinstance(ended, UpdateAnswer) and ended.failure is not None
    assert ended.failure.type == "AcceptedUpdateCompletedWorkflow"
    assert isinstance(told["held"], Rejected)
    assert history.outstanding(NAMES.tasks) == {}
    assert ask(history, update()) == [ended]


def test_an_expired_task_is_dropped_with_its_updates() -> None:
    history = idle()
    ask(history, update())
    (record,) = history.tasks()
    assert record.expires_at_ms == START_MS + 60_000
    history.now_ms += 60_000
    history.send(QueryTaskExpired(query_id=keys.query_id_of(record.task_id)), run_id="run")
    assert history.outstanding(NAMES.tasks) == {}
    assert history.tasks() == []


def test_a_worker_that_ignores_an_update_ends_it_with_an_error() -> None:
    history = idle()
    ask(history, update())
    for _ in range(100):
        found = history.tasks()
        if not found:
            break
        answer(history, task_of(history))
    (refused,) = answers(history)
    assert isinstance(refused, Rejected) and refused.code is ErrorCode.INTERNAL


def test_what_is_wrong_is_said() -> None:
    history = idle(HistoryConfig(policy=Policy(updates_max=1, update_input_bytes_max=10)))
    for request, words in (
        (UpdateRequest(update_id="u", name=""), "update name"),
        (UpdateRequest(update_id="", name="add"), "update id"),
        (UpdateRequest(update_id="u", name="add", input=[payload("x" * 11)]), "11 bytes"),
    ):
        (refused,) = ask(history, update(request))
        assert isinstance(refused, Rejected) and words in refused.message
        assert refused.code is ErrorCode.INVALID_ARGUMENT
    ask(history, update())
    answer(history, task_of(history), accept(), DONE)
    (refused,) = ask(history, update(UpdateRequest(update_id="v", name="add")))
    assert isinstance(refused, Rejected) and refused.code is ErrorCode.RESOURCE_EXHAUSTED


def test_senseless_messages_fail_the_task() -> None:
    history = idle()
    history.send(SIGNAL)
    history.complete_task(DONE)
    assert history.kinds() == ["WorkflowTaskFailedEvent"]
    history.complete_task(accept(), accept())
    history.now_ms += 10_000
    assert history.run().updates == {}


def test_an_activity_that_a_speculative_task_scheduled_is_retried_with_its_input() -> None:
    history = idle()
    ask(history, update())
    answer(history, task_of(history), accept(), ScheduleActivityTask(options=options()))
    (scheduled,) = history.run().activities
    activity = history.run().activities[scheduled]
    found = history.handler._runs.events_of_record("run", activity.record_event_id)
    assert scheduled in [event.event_id for event in found]


# --- with a start -----------------------------------------------------------------------------------------------------


def with_start(run_id: str = "run", **fields: Any) -> Any:
    return start(run_id, update=REQUEST, update_expires_at_ms=START_MS + 60_000, **fields)


def test_update_with_start() -> None:
    history = History()
    assert ask(history, with_start()) == [Started(run_id="run", first_execution_run_id="run")]
    task = task_of(history)
    assert task.updates == [REQUEST] and not task.speculative_id
    assert answer(history, task, accept(), DONE) == [COMPLETED]
    existing = ask(history, with_start("other", id_conflict_policy=IdConflictPolicy.USE_EXISTING))
    assert isinstance(existing[0], Started) and existing[0].run_id == "run"
    assert existing[1] == COMPLETED


def test_update_with_start_is_both_or_neither() -> None:
    history = History()
    (refused,) = ask(history, start(update=UpdateRequest(update_id="u", name=""), update_expires_at_ms=START_MS + 1))
    assert isinstance(refused, Rejected)
    assert history.kinds() == []
    history.send(start())
    (refused,) = ask(history, with_start("other", id_conflict_policy=IdConflictPolicy.FAIL))
    assert isinstance(refused, Rejected) and refused.code is ErrorCode.ALREADY_EXISTS
    history.complete_task()
    assert history.tasks() == [], "the update was not taken either"


# --- takeovers --------------------------------------------------------------------------------------------------------


def test_a_new_owner_gets_the_update_from_its_asker_again() -> None:
    old = idle()
    ask(old, update())
    orphan = task_of(old)
    new = successor(old, committed=old.offset)
    assert new.tasks() == [], "what is not accepted is not in the history"
    ask(new, update())
    speculative = task_of(new)
    # The orphan's answer comes first: it counts, and the other one is void.
    assert answer(new, orphan, accept(), DONE) == [COMPLETED]
    assert answer(new, speculative, accept(), DONE) == []
    assert new.kinds() == []
    assert ask(new, update()) == [COMPLETED]
    assert sorted(new.outstanding(NAMES.tasks)) == []


def test_a_task_of_an_earlier_owner_is_dropped_when_it_is_answered_after_the_end() -> None:
    old = idle()
    ask(old, update())
    orphan = task_of(old)
    new = successor(old, committed=old.offset)
    ask(new, update())
    assert answer(new, task_of(new), accept(), DONE, CompleteWorkflowExecution()) == [COMPLETED]
    assert answer(new, orphan, accept(), DONE) == []
    assert new.kinds() == []
    task_id = keys.query_task_id("run", orphan.speculative_id)
    epochs_before_and_now = [(task_id, int(orphan.speculative_id.partition(".")[0])), (task_id, new.epoch)]
    assert epochs(new, NAMES.tasks) == epochs_before_and_now
    assert new.tombstones(NAMES.tasks) == [task_id, task_id]


def test_i1_a_deposed_owner_writes_nothing_under_its_successors_epoch() -> None:
    old = idle()
    new = successor(old, committed=old.offset)
    ask(new, update())
    task = task_of(new)
    answer(old, task, accept(), DONE)
    written = epochs(old, NAMES.tasks)
    assert {epoch for _, epoch in written} <= {old.epoch}
    answer(new, task, accept(), DONE)
    assert keys.query_task_id("run", task.speculative_id) in new.tombstones(NAMES.tasks)


def test_an_accepted_update_survives_a_takeover() -> None:
    old = idle()
    ask(old, update())
    answer(old, task_of(old), accept())
    new = successor(old, committed=old.offset)
    assert new.run().updates == old.run().updates
    assert ask(new, AwaitUpdate(update_id="u")) == [ACCEPTED]
    new.send(SIGNAL)
    new.complete_task(DONE)
    assert answers(new) == [COMPLETED]
    third = successor(new, committed=new.offset)
    assert ask(third, update()) == [COMPLETED]


def test_commands_of_updates_are_readable_by_every_version() -> None:
    command = Command(command_id="c", workflow_id="w", body=update())
    assert codec.decode_as(codec.encode(command), Command) == command
