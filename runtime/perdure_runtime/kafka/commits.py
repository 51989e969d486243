"""The book of one member's offset commits: what is to be sent, what waits for an answer, and whose acknowledgement it
is.

Invariants: one commit is on its way at a time, and newer offsets are merged into a repeated one, so that an older
offset never overwrites a newer one; a refusal for the moment (a rebalance, a coordinator that moves) is repeated, any
other one is an error. No I/O. Called by :class:`perdure_runtime.kafka.membership.KafkaMembership`, on its one thread.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError

from perdure_runtime.kafka.ack import KafkaAck
from perdure_runtime.kafka.errors import ErrorTranslator, describe, is_unavailable
from perdure_runtime.log import LogError

_RETRY_PAUSE_S = 0.05
#: Refusals that end by themselves. An illegal generation, too: the member may still own its partitions in the next one;
#: if it does not, ``on_lost`` or ``on_revoke`` says so, and the commit is not repeated.
_TEMPORARY = frozenset(
    {
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    }
)


class Commits:
    """Commits that were asked for and are not answered yet."""

    def __init__(self, group: str, errors: ErrorTranslator) -> None:
        self._group = group
        self._errors = errors
        self._waiting: list[KafkaAck] = []
        self._offsets: dict[int, int] = {}
        self._sent: list[KafkaAck] = []
        self._sent_offsets: dict[int, int] = {}
        self._stale_answers = 0
        self._not_before = 0.0

    def add(self, offsets: Mapping[int, int], ack: KafkaAck) -> None:
        """A new commit was asked for."""
        self._offsets.update(offsets)
        self._waiting.append(ack)

    def take(self, now: float) -> dict[int, int]:
        """What to send now (monotonic seconds); empty while an answer is awaited or a pause is not over."""
        if self._sent or not self._waiting or now < self._not_before:
            return {}
        self._sent, self._waiting = self._waiting, []
        self._sent_offsets, self._offsets = self._offsets, {}
        return self._sent_offsets

    def take_all(self) -> dict[int, int]:
        """Everything that is not settled, for a commit that is waited for; the answer to one on its way is void
        then."""
        if self._sent:
            self._stale_answers += 1
        self._sent, self._waiting = [*self._sent, *self._waiting], []
        self._sent_offsets, self._offsets = self._sent_offsets | self._offsets, {}
        return self._sent_offsets

    @property
    def unanswered(self) -> bool:
        """Whether a commit is on its way."""
        return bool(self._sent)

    def answered(self, error: KafkaError | None, partitions: Sequence[object]) -> None:
        """The client library's answer to an asynchronous commit."""
        if self._stale_answers:
            self._stale_answers -= 1
            return
        for partition in partitions:
            error = error or getattr(partition, "error", None)
        self.settle(error)

    def settle(self, error: KafkaError | None, *, final: bool = False) -> None:
        """What was sent is done, or to be repeated, or refused (``final``: not repeated)."""
        acks, offsets = self._sent, self._sent_offsets
        self._sent, self._sent_offsets = [], {}
        if error is None:
            for ack in acks:
                ack.decide(None)
        elif not final and (error.code() in _TEMPORARY or is_unavailable(error)):
            self._waiting = acks + self._waiting
            self._offsets = offsets | self._offsets
            self._not_before = time.monotonic() + _RETRY_PAUSE_S
        else:
            self._refuse(acks, describe(error))

    def fail(self, reason: str) -> None:
        """Nothing of what is pending will be taken any more."""
        if self._sent:
            self._stale_answers += 1
        acks = [*self._sent, *self._waiting]
        self._sent, self._waiting = [], []
        self._sent_offsets, self._offsets = {}, {}
        self._refuse(acks, reason)

    def _refuse(self, acks: Sequence[KafkaAck], reason: str) -> None:
        for ack in acks:
            ack.decide(LogError(self._errors.clean(f"the group {self._group} did not take a commit: {reason}")))
