"""Hot standbys: partitions that others own are folded all the time, so that taking one over means folding the rest.

Invariants:

* A standby appends nothing and commits nothing: it can be stopped, or its state deleted, without anybody noticing.
* It is driven by its processor's steps, after the live records and with a bound, so owned partitions come first.
* It stops folding *before* the mark of its own takeover is appended; so the mark stands behind everything it has
  folded, and the fold never runs past the epoch (I1).
* Nothing that goes wrong here touches the processor: everything is given up and begun again a while later.

Called by the processor shell.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

from perdure_runtime.dead_letters import reason_of
from perdure_runtime.folding import Folding
from perdure_runtime.handler import Role
from perdure_runtime.log import Log, LogError, LogRecord, Membership, Reader, TopicPartition
from perdure_runtime.newer import refuse_newer
from perdure_runtime.store import StateStore, StateStoreError

_logger = logging.getLogger("perdure.engine")

#: Records folded in one step: beside live ones at least the first number and otherwise as many as were processed; as
#: many as the second when there was nothing else to do.
BUSY_RECORDS_MIN = 50
IDLE_RECORDS_MAX = 500
#: How often the log is looked at when there was nothing to fold, and the group's commit is asked for.
IDLE_POLL_S = 0.2
COMMITTED_INTERVAL_S = 1.0
#: How long everything rests after a failure.
RETRY_S = 5.0


@dataclass(slots=True)
class _Followed:
    """A partition that is folded for another owner. ``target``: where the log ended when it was opened."""

    folding: Folding
    target: int
    caught_up: bool = False
    errors: int = 0


class Standbys:
    """The standby partitions of one processor.

    Args:
        role: what is folded.
        log: where it is read from.
        store: the role's state.
        membership: knows what the group has committed.
        name: for logs.
        now_ms: the wall clock, in milliseconds since the epoch.
        monotonic_s: the monotonic clock.
    """

    def __init__(
        self,
        role: Role,
        log: Log,
        store: StateStore,
        membership: Membership,
        *,
        name: str,
        now_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._role = role
        self._log = log
        self._store = store
        self._membership = membership
        self._name = name
        self._now_ms = now_ms
        self._monotonic_s = monotonic_s
        self._reader: Reader | None = None
        self._followed: dict[int, _Followed] = {}
        self._wanted: list[int] = []
        self._behind = False
        self._newest_ms = 0
        self._polled_s = self._committed_s = float("-inf")
        self._rest_until_s = float("-inf")
        #: Records folded here since the start.
        self.folded = 0

    # --- what is followed -------------------------------------------------------------------------------------------

    def follow(self, partitions: Collection[int]) -> None:
        """Fold exactly these from now on."""
        for partition in [partition for partition in self._followed if partition not in partitions]:
            self.hand_over(partition)
        self._wanted = sorted(partition for partition in partitions if partition not in self._followed)

    def hand_over(self, partition: int) -> Folding | None:
        """Stop folding a partition. Returns its fold, up to now; ``None`` if there is none."""
        self._wanted = [wanted for wanted in self._wanted if wanted != partition]
        followed = self._followed.pop(partition, None)
        if followed is None:
            return None
        try:
            assert self._reader is not None
            self._reader.unassign([self._source(partition)])
        except LogError as error:
            self._fail(error)
        return followed.folding

    def wait_s(self, wait_s: float) -> float:
        """How long the processor may wait for live records, at most ``wait_s``."""
        if not self._followed and not self._wanted:
            return wait_s
        now_s = self._monotonic_s()
        if now_s < self._rest_until_s:
            return min(wait_s, self._rest_until_s - now_s)
        if self._behind or self._wanted:
            return 0.0
        return min(wait_s, max(0.0, self._polled_s + IDLE_POLL_S - now_s))

    # --- folding ----------------------------------------------------------------------------------------------------

    def step(self, live_records: int) -> bool:
        """Fold a part of what is there. ``live_records``: how many the processor has just processed.

        Returns whether there was anything to fold.
        """
        if not self._followed and not self._wanted:
            return False
        now_s = self._monotonic_s()
        if now_s < self._rest_until_s:
            return False
        try:
            return self._step(live_records, now_s)
        except StateStoreError:
            raise  # the owned partitions share the database
        except Exception as error:
            self._fail(error)
            return False

    def _step(self, live_records: int, now_s: float) -> bool:
        if self._wanted:
            self._open(self._wanted[0], now_s)
            del self._wanted[0]
        if not self._behind and now_s - self._polled_s < IDLE_POLL_S:
            return False
        assert self._reader is not None
        self._polled_s = now_s
        records_max = IDLE_RECORDS_MAX if live_records == 0 else max(BUSY_RECORDS_MIN, live_records)
        records = self._reader.poll(records_max, 0.0)
        self._behind = bool(records)
        for record in records:
            self._fold(record)
        self._note_complete(not records)
        self._look_at_commits(now_s)
        for followed in self._followed.values():
            followed.folding.checkpoint_if_due(now_s)
        return bool(records)

    def _open(self, partition: int, now_s: float) -> None:
        if self._reader is None:
            self._reader = self._log.reader(f"{self._name}-standby")
        committed = self._membership.committed([partition]).get(partition)
        source = self._source(partition)
        low, end = self._log.watermarks(source)
        folding = Folding(self._role, self._store, partition, committed, self._now_ms(), now_s)
        start = folding.begin(low, end)
        self._reader.assign({source: start})
        self._followed[partition] = _Followed(folding, end)
        self._behind = True
        _logger.info("role=%s partition=%d event=standby from=%d to=%d", self._role.name, partition, start, end)

    def _fold(self, record: LogRecord) -> None:
        followed = self._followed.get(record.partition)
        if followed is None:
            return
        self.folded += 1
        self._newest_ms = record.timestamp_ms
        try:
            followed.folding.fold(record)
        except StateStoreError:
            raise
        except Exception as error:
            refuse_newer(record, error, (self._role.restored_topic,))
            # Whoever owns the partition has written the dead letter; here it is passed over as it will be there.
            followed.errors += 1
            if followed.errors == 1:
                _logger.warning(
                    "role=%s topic=%s partition=%d offset=%d event=standby_skipped reason=%r",
                    self._role.name, record.topic, record.partition, record.offset, reason_of(error),
                )  # fmt: skip

    def _note_complete(self, drained: bool) -> None:
        """Without anything left to read, the partitions that had reached their target hold all there is."""
        now_ms = self._now_ms()
        for followed in self._followed.values():
            if not followed.caught_up and followed.folding.position >= followed.target:
                followed.caught_up = True
                _logger.info(
                    "role=%s partition=%d event=standby_hot folded=%d",
                    self._role.name, followed.folding.partition, followed.folding.folded,
                )  # fmt: skip
            if drained and followed.caught_up:
                followed.folding.complete(now_ms)

    def _look_at_commits(self, now_s: float) -> None:
        if now_s - self._committed_s < COMMITTED_INTERVAL_S:
            return
        self._committed_s = now_s
        asked = [partition for partition, f in self._followed.items() if f.folding.waits_for_commit]
        if asked:
            for partition, committed in self._membership.committed(asked).items():
                self._followed[partition].folding.commit_seen(committed)

    # --- the outside ------------------------------------------------------------------------------------------------

    @property
    def partitions(self) -> dict[int, int]:
        """The followed partitions, and how many offsets each has still to fold before it is hot the first time."""
        return {
            partition: 0 if followed.caught_up else max(0, followed.target - followed.folding.position)
            for partition, followed in list(self._followed.items())
        }

    def lag_s(self) -> float:
        """How old the newest folded record was when there was still something to fold; 0 when there was nothing."""
        if not self._behind or not self._newest_ms:
            return 0.0
        return max(0.0, (self._now_ms() - self._newest_ms) / 1000)

    def close(self) -> None:
        """Stop. What is not on disk is folded again by whoever opens it next."""
        self._followed.clear()
        self._wanted = []
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _fail(self, error: Exception) -> None:
        again = sorted({*self._followed, *self._wanted})
        _logger.warning(
            "role=%s event=standby_failed retry_s=%g reason=%r",
            self._role.name, RETRY_S, reason_of(error), exc_info=not isinstance(error, LogError),
        )  # fmt: skip
        try:
            self.close()
        except LogError:
            self._reader = None
        self._wanted = again
        self._rest_until_s = self._monotonic_s() + RETRY_S

    def _source(self, partition: int) -> TopicPartition:
        return TopicPartition(self._role.restored_topic, partition)
