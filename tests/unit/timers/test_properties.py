"""Whatever is armed, confirmed, stored and taken over: each timer fires once per owner, on time and never early."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from perdure_timers.service import TimersConfig
from tests.support.fakes import DictStore
from tests.support.timers import Timers

CONFIG = TimersConfig(
    horizon_ms=1_000,
    in_memory_max=4,
    loaded_per_tick_max=3,
    fired_per_tick_max=3,
    resend_after_ms=10**12,
    store_after_ms=300,
)


class TimersMachine(RuleBasedStateMachine):
    """Random timers, time and takeovers, against a dictionary of what is armed."""

    def __init__(self) -> None:
        super().__init__()
        self.timers = Timers(config=CONFIG)
        self.armed: dict[str, int] = {}
        self.fired_by_this_owner: set[str] = set()
        self.saved: dict[bytes, bytes] = {}
        self.count = 0

    def expect(self, fired: list[str], from_ms: int, to_ms: int) -> None:
        due = {name for name, due_ms in self.armed.items() if due_ms <= to_ms} - self.fired_by_this_owner
        assert sorted(fired) == sorted(due), f"between {from_ms} and {to_ms}"
        for name, at_ms in self.timers.fired[len(self.timers.fired) - len(fired) :]:
            assert at_ms == max(self.armed[name], from_ms), "late"
        self.fired_by_this_owner |= due

    @rule(in_ms=st.integers(-500, 5_000))
    def arm(self, in_ms: int) -> None:
        self.count += 1
        name = f"run{self.count}/t1"
        self.armed[name] = self.timers.now_ms + in_ms
        self.timers.arm(name, in_ms)

    @precondition(lambda self: self.armed)
    @rule(data=st.data())
    def arm_again(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.armed)))
        self.timers.write(name, self.armed[name])
        self.timers.driver.poll()

    @precondition(lambda self: self.armed)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.armed)))
        del self.armed[name]
        self.fired_by_this_owner.discard(name)
        self.timers.confirm(name)

    @rule(duration_ms=st.integers(0, 2_000))
    def pass_time(self, duration_ms: int) -> None:
        from_ms = self.timers.now_ms
        fired = self.timers.advance(duration_ms)
        self.expect(fired, from_ms, from_ms + duration_ms)

    @rule()
    def checkpoint(self) -> None:
        self.timers.handler.checkpoint()
        self.saved = self.timers.store.snapshot()

    @rule(with_store=st.booleans())
    def take_over(self, with_store: bool) -> None:
        if not with_store:
            self.saved = {}
        now_ms = self.timers.now_ms
        self.timers = Timers(self.timers.log, DictStore(self.saved), now_ms, CONFIG, owner=f"owner{self.count}")
        self.fired_by_this_owner.clear()

    @invariant()
    def no_failures_and_memory_is_bounded(self) -> None:
        assert not self.timers.driver.failures
        handler = self.timers.handler
        assert handler._pending.waiting_count <= CONFIG.in_memory_max + len(self.armed)
        assert len(handler._unstored) <= len(self.armed)

    def teardown(self) -> None:
        from_ms = self.timers.now_ms
        self.expect(self.timers.advance(10_000), from_ms, from_ms + 10_000)
        for name in list(self.armed):
            self.timers.confirm(name)
        self.timers.handler.checkpoint()
        assert list(self.timers.store.entries) == [b"m"]


TimersMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTimers = TimersMachine.TestCase
