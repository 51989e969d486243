"""When state may be written: the queue between a processor's sends and its store.

**I4.** A checkpoint waits until all that was sent before it is acknowledged; then the group's offset is committed, and
only when the group has taken that commit is the checkpoint written to the store, together with the position of our last
record below it. So whoever takes over sends again what may be missing, and the store never holds what a deposed owner
decided: the group refuses the commit of a member that does not own the partition any more.

**I1.** Nobody else writes to a restored topic that its role writes itself, so the offsets of our records follow one
another. Where they do not, an earlier owner may have written its mark late, and behind that our records are void. Then
nothing more is written, and the processor takes over again. Called by the processor shell only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perdure_runtime.handler import ACKNOWLEDGED_KEY
from perdure_runtime.log import Ack, LogError, Membership, NewRecord
from perdure_runtime.store import SealedBatch, StateStore


@dataclass(slots=True)
class _Checkpoint:
    """State that may be written once everything sent before it is acknowledged and the group has taken the commit."""

    batch: SealedBatch
    offsets: dict[int, int]
    taken_s: float


@dataclass(slots=True)
class _Sent:
    """An append, and how many of its records went to each partition of the restored topic."""

    taken: Ack
    counts: dict[int, int]


@dataclass(slots=True)
class _Commit:
    """A commit on its way to the group, and what is written when it has arrived."""

    taken: Ack
    batches: list[SealedBatch]
    acknowledged: dict[int, int]
    taken_s: float


class Checkpoints:
    """Sends and checkpoints in their order.

    Args:
        store: what checkpoints are written to.
        membership: takes the commits.
        restored_topic: the topic of which the position of our last acknowledged record is kept.
        is_marked: whether an owner mark stands in a partition of it between two offsets, both included.
    """

    def __init__(
        self,
        store: StateStore,
        membership: Membership,
        restored_topic: str,
        is_marked: Callable[[int, int, int], bool],
    ) -> None:
        self._is_marked = is_marked
        self._store = store
        self._membership = membership
        self._restored_topic = restored_topic
        self._waiting: deque[_Sent | _Checkpoint] = deque()
        #: The offset that our next record in each partition of the restored topic must get.
        self._next_offsets: dict[int, int] = {}
        #: Our last acknowledged offsets since the latest checkpoint: they belong to the next one.
        self._acknowledged_since: dict[int, int] = {}
        #: Acknowledged, not yet committed: offsets of the owned topic, state, our positions in the restored topic.
        self._to_commit: dict[int, int] = {}
        self._to_write: list[SealedBatch] = []
        self._acknowledged: dict[int, int] = {}
        self._to_write_taken_s = 0.0
        #: When the newest checkpoint that is written was taken, and since when there was something unwritten.
        self._written_s = 0.0
        self._unwritten_since_s: float | None = None
        self._commit: _Commit | None = None
        #: How many sends are not acknowledged yet, and how many commits were written so far.
        self.unacknowledged = 0
        self.written = 0

    @property
    def pending(self) -> bool:
        """Whether anything waits for an acknowledgement or a commit."""
        return bool(self._waiting or self._to_commit or self._commit)

    def own(self, partition: int, next_offset: int) -> None:
        """A partition of the restored topic is ours: our next record there gets this offset."""
        self._next_offsets[partition] = next_offset

    def disown(self, partition: int) -> None:
        """A partition is not ours any more: state of it that waits for the next commit must never be written.

        By the time of that commit the partition may have been folded further here, as a standby's, and newer state of
        it be on disk.
        """
        prefix = partition.to_bytes(2, "big")
        for batch in self._to_write:
            for key in [key for key in batch.writes if key.startswith(prefix)]:
                del batch.writes[key]
        for offsets in (self._next_offsets, self._acknowledged_since, self._acknowledged):
            offsets.pop(partition, None)

    def sent(self, acknowledgement: Ack, records: Sequence[NewRecord]) -> None:
        """Records were sent."""
        counts: dict[int, int] = {}
        for record in records:
            if record[0] == self._restored_topic:
                counts[record[1]] = counts.get(record[1], 0) + 1
        self._waiting.append(_Sent(acknowledgement, counts))
        self.unacknowledged += 1

    def taken(self, offsets: dict[int, int], now_s: float) -> None:
        """A checkpoint was staged in the store; ``offsets`` of the owned topic are done once it is written."""
        if self._unwritten_since_s is None:
            self._unwritten_since_s = now_s
        self._waiting.append(_Checkpoint(self._store.seal(), offsets, now_s))

    def age_s(self, now_s: float) -> float:
        """For how long there has been state that was staged and is not written; 0 if all is. From any thread."""
        since_s = self._unwritten_since_s
        return 0.0 if since_s is None else max(0.0, now_s - max(since_s, self._written_s))

    def settle(self) -> None:
        """Take note of acknowledgements: of records in their order, and of the commit that is on its way.

        Raises:
            LogError: a send failed, or the group refused the commit.
        """
        waiting = self._waiting
        while waiting:
            first = waiting[0]
            if isinstance(first, _Checkpoint):
                self._to_write.append(first.batch)
                self._to_write_taken_s = first.taken_s
                self._to_commit.update(first.offsets)
                self._acknowledged.update(self._acknowledged_since)
                self._acknowledged_since.clear()
            elif first.taken.done():
                error = first.taken.error()
                if error is not None:
                    raise error
                self.unacknowledged -= 1
                if first.counts:
                    self._note_positions(first)
            else:
                break
            waiting.popleft()
        if self._commit is not None and self._commit.taken.done():
            self._end_commit(self._commit)

    def _note_positions(self, sent: _Sent) -> None:
        for where, offset in sent.taken.offsets().items():
            count = sent.counts.get(where.partition)
            if where.topic != self._restored_topic or count is None:
                continue
            first = self._next_offsets.get(where.partition, offset - count + 1)
            if offset != first + count - 1 and self._is_marked(where.partition, first, offset):
                raise LogError(
                    f"a newer mark stands in {where.topic}[{where.partition}] between {first} and our record at"
                    f" {offset}: starting again, to take it over if it is still ours"
                )
            self._next_offsets[where.partition] = offset + 1
            self._acknowledged_since[where.partition] = offset + 1

    def begin_commit(self) -> None:
        """Commit what is acknowledged, unless a commit is on its way already or there is nothing to commit.

        State without an offset to commit waits for the next one: a commit of nothing would prove nothing.
        """
        if self._commit is not None or not self._to_commit:
            return
        taken = self._membership.commit(self._to_commit)
        self._commit = _Commit(taken, self._to_write, self._acknowledged, self._to_write_taken_s)
        self._to_write, self._to_commit, self._acknowledged = [], {}, {}

    def wait(self, timeout_s: float) -> None:
        """Wait for the oldest send that is not acknowledged; without one, for the commit."""
        for entry in self._waiting:
            if not isinstance(entry, _Checkpoint):
                entry.taken.wait(timeout_s)
                return
        if self._commit is not None:
            self._commit.taken.wait(timeout_s)

    def _end_commit(self, commit: _Commit) -> None:
        self._commit = None
        error = commit.taken.error()
        if error is not None:
            raise error
        positions = {
            partition.to_bytes(2, "big") + ACKNOWLEDGED_KEY: offset.to_bytes(8, "big")
            for partition, offset in commit.acknowledged.items()
        }
        self._store.commit(commit.batches, positions)
        self.written += 1
        self._written_s = commit.taken_s
        if not self.pending:
            self._unwritten_since_s = None
