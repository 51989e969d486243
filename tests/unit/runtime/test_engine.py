"""The engine around its processors: restarts, readiness, failures that pass, and stops that end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from perdure_runtime import engine as engine_module
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.engine import Engine
from perdure_runtime.handler import Outbox, PartitionStore
from perdure_runtime.log import LogError, LogRecord, NewRecord, TopicPartition
from perdure_runtime.store import StateStoreError
from perdure_schemas.topics import TOPICS, TopicNames
from tests.unit.runtime.test_processor import Echo, EchoRole

NAMES = TopicNames(partitions=2)
TIMEOUT_S = 10.0


class FailingHandler(Echo):
    """Fails in ``fold`` or ``tick`` as its role is told."""

    fail: Callable[[], None]

    def take_over(self, epoch: int, committed: int | None, now_ms: int, outbox: Outbox) -> dict[str, int]:
        self.fail()
        return dict(super().take_over(epoch, committed, now_ms, outbox))


class FailingRole(EchoRole):
    """Calls ``fail`` at each takeover of a partition."""

    def __init__(self, fail: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.fail = fail
        self.opened = 0

    def open(self, partition: int, store: PartitionStore, committed: int | None) -> Echo:
        self.opened += 1
        handler = FailingHandler(partition, store)
        handler.fail = self.fail
        return handler


class QuietRole(FailingRole):
    """A second role on other topics."""

    name = "timers"
    owned_topic = NAMES.timers
    restored_topic = NAMES.timers
    live_topics: Sequence[str] = (NAMES.timers,)

    def marks(self, partition: int) -> Sequence[TopicPartition]:
        return []


@pytest.fixture(autouse=True)
def quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "RESTART_DELAY_S_MIN", 0.01)


@pytest.fixture
def log() -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(None)
    log.create_topics({NAMES.of(spec): spec for spec in TOPICS}, NAMES.partitions)
    yield log
    log.close()


def failing_once(error: Exception) -> Callable[[], None]:
    left = [error]

    def fail() -> None:
        if left:
            raise left.pop()

    return fail


def test_a_bug_is_told_to_whoever_waits_and_forgotten_when_it_has_passed(log: EmbeddedLog, tmp_path: Path) -> None:
    go_on = threading.Event()
    errors = [RuntimeError("a bug")]

    def fail() -> None:
        if errors:
            raise errors.pop()
        go_on.wait(TIMEOUT_S)

    engine = Engine(log, NAMES, tmp_path, [FailingRole(fail)], instance="one")
    engine.start()
    try:
        assert not engine.wait_ready(TIMEOUT_S)
        assert "a bug" in str(engine.failure())
        assert not engine.ready
        go_on.set()
        with engine._changed:
            assert engine._changed.wait_for(lambda: engine.ready and engine.failure() is None, TIMEOUT_S)
        assert engine.wait_ready(TIMEOUT_S)
    finally:
        go_on.set()
        engine.stop()


def test_an_outage_is_retried_and_no_failure(log: EmbeddedLog, tmp_path: Path) -> None:
    role = FailingRole(failing_once(LogError("the broker went away")))
    engine = Engine(log, NAMES, tmp_path, [role], instance="one")
    engine.start()
    try:
        assert engine.wait_ready(TIMEOUT_S)
        assert engine.failure() is None
        assert role.opened >= 3, "both partitions, after a first try"
    finally:
        engine.stop()


def test_one_role_that_fails_does_not_keep_the_others_from_working(log: EmbeddedLog, tmp_path: Path) -> None:
    roles = [QuietRole(), FailingRole(failing_once(LogError("away")))]
    engine = Engine(log, NAMES, tmp_path, roles, instance="one")
    engine.start()
    try:
        assert engine.wait_ready(TIMEOUT_S)
        producer = log.producer("client")
        assert producer.append([NewRecord(NAMES.commands, 0, b"k", b"a")]).wait(TIMEOUT_S)
        reader = log.reader("test")
        reader.assign({TopicPartition(NAMES.history, 0): log.BEGIN})
        values: list[bytes | None] = []
        while b"0" not in values:
            found = reader.poll(100, TIMEOUT_S)
            assert found, "the restarted role decides nothing"
            values += [record.value for record in found]
    finally:
        engine.stop()


def test_what_is_being_restarted_is_not_ready(
    log: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "RESTART_DELAY_S_MIN", 60.0)
    role = EchoRole()
    engine = Engine(log, NAMES, tmp_path, [role], instance="one")
    engine.start()
    assert engine.wait_ready(TIMEOUT_S)
    closed = threading.Event()
    processor = engine._processors["history"]
    monkeypatch.setattr(processor, "step", lambda timeout_s: (_ for _ in ()).throw(LogError("away")))
    original = engine._close
    monkeypatch.setattr(engine, "_close", lambda p, graceful: (original(p, graceful=graceful), closed.set())[0])
    engine.wake()
    assert closed.wait(TIMEOUT_S)
    assert not engine.ready
    assert engine.stats() == {}
    engine.stop()


@pytest.mark.parametrize("damaged", [True, False])
def test_a_state_that_fails_is_opened_anew_and_emptied_if_it_is_damaged(
    log: EmbeddedLog, tmp_path: Path, damaged: bool
) -> None:
    path = tmp_path / "history"
    path.mkdir()
    (path / "witness").touch()
    role = FailingRole(failing_once(StateStoreError(path, "a block cannot be read", damaged=damaged)))
    engine = Engine(log, NAMES, tmp_path, [role, QuietRole()], instance="one")
    engine.start()
    try:
        assert engine.wait_ready(TIMEOUT_S)
        assert engine.failure() is None
        assert (path / "witness").exists() is not damaged
    finally:
        engine.stop()


def test_i5_no_record_is_given_up_because_the_state_cannot_be_read(
    log: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [StateStoreError(tmp_path / "history", "a block cannot be read", damaged=True)]
    original = FailingHandler.handle

    def handle(self: FailingHandler, record: LogRecord, outbox: Outbox) -> None:
        if failures:
            raise failures.pop()
        original(self, record, outbox)

    monkeypatch.setattr(FailingHandler, "handle", handle)
    engine = Engine(log, NAMES, tmp_path, [FailingRole()], instance="one")
    engine.start()
    try:
        assert engine.wait_ready(TIMEOUT_S)
        producer = log.producer("client")
        assert producer.append([NewRecord(NAMES.commands, 0, b"k", b"a")]).wait(TIMEOUT_S)
        reader = log.reader("test")
        reader.assign({TopicPartition(NAMES.history, 0): log.BEGIN})
        values: list[bytes | None] = []
        while b"0" not in values:
            found = reader.poll(100, TIMEOUT_S)
            assert found, "the restarted role decides nothing"
            values += [record.value for record in found]
    finally:
        engine.stop()
    assert not failures
    assert log.watermarks(TopicPartition(NAMES.dead_letters, 0)) == (0, 0)


def test_a_role_that_hangs_does_not_hold_up_a_stop(log: EmbeddedLog, tmp_path: Path) -> None:
    hanging, release = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        release.wait(TIMEOUT_S)

    engine = Engine(log, NAMES, tmp_path, [FailingRole(hang), QuietRole()], instance="one")
    engine.start()
    thread = engine._thread
    assert thread is not None
    assert hanging.wait(TIMEOUT_S)
    engine.stop(timeout_s=0.2)
    with pytest.raises(StateStoreError, match="in use"):  # its thread may still write there
        Engine(log, NAMES, tmp_path, [FailingRole()], instance="one").start()
    release.set()
    thread.join(TIMEOUT_S)


def test_a_stop_during_a_restore_ends_it(log: EmbeddedLog, tmp_path: Path) -> None:
    producer = log.producer("other")
    for number in range(50):
        assert producer.append([NewRecord(NAMES.history, 0, b"k%d" % number, b"v")]).wait(TIMEOUT_S)
    restoring, stopping = threading.Event(), threading.Event()

    class Slow(Echo):
        def fold(self, record: LogRecord) -> None:
            restoring.set()
            stopping.wait(TIMEOUT_S)

    role = EchoRole()
    role.open = lambda partition, store, committed: Slow(partition, store)  # type: ignore[method-assign]
    engine = Engine(log, NAMES, tmp_path, [role], instance="one")
    engine.start()
    assert restoring.wait(TIMEOUT_S)
    engine._stopping.set()
    stopping.set()
    engine.stop()
    assert not engine.ready
    again = Engine(log, NAMES, tmp_path, [EchoRole()], instance="two")
    again.start()  # the state folder is free
    assert again.wait_ready(TIMEOUT_S)
    again.stop()
