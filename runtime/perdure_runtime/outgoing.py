"""What a processor is about to append, checked before it can do harm.

Invariant: every record in here can be appended. A record for a partition that does not exist, or a larger one than the
log takes, would end the producer and with it the whole role, again after every restart; here it is refused where it is
made, so that only what it belongs to fails (I5). Called by the processor shell; handlers see it as ``Outbox``.
"""

from __future__ import annotations

from perdure_runtime.log import Log, LogError, LogUnavailableError, NewRecord
from perdure_runtime.sizes import record_bytes, too_large
from perdure_schemas.topics import RECORD_BYTES_MAX, TOPICS, WORK, TopicNames


class UndeliverableError(ValueError):
    """A record that no append can succeed with. The message says which, and why."""


class CheckedOutbox:
    """Collects the records of a batch.

    Args:
        log: knows the inbox topics of task queues, and makes one that is missing (its worker made it, but it may have
            been deleted since).
        names: the namespace's topics.
    """

    def __init__(self, log: Log, names: TopicNames) -> None:
        self.records: list[NewRecord] = []
        self._log = log
        self._partitions = names.partitions
        self._partition_counts = {names.of(spec): names.partitions for spec in TOPICS}
        self._inbox_prefix = f"{names.of(WORK)}."

    def send(self, record: NewRecord) -> None:
        """Append ``record`` with the current batch.

        Raises:
            UndeliverableError: its partition does not exist, or it is too large.
            LogUnavailableError: the topic is not known yet, and nobody could be asked.
        """
        count = self._partition_counts.get(record.topic)
        if count is None:
            count = self._partition_counts[record.topic] = self._partitions_of(record.topic)
        if not 0 <= record.partition < count:
            raise UndeliverableError(
                f"a record with the key {record.key!r:.100} is for partition {record.partition} of {record.topic}, "
                f"which has partitions 0 to {count - 1}"
            )
        size = record_bytes(record)
        if size > RECORD_BYTES_MAX:
            raise UndeliverableError(str(too_large(record, size)))
        self.records.append(record)

    def _partitions_of(self, topic: str) -> int:
        if not topic.startswith(self._inbox_prefix):
            raise UndeliverableError(f"{topic} is no topic of this namespace")
        try:
            found = self._log.describe_topics([topic]).get(topic)
            if found is not None:
                return found.partitions
            self._log.create_topics({topic: WORK}, self._partitions)
        except LogUnavailableError:
            raise
        except LogError as error:
            raise UndeliverableError(f"{topic} does not exist and cannot be made: {error}") from error
        return self._partitions
