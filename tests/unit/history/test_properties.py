"""What holds for every life of every workflow, whatever happens in which order."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure_history.core.deadlines import earliest_ms
from perdure_history.core.state import ActivityStatus, RunState, WorkflowTaskStatus
from perdure_runtime.log import LogRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import Command
from tests.unit.history.harness import NAMES, DictStore, History, state_of
from tests.unit.history.random_life import RandomLife

NUMBER = st.integers(0, 200)
LIFE = st.lists(st.tuples(NUMBER, NUMBER, NUMBER), max_size=60)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def live(steps: list[tuple[int, int, int]]) -> RandomLife:
    life = RandomLife(History())
    for step in steps:
        life.step(*step)
    return life


def states(history: History, run_ids: list[str]) -> dict[str, RunState | None]:
    return {run_id: state_of(history.handler, run_id) for run_id in run_ids}


def compacted(log: list[LogRecord]) -> list[LogRecord]:
    newest = {record.key: record.offset for record in log}
    return [record for record in log if newest[record.key] == record.offset]


def wanted_tasks(run: RunState) -> set[str]:
    """The tasks that must be outstanding in ``tasks``."""
    wanted = {
        keys.activity_task_id(run.run_id, activity.scheduled_event_id, activity.attempt)
        for activity in run.activities.values()
        if activity.status is not ActivityStatus.BACKING_OFF
    }
    task = run.workflow_task
    if task is not None and task.status is WorkflowTaskStatus.DISPATCHED:
        wanted.add(keys.workflow_task_id(run.run_id, task.scheduled_event_id, task.attempt))
    return wanted


def check_topics(history: History, run_ids: list[str]) -> None:
    """``tasks`` and ``timers`` hold exactly what is outstanding."""
    runs = [history.run(run_id) for run_id in run_ids]
    tasks = {task_id for task_id in history.outstanding(NAMES.tasks) if "/q" not in task_id}
    assert tasks == set().union(*map(wanted_tasks, runs))
    timers = {keys.timer_id(run.run_id, run.wake_up_number) for run in runs if run.wake_up_due_ms}
    assert set(history.outstanding(NAMES.timers)) == timers
    for run in runs:
        if run.is_open:
            due_ms = earliest_ms(run)
            assert not due_ms or 0 < run.wake_up_due_ms <= due_ms
            waits = bool(run.first_task_due_ms) or run.waking_event_id <= run.seen_event_id
            assert run.workflow_task is not None or waits, "nobody would run it on"
        else:
            assert not run.wake_up_due_ms


@MANY
@given(LIFE)
def test_tasks_and_timers_hold_exactly_what_is_outstanding(steps: list[tuple[int, int, int]]) -> None:
    life = RandomLife(History())
    for step in steps:
        life.step(*step)
        check_topics(life.history, life.run_ids)


@MANY
@given(LIFE)
def test_i2_folding_the_history_gives_the_state_that_deciding_gave(steps: list[tuple[int, int, int]]) -> None:
    life = live(steps)
    decided = states(life.history, life.run_ids)
    for log in (life.history.log, compacted(life.history.log)):
        folded = History(log=list(log), command_offset=life.history.offset, committed=life.history.offset)
        assert states(folded, life.run_ids) == decided
        assert not folded.handler.ignored


@MANY
@given(LIFE)
def test_i2_the_same_commands_give_the_same_bytes(steps: list[tuple[int, int, int]]) -> None:
    life = live(steps)
    again = History()
    for record in life.history.command_log:
        again.deliver(record)
    assert again.all_sent == life.history.all_sent


@MANY
@given(LIFE)
def test_i3_every_command_twice_is_every_command_once(steps: list[tuple[int, int, int]]) -> None:
    life = live(steps)
    twice = History()
    for number, record in enumerate(life.history.command_log):
        twice.deliver(record._replace(offset=2 * number))
        before = {run_id: copy(state_of(twice.handler, run_id)) for run_id in life.run_ids}
        twice.deliver(record._replace(offset=2 * number + 1))
        body = codec.decode_as(record.value, Command).body
        assert not twice.events(), f"a repeated {type(body).__name__} is decided again"
        assert {run_id: state_of(twice.handler, run_id) for run_id in life.run_ids} == before
    once = states(life.history, life.run_ids)
    assert states(twice, life.run_ids) == {run_id: adjusted(twice, state) for run_id, state in once.items()}


def copy(state: RunState | None) -> RunState | None:
    return None if state is None else msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=RunState)


def adjusted(twice: History, state: RunState | None) -> RunState | None:
    """Offsets are a little longer in the twice-delivered log: the only difference there may be."""
    assert state is not None
    other = state_of(twice.handler, state.run_id)
    assert other is not None
    return msgspec.structs.replace(state, history_bytes=other.history_bytes)


@MANY
@given(LIFE, LIFE, st.integers(0, 60))
def test_i4_a_takeover_at_any_point_changes_nothing(
    before: list[tuple[int, int, int]], after: list[tuple[int, int, int]], unsent: int
) -> None:
    """The first owner dies with its last records unsent; the second one, without its state, goes on."""
    life = live(before)
    first = life.history
    committed = max(0, first.offset - unsent)
    second = History(log=first.log, committed=committed, command_offset=first.offset, now_ms=first.now_ms)
    second.all_sent[:0] = first.all_sent
    assert states(second, life.run_ids) == states(first, life.run_ids)
    check_topics(second, life.run_ids)
    life.history = second
    for step in after:
        life.step(*step)
        check_topics(second, life.run_ids)


@MANY
@given(LIFE, LIFE)
def test_i4_a_checkpoint_and_the_rest_of_the_log_give_the_state(
    before: list[tuple[int, int, int]], after: list[tuple[int, int, int]]
) -> None:
    life = live(before)
    life.history.handler.checkpoint()
    stored = DictStore()
    stored.entries = dict(life.history.store.entries)
    for step in after:
        life.step(*step)
    restarted = History(store=stored, log=list(life.history.log), committed=life.history.offset)
    assert states(restarted, life.run_ids) == states(life.history, life.run_ids)
