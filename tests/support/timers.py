"""A timers partition in a test: a timer in a line, and the ids of what fired."""

from __future__ import annotations

from perdure_schemas import codec, keys
from perdure_schemas.records import Command, DeadlineReached, TimerRecord
from perdure_schemas.topics import TopicNames
from perdure_timers.service import TimersConfig, TimersPartition, TimersRole
from tests.support.fakes import DictStore, FakeLog, HandlerDriver

NAMES = TopicNames(partitions=1)
START_MS = 1_700_000_000_000


class Timers:
    """One owner of partition 0; a second one on the same log is a takeover."""

    def __init__(
        self,
        log: FakeLog | None = None,
        store: DictStore | None = None,
        now_ms: int = START_MS,
        config: TimersConfig | None = None,
        owner: str = "first",
    ) -> None:
        self.log = log or FakeLog()
        self.store = store or DictStore()
        self._now_ms = now_ms
        role = TimersRole(NAMES, config or TimersConfig(), clock=lambda: self._now_ms)
        self.driver = HandlerDriver(role, self.log, self.store, now_ms)
        self.epoch = self.driver.take_over(owner)
        handler = self.driver.handler
        assert isinstance(handler, TimersPartition)
        self.handler = handler
        #: Timer id → when it fired, for every firing.
        self.fired: list[tuple[str, int]] = []

    @property
    def now_ms(self) -> int:
        return self._now_ms

    def write(self, timer_id: str, due_ms: int, *, epoch: int = 0) -> None:
        """Append a timer record without reading it."""
        run_id, _, number = timer_id.partition("/t")
        record = TimerRecord(
            timer_id=timer_id,
            workflow_id=f"wf-{run_id}",
            run_id=run_id,
            arm_number=int(number or 0),
            due_time_ms=due_ms,
        )
        self.log.append(NAMES.timers, keys.fenced_key(timer_id, 0, epoch), codec.encode(record), self._now_ms)

    def arm(self, timer_id: str, in_ms: int, *, epoch: int = 0) -> None:
        """A timer that is due ``in_ms`` from now."""
        self.write(timer_id, self._now_ms + in_ms, epoch=epoch)
        self.driver.poll()

    def write_tombstone(self, timer_id: str, *, epoch: int = 0) -> None:
        """Append a tombstone without reading it."""
        self.log.append(NAMES.timers, keys.fenced_key(timer_id, 0, epoch), None, self._now_ms)

    def confirm(self, timer_id: str, *, epoch: int = 0) -> None:
        """History needs a timer no more."""
        self.write_tombstone(timer_id, epoch=epoch)
        self.driver.poll()

    def tick(self) -> list[str]:
        """One tick; the ids of what fired."""
        self.driver.tick(self._now_ms)
        found = []
        for value in self.driver.outbox.take_values():
            assert isinstance(value, Command)
            assert isinstance(value.body, DeadlineReached)
            timer_id = value.command_id.removeprefix("due/")
            assert value.body.due_time_ms <= self._now_ms, "fired early"
            found.append(timer_id)
            self.fired.append((timer_id, self._now_ms))
        return found

    def advance(self, duration_ms: int) -> list[str]:
        """Let time pass, with a tick at each wake-up on the way; the ids of what fired, in order."""
        end_ms = self._now_ms + duration_ms
        found: list[str] = []
        ticks_without_effect = 0
        while (due_ms := self.handler.next_wakeup_ms()) is not None and due_ms <= end_ms:
            self._now_ms = max(due_ms, self._now_ms)
            fired = self.tick()
            found += fired
            ticks_without_effect = 0 if fired else ticks_without_effect + 1
            assert ticks_without_effect < 5, "ticks without effect: this would be a busy loop"
        self._now_ms = end_ms
        return found
