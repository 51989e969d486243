"""Schedules in the engine: fires, overlap policies, pauses, backfills, and that each fire makes exactly one run."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from perdure_history.config import HistoryConfig
from perdure_history.core.policy import Policy
from perdure_schemas import codec, keys, limits, records
from perdure_schemas.records import (
    BackfillRange,
    BackfillSchedule,
    CancelWorkflowExecution,
    DeleteSchedule,
    DescribeSchedule,
    DescribeWorkflow,
    Done,
    ErrorCode,
    ExecutionSummary,
    Failure,
    FailureKind,
    ListScheduleTimes,
    OverlapPolicy,
    PauseSchedule,
    Rejected,
    ScheduleAction,
    ScheduleInterval,
    ScheduleSpec,
    ScheduleTimes,
    Started,
    TerminateWorkflow,
    TriggerSchedule,
    UnpauseSchedule,
    UpdateSchedule,
    WorkflowStatus,
)
from tests.unit.history.harness import NAMES, History, payload, start
from tests.unit.history.scheduler import BEGIN_MS, MINUTE_MS, WORKFLOW_ID, Scheduler, create, definition, fire
from tests.unit.history.test_takeover import successor

FAILURE = Failure(kind=FailureKind.APPLICATION, message="no", type="Oops")
HOUR_MS = 60 * MINUTE_MS


def made(times: int = 1, **fields: Any) -> Scheduler:
    scheduler = Scheduler(times=times)
    assert isinstance(scheduler.make(**fields), Started)
    return scheduler


# --- fires ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_i3_each_fire_starts_one_workflow_however_often_it_is_said(times: int) -> None:
    scheduler = made(times)
    for minute in (1, 2, 3):
        scheduler.wake()
        run_id = scheduler.family.current(fire(minute))
        started = scheduler.history.history(run_id)[0].attributes
        assert isinstance(started, records.WorkflowExecutionStarted)
        assert (started.workflow_type, started.task_queue, started.input) == ("Report", "reports", [payload("in")])
        assert started.scheduled_by is not None
        assert started.scheduled_by.nominal_ms == BEGIN_MS + minute * MINUTE_MS
        scheduler.complete(fire(minute))
    assert scheduler.workflows() == [fire(1), fire(2), fire(3)]
    assert (scheduler.progress.actions, scheduler.running()) == (3, [])
    assert [shown.status for shown in scheduler.progress.recent] == [WorkflowStatus.COMPLETED] * 3


def test_what_a_schedule_starts_can_be_found_by_it() -> None:
    scheduler = made()
    scheduler.wake()
    attributes = scheduler.history.run(scheduler.family.current(fire(1))).search_attributes
    assert attributes["ScheduledById"].data == b'"nightly"'
    assert attributes["ScheduledStartTime"].data == b'"' + fire(1).removeprefix("report-").encode() + b'"'


def test_a_result_is_handed_to_the_next_run_and_a_failure_with_it() -> None:
    scheduler = made()
    scheduler.wake()
    scheduler.complete(fire(1), "first")
    scheduler.wake()
    scheduler.fail(fire(2), FAILURE)
    scheduler.wake()
    second, third = (
        scheduler.history.history(scheduler.family.current(fire(minute)))[0].attributes for minute in (2, 3)
    )
    assert (second.last_completion_result, second.last_failure) == ([payload("first")], None)
    assert (third.last_completion_result, third.last_failure) == ([payload("first")], FAILURE)


def test_a_chain_of_runs_is_one_run_of_the_schedule() -> None:
    scheduler = made(overlap=OverlapPolicy.BUFFER_ONE)
    scheduler.wake()
    run_id = scheduler.family.current(fire(1))
    again = records.ContinueAsNewWorkflowExecution(workflow_type="Report", task_queue="reports")
    scheduler.family.act(run_id, again)
    scheduler.wake()
    assert scheduler.running() == [fire(1)]
    scheduler.complete(fire(1))
    assert scheduler.running() == [fire(2)]


def test_jitter_moves_the_fire_and_not_its_name() -> None:
    spec = ScheduleSpec(intervals=[ScheduleInterval(every_ms=HOUR_MS)], jitter_ms=HOUR_MS)
    scheduler = made(spec=spec)
    due_ms = scheduler.due_ms()
    scheduler.wake()
    (shown,) = scheduler.progress.recent
    assert (shown.scheduled_ms, shown.started_ms) == (due_ms, due_ms)
    assert 0 < due_ms - shown.nominal_ms < HOUR_MS
    assert shown.nominal_ms % HOUR_MS == 0
    assert scheduler.describe().next_ms[0] == scheduler.due_ms()


def test_two_triggers_of_one_moment_are_two_workflows() -> None:
    scheduler = made(paused=True)
    for _ in range(2):
        assert scheduler.ask(TriggerSchedule(overlap=OverlapPolicy.ALLOW_ALL)) == Done()
    first, second = scheduler.workflows()
    assert first == fire(0)
    assert second == fire(0).replace("Z", ".001Z")


# --- overlap ----------------------------------------------------------------------------------------------------------


def test_skip_leaves_out_what_comes_while_one_runs() -> None:
    scheduler = made()
    scheduler.wake_until(BEGIN_MS + 3 * MINUTE_MS)
    assert scheduler.running() == [fire(1)]
    scheduler.complete(fire(1))
    assert scheduler.running() == []
    scheduler.wake()
    assert scheduler.workflows() == [fire(1), fire(4)]
    assert scheduler.omitted() == [(2, "OVERLAP"), (3, "OVERLAP")]
    assert scheduler.progress.skipped_overlap == 2


def test_buffer_one_keeps_the_first_that_comes_while_one_runs() -> None:
    scheduler = made(overlap=OverlapPolicy.BUFFER_ONE)
    scheduler.wake_until(BEGIN_MS + 3 * MINUTE_MS)
    scheduler.complete(fire(1))
    assert scheduler.running() == [fire(2)]
    scheduler.complete(fire(2))
    assert scheduler.running() == []
    assert scheduler.omitted() == [(3, "OVERLAP")]


def test_buffer_all_keeps_everything_in_order() -> None:
    scheduler = made(overlap=OverlapPolicy.BUFFER_ALL)
    scheduler.wake_until(BEGIN_MS + 4 * MINUTE_MS)
    for minute in (1, 2, 3, 4):
        assert scheduler.running() == [fire(minute)]
        scheduler.complete(fire(minute))
    assert scheduler.running() == []
    assert scheduler.progress.actions == 4


def test_cancel_other_waits_for_the_end_of_what_it_cancels() -> None:
    scheduler = made(overlap=OverlapPolicy.CANCEL_OTHER)
    scheduler.wake_until(BEGIN_MS + 3 * MINUTE_MS)
    run_id = scheduler.family.current(fire(1))
    asked = [
        event for event in scheduler.history.history(run_id) if "CancelRequested" in type(event.attributes).__name__
    ]
    assert len(asked) == 1
    assert scheduler.running() == [fire(1)]
    scheduler.family.act(run_id, CancelWorkflowExecution())
    assert scheduler.running() == [fire(3)]
    assert scheduler.omitted() == [(2, "OVERLAP")]
    assert scheduler.progress.recent[0].status is WorkflowStatus.CANCELED


def test_terminate_other_ends_what_runs_and_starts_at_once() -> None:
    scheduler = made(overlap=OverlapPolicy.TERMINATE_OTHER)
    scheduler.wake_until(BEGIN_MS + 2 * MINUTE_MS)
    assert scheduler.running() == [fire(2)]
    assert scheduler.history.run(keys.scheduled_run_id("schedule", 1)).status is WorkflowStatus.TERMINATED


def test_allow_all_runs_them_beside_each_other_and_hands_nothing_on() -> None:
    scheduler = made(overlap=OverlapPolicy.ALLOW_ALL)
    scheduler.wake_until(BEGIN_MS + 2 * MINUTE_MS)
    assert scheduler.running() == [fire(1), fire(2)]
    scheduler.complete(fire(1))
    scheduler.wake()
    third = scheduler.history.history(scheduler.family.current(fire(3)))[0].attributes
    assert third.last_completion_result == []
    assert scheduler.running() == [fire(2), fire(3)]


def test_what_runs_beside_the_others_keeps_none_of_them_from_starting() -> None:
    scheduler = made()
    scheduler.ask(TriggerSchedule(overlap=OverlapPolicy.ALLOW_ALL))
    scheduler.wake()
    assert scheduler.running() == [fire(0), fire(1)]


def test_a_full_buffer_omits_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure_schemas.limits.SCHEDULE_BUFFERED_MAX", 2)
    scheduler = made(overlap=OverlapPolicy.BUFFER_ALL)
    scheduler.wake_until(BEGIN_MS + 4 * MINUTE_MS)
    assert scheduler.omitted() == [(4, "BUFFER_FULL")]
    assert scheduler.progress.dropped_buffer == 1


def test_only_so_many_workflows_are_kept_in_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure_schemas.limits.SCHEDULE_RUNNING_MAX", 2)
    scheduler = made(overlap=OverlapPolicy.ALLOW_ALL)
    scheduler.wake_until(BEGIN_MS + 3 * MINUTE_MS)
    assert scheduler.running() == [fire(2), fire(3)]
    scheduler.complete(fire(1))
    assert scheduler.progress.actions == 3


# --- what was missed --------------------------------------------------------------------------------------------------


def test_times_missed_within_the_catchup_window_are_made_up_for() -> None:
    scheduler = made(overlap=OverlapPolicy.ALLOW_ALL, catchup_window_ms=2 * MINUTE_MS)
    scheduler.wake(at_ms=BEGIN_MS + 5 * MINUTE_MS)
    assert scheduler.workflows() == [fire(3), fire(4), fire(5)]
    assert scheduler.omitted() == [(1, "CATCHUP_WINDOW"), (2, "CATCHUP_WINDOW")]
    assert scheduler.progress.missed_catchup_window == 2


def test_a_catchup_window_is_never_shorter_than_its_minimum() -> None:
    scheduler = made(catchup_window_ms=0)
    scheduler.wake(at_ms=BEGIN_MS + MINUTE_MS + limits.SCHEDULE_CATCHUP_MS_MIN)
    assert scheduler.workflows() == [fire(1)]
    scheduler.complete(fire(1))
    scheduler.wake(at_ms=BEGIN_MS + 2 * MINUTE_MS + limits.SCHEDULE_CATCHUP_MS_MIN + 1)
    assert scheduler.omitted() == [(2, "CATCHUP_WINDOW")]


def test_a_decision_covers_so_many_times_and_the_next_one_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure_schemas.limits.SCHEDULE_TIMES_PER_DECISION_MAX", 2)
    scheduler = made(overlap=OverlapPolicy.ALLOW_ALL)
    late_ms = BEGIN_MS + 5 * MINUTE_MS
    scheduler.wake(at_ms=late_ms)
    assert (scheduler.progress.actions, scheduler.due_ms()) == (2, late_ms)
    scheduler.wake_until(late_ms)
    assert scheduler.progress.actions == 5
    assert scheduler.due_ms() == late_ms + MINUTE_MS


def test_a_decision_starts_so_many_workflows_and_the_next_one_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure_schemas.limits.SCHEDULE_STARTS_PER_DECISION_MAX", 2)
    scheduler = made(overlap=OverlapPolicy.ALLOW_ALL)
    late_ms = BEGIN_MS + 5 * MINUTE_MS
    scheduler.wake(at_ms=late_ms)
    assert scheduler.progress.actions == 2
    scheduler.wake_until(late_ms)
    assert scheduler.workflows() == [fire(minute) for minute in (1, 2, 3, 4, 5)]


# --- pauses and limits ------------------------------------------------------------------------------------------------


def test_a_paused_schedule_fires_by_hand_only() -> None:
    scheduler = made(paused=True, note="later")
    assert (scheduler.due_ms(), scheduler.progress.note) == (0, "later")
    assert scheduler.describe().next_ms[0] == BEGIN_MS + MINUTE_MS
    scheduler.history.now_ms += 10 * MINUTE_MS
    scheduler.ask(TriggerSchedule())
    assert scheduler.workflows() == [fire(10)]
    scheduler.complete(fire(10))
    scheduler.ask(UnpauseSchedule(note="now"))
    assert (scheduler.due_ms(), scheduler.progress.note) == (BEGIN_MS + 11 * MINUTE_MS, "now")
    scheduler.wake()
    assert scheduler.workflows() == [fire(10), fire(11)]


def test_a_pause_keeps_what_was_due_before_it_and_stops_what_waits() -> None:
    scheduler = made(overlap=OverlapPolicy.BUFFER_ALL)
    scheduler.wake()
    scheduler.history.now_ms = BEGIN_MS + 2 * MINUTE_MS
    scheduler.ask(PauseSchedule(note="hold"))
    assert [waiting.nominal_ms for waiting in scheduler.progress.buffered] == []
    assert scheduler.omitted() == [(2, "PAUSED")]
    assert (scheduler.running(), scheduler.due_ms()) == ([fire(1)], BEGIN_MS + 2 * MINUTE_MS)
    scheduler.wake()
    assert scheduler.due_ms() == 0


def test_an_early_wake_up_finds_nothing_and_is_armed_anew() -> None:
    scheduler = made()
    later = definition(spec=ScheduleSpec(intervals=[ScheduleInterval(every_ms=HOUR_MS)]))
    assert scheduler.ask(UpdateSchedule(definition=later)) == Done()
    assert scheduler.due_ms() == BEGIN_MS + MINUTE_MS
    scheduler.wake()
    assert scheduler.workflows() == []
    assert scheduler.due_ms() % HOUR_MS == 0


def test_a_failure_pauses_a_schedule_that_wants_it() -> None:
    scheduler = made(pause_on_failure=True)
    scheduler.wake()
    scheduler.fail(fire(1), FAILURE)
    assert scheduler.progress.paused
    assert scheduler.progress.note == f"paused because workflow {fire(1)!r} failed: no"
    assert scheduler.progress.recent[0].status is WorkflowStatus.FAILED


def test_actions_run_out_by_the_spec_and_not_by_hand() -> None:
    scheduler = made(limited_actions=True, remaining_actions=2, overlap=OverlapPolicy.ALLOW_ALL)
    scheduler.ask(TriggerSchedule())
    scheduler.wake_until(BEGIN_MS + 5 * MINUTE_MS)
    assert scheduler.workflows() == [fire(0), fire(1), fire(2)]
    assert (scheduler.progress.remaining_actions, scheduler.due_ms()) == (0, 0)
    scheduler.ask(TriggerSchedule())
    assert scheduler.progress.actions == 4


def test_actions_that_do_not_remain_leave_the_buffer_empty() -> None:
    scheduler = made(limited_actions=True, remaining_actions=1, overlap=OverlapPolicy.BUFFER_ALL)
    scheduler.wake(at_ms=BEGIN_MS + 3 * MINUTE_MS)
    assert scheduler.workflows() == [fire(1)]
    assert scheduler.omitted() == [(2, "NO_ACTIONS_REMAIN"), (3, "NO_ACTIONS_REMAIN")]


# --- backfills --------------------------------------------------------------------------------------------------------


def test_a_backfill_includes_both_ends() -> None:
    scheduler = made(paused=True, overlap=OverlapPolicy.ALLOW_ALL)
    part = BackfillRange(start_ms=BEGIN_MS - 3 * MINUTE_MS, end_ms=BEGIN_MS - MINUTE_MS)
    assert scheduler.ask(BackfillSchedule(ranges=[part])) == Done()
    assert scheduler.workflows() == [fire(-3), fire(-2), fire(-1)]
    assert scheduler.progress.backfills == []
    assert all(shown.manual for shown in scheduler.progress.recent)


def test_a_backfill_has_its_own_overlap_policy() -> None:
    scheduler = made()
    part = BackfillRange(start_ms=BEGIN_MS - 2 * MINUTE_MS, end_ms=BEGIN_MS, overlap=OverlapPolicy.BUFFER_ALL)
    scheduler.ask(BackfillSchedule(ranges=[part]))
    for minute in (-2, -1, 0):
        assert scheduler.running() == [fire(minute)]
        scheduler.complete(fire(minute))
    assert scheduler.omitted() == []


def test_a_long_backfill_waits_for_room_in_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure_schemas.limits.SCHEDULE_BUFFERED_MAX", 2)
    scheduler = made(paused=True)
    part = BackfillRange(start_ms=BEGIN_MS - 4 * MINUTE_MS, end_ms=BEGIN_MS, overlap=OverlapPolicy.BUFFER_ALL)
    scheduler.ask(BackfillSchedule(ranges=[part]))
    for minute in (-4, -3, -2, -1, 0):
        assert scheduler.running() == [fire(minute)]
        scheduler.complete(fire(minute))
    assert (scheduler.progress.actions, scheduler.progress.backfills, scheduler.omitted()) == (5, [], [])


def test_a_new_schedule_can_be_triggered_and_backfilled_at_once() -> None:
    part = BackfillRange(start_ms=BEGIN_MS - MINUTE_MS, end_ms=BEGIN_MS - MINUTE_MS)
    scheduler = made(trigger=True, backfills=[part], overlap=OverlapPolicy.ALLOW_ALL)
    assert scheduler.workflows() == [fire(0), fire(-1)]


def test_a_start_that_is_refused_is_no_action_and_says_why() -> None:
    scheduler = made(limited_actions=True, remaining_actions=5)
    scheduler.history.send(start("taken"), workflow_id=fire(1))
    scheduler.wake()
    assert (scheduler.progress.actions, scheduler.progress.remaining_actions, scheduler.running()) == (0, 5, [])
    (gap,) = scheduler.progress.omitted
    assert gap.reason.value == "START_REFUSED"
    assert gap.detail.startswith("WORKFLOW_ALREADY_EXISTS: ")
    assert (scheduler.workflows(), scheduler.progress.refused) == ([], 1)


# --- clients ----------------------------------------------------------------------------------------------------------


def test_a_repeated_command_of_a_client_changes_nothing() -> None:
    scheduler = made(overlap=OverlapPolicy.ALLOW_ALL)
    for _ in range(2):
        assert scheduler.ask(TriggerSchedule(), command_id="once") == Done()
    assert scheduler.progress.actions == 1
    changed = UpdateSchedule(definition=definition())
    for _ in range(2):
        assert scheduler.ask(changed, command_id="update") == Done()
    assert scheduler.progress.revision == 1


def test_a_schedule_knows_so_many_commands_and_shows_so_many_fires() -> None:
    scheduler = made(overlap=OverlapPolicy.ALLOW_ALL)
    count = limits.SCHEDULE_COMMANDS_KEPT_MAX + 1
    for number in range(count):
        scheduler.ask(TriggerSchedule(), command_id=f"trigger {number}")
    progress = scheduler.progress
    assert (progress.actions, len(progress.command_ids)) == (count, limits.SCHEDULE_COMMANDS_KEPT_MAX)
    assert [shown.number for shown in progress.recent] == list(range(count - limits.SCHEDULE_RECENT_MAX + 1, count + 1))


def test_a_schedule_has_so_many_backfills_at_a_time() -> None:
    scheduler = made(paused=True)
    part = BackfillRange(start_ms=BEGIN_MS, end_ms=BEGIN_MS)
    answer = scheduler.ask(BackfillSchedule(ranges=[part] * (limits.SCHEDULE_BACKFILLS_MAX + 1)))
    assert (answer.code, answer.message) == (
        ErrorCode.INVALID_ARGUMENT,
        "a schedule has at most 100 backfills that are not done",
    )


def test_a_schedule_exists_once() -> None:
    scheduler = Scheduler()
    first = scheduler.ask(create(), command_id="make")
    assert first == Started(run_id="schedule", first_execution_run_id="schedule")
    assert scheduler.ask(create(), command_id="make").run_id == "schedule"
    other = scheduler.ask(create("other"))
    assert (other.code, other.run_id) == (ErrorCode.ALREADY_EXISTS, "schedule")


def test_a_schedule_takes_no_run_id_of_a_workflow() -> None:
    scheduler = Scheduler()
    scheduler.history.send(start("taken"))
    answer = scheduler.ask(create("taken"))
    assert (answer.code, "belongs to workflow 'wf'" in answer.message) == (ErrorCode.INVALID_ARGUMENT, True)
    assert scheduler.history.run("taken").workflow_id == "wf"


def test_an_update_replaces_what_the_schedule_is_and_fires_what_was_due() -> None:
    scheduler = made()
    scheduler.history.now_ms = BEGIN_MS + MINUTE_MS
    action = ScheduleAction(workflow_id="other", workflow_type="Other", task_queue="reports")
    spec = ScheduleSpec(intervals=[ScheduleInterval(every_ms=HOUR_MS)])
    changed = UpdateSchedule(definition=definition(action=action, spec=spec), note="hourly", revision=0)
    assert scheduler.ask(changed) == Done()
    assert scheduler.workflows() == [fire(1).replace("report", "other")]
    described = scheduler.describe()
    assert (described.definition.action.workflow_type, described.progress.note) == ("Other", "hourly")
    assert (described.progress.revision, described.progress.updated_ms) == (1, BEGIN_MS + MINUTE_MS)
    refused = scheduler.ask(changed)
    assert refused.code is ErrorCode.FAILED_PRECONDITION


@pytest.mark.parametrize("body", [PauseSchedule(note="stop"), UnpauseSchedule(note="go on")])
def test_an_update_undoes_no_pause_that_came_after_what_it_was_made_from(body: Any) -> None:
    scheduler = made(paused=isinstance(body, UnpauseSchedule), note="as it was")
    read = scheduler.progress
    assert scheduler.ask(body) == Done()
    stale = UpdateSchedule(definition=definition(), paused=read.paused, note=read.note, revision=read.revision)
    assert scheduler.ask(stale).code is ErrorCode.FAILED_PRECONDITION
    now = scheduler.progress
    assert (now.paused, now.note) == (isinstance(body, PauseSchedule), body.note)
    again = UpdateSchedule(definition=definition(), paused=now.paused, note=now.note, revision=now.revision)
    assert scheduler.ask(again) == Done()


def test_an_update_gives_back_no_action_that_was_taken_meanwhile() -> None:
    scheduler = made(limited_actions=True, remaining_actions=3)
    read = scheduler.progress
    scheduler.wake()
    assert (scheduler.progress.remaining_actions, scheduler.progress.revision) == (2, read.revision + 1)
    stale = UpdateSchedule(definition=definition(), limited_actions=True, remaining_actions=9, revision=read.revision)
    assert scheduler.ask(stale).code is ErrorCode.FAILED_PRECONDITION


def test_what_an_update_does_not_write_makes_no_update_stale() -> None:
    scheduler = made(overlap=OverlapPolicy.ALLOW_ALL)
    read = scheduler.progress
    scheduler.wake()
    assert (scheduler.progress.actions, scheduler.progress.revision) == (1, read.revision)


def test_a_deleted_schedule_is_gone_and_what_it_started_goes_on() -> None:
    scheduler = made()
    scheduler.wake()
    assert scheduler.ask(DeleteSchedule(), command_id="away") == Done()
    assert scheduler.ask(DeleteSchedule(), command_id="away") == Done()
    for body in (DescribeSchedule(), DeleteSchedule(), TriggerSchedule()):
        assert scheduler.ask(body).code is ErrorCode.NOT_FOUND
    assert list(scheduler.history.outstanding(NAMES.timers)) == []
    assert keys.scheduled_run_id("schedule", 1) in scheduler.history.outstanding(NAMES.executions)
    assert "schedule" not in scheduler.history.outstanding(NAMES.executions)
    scheduler.complete(fire(1))
    assert isinstance(scheduler.make(run_id="anew"), Started)
    assert scheduler.progress.actions == 0


def test_times_are_listed_with_both_ends() -> None:
    scheduler = made()
    listed = scheduler.ask(ListScheduleTimes(start_ms=BEGIN_MS, end_ms=BEGIN_MS + 2 * MINUTE_MS))
    assert listed == ScheduleTimes(times_ms=[BEGIN_MS + minute * MINUTE_MS for minute in (0, 1, 2)])
    some = scheduler.ask(ListScheduleTimes(start_ms=BEGIN_MS, end_ms=BEGIN_MS + 2 * MINUTE_MS, times_max=2))
    assert (len(some.times_ms), some.is_complete) == (2, False)
    for times_max in (0, limits.SCHEDULE_TIMES_LISTED_MAX + 1):
        refused = scheduler.ask(ListScheduleTimes(start_ms=0, end_ms=1, times_max=times_max))
        assert refused.code is ErrorCode.INVALID_ARGUMENT


ACTION = definition().action


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule_id": ""}, "schedule id must have"),
        ({"schedule_id": "other"}, "cannot live under"),
        ({"run_id": "a/b"}, "cannot be the run id"),
        ({"action": msgspec.structs.replace(ACTION, workflow_id="")}, "workflow id must have 1 to 968"),
        ({"action": msgspec.structs.replace(ACTION, workflow_id="~schedule/x")}, "is one of a schedule"),
        ({"action": msgspec.structs.replace(ACTION, workflow_type="")}, "workflow type"),
        ({"action": msgspec.structs.replace(ACTION, run_timeout_ms=0)}, "run timeout is 0 ms"),
        ({"spec": ScheduleSpec(cron_expressions=["bad"])}, "'bad' has 1 fields"),
        ({"catchup_window_ms": -1}, "catch-up window"),
        ({"remaining_actions": 1}, "limited_actions is false"),
        ({"limited_actions": True, "remaining_actions": -1}, "-1 actions"),
        ({"backfills": [BackfillRange(start_ms=2, end_ms=1)]}, "ends before it starts"),
        ({"note": "x" * 10_001}, "10000 are allowed"),
        ({"memo": {"": payload("x")}}, "the memo has the key"),
    ],
)
def test_a_bad_schedule_is_refused_with_what_is_wrong(fields: dict[str, Any], message: str) -> None:
    scheduler = Scheduler()
    answer = scheduler.make(**fields)
    assert isinstance(answer, Rejected)
    assert answer.code is ErrorCode.INVALID_ARGUMENT
    assert message in answer.message
    assert scheduler.history.outstanding(NAMES.history) == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (BackfillSchedule(ranges=[]), "needs a range"),
        (BackfillSchedule(ranges=[BackfillRange(start_ms=2, end_ms=1)]), "ends before it starts"),
        (PauseSchedule(note="x" * 10_001), "10000 are allowed"),
        (UnpauseSchedule(note="x" * 10_001), "10000 are allowed"),
        (UpdateSchedule(definition=definition(spec=ScheduleSpec(jitter_ms=-1))), "jitter"),
    ],
)
def test_a_bad_change_is_refused_and_changes_nothing(body: Any, message: str) -> None:
    scheduler = made()
    before = scheduler.progress
    answer = scheduler.ask(body)
    assert answer.code is ErrorCode.INVALID_ARGUMENT
    assert message in answer.message
    assert scheduler.progress == before


def test_workflows_and_schedules_do_not_meet() -> None:
    scheduler = made()
    history = scheduler.history
    for body in (TerminateWorkflow(), DescribeWorkflow()):
        assert history.ask(body, workflow_id=WORKFLOW_ID).code is ErrorCode.FAILED_PRECONDITION
    refused = history.ask(start("mine"), workflow_id=WORKFLOW_ID)
    assert refused.code is ErrorCode.INVALID_ARGUMENT
    history.send(start("run"))
    assert history.ask(TriggerSchedule()).code is ErrorCode.NOT_FOUND
    missing = history.ask(TriggerSchedule(), workflow_id=keys.schedule_workflow_id("none"))
    assert missing.message == "schedule 'none' not found"


def test_the_visibility_feed_shows_the_schedule() -> None:
    scheduler = made(paused=True, note="hold")
    value = scheduler.history.outstanding(NAMES.executions)["schedule"]
    shown = codec.decode_as(value, ExecutionSummary).schedule
    assert shown is not None
    assert (shown.schedule_id, shown.workflow_type, shown.paused, shown.note) == ("nightly", "Report", True, "hold")
    assert shown.next_ms[0] == BEGIN_MS + MINUTE_MS


# --- takeovers --------------------------------------------------------------------------------------------------------


def taken_over(scheduler: Scheduler, committed: int | None = None) -> Scheduler:
    """The same schedule with a new owner, who knows the log alone."""
    return Scheduler(successor(scheduler.history, committed=committed))


def test_i2_a_new_owner_knows_all_of_it() -> None:
    scheduler = made(overlap=OverlapPolicy.BUFFER_ALL)
    scheduler.ask(UpdateSchedule(definition=definition(overlap=OverlapPolicy.BUFFER_ONE), note="new"))
    scheduler.wake_until(BEGIN_MS + 3 * MINUTE_MS)
    before = scheduler.describe()
    after = taken_over(scheduler)
    assert after.describe() == before
    assert after.due_ms() == scheduler.due_ms()


def test_i4_a_new_owner_sends_starts_that_may_be_unsent_and_they_make_no_second_run() -> None:
    scheduler = made()
    scheduler.wake(pump=False)
    lost = scheduler.family.pending()
    after = taken_over(scheduler, committed=0)
    assert [(sent.command_id, sent.body) for sent in after.family.pending()] == [
        (sent.command_id, sent.body) for sent in lost
    ]
    after.family.times = 2
    after.family.pump()
    assert after.running() == [fire(1)]
    assert len(after.family.kinds(after.family.current(fire(1)))) == 2
    assert after.progress.actions == 1


def test_i4_a_refused_start_is_not_sent_again() -> None:
    scheduler = made()
    scheduler.history.send(start("taken"), workflow_id=fire(1))
    scheduler.wake()
    scheduler.complete(fire(1))
    after = taken_over(scheduler, committed=0)
    assert [type(sent.body) for sent in after.family.pending()] == []
    assert after.progress.refused == 1


def test_i3_a_decision_that_left_no_trace_is_taken_again_with_the_same_ids() -> None:
    scheduler = made()
    before = list(scheduler.history.log)
    offset = scheduler.history.offset
    scheduler.wake(pump=False)
    (first,) = scheduler.family.pending()
    again = Scheduler(History(log=before, command_offset=offset, now_ms=scheduler.history.now_ms))
    again.wake(pump=False)
    (second,) = again.family.pending()
    assert (first.command_id, first.workflow_id, first.body) == (second.command_id, second.workflow_id, second.body)


def test_compaction_that_leaves_the_newest_records_alone_leaves_the_schedule() -> None:
    scheduler = made()
    scheduler.ask(UpdateSchedule(definition=definition(pause_on_failure=True)))
    for minute in (1, 2):
        scheduler.wake()
        scheduler.complete(fire(minute))
    newest = {record.key: record for record in scheduler.history.log}
    kept = [record for record in scheduler.history.log if newest[record.key] is record]
    assert len(kept) < len(scheduler.history.log)
    before = scheduler.describe()
    scheduler.history.log[:] = kept
    assert taken_over(scheduler).describe() == before


def test_i5_a_quarantined_schedule_can_be_described_released_and_deleted() -> None:
    scheduler = made()
    history = scheduler.history
    history.quarantine(history.record(TriggerSchedule(), workflow_id=WORKFLOW_ID))
    assert scheduler.ask(TriggerSchedule()).code is ErrorCode.QUARANTINED
    assert scheduler.describe().progress.actions == 0
    assert scheduler.ask(records.ReleaseWorkflow()) == Done()
    assert scheduler.ask(TriggerSchedule()) == Done()
    assert scheduler.progress.actions == 1


def test_a_result_too_large_to_carry_is_not_carried() -> None:
    scheduler = Scheduler(config=HistoryConfig(policy=Policy(carried_bytes_max=10)))
    scheduler.make()
    scheduler.wake()
    scheduler.complete(fire(1), "x" * 9)
    assert scheduler.progress.last_completion_result == []
    scheduler.wake()
    scheduler.complete(fire(2), "x" * 8)
    assert scheduler.progress.last_completion_result == [payload("x" * 8)]
