"""The history role, as the engine runs it: the topics it owns, restores and writes, and its handler of a partition."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perdure_history.config import HistoryConfig
from perdure_history.layout import STORE_VERSION
from perdure_history.partition import HistoryPartition
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.handler import PartitionStore
from perdure_runtime.log import TopicPartition
from perdure_schemas.topics import TopicNames

__all__ = ["HistoryConfig", "HistoryRole"]


class HistoryRole:
    """Implements :class:`perdure_runtime.handler.Role`.

    Args:
        names: the namespace's topics.
        config: numbers of the role.
        clock: the wall clock in milliseconds; for the age of stored state only, never for a decision.
    """

    name = "history"
    store_version = STORE_VERSION

    def __init__(
        self, names: TopicNames, config: HistoryConfig | None = None, clock: Callable[[], int] = wall_clock_ms
    ) -> None:
        self._names = names
        self._clock = clock
        self.config = config or HistoryConfig()
        self.owned_topic = names.commands
        self.restored_topic = names.history
        self.live_topics: Sequence[str] = (names.commands,)

    def marks(self, partition: int) -> list[TopicPartition]:
        """Where marks go: all partitions of tasks and replies (a run's queues and clients may be anywhere), our own
        partition of timers and executions."""
        everywhere = range(self._names.partitions)
        return [
            *(TopicPartition(self._names.tasks, number) for number in everywhere),
            *(TopicPartition(self._names.replies, number) for number in everywhere),
            TopicPartition(self._names.timers, partition),
            TopicPartition(self._names.executions, partition),
        ]

    def open(self, partition: int, store: PartitionStore, committed: int | None) -> HistoryPartition:
        """A handler for a partition that is about to be restored."""
        return HistoryPartition(self._names, self.config, partition, store, committed, self._clock)
