"""The small parts of a worker: its inbox, its timers, what it sends again, its heartbeats' interval."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure._connection import Connection
from perdure._producer import SteadyProducer
from perdure.worker import _outbox
from perdure.worker._attempt import throttle_interval_s
from perdure.worker._dispatch import DispatchThread
from perdure.worker._inbox import Inbox
from perdure.worker._options import WorkerOptions
from perdure.worker._outbox import Outbox, Outgoing
from perdure.worker._registration import Registration, share
from perdure.worker._timers import TimerThread
from perdure.worker._tuning import FixedSizeSlotSupplier
from perdure_runtime.log import Ack, Log, LogError, LogRecord, LogUnavailableError, NewRecord, ProducerFencedError
from perdure_schemas import codec
from perdure_schemas.records import (
    ActivityOptions,
    ActivityTask,
    CancelActivity,
    Dispatch,
    DispatchBody,
    ProbeWorker,
    RunTask,
    WorkerHeartbeat,
    WorkerStopped,
)
from perdure_schemas.topics import TopicNames

RECORD = NewRecord("t", 0, b"k", b"v")


def dispatch(task_id: str = "", *, source: int = 0, epoch: int = 1, number: int = 1) -> Dispatch:
    body: DispatchBody = (
        RunTask(task_id=task_id, kind="activity", workflow_id="w", run_id="r", task=b"") if task_id else ProbeWorker()
    )
    return Dispatch(worker_id="me", source_partition=source, epoch=epoch, dispatch_number=number, time_ms=0, body=body)


def test_an_inbox_takes_a_task_once() -> None:
    inbox = Inbox()
    assert inbox.admit(dispatch("a"))
    inbox.hold("a", 0, 5)
    assert not inbox.admit(dispatch("a", number=2))
    assert [(task.task_id, task.started_time_ms) for task in inbox.held()[0]] == [("a", 5)]
    inbox.finish("a")
    assert inbox.held_count == 0
    assert not inbox.admit(dispatch("a", number=3))


def test_a_released_task_may_come_again() -> None:
    inbox = Inbox()
    inbox.hold("a", 0, 5)
    inbox.release("a")
    assert inbox.admit(dispatch("a"))


def test_an_inbox_knows_the_newest_epoch_of_each_source() -> None:
    inbox = Inbox()

    def taken(message: Dispatch) -> bool:
        admitted = inbox.admit(message)
        inbox.note(message)
        return admitted

    assert taken(dispatch("a", epoch=7, number=9))
    assert inbox.last_dispatch(0) == (7, 9)
    assert not taken(dispatch("b", epoch=6, number=10))
    assert inbox.last_dispatch(0) == (7, 9)
    assert taken(dispatch(epoch=7, number=8))
    assert inbox.last_dispatch(0) == (7, 9), "a repetition takes nothing back"
    assert taken(dispatch(epoch=8, number=1))
    assert inbox.last_dispatch(0) == (8, 1)
    assert taken(dispatch("b", source=1, epoch=2))


def test_an_inbox_keeps_partitions_apart() -> None:
    inbox = Inbox()
    inbox.hold("a", 0, 5)
    inbox.note(dispatch("a", source=0, epoch=7, number=9))
    inbox.hold("b", 3, 6)
    inbox.note(dispatch("b", source=3, epoch=2, number=1))
    assert {partition: [one.task_id for one in held] for partition, held in inbox.held().items()} == {
        0: ["a"],
        3: ["b"],
    }
    assert (inbox.last_dispatch(0), inbox.last_dispatch(3), inbox.last_dispatch(1)) == ((7, 9), (2, 1), (-1, 0))
    inbox.finish("b")
    assert (inbox.finished(0), inbox.finished(3)) == ([], ["b"])


@given(st.integers(0, 200), st.integers(1, 64))
def test_slots_are_shared_among_partitions_so_that_none_gets_nothing(slots: int, count: int) -> None:
    shares = [share(slots, count, part) for part in range(count)]
    assert sum(shares) == (max(slots, count) if slots else 0)
    assert max(shares) - min(shares) <= 1


def test_a_task_is_held_before_it_counts_as_seen() -> None:
    inbox = Inbox()
    assert inbox.admit(dispatch("a", epoch=7, number=9))
    assert inbox.last_dispatch(0) == (-1, 0), "a heartbeat now must not say that the task was here and is done"
    inbox.hold("a", 0, 5)
    inbox.note(dispatch("a", epoch=7, number=9))
    assert inbox.last_dispatch(0) == (7, 9)


def test_finished_tasks_are_not_remembered_for_ever() -> None:
    inbox = Inbox()
    for number in range(10_001):
        inbox.hold(str(number), 0, 0)
        inbox.finish(str(number))
    assert inbox.admit(dispatch("0"))
    assert not inbox.admit(dispatch("10000"))


def test_timers_fire_in_the_order_of_their_times_and_can_be_cancelled() -> None:
    timers, fired, done = TimerThread("test"), [], threading.Event()
    timers.start()
    timers.call_later(0.03, lambda: (fired.append("late"), done.set()))
    timers.call_later(0.01, lambda: fired.append("early"))
    timers.call_later(0.005, lambda: 1 / 0)
    timers.call_later(0.02, lambda: fired.append("never")).cancel()
    assert done.wait(10)
    timers.stop()
    assert fired == ["early", "late"]


def test_cancelled_timers_do_not_pile_up() -> None:
    timers = TimerThread("test")
    for _ in range(5_000):
        timers.call_later(3600, lambda: None).cancel()
    assert len(timers._heap) < 2_500


@pytest.mark.parametrize(
    ("timeout_ms", "expected_s"), [(None, 30.0), (0, 30.0), (10_000, 8.0), (1_000_000, 60.0), (500, 0.4)]
)
def test_the_throttle_interval_stays_inside_the_timeout(timeout_ms: int | None, expected_s: float) -> None:
    assert throttle_interval_s(timeout_ms, timedelta(seconds=30), timedelta(seconds=60)) == pytest.approx(expected_s)
    assert throttle_interval_s(None, timedelta(seconds=30), timedelta(seconds=5)) == 5.0


class DecidedAck:
    def __init__(self, error: LogUnavailableError | None) -> None:
        self._error = error

    def done(self) -> bool:
        return True

    def error(self) -> LogUnavailableError | None:
        return self._error

    def wait(self, timeout_s: float | None = None) -> bool:
        return True

    def offset(self) -> int:
        return 0

    def on_done(self, callback: Callable[[Ack], None]) -> None:
        callback(self)


class FlakyProducer:
    """Refuses the first append, fails the second later, and takes the third."""

    def __init__(self) -> None:
        self.appended: list[Sequence[NewRecord]] = []

    def append(self, records: Sequence[NewRecord]) -> Ack:
        self.appended.append(records)
        if len(self.appended) == 1:
            raise LogUnavailableError("away")
        return DecidedAck(LogUnavailableError("lost") if len(self.appended) == 2 else None)

    def flush(self, timeout_s: float) -> bool:
        return True

    def close(self) -> None: ...


def test_a_completion_is_sent_until_the_log_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_outbox, "_RETRY_DELAY_S", 0.001)
    inbox, timers, producer, released = Inbox(), TimerThread("test"), FlakyProducer(), threading.Event()
    inbox.hold("a", 0, 0)
    held_during_retries: list[int] = []
    original = producer.append
    monkeypatch.setattr(producer, "append", lambda r: (held_during_retries.append(inbox.held_count), original(r))[1])
    timers.start()
    Outbox(producer, inbox, timers, released.set).send([Outgoing(RECORD, "a")])
    assert released.wait(10)
    timers.stop()
    assert held_during_retries == [1, 1, 1]
    assert inbox.held_count == 0


class EndingProducer:
    """Ends, as Kafka's does after the first record it could not write."""

    def __init__(self) -> None:
        self.appended: list[Sequence[NewRecord]] = []
        self.ended = False
        self.closed = threading.Event()

    def append(self, records: Sequence[NewRecord]) -> Ack:
        if self.ended:
            raise ProducerFencedError("make a new producer")
        self.appended.append(records)
        return DecidedAck(None)

    def flush(self, timeout_s: float) -> bool:
        return True

    def close(self) -> None:
        self.closed.set()


class ProducersOnly:
    """A log that makes producers."""

    def __init__(self) -> None:
        self.made: list[EndingProducer] = []

    def producer(self, name: str) -> EndingProducer:
        self.made.append(EndingProducer())
        return self.made[-1]


def test_a_client_or_worker_outlives_its_producer() -> None:
    log = ProducersOnly()
    steady = SteadyProducer(cast("Log", log), "client")
    steady.append([RECORD])
    log.made[0].ended = True
    assert steady.append([RECORD]).error() is None
    assert [len(producer.appended) for producer in log.made] == [1, 1]
    assert log.made[0].closed.wait(10)
    steady.close()
    assert log.made[1].closed.is_set()
    log.made[1].ended = True
    with pytest.raises(LogError, match="closed"):
        steady.append([RECORD])


class KeptRecords(EndingProducer):
    def heartbeats(self) -> dict[int, WorkerHeartbeat]:
        """The last ones, by partition."""
        return {one.partition: codec.decode_as(one.value, WorkerHeartbeat) for one in self.appended[-1]}


def test_a_worker_registers_in_each_partition_of_its_task_queue() -> None:
    options = SimpleNamespace(
        task_queue="orders~3", identity="i", routed_version=("", ""), workflows=[], has_activities=True,
        tuner=SimpleNamespace(activity=FixedSizeSlotSupplier(7)), queue_activities_per_second=30.0,
        activities_per_second=0.0,
    )  # fmt: skip
    connection = SimpleNamespace(names=TopicNames(partitions=8), now_ms=lambda: 1)
    inbox, producer = Inbox(), KeptRecords()
    registration = Registration("me", cast("WorkerOptions", options), cast("Connection", connection), producer, inbox)
    first, second, third = registration.partitions
    inbox.hold("r/a5.1", second, 5)
    inbox.note(dispatch("r/a5.1", source=second, epoch=4, number=2))
    inbox.hold("r/w9.1", third, 5)
    inbox.finish("r/w9.1")
    registration.heartbeat(probed=True)
    told = producer.heartbeats()
    assert set(told) == {first, second, third}
    assert [told[one].activity_slots for one in (first, second, third)] == [3, 2, 2]
    assert [[held.task_id for held in told[one].held] for one in (first, second, third)] == [[], ["r/a5.1"], []]
    assert [told[one].finished for one in (first, second, third)] == [[], [], ["r/w9.1"]]
    assert [(beat.last_dispatch_epoch, beat.last_dispatch_number) for beat in (told[first], told[second])] == [
        (-1, 0),
        (4, 2),
    ]
    assert {beat.queue_activities_per_second for beat in told.values()} == {10.0}
    assert registration.slots() == {"WorkflowWorker": (0, 0), "ActivityWorker": (7, 1)}
    registration.stopped()
    gone = {one.partition: codec.decode_as(one.value, WorkerStopped) for one in producer.appended[-1]}
    assert {number: one.last_dispatch_epoch for number, one in gone.items()} == {first: -1, second: 4, third: -1}


def test_a_request_to_stop_in_the_same_batch_finds_its_activity() -> None:
    happened: list[tuple[str, ...]] = []

    class Activities:
        def start(self, batch: Sequence[tuple[RunTask, ActivityTask]]) -> None:
            happened.append(("start", *(run.task_id for run, _ in batch)))

        def cancel(self, task_id: str, **_: bool) -> None:
            happened.append(("cancel", task_id))

    def record(body: DispatchBody, number: int) -> LogRecord:
        value = codec.encode(
            Dispatch(worker_id="me", source_partition=0, epoch=1, dispatch_number=number, time_ms=0, body=body)
        )
        return LogRecord("work", 0, number, b"me", value, 0)

    def run(task_id: str) -> RunTask:
        options = ActivityOptions(activity_id="a", activity_type="t", task_queue="q")
        task = ActivityTask(
            workflow_type="W", scheduled_event_id=5, attempt=1, options=options, scheduled_time_ms=0,
            attempt_scheduled_time_ms=0,
        )  # fmt: skip
        return RunTask(task_id=task_id, kind="activity", workflow_id="w", run_id="r", task=codec.encode(task))

    thread = object.__new__(DispatchThread)
    thread._key, thread._inbox, thread._now_ms = b"me", Inbox(), lambda: 0
    thread._activities = Activities()  # type: ignore[assignment]
    thread._take([record(run("r/a5.1"), 1), record(CancelActivity(task_id="r/a5.1"), 2), record(run("r/a6.1"), 3)])
    assert happened == [("start", "r/a5.1"), ("cancel", "r/a5.1"), ("start", "r/a6.1")]
