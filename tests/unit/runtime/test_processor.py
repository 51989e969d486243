"""The processor shell, stepped by hand on the embedded log in memory, with a role too small to hide it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.handler import ACKNOWLEDGED_KEY, Outbox, PartitionStore
from perdure_runtime.log import LogError, LogRecord, LogUnavailableError, NewRecord, TopicPartition
from perdure_runtime.processor import COMMIT_INTERVAL_S, Processor
from perdure_runtime.store import StateStore
from perdure_schemas import codec, keys
from perdure_schemas.records import DeadLetter, OwnerMark
from perdure_schemas.topics import TOPICS, TopicNames

NAMES = TopicNames(partitions=2)


class Echo:
    """A handler that writes every command to history, and remembers how many it has seen."""

    def __init__(self, partition: int, store: PartitionStore) -> None:
        self.partition = partition
        self.store = store
        self.epoch = -1
        self.deposed = False
        self.folded: list[bytes | None] = []
        self.seen = int.from_bytes(store.get(b"seen") or b"", "big")
        self.next_command = int.from_bytes(store.get(b"next") or b"", "big")
        self.wakeup_ms: int | None = None
        self.committed = -1
        self.quarantined: list[str] = []

    def restore_offset(self) -> int | None:
        found = self.store.get(ACKNOWLEDGED_KEY)
        return None if found is None else int.from_bytes(found, "big")

    def fold(self, record: LogRecord) -> None:
        if not keys.is_mark(record.key):
            self.folded.append(record.value)
            self.next_command = int(record.value or b"0") + 1

    def fold_committed(self, committed: int) -> None:
        self.committed = committed

    def fold_checkpoint(self, complete_ms: int) -> int | None:
        self.checkpoint()
        return self.next_command

    def take_over(self, epoch: int, committed: int | None, now_ms: int, outbox: Outbox) -> Mapping[str, int]:
        self.epoch = epoch
        return {NAMES.commands: self.next_command}

    def handle(self, record: LogRecord, outbox: Outbox) -> None:
        key = keys.fenced_key(str(record.offset), self.partition, self.epoch)
        outbox.send(NewRecord(NAMES.history, self.partition, key, str(record.offset).encode()))
        if record.value == b"poison":
            raise ValueError("cannot swallow this")
        if record.value == b"wake me":
            self.wakeup_ms = record.timestamp_ms
        self.seen += 1
        self.next_command = record.offset + 1

    def quarantine(self, record: LogRecord, reason: str, outbox: Outbox) -> None:
        self.quarantined.append(reason)

    def tick(self, now_ms: int, outbox: Outbox) -> None:
        outbox.send(NewRecord(NAMES.tasks, self.partition, b"tick", str(now_ms).encode()))
        self.wakeup_ms = None

    def next_wakeup_ms(self) -> int | None:
        return self.wakeup_ms

    def checkpoint(self) -> int | None:
        self.store.put(b"seen", self.seen.to_bytes(4, "big"))
        self.store.put(b"next", self.next_command.to_bytes(4, "big"))
        return self.next_command


class EchoRole:
    """Runs :class:`Echo`."""

    name = "history"
    owned_topic = NAMES.commands
    restored_topic = NAMES.history
    live_topics: Sequence[str] = (NAMES.commands,)
    store_version = 1

    def __init__(self) -> None:
        self.handlers: dict[int, Echo] = {}

    def marks(self, partition: int) -> Sequence[TopicPartition]:
        return [TopicPartition(NAMES.tasks, partition)]

    def open(self, partition: int, store: PartitionStore, committed: int | None) -> Echo:
        self.handlers[partition] = Echo(partition, store)
        return self.handlers[partition]


class Shell:
    """A log, a store and a processor under test, with a clock that only moves when told."""

    def __init__(self, log: EmbeddedLog, path: Path, instance: str = "one", *, standbys: bool = False) -> None:
        self.log = log
        self.role = EchoRole()
        self.time_ms = 1_000_000
        self.store = StateStore(path, 1)
        unique = itertools.count()
        self.processor = Processor(
            self.role,
            log,
            NAMES,
            self.store,
            instance=instance,
            now_ms=lambda: self.time_ms,
            unique=lambda: f"{instance}-{next(unique)}",
            monotonic_s=lambda: self.time_ms / 1000,
            standbys=standbys,
        )

    def steps(self, count: int = 20) -> None:
        for _ in range(count):
            self.processor.step(0.01)

    def settle(self) -> None:
        """Let everything be sent, acknowledged, committed and written."""
        for _ in range(5):
            self.time_ms += int(COMMIT_INTERVAL_S * 1000) + 1
            self.steps(3)

    def command(self, value: bytes, partition: int = 0) -> None:
        self.log.producer("client").append([NewRecord(NAMES.commands, partition, b"key", value)]).wait(5)

    def read(self, topic: str, partition: int = 0) -> list[LogRecord]:
        reader = self.log.reader("test")
        where = TopicPartition(topic, partition)
        reader.assign({where: 0})
        _, end = self.log.watermarks(where)
        found: list[LogRecord] = []
        while reader.position(where) < end:
            found += reader.poll(100, 1.0)
        return found


@pytest.fixture
def log() -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(None)
    log.create_topics({NAMES.of(spec): spec for spec in TOPICS}, NAMES.partitions)
    yield log
    log.close()


@pytest.fixture
def shell(log: EmbeddedLog, tmp_path: Path) -> Shell:
    return Shell(log, tmp_path / "state")


def _values(records: list[LogRecord]) -> list[bytes | None]:
    return [record.value for record in records if not keys.is_mark(record.key)]


def test_i1_nothing_is_decided_before_the_fold_reached_our_mark(shell: Shell) -> None:
    shell.command(b"a")
    shell.steps()
    assert shell.processor.ready
    first, *rest = shell.read(NAMES.history)
    assert isinstance(codec.decode(first.value), OwnerMark)
    assert keys.parse_fenced_key(rest[0].key or b"").epoch == first.offset


def test_i1_every_other_target_gets_a_mark_with_the_epoch_before_any_record(shell: Shell) -> None:
    shell.steps()
    shell.log.producer("client").append([NewRecord(NAMES.commands, 1, b"key", b"wake me", shell.time_ms)]).wait(5)
    shell.steps(2)
    mark, tick = shell.read(NAMES.tasks, 1)
    assert codec.decode_as(mark.value, OwnerMark).epoch == shell.role.handlers[1].epoch
    assert tick.key == b"tick"


def test_i1_a_mark_that_an_earlier_owner_writes_late_makes_us_take_over_again(log: EmbeddedLog, shell: Shell) -> None:
    """By the log he is the newer owner, so our records are void behind it: nothing of them may be written."""
    shell.steps()
    epoch = shell.role.handlers[0].epoch
    late = OwnerMark(source="history/0", owner="deposed", time_ms=1)
    record = NewRecord(NAMES.history, 0, keys.mark_key("history/0", "late"), codec.encode(late))
    log.producer("late").append([record]).wait(30)
    shell.command(b"one")

    with pytest.raises(LogError, match=rf"between {epoch + 1} and our record at {epoch + 2}"):
        shell.settle()

    assert shell.store.partition(0).get(ACKNOWLEDGED_KEY) is None


def test_i1_who_reads_a_newer_mark_takes_over_again(shell: Shell) -> None:
    shell.steps()
    shell.role.handlers[0].deposed = True
    shell.command(b"one")

    with pytest.raises(LogError, match="a newer mark stands in partition 0"):
        shell.steps()


def test_i2_a_new_owner_folds_what_was_decided_and_goes_on_behind_it(
    log: EmbeddedLog, shell: Shell, tmp_path: Path
) -> None:
    for value in (b"a", b"b"):
        shell.command(value)
    shell.steps()
    shell.processor.close(graceful=False)
    shell.command(b"c")
    other = Shell(log, tmp_path / "other", "two")
    other.steps()
    assert other.role.handlers[0].folded == [b"0", b"1"]
    assert _values(other.read(NAMES.history)) == [b"0", b"1", b"2"]


def test_i4_state_reaches_the_disk_only_after_the_commit(log: EmbeddedLog, shell: Shell, tmp_path: Path) -> None:
    shell.command(b"a")
    shell.steps()
    assert shell.processor.stats.checkpoints == 0
    shell.settle()
    assert shell.processor.stats.checkpoints > 0
    shell.processor.close(graceful=False)
    shell.store.close()
    again = Shell(log, tmp_path / "state")
    again.steps()
    handler = again.role.handlers[0]
    assert handler.seen == 1
    assert handler.folded == [], "what the checkpoint holds is not folded again"


def test_i4_the_restore_position_is_that_of_the_checkpoint_and_not_of_later_acknowledgements(
    log: EmbeddedLog, shell: Shell, tmp_path: Path
) -> None:
    shell.command(b"a")
    shell.steps()
    shell.time_ms += 51  # a checkpoint is due, a commit is not
    shell.steps()
    shell.command(b"b")
    shell.steps()  # acknowledged, but after the checkpoint
    shell.time_ms += int(COMMIT_INTERVAL_S * 1000) - 40
    shell.processor._checkpoints.begin_commit()
    shell.processor._checkpoints.wait(5)
    shell.processor._checkpoints.settle()
    shell.processor.close(graceful=False)
    shell.store.close()
    again = Shell(log, tmp_path / "state")
    again.steps()
    handler = again.role.handlers[0]
    assert (handler.seen, handler.folded) == (1, [b"1"])


def test_a_graceful_close_leaves_nothing_to_fold(log: EmbeddedLog, shell: Shell, tmp_path: Path) -> None:
    shell.command(b"a")
    shell.steps()
    shell.processor.close()
    shell.store.close()
    again = Shell(log, tmp_path / "state")
    again.steps()
    assert again.role.handlers[0].folded == []
    assert again.role.handlers[0].seen == 1


def test_i5_poison_becomes_a_dead_letter_and_stops_nothing(shell: Shell) -> None:
    for value in (b"a", b"poison", b"b"):
        shell.command(value)
    shell.steps()
    (letter,) = [codec.decode_as(record.value, DeadLetter) for record in shell.read(NAMES.dead_letters)]
    assert (letter.topic, letter.offset, letter.value) == (NAMES.commands, 1, b"poison")
    assert "cannot swallow this" in letter.reason
    assert shell.role.handlers[0].quarantined == [letter.reason]
    assert _values(shell.read(NAMES.history)) == [b"0", b"2"], "what was sent halfway does not go out"


def test_two_members_share_the_partitions_and_a_leaver_hands_over(
    log: EmbeddedLog, shell: Shell, tmp_path: Path
) -> None:
    shell.steps()
    other = Shell(log, tmp_path / "other", "two")
    for _ in range(10):
        shell.steps(2)
        other.steps(2)
    assert sorted([*shell.processor.partitions, *other.processor.partitions]) == [0, 1]
    shell.processor.close()
    other.steps()
    assert sorted(other.processor.partitions) == [0, 1]
    assert other.processor.ready


def test_a_state_ahead_of_the_log_is_discarded(shell: Shell, tmp_path: Path) -> None:
    shell.command(b"a")
    shell.steps()
    shell.settle()
    shell.processor.close()
    shell.store.close()
    fresh = EmbeddedLog(None)
    fresh.create_topics({NAMES.of(spec): spec for spec in TOPICS}, NAMES.partitions)
    again = Shell(fresh, tmp_path / "state")
    again.steps()
    assert again.role.handlers[0].seen == 0
    fresh.close()


def test_a_failed_acknowledgement_ends_the_processor(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed:
        def done(self) -> bool:
            return True

        def error(self) -> LogError:
            return LogError("the broker refused")

    shell.steps()
    shell.settle()
    monkeypatch.setattr(shell.processor._producer, "append", lambda records: Failed())
    shell.command(b"a")
    with pytest.raises(LogError, match="the broker refused"):
        shell.steps()


def test_state_that_cannot_be_read_is_built_again(log: EmbeddedLog, shell: Shell, tmp_path: Path) -> None:
    shell.command(b"a")
    shell.steps()
    shell.settle()
    shell.processor.close()
    shell.store.close()
    again = Shell(log, tmp_path / "state")
    opened = again.role.open

    def open_handler(partition: int, store: PartitionStore, committed: int | None) -> Echo:
        if store.get(b"seen") is not None:
            raise ValueError("the stored state is damaged")
        return opened(partition, store, committed)

    again.role.open = open_handler  # type: ignore[method-assign]
    again.steps()
    assert again.processor.ready
    assert again.role.handlers[0].folded == [b"0"], "from the topic, from its beginning"


def test_a_record_for_a_partition_that_does_not_exist_fails_alone(shell: Shell) -> None:
    shell.steps()
    handler = shell.role.handlers[0]
    original = handler.handle

    def handle(record: LogRecord, outbox: Outbox) -> None:
        if record.value == b"astray":
            outbox.send(NewRecord(NAMES.tasks, 99, b"k", b"v"))
        original(record, outbox)

    handler.handle = handle  # type: ignore[method-assign]
    for value in (b"astray", b"b"):
        shell.command(value)
    shell.steps()
    (letter,) = [codec.decode_as(record.value, DeadLetter) for record in shell.read(NAMES.dead_letters)]
    assert "for partition 99" in letter.reason
    assert len(_values(shell.read(NAMES.history))) == 1


def test_what_a_failed_quarantine_sent_halfway_does_not_go_out(shell: Shell) -> None:
    shell.steps()

    def quarantine(record: LogRecord, reason: str, outbox: Outbox) -> None:
        outbox.send(NewRecord(NAMES.tasks, 0, b"half", b"way"))
        raise RuntimeError("this fails, too")

    shell.role.handlers[0].quarantine = quarantine  # type: ignore[method-assign]
    shell.command(b"poison")
    shell.steps()
    assert len(shell.read(NAMES.dead_letters)) == 1
    assert _values(shell.read(NAMES.tasks)) == []


def test_a_log_that_is_away_makes_no_dead_letter(shell: Shell) -> None:
    shell.steps()

    def handle(record: LogRecord, outbox: Outbox) -> None:
        raise LogUnavailableError("nobody answered")

    shell.role.handlers[0].handle = handle  # type: ignore[method-assign]
    shell.command(b"a")
    with pytest.raises(LogUnavailableError):
        shell.steps()
    assert shell.read(NAMES.dead_letters) == []


class Undecided:
    """An acknowledgement that does not come."""

    def done(self) -> bool:
        return False

    def error(self) -> LogError | None:
        return None

    def wait(self, timeout_s: float | None = None) -> bool:
        return False

    def on_done(self, callback: object) -> None: ...


def test_what_could_not_be_flushed_when_partitions_were_given_back_is_not_written_later(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.steps()
    shell.settle()
    written = shell.processor.stats.checkpoints
    monkeypatch.setattr(shell.processor._producer, "append", lambda records: Undecided())
    shell.command(b"a")
    shell.steps(2)
    clock = itertools.count(shell.time_ms / 1000, 0.5)
    monkeypatch.setattr(shell.processor, "_monotonic_s", lambda: next(clock))
    shell.processor._on_revoked([0], lost=False)
    with pytest.raises(LogError, match="lost its partitions"):
        shell.processor.step(0)
    assert shell.processor.stats.checkpoints == written


def test_a_failed_flush_when_partitions_are_given_back_ends_the_processor(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.steps()

    def refuse(records: object) -> None:
        raise LogError("the producer is fenced")

    shell.processor._outbox.send(NewRecord(NAMES.tasks, 0, b"key", b"not sent yet"))
    monkeypatch.setattr(shell.processor._producer, "append", refuse)
    shell.processor._on_revoked([0], lost=False)
    with pytest.raises(LogError, match="lost its partitions"):
        shell.processor.step(0)


def test_a_step_is_due_when_a_tick_or_a_checkpoint_is_and_not_before(shell: Shell) -> None:
    shell.steps()
    shell.settle()
    assert not shell.processor.is_due()
    wake_at_ms = shell.time_ms + 100
    shell.log.producer("client").append([NewRecord(NAMES.commands, 0, b"key", b"wake me", wake_at_ms)]).wait(5)
    shell.processor.step(0)
    assert not shell.processor.is_due()
    shell.time_ms += 50
    assert shell.processor.is_due(), "what was handled waits for its checkpoint"
    shell.processor.step(0)
    shell.time_ms = wake_at_ms
    assert shell.processor.is_due()
    assert shell.processor.step(0)
    assert shell.read(NAMES.tasks)[-1].key == b"tick"


def test_lost_stays_lost_when_the_rest_is_given_back_in_order(shell: Shell) -> None:
    shell.steps()
    shell.settle()
    shell.processor._on_revoked([0], lost=True)
    shell.processor._on_revoked([1], lost=False)
    with pytest.raises(LogError, match="lost its partitions"):
        shell.processor.step(0)


def test_a_processor_that_cannot_join_leaves_nothing_open(
    log: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    producers = []
    original = log.producer

    def producer(name: str) -> object:
        producers.append(original(name))
        return producers[-1]

    def join(*_: object) -> None:
        raise LogError("the group will not have us")

    monkeypatch.setattr(log, "producer", producer)
    monkeypatch.setattr(log, "join", join)
    with pytest.raises(LogError, match="will not have us"):
        Shell(log, tmp_path / "state")
    with pytest.raises(LogError, match="closed"):
        producers[0].append([NewRecord(NAMES.commands, 0, b"k", b"v")])
