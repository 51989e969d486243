"""What holds for every life of workflows that start, signal, cancel and close each other, in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure_history.core.state import ChildStatus
from perdure_runtime.log import LogRecord, NewRecord
from perdure_schemas import keys
from perdure_schemas.records import (
    HistoryRecord,
    ParentClosePolicy,
    RequestCancelExternalWorkflowExecution,
    SignalExternalWorkflowExecution,
)
from tests.unit.history.family import start_child
from tests.unit.history.harness import NAMES, History, state_of
from tests.unit.history.random_life import RandomLife
from tests.unit.history.test_properties import MANY, check_topics, states

NUMBER = st.integers(0, 200)
LIFE = st.lists(st.tuples(NUMBER, NUMBER, NUMBER), max_size=60)
ROUNDS_MAX = 1_000


class FamilyLife(RandomLife):
    """Also has children, and delivers what runs send to each other, sooner or later."""

    def __init__(self, history: History) -> None:
        super().__init__(history)
        self.delivered = 0
        self.steps += [self.talk, self.talk, self.talk, self.deliver, self.deliver, self.deliver, self.deliver]

    def talk(self, a: int, b: int) -> None:
        run_id = self._run(a)
        if not self.run_ids or self.history.run(run_id).workflow_task is None:
            return
        children = [*self.history.run(run_id).children, 0]
        workflow_id = ("wf-0", "wf-1", "kid-0", "kid-1", "nobody")[b % 5]
        menu = [
            start_child(f"kid-{b % 3}", parent_close_policy=list(ParentClosePolicy)[b % 3]),
            start_child(self._name(), parent_close_policy=list(ParentClosePolicy)[b % 3]),
            start_child(self._name(), run_timeout_ms=30_000 if b % 2 else None),
            SignalExternalWorkflowExecution(workflow_id=workflow_id, signal_name="s"),
            SignalExternalWorkflowExecution(
                workflow_id=workflow_id, signal_name="s", child_initiated_event_id=children[b % len(children)]
            ),
            RequestCancelExternalWorkflowExecution(
                workflow_id=workflow_id, child_initiated_event_id=children[b % len(children)]
            ),
        ]
        commands = [menu[(a + i * 5) % len(menu)] for i in range(1 + b % 3)]
        self.history.complete_task(*commands, run_id=run_id)

    def deliver(self, a: int, b: int) -> None:
        """Deliver the oldest command that is on its way, now and then twice."""
        sent = self.sent()
        if self.delivered >= len(sent):
            return
        record = sent[self.delivered]
        self.delivered += 1
        for _ in range(1 + (b % 7 == 0)):
            offset, self.history.offset = self.history.offset, self.history.offset + 1
            now_ms = self.history.now_ms
            self.history.deliver(LogRecord(NAMES.commands, 0, offset, record.key, record.value, now_ms))
            self.run_ids += [
                value.run_id
                for value in self.history.values(NAMES.history, HistoryRecord)
                if value.run_id not in self.run_ids and value.events and value.events[0].event_id == 1
            ]

    def deliver_all(self) -> None:
        for _ in range(ROUNDS_MAX):
            if self.delivered >= len(self.sent()):
                return
            self.step(self.steps.index(self.deliver), 0, 1)
        raise AssertionError("the workflows never stop talking to each other")

    def sent(self) -> list[NewRecord]:
        return [record for record in self.history.all_sent if record.topic == NAMES.commands]


def live(steps: list[tuple[int, int, int]]) -> FamilyLife:
    life = FamilyLife(History())
    for step in steps:
        life.step(*step)
    return life


def check_family(life: FamilyLife) -> None:
    """Everybody knows how the others stand, once all has been said."""
    history = life.history
    for run_id in life.run_ids:
        run = history.run(run_id)
        assert not run.external_requests
        for event_id, child in run.children.items():
            assert child.status is ChildStatus.STARTED
            first = state_of(history.handler, keys.child_run_id(run_id, event_id))
            assert first is not None
            last = first
            while last.new_run_id:
                last = history.run(last.new_run_id)
            assert last.is_open, "the parent was not told"
            assert last.parent is not None and last.parent.run_id == run_id


@MANY
@given(LIFE)
def test_i3_when_all_is_said_everybody_knows_how_the_others_stand(steps: list[tuple[int, int, int]]) -> None:
    life = live(steps)
    check_topics(life.history, life.run_ids)
    life.deliver_all()
    check_topics(life.history, life.run_ids)
    check_family(life)


@MANY
@given(LIFE)
def test_i2_folding_the_history_gives_the_state_that_deciding_gave(steps: list[tuple[int, int, int]]) -> None:
    life = live(steps)
    log, offset = list(life.history.log), life.history.offset
    folded = History(log=log, command_offset=offset, committed=offset, now_ms=life.history.now_ms)
    assert states(folded, life.run_ids) == states(life.history, life.run_ids)


class Remembering(History):
    """Knows which command led to which records."""

    def __init__(self) -> None:
        super().__init__()
        self.sent_by: dict[int, int] = {}

    def deliver(self, record: LogRecord) -> list[NewRecord]:
        sent = super().deliver(record)
        self.sent_by.update((id(each), record.offset) for each in sent)
        return sent


@MANY
@given(LIFE, LIFE, st.integers(0, 60))
def test_i4_a_takeover_loses_nothing_that_workflows_say_to_each_other(
    before: list[tuple[int, int, int]], after: list[tuple[int, int, int]], uncommitted: int
) -> None:
    """The first owner dies, and what its uncommitted commands sent has never left it."""
    first = Remembering()
    life = FamilyLife(first)
    for step in before:
        life.step(*step)
    committed = max(0, first.offset - uncommitted)
    sent = life.sent()
    on_their_way = [record for record in sent[life.delivered :] if first.sent_by[id(record)] < committed]
    second = History(log=first.log, committed=committed, command_offset=first.offset, now_ms=first.now_ms)
    second.all_sent[:0] = [*sent[: life.delivered], *on_their_way]
    life.history = second
    for record in first.command_log[committed:]:
        second.deliver(record)
    assert states(second, life.run_ids) == states(first, life.run_ids)
    for step in after:
        life.step(*step)
    life.deliver_all()
    check_family(life)
