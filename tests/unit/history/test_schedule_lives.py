"""Random lives of a schedule: engines that change, messages that come twice, fires that come late, and the audit.

What must hold whatever happens: no time is fired twice, every time is accounted for, and every workflow that the
schedule says it started is there once.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure_schemas import codec
from perdure_schemas.keys import is_mark
from perdure_schemas.records import (
    BackfillRange,
    BackfillSchedule,
    Failure,
    FailureKind,
    HistoryRecord,
    OverlapPolicy,
    PauseSchedule,
    ScheduleRecorded,
    ScheduleSpec,
    TriggerSchedule,
    UnpauseSchedule,
    UpdateSchedule,
    WorkflowExecutionStarted,
)
from perdure_schemas.records import ScheduleInterval as Interval
from tests.unit.history.scheduler import BEGIN_MS, MINUTE_MS, Scheduler, definition
from tests.unit.history.test_takeover import successor
from tests.unit.ops.audit.test_schedule_checks import breaches

FAILURE = Failure(kind=FailureKind.APPLICATION, message="no")
POLICIES = st.sampled_from(list(OverlapPolicy))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wake"), st.integers(0, 4)),
        st.tuples(st.sampled_from(["complete", "fail", "pause", "unpause", "takeover"]), st.just(0)),
        st.tuples(st.just("trigger"), POLICIES),
        st.tuples(st.just("backfill"), POLICIES),
        st.tuples(st.just("update"), POLICIES),
        st.tuples(st.just("lose"), st.just(0)),
    ),
    max_size=20,
)


def take_over(scheduler: Scheduler, times: int) -> Scheduler:
    """A new owner, who sends again everything that was ever sent."""
    after = Scheduler(successor(scheduler.history, committed=0), times=times)
    after.family.pump()
    return after


def step(scheduler: Scheduler, what: str, value: object, times: int) -> Scheduler:
    running = scheduler.running()
    if what == "wake" and scheduler.due_ms():
        assert isinstance(value, int)
        scheduler.wake(at_ms=scheduler.history.now_ms + value * MINUTE_MS)
    elif what == "complete" and running:
        scheduler.complete(running[0])
    elif what == "fail" and running:
        scheduler.fail(running[-1], FAILURE)
    elif what == "pause":
        scheduler.ask(PauseSchedule())
    elif what == "unpause":
        scheduler.ask(UnpauseSchedule())
    elif what == "trigger":
        assert isinstance(value, OverlapPolicy)
        scheduler.ask(TriggerSchedule(overlap=value))
    elif what == "backfill":
        assert isinstance(value, OverlapPolicy)
        part = BackfillRange(start_ms=BEGIN_MS - 3 * MINUTE_MS, end_ms=BEGIN_MS, overlap=value)
        scheduler.ask(BackfillSchedule(ranges=[part]))
    elif what == "update":
        assert isinstance(value, OverlapPolicy)
        spec = ScheduleSpec(intervals=[Interval(every_ms=2 * MINUTE_MS, offset_ms=1_000)])
        scheduler.ask(UpdateSchedule(definition=definition(overlap=value, spec=spec, pause_on_failure=True)))
    elif what == "lose" and scheduler.due_ms():
        # What the wake-up leads to is lost with the engine; the next one sends it again.
        scheduler.wake(pump=False)
        scheduler.family.drop()
        return take_over(scheduler, times)
    elif what == "takeover":
        return take_over(scheduler, times)
    return scheduler


@settings(max_examples=12, deadline=None)
@given(policy=POLICIES, steps=STEPS, times=st.integers(1, 2))
def test_no_fire_is_lost_or_doubled(policy: OverlapPolicy, steps: list[tuple[str, object]], times: int) -> None:
    scheduler = Scheduler(times=times)
    scheduler.make(overlap=policy)
    for what, value in steps:
        scheduler = step(scheduler, what, value, times)
    scheduler = take_over(scheduler, times)
    log = scheduler.history.log
    assert breaches(log) == []
    told: Counter[int] = Counter()
    nominal: Counter[int] = Counter()
    runs: Counter[int] = Counter()
    for record in log:
        if record.value is None or is_mark(record.key):
            continue
        for event in codec.decode_as(record.value, HistoryRecord).events:
            attributes = event.attributes
            if isinstance(attributes, ScheduleRecorded):
                told.update(attributes.started)
                started = [fire for fire in attributes.progress.running if fire.number in attributes.started]
                nominal.update(fire.nominal_ms for fire in started if not fire.manual)
            elif isinstance(attributes, WorkflowExecutionStarted) and attributes.scheduled_by is not None:
                runs[attributes.scheduled_by.number] += 1
    progress = scheduler.progress
    assert set(told.values()) | set(nominal.values()) | set(runs.values()) <= {1}
    assert set(told) == set(range(1, progress.newest_number + 1))
    assert progress.actions == progress.newest_number - progress.refused
    assert len(runs) == progress.actions
