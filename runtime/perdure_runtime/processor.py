"""The processor shell: everything that history, matching and timers have in common around their pure cores.

One step takes what is there, lets the handlers turn it into records and state, sends the records at once (the command
is durable already, so acting before the local checkpoint is safe), and never waits for an acknowledgement to take the
next batch. Invariants kept here:

* **I1 one order.** A takeover appends an owner mark to the restored topic first; its offset is the epoch. Nothing is
  decided before the fold has reached that mark, and every other topic the role writes fenced records to gets a mark
  before the first such record.
* **I4 recovery.** What an earlier owner may have left unsent is sent again when a partition is taken over; when state
  is written, and why never too early, stands in :mod:`perdure_runtime.checkpoints`.
* **I5** A record that cannot be processed goes to ``dead-letters`` and the handler's quarantine; the partition goes on.

Any failure of the producer ends the processor: its engine makes a new one from the last checkpoint (crash-only).
Called by :mod:`perdure_runtime.engine`; in tests step by step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from perdure_runtime.batching import BatchSize
from perdure_runtime.checkpoints import Checkpoints
from perdure_runtime.dead_letters import dead_letter, reason_of
from perdure_runtime.folding import Folding
from perdure_runtime.gaps import is_marked
from perdure_runtime.handler import MakesReaders, Role
from perdure_runtime.log import Log, LogError, LogRecord, LogUnavailableError, NewRecord, TopicPartition
from perdure_runtime.metrics import Sample
from perdure_runtime.newer import refuse_newer
from perdure_runtime.outgoing import CheckedOutbox, UndeliverableError
from perdure_runtime.owned import Owned, Phase, count_partitions, foresee, samples_of, statuses, where_to_read
from perdure_runtime.standby import Standbys
from perdure_runtime.stats import PartitionStatus, ProcessorStats
from perdure_runtime.store import StateStore, StateStoreError
from perdure_schemas import codec
from perdure_schemas.keys import mark_key
from perdure_schemas.records import OwnerMark
from perdure_schemas.topics import TopicNames

_logger = logging.getLogger("perdure.engine")

#: Appends on their way to the log. More than this many means the log is slower than we are: wait for it.
UNACKNOWLEDGED_MAX = 256
#: How often state is serialised. State touched ten times in between is written once.
CHECKPOINT_INTERVAL_S = 0.05
#: How often the group's offset is committed: bounds what is sent again after a takeover, and feeds lag monitors.
COMMIT_INTERVAL_S = 1.0
#: How long giving a partition back may take.
REVOKE_FLUSH_S = 2.0
FLUSH_SLICE_S = 0.02
#: The longest wait without anything to do; membership must be polled at least every second.
IDLE_WAIT_S = 0.5
#: How often the progress of a restore is logged.
PROGRESS_INTERVAL_S = 2.0


class Processor:
    """Runs one role on the partitions that the group gives to this member.

    Args:
        role: what to run.
        log: where everything is read from and written to.
        names: the namespace's topics.
        store: the role's state.
        instance: this member's name across restarts.
        now_ms: the wall clock, in milliseconds since the epoch.
        unique: a source of unique names for owner marks.
        monotonic_s: the monotonic clock, in seconds.
        standbys: fold the partitions of other members all the time, to take them over at once.
        readers: makes the reader of the live topics; the log if not given.
    """

    def __init__(
        self,
        role: Role,
        log: Log,
        names: TopicNames,
        store: StateStore,
        *,
        instance: str,
        now_ms: Callable[[], int],
        unique: Callable[[], str],
        monotonic_s: Callable[[], float] = time.monotonic,
        standbys: bool = False,
        readers: MakesReaders | None = None,
    ) -> None:
        self.role = role
        self.stats = ProcessorStats()
        self._log = log
        self._names = names
        self._engine_topics = (names.history, names.tasks, names.timers)
        self._store = store
        self._instance = instance
        self._now_ms = now_ms
        self._unique = unique
        self._monotonic_s = monotonic_s
        self._owned: dict[int, Owned] = {}
        #: Those for whom an acknowledgement changes something; kept, like the next two, so that no step looks at all.
        self._settling: dict[int, Owned] = {}
        self._dirty, self._all_live = False, True
        self._outbox = CheckedOutbox(log, names)
        self._checkpointed_s = self._committed_s = 0.0
        self._joined = self._lost = False
        #: When the first of the live partitions has something to do by the clock, and when the next step has to look
        #: after membership, acknowledgements and checkpoints even if no record comes.
        self._due_ms: int | None = None
        self._housekeeping_s = 0.0
        self._batch = BatchSize()
        #: Told of records that are about to be appended.
        self.on_sending: Sequence[Callable[[Sequence[NewRecord]], None]] = ()
        self.reader = (readers or log).reader(f"{role.name}-{instance}")
        self._producer = log.producer(f"{role.name}-{instance}")
        try:
            self._membership = log.join(
                f"{names.prefix}.{names.namespace}.{role.name}",
                role.owned_topic,
                instance,
                self._on_assigned,
                self._on_revoked,
            )
        except BaseException:
            self._close_clients()
            raise
        self._checkpoints = Checkpoints(
            store, self._membership, role.restored_topic, partial(is_marked, log, role, monotonic_s)
        )
        self._follows = standbys
        self._standbys = Standbys(
            role, log, store, self._membership,
            name=f"{role.name}-{instance}", now_ms=now_ms, monotonic_s=monotonic_s,
        )  # fmt: skip

    # --- the outside ----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the group has given us our share, and all of it is live."""
        return self._joined and self._all_live

    @property
    def partitions(self) -> dict[int, Phase]:
        """Ours, and where each stands."""
        return {partition: owned.phase for partition, owned in list(self._owned.items())}

    def status(self) -> list[PartitionStatus]:
        """Every partition that is owned or folded here, in order, and how far it is. May be called from any thread."""
        return statuses(self.role.name, list(self._owned.values()), self._standbys.partitions)

    def samples(self) -> list[Sample]:
        """What the live handlers show of themselves. May be called from any thread."""
        return samples_of(list(self._owned.values()))

    def refresh_stats(self) -> ProcessorStats:
        """The counters, with what is measured only when somebody asks."""
        stats, standbys = self.stats, self._standbys
        count_partitions(stats, list(self._owned.values()), standbys.partitions)
        stats.standby_folded = standbys.folded
        stats.standby_lag_seconds = standbys.lag_s()
        stats.checkpoint_age_seconds = self._checkpoints.age_s(self._monotonic_s())
        return stats

    def step(self, timeout_s: float) -> bool:
        """Do what there is to do, waiting up to ``timeout_s`` for it. Returns whether there was anything.

        Raises:
            LogError: the log or the producer failed for good; throw this processor away.
        """
        self._membership.poll()
        if self._lost:
            raise LogError(
                f"role {self.role.name} lost its partitions to another member: starting again from the checkpoint"
            )
        self._checkpoints.settle()
        if self._checkpoints.unacknowledged > UNACKNOWLEDGED_MAX:
            self._checkpoints.wait(CHECKPOINT_INTERVAL_S)
            return True
        if self._settling:
            self._settle()
        records = self.reader.poll(self._batch.records, min(timeout_s, self.idle_wait_s()) if timeout_s else 0.0)
        read_s = self._monotonic_s()
        if records:
            self._process(records)
        ticked = self._tick()
        self._send()
        now_s = self._monotonic_s()
        self._batch.took(len(records), now_s - read_s)
        self._checkpoint_if_due(now_s)
        self.stats.checkpoints = self._checkpoints.written
        folded = self._standbys.step(len(records))
        self._housekeeping_s = now_s + self._quiet_s()
        return bool(records) or ticked or folded

    def is_due(self) -> bool:
        """Whether a step has something to do even if no record came."""
        if self._outbox.records or self._monotonic_s() >= self._housekeeping_s:
            return True
        return self._due_ms is not None and self._due_ms <= self._now_ms()

    def foresee(self, records: Sequence[NewRecord]) -> None:
        """Another role of this engine is about to append these. Called on this processor's thread, between steps."""
        if foresee(self._owned, self.role.restored_topic, records, self._outbox):
            self._dirty = True
            self._find_due()

    def idle_wait_s(self) -> float:
        """How long the next step may wait when no record comes."""
        if self._due_ms is None:
            return self._quiet_s()
        return min(self._quiet_s(), max(0.0, (self._due_ms - self._now_ms()) / 1000))

    def _quiet_s(self) -> float:
        """How long nobody needs to look when no record comes and nothing is due."""
        unwritten = self._dirty or self._checkpoints.pending
        return self._standbys.wait_s(CHECKPOINT_INTERVAL_S if unwritten else IDLE_WAIT_S)

    def close(self, *, graceful: bool = True) -> None:
        """Leave the group; if ``graceful``, finish what is on its way, write the checkpoint and commit first."""
        try:
            if graceful and not self._lost:
                self._flush(REVOKE_FLUSH_S, in_callback=False)
        except LogError as error:
            _logger.warning("role=%s event=closed_without_checkpoint reason=%r", self.role.name, str(error))
        finally:
            try:
                self._membership.leave()
            finally:
                self._standbys.close()
                self._close_clients()

    def _close_clients(self) -> None:
        try:
            self.reader.close()
        finally:
            self._producer.close()

    def _follow(self) -> None:
        if self._follows:
            self._standbys.follow(set(range(self._names.partitions)) - set(self._owned))

    # --- ownership ------------------------------------------------------------------------------------------------

    def _on_assigned(self, partitions: list[int]) -> None:
        for partition in partitions:
            if partition in self._owned:
                continue
            # First of all: the mark must stand behind everything that the standby has folded.
            folding = self._standbys.hand_over(partition)
            mark = self._mark(TopicPartition(self.role.restored_topic, partition), partition)
            acknowledgement = self._producer.append([mark])
            acknowledgement.on_done(lambda _: self.reader.wake())
            self._owned[partition] = self._settling[partition] = Owned(partition, acknowledgement, folding=folding)
        self._note_phases()
        self._follow()
        self._joined = True  # after them, or another thread could take us for ready in between
        if partitions:
            _logger.info("role=%s event=assigned partitions=%s", self.role.name, sorted(partitions))

    def _on_revoked(self, partitions: list[int], lost: bool) -> None:
        if lost:
            self._lost = True
        else:
            try:
                self._flush(REVOKE_FLUSH_S, in_callback=True)
                # What could not be written in time must not be written later: somebody else will own it then.
                self._lost = self._lost or self._checkpoints.pending
            except LogError as error:
                self._lost = True
                _logger.warning("role=%s event=given_back_without_checkpoint reason=%r", self.role.name, str(error))
        for partition in partitions:
            owned = self._owned.pop(partition, None)
            self._settling.pop(partition, None)
            if owned is not None:
                self.reader.unassign(
                    [TopicPartition(t, partition) for t in {self.role.restored_topic, *self.role.live_topics}]
                )
                self._store.drop_partition(partition)
                self._checkpoints.disown(partition)
        self._note_phases()
        self._find_due()
        if not self._lost:
            self._follow()
        if partitions:
            _logger.info(
                "role=%s event=%s partitions=%s", self.role.name, "lost" if lost else "revoked", sorted(partitions)
            )

    def _note_phases(self) -> None:
        self._all_live = all(owned.phase is Phase.LIVE for owned in self._owned.values())

    def _settle(self) -> None:
        """Go on with those whose mark, or whose first records as an owner, are acknowledged by now."""
        for owned in list(self._settling.values()):
            if owned.phase is Phase.MARKING and owned.mark.done():
                self._begin_restore(owned)
            owned.tell_inheritance(self._log, self.role.owned_topic)
            if owned.phase is not Phase.MARKING and owned.heir is None:
                del self._settling[owned.partition]

    def _begin_restore(self, owned: Owned) -> None:
        error = owned.mark.error()
        if error is not None:
            raise error
        partition, folding, now_s = owned.partition, owned.folding, self._monotonic_s()
        restored = TopicPartition(self.role.restored_topic, partition)
        owned.epoch = owned.mark.offsets()[restored]
        owned.committed = self._membership.committed([partition]).get(partition)
        if folding is None:
            folding = Folding(self.role, self._store, partition, owned.committed, self._now_ms(), now_s)
            low, _ = self._log.watermarks(restored)
            folding.begin(low, owned.epoch)
        else:
            folding.folded = 0
            folding.commit_seen(owned.committed)
        owned.folding = folding
        owned.phase = Phase.RESTORING
        owned.restore_started_s = owned.restore_logged_s = now_s
        self.reader.assign({restored: folding.position})

    def _go_live(self, owned: Owned) -> None:
        assert owned.folding is not None
        partition, folded = owned.partition, owned.folding.folded
        owned.handler, owned.folding = owned.folding.adopt(), None
        for target in self.role.marks(partition):
            self._outbox.send(self._mark(target, partition, owned.epoch))
        offsets = owned.handler.take_over(owned.epoch, owned.committed, self._now_ms(), self._outbox)
        if self.role.restored_topic not in offsets:
            self.reader.unassign([TopicPartition(self.role.restored_topic, partition)])
        self.reader.assign(where_to_read(self._log, self.role.name, partition, offsets))
        self._checkpoints.own(partition, owned.epoch + 1)
        owned.inherit()
        self._settling[partition] = owned
        owned.phase = Phase.LIVE
        owned.dirty = self._dirty = True
        self._note_phases()
        owned.due_ms = owned.handler.next_wakeup_ms()
        self._find_due()
        self.stats.takeovers += 1
        _logger.info(
            "role=%s partition=%d event=live epoch=%d folded=%d seconds=%.3f",
            self.role.name, partition, owned.epoch, folded, self._monotonic_s() - owned.restore_started_s,
        )  # fmt: skip

    # --- processing -----------------------------------------------------------------------------------------------

    def _process(self, records: list[LogRecord]) -> None:
        #: Partitions that went live within this batch: what the batch still holds of the restored topic is read again.
        moved: set[int] = set()
        handled: set[int] = set()
        self.stats.batches += 1
        for record in records:
            owned = self._owned.get(record.partition)
            if owned is None:
                continue
            if owned.phase is Phase.LIVE:
                if record.partition in moved and record.topic == self.role.restored_topic:
                    continue
                handled.add(record.partition)
                self._handle(owned, record)
            elif owned.phase is Phase.RESTORING:
                self._fold(owned, record)
                if record.offset >= owned.epoch:
                    self._go_live(owned)
                    moved.add(record.partition)
        if handled:
            self._dirty = True
            for partition in handled:
                owned = self._owned[partition]
                assert owned.handler is not None
                if owned.handler.deposed:
                    raise LogError(f"a newer mark stands in partition {partition} of {self.role.restored_topic}")
                owned.due_ms = owned.handler.next_wakeup_ms()
            self._find_due()

    def _handle(self, owned: Owned, record: LogRecord) -> None:
        assert owned.handler is not None
        self.stats.records += 1
        owned.dirty = True
        sent_before = len(self._outbox.records)
        try:
            owned.handler.handle(record, self._outbox)
        except Exception as error:
            # Whatever was sent halfway must not go out: the decision did not come to its end.
            del self._outbox.records[sent_before:]
            refuse_newer(record, error, self._engine_topics)
            self._quarantine(owned, record, error)

    def _fold(self, owned: Owned, record: LogRecord) -> None:
        assert owned.folding is not None
        self.stats.folded += 1
        try:
            owned.folding.fold(record)
        except Exception as error:
            refuse_newer(record, error, self._engine_topics)
            self._quarantine(owned, record, error)
        if not owned.folding.folded & 0xFF:
            now_s = self._monotonic_s()
            owned.folding.checkpoint_if_due(now_s)
            if now_s - owned.restore_logged_s > PROGRESS_INTERVAL_S:
                owned.restore_logged_s = now_s
                _logger.info(
                    "role=%s partition=%d event=restoring offset=%d of=%d",
                    self.role.name, record.partition, record.offset, owned.epoch,
                )  # fmt: skip

    def _quarantine(self, owned: Owned, record: LogRecord, error: Exception) -> None:
        if isinstance(error, LogUnavailableError | StateStoreError):
            raise error  # not the record's fault: it is processed again by the next processor
        reason = reason_of(error)
        _logger.error(
            "role=%s topic=%s partition=%d offset=%d event=dead_letter reason=%r",
            self.role.name, record.topic, record.partition, record.offset, reason,
            exc_info=not isinstance(error, (codec.DecodeError, UndeliverableError)),
        )  # fmt: skip
        self.stats.dead_letters += 1
        self._outbox.send(dead_letter(self._names.dead_letters, record, reason, self._now_ms()))
        if owned.handler is not None:
            sent_before = len(self._outbox.records)
            try:
                owned.handler.quarantine(record, reason, self._outbox)
            except (LogUnavailableError, StateStoreError):
                raise
            except Exception:
                del self._outbox.records[sent_before:]
                _logger.exception("role=%s partition=%d event=quarantine_failed", self.role.name, record.partition)

    def _tick(self) -> bool:
        now_ms = self._now_ms()
        if self._due_ms is None or self._due_ms > now_ms:
            return False
        for owned in self._owned.values():
            if owned.handler is not None and owned.due_ms is not None and owned.due_ms <= now_ms:
                owned.handler.tick(now_ms, self._outbox)
                owned.dirty = self._dirty = True
                owned.due_ms = owned.handler.next_wakeup_ms()
        self._find_due()
        return True

    def _find_due(self) -> None:
        """Only what a handler did can move its next tick, so nobody is asked in between."""
        self._due_ms = min((owned.due_ms for owned in self._owned.values() if owned.due_ms is not None), default=None)

    # --- sending, acknowledgements, checkpoints -------------------------------------------------------------------

    def _send(self) -> None:
        if self._outbox.records:
            self.stats.sent += len(self._outbox.records)
            for tell in self.on_sending:
                tell(self._outbox.records)
            acknowledgement = self._producer.append(self._outbox.records)
            self._checkpoints.sent(acknowledgement, self._outbox.records)
            self._outbox.records = []
            for owned in self._settling.values():
                owned.note_sent(acknowledgement)

    def _checkpoint_if_due(self, now_s: float) -> None:
        if now_s - self._checkpointed_s < CHECKPOINT_INTERVAL_S:
            return
        if self._dirty:
            self._checkpointed_s = now_s
            self._take_checkpoint()
        if now_s - self._committed_s > COMMIT_INTERVAL_S:
            self._committed_s = now_s
            self._checkpoints.begin_commit()

    def _take_checkpoint(self) -> None:
        offsets = {}
        self._dirty = False
        for owned in self._owned.values():
            if owned.dirty and owned.phase is Phase.LIVE and owned.handler is not None:
                owned.dirty = False
                offset = owned.handler.checkpoint()
                owned.due_ms = owned.handler.next_wakeup_ms()
                if offset is not None:
                    offsets[owned.partition] = offset
        self._find_due()
        self._checkpoints.taken(offsets, self._monotonic_s())

    def _flush(self, timeout_s: float, *, in_callback: bool) -> None:
        """Send, checkpoint and commit everything, waiting at most ``timeout_s`` for the log and the group."""
        self._send()
        self._take_checkpoint()
        deadline_s = self._monotonic_s() + timeout_s
        self._checkpoints.settle()
        while self._checkpoints.pending and self._monotonic_s() < deadline_s:
            self._checkpoints.begin_commit()
            self._checkpoints.wait(FLUSH_SLICE_S)
            if not in_callback:
                self._membership.poll()
            self._checkpoints.settle()

    def _mark(self, target: TopicPartition, partition: int, epoch: int = -1) -> NewRecord:
        """Our owner mark of a partition, for ``target``; without an epoch, its offset there is the epoch."""
        source = f"{self.role.name}/{partition}"
        mark = OwnerMark(source=source, epoch=epoch, owner=self._instance, time_ms=self._now_ms())
        return NewRecord(target.topic, target.partition, mark_key(source, self._unique()), codec.encode(mark))
