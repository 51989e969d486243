"""Group membership on Kafka: a subscribed consumer that never fetches a record.

Invariants: every assigned partition is paused before anything can be fetched; ``poll`` never blocks; assignment is
cooperative, so partitions that stay are not interrupted; a commit that was acknowledged was made by an owner (the group
refuses those of a member it has given up). Called by :class:`perdure_runtime.kafka.log.KafkaLog`.

A member with an instance name is static: after ``kill -9`` a restart under the same name gets its partitions back at
once, without waiting for the session to time out. Closing a static member does not leave the group (KIP-345), which
would keep its partitions idle for the rest of the session; unsubscribing does, so ``leave`` unsubscribes first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from perdure_runtime.kafka.ack import KafkaAck
from perdure_runtime.kafka.commits import Commits
from perdure_runtime.kafka.errors import ErrorTranslator, client_logger, describe, logger
from perdure_runtime.log import LogError

_EVENTS_PER_POLL_MAX = 32
_LEAVE_TIMEOUT_S = 1.0
_LEAVE_SLICE_S = 0.02


class KafkaMembership:
    """See :class:`perdure_runtime.log.Membership`.

    Parameters:
        group / topic: the group, and the topic whose partitions it shares.
        config: librdkafka configuration.
        on_assigned / on_revoked: see :meth:`perdure_runtime.log.Log.join`.
        errors: makes the port's errors.
        timeout_s: how long :meth:`committed` may take.
    """

    def __init__(
        self,
        group: str,
        topic: str,
        config: Mapping[str, object],
        on_assigned: Callable[[list[int]], None],
        on_revoked: Callable[[list[int], bool], None],
        errors: ErrorTranslator,
        timeout_s: float,
    ) -> None:
        self._group = group
        self._topic = topic
        self._errors = errors
        self._timeout_s = timeout_s
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._owned: set[int] = set()
        self._revoking = False
        self._leaving = False
        self._reported: set[int] = set()
        #: What stands with the committed offset of a partition; a relay's.
        self.notes: dict[int, str] = {}
        self._ack_lock = threading.Lock()
        self._commits = Commits(group, errors)
        handlers = {
            "logger": client_logger,
            "error_cb": errors.observe(f"member of {group}"),
            "on_commit": self._commits.answered,
        }
        try:
            self._client: Any = Client({**config, **handlers})
            self._client.subscribe([topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)
        except Exception as error:
            raise errors.translate(f"join the group {group}", error) from None

    def _assign(self, _: Any, partitions: list[Any]) -> None:
        # An explicit offset spares the look-up of a committed one, and pausing keeps the partition from being fetched.
        self._client.incremental_assign([ClientPartition(p.topic, p.partition, 0) for p in partitions])
        if partitions:
            self._client.pause([ClientPartition(p.topic, p.partition) for p in partitions])
        added = sorted(p.partition for p in partitions)
        self._owned.update(added)
        if not self._leaving:
            self._on_assigned(added)

    def _revoke(self, _: Any, partitions: list[Any]) -> None:
        removed = sorted(p.partition for p in partitions)
        self._revoking = True
        try:
            if removed and not self._leaving:
                self._commit_now()
                self._on_revoked(removed, False)
        finally:
            self._revoking = False
            self._owned.difference_update(removed)
            self._client.incremental_unassign(partitions)

    def _lose(self, _: Any, partitions: list[Any]) -> None:
        removed = sorted(p.partition for p in partitions)
        self._owned.difference_update(removed)
        self._commits.fail("the group has given this member up")
        try:
            if removed and not self._leaving:
                self._on_revoked(removed, True)
        finally:
            self._client.incremental_unassign(partitions)

    def poll(self) -> None:
        """Take part; see the port.

        Raises:
            LogError: the group will not have this member any more, for example because another one joined under its
                instance name, or may not read the topic.
        """
        if self._leaving:
            raise LogError(f"this member has left the group {self._group}")
        self._send_commits()
        for _ in range(_EVENTS_PER_POLL_MAX):
            message = self._client.poll(0)
            if message is None:
                return
            error = message.error()
            if error is not None:
                self._take_error(error)

    def _take_error(self, error: KafkaError) -> None:
        code = error.code()
        if code in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED, KafkaError._FATAL) or error.fatal():
            reason = f"shut this member out: {describe(error)}; every engine needs an instance name of its own"
            raise LogError(self._errors.clean(f"the group {self._group} {reason}"))
        if code in (KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED):
            of_group = code == KafkaError.GROUP_AUTHORIZATION_FAILED
            need = f"Read on the group {self._group}" if of_group else f"Read on the topic {self._topic}"
            text = f"cannot join the group {self._group} of {self._topic}: {describe(error, need)}"
            raise LogError(self._errors.clean(text))
        if code not in self._reported:
            self._reported.add(code)
            logger.warning("member of %s keeps waiting: %s", self._group, self._errors.clean(describe(error)))

    def commit(self, offsets: Mapping[int, int]) -> KafkaAck:
        """Remember offsets; see the port. A commit of nothing succeeds at once."""
        ack = KafkaAck(self._ack_lock)
        foreign = sorted(set(offsets) - self._owned)
        if foreign or self._leaving:
            ack.decide(LogError(f"the group {self._group} has not given the partitions {foreign} to this member"))
        elif not offsets:
            ack.decide(None)
        else:
            self._commits.add(offsets, ack)
            if self._revoking:
                self._commit_now()
            else:
                self._send_commits()
        return ack

    def _send_commits(self) -> None:
        offsets = self._commits.take(time.monotonic())
        if not offsets:
            return
        if not self._owned.issuperset(offsets):
            self._commits.fail("the partitions were given away")
            return
        try:
            self._client.commit(offsets=self._partitions(offsets), asynchronous=True)
        except KafkaException as error:
            self._commits.settle(error.args[0])

    def _commit_now(self) -> None:
        """Commit what is pending or unanswered, and wait: inside callbacks, where nobody would see the answer."""
        offsets = self._commits.take_all()
        if not offsets:
            return
        failure = None
        try:
            for partition in self._client.commit(offsets=self._partitions(offsets), asynchronous=False):
                failure = failure or partition.error
        except KafkaException as error:
            failure = error.args[0]
        self._commits.settle(failure, final=True)

    def _commit_last(self) -> bool:
        """Commit what is pending, and wait for a moment: a synchronous commit could not be ended while nobody answers.

        Returns whether nothing is unanswered.
        """
        offsets = self._commits.take_all()
        if not offsets:
            return True
        self._client.commit(offsets=self._partitions(offsets), asynchronous=True)
        deadline = time.monotonic() + _LEAVE_TIMEOUT_S
        while self._commits.unanswered and time.monotonic() < deadline:
            self._client.poll(_LEAVE_SLICE_S)
        return not self._commits.unanswered

    def _partitions(self, offsets: Mapping[int, int]) -> list[Any]:
        notes = self.notes
        return [
            ClientPartition(self._topic, number, offset, notes[number])
            if number in notes
            else ClientPartition(self._topic, number, offset)
            for number, offset in offsets.items()
        ]

    def committed(self, partitions: Sequence[int]) -> dict[int, int]:
        """What was committed last, by anybody.

        Raises:
            LogUnavailableError: nobody answered in time.
        """
        return {number: offset for number, (offset, _) in self.committed_with_notes(partitions).items()}

    def committed_with_notes(self, partitions: Sequence[int]) -> dict[int, tuple[int, str]]:
        """What was committed last, by anybody, and what stands with it.

        Raises:
            LogUnavailableError: nobody answered in time.
        """
        if not partitions:
            return {}
        asked = [ClientPartition(self._topic, partition) for partition in partitions]
        try:
            found = self._client.committed(asked, timeout=self._timeout_s)
        except KafkaException as error:
            action = f"read committed offsets of the group {self._group}"
            raise self._errors.translate(action, error, f"Read on the group {self._group}") from None
        for partition in found:
            if partition.error is not None:
                action = f"read the committed offset of {self._topic}[{partition.partition}] in the group {self._group}"
                raise self._errors.translate(
                    action, KafkaException(partition.error), f"Read on the group {self._group}"
                )
        return {p.partition: (p.offset, p.metadata or "") for p in found if p.offset >= 0}

    def leave(self) -> None:
        """Give all partitions back, and go: milliseconds when the group's coordinator answers, else about a second."""
        if self._leaving:
            return
        self._leaving = True
        answered = False
        try:
            answered = self._commit_last()
            self._client.unsubscribe()
            deadline = time.monotonic() + _LEAVE_TIMEOUT_S
            while self._owned and time.monotonic() < deadline:
                self._client.poll(_LEAVE_SLICE_S)
        except KafkaException as error:
            logger.info("group %s: leaving: %s", self._group, self._errors.clean(str(error)))
        finally:
            self._commits.fail("this member has left")
            if answered:
                self._client.close()
            else:
                # Nobody answers, and the client library would wait for that many seconds.
                threading.Thread(target=self._client.close, name="perdure-leaving", daemon=True).start()
