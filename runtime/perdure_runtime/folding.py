"""The fold of one partition before it is owned: by the next owner while it restores, by a standby all the time.

Invariants:

* I1: records are folded in the order of the log and never taken back, so whatever is folded holds for every owner that
  comes later; what a deposed owner wrote behind a newer mark is void for the handler as for any reader.
* I4: a checkpoint of folded state is written when the group has committed everything it depends on, and not before:
  effects of what is on disk are never sent again by whoever opens it.
* Everything is staged in a view of its own, so that it is never written together with what is owned; the owner adopts
  what is not on disk yet.

Called by the processor shell and by :mod:`perdure_runtime.standby`, on the processor's thread.
"""

from __future__ import annotations

import logging
from collections import deque

from perdure_runtime.dead_letters import reason_of
from perdure_runtime.handler import PartitionHandler, Role
from perdure_runtime.log import LogRecord
from perdure_runtime.store import SealedBatch, StateStore, StateStoreError

_logger = logging.getLogger("perdure.engine")

#: How often folded state is staged: by time, and by how much was folded, which bounds what waits in memory.
STAGE_INTERVAL_S = 5.0
STAGE_BYTES = 8 * 1024 * 1024


class Folding:
    """Folds one partition.

    Args:
        role: whose.
        store: the role's state.
        partition: which.
        committed: the group's committed offset of the owned topic; ``None``: it has never committed.
        now_ms: the wall clock, in milliseconds since the epoch.
        now_s: the monotonic clock.
    """

    def __init__(
        self, role: Role, store: StateStore, partition: int, committed: int | None, now_ms: int, now_s: float
    ) -> None:
        self._role = role
        self._store = store
        self._view = store.beside()
        self._part = self._view.partition(partition)
        self.partition = partition
        self.committed = committed
        self.handler: PartitionHandler = self._open()
        #: The offset of the next record to fold, once :meth:`begin` has said where that is.
        self.position = 0
        self.folded = 0
        self._complete_ms = 0
        self._opened_ms = now_ms
        self._staged_s = now_s
        self._unstaged_bytes = 0
        self._changed = False
        #: Staged and not written: what the group must have committed before.
        self._waiting: deque[tuple[SealedBatch, int | None]] = deque()

    def _open(self) -> PartitionHandler:
        """The handler on the stored state; state that it cannot read is a cache gone bad, and is built again."""
        try:
            return self._role.open(self.partition, self._part, self.committed)
        except StateStoreError:
            raise
        except Exception as error:
            return self._open_empty(reason_of(error))

    def _open_empty(self, reason: str) -> PartitionHandler:
        _logger.warning("role=%s partition=%d event=state_discarded reason=%r", self._role.name, self.partition, reason)
        self._view.wipe_partition(self.partition)
        return self._role.open(self.partition, self._part, self.committed)

    def begin(self, low: int, end: int) -> int:
        """Find where to fold from.

        Args:
            low: the first offset that the restored topic has.
            end: an offset the fold has to reach; state from behind it belongs to another log, and is discarded.
        """
        start = self.handler.restore_offset()
        if start is not None and start > end:
            self.handler = self._open_empty(
                f"the state is ahead of the log (offset {start}, log {end}): it belongs to another cluster or to topics"
                " that were made anew"
            )
            start = self.handler.restore_offset()
        if start is None:
            self._complete_ms = self._opened_ms
        self.position = low if start is None else max(start, low)
        return self.position

    def fold(self, record: LogRecord) -> None:
        """Take in one record.

        Raises:
            Exception: the handler cannot; the record is passed over.
        """
        self.position = record.offset + 1
        self.folded += 1
        self._changed = True
        self._unstaged_bytes += len(record.value or b"") + len(record.key or b"")
        self.handler.fold(record)

    def complete(self, now_ms: int) -> None:
        """All that stood in the log at ``now_ms`` is folded."""
        self._complete_ms = now_ms

    def commit_seen(self, committed: int | None) -> None:
        """The group's committed offset, as it is now."""
        if committed is not None and committed != self.committed:
            self.committed = committed
            self.handler.fold_committed(committed)

    @property
    def waits_for_commit(self) -> bool:
        """Whether the group's committed offset matters to what is staged, or will be."""
        return self._changed or bool(self._waiting)

    def checkpoint_if_due(self, now_s: float) -> bool:
        """Stage what was folded if it is time for it, and write what may be written. Returns whether it wrote."""
        if self._changed and (self._unstaged_bytes >= STAGE_BYTES or now_s - self._staged_s >= STAGE_INTERVAL_S):
            needed = self.handler.fold_checkpoint(self._complete_ms)
            self._waiting.append((self._view.seal(), needed))
            self._staged_s = now_s
            self._unstaged_bytes = 0
            self._changed = False
        batches = []
        while self._waiting and self._may_write(self._waiting[0][1]):
            batches.append(self._waiting.popleft()[0])
        if batches:
            self._view.commit(batches, {})
        return bool(batches)

    def _may_write(self, needed: int | None) -> bool:
        return needed is None or (self.committed is not None and needed <= self.committed)

    def adopt(self) -> PartitionHandler:
        """The partition is owned from here on: what is not on disk yet is the owner's to write."""
        self._waiting.clear()
        self._store.adopt(self._part)
        return self.handler
