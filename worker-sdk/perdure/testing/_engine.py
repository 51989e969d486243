"""The engine of a test environment: all roles in the test's process, on an embedded log in memory unless one is given.

The parts of the engine are needed by tests only and take time to import, so :mod:`perdure.testing._workflow` imports
this module when an environment starts.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perdure_history.service import HistoryConfig, HistoryRole
from perdure_matching.core.idle import WorkLeft, work_left
from perdure_matching.service import MatchingConfig, MatchingPartition, MatchingRole
from perdure_readside.service import ReadSide
from perdure_runtime import connect
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.engine import Engine
from perdure_runtime.handler import PartitionStore
from perdure_runtime.log import Log
from perdure_runtime.relay.service import Relay
from perdure_schemas.topics import TopicNames
from perdure_timers.service import TimersPartition, TimersRole

#: Few, because a test has few workflows and each partition costs a little at the start.
_PARTITIONS = 4
_READY_TIMEOUT_S = 60.0
_INSTANCE = "test"
#: Where time skips, neither closed runs nor workers may look old: a hundred years.
_FOREVER_MS = 100 * 365 * 24 * 3_600_000


class _SeenMatchingRole(MatchingRole):
    """Matching whose partitions can be looked at."""

    def __init__(self, names: TopicNames, config: MatchingConfig, clock: Callable[[], int]) -> None:
        super().__init__(names, config, clock)
        self.opened: dict[int, MatchingPartition] = {}

    def open(self, partition: int, store: PartitionStore, committed: int | None) -> MatchingPartition:
        handler = self.opened[partition] = super().open(partition, store, committed)
        return handler


class _SeenTimersRole(TimersRole):
    """Timers whose partitions can be looked at."""

    def __init__(self, names: TopicNames, clock: Callable[[], int]) -> None:
        super().__init__(names, clock=clock)
        self.opened: dict[int, TimersPartition] = {}

    def open(self, partition: int, store: PartitionStore, committed: int | None) -> TimersPartition:
        handler = self.opened[partition] = super().open(partition, store, committed)
        return handler


class LocalEngine:
    """An engine that keeps nothing. Starting it blocks.

    Args:
        namespace: the namespace.
        now_ms: the clock of everything in it; the wall clock if not given. With a clock of the caller's, workers and
            closed runs never get old.
        on_idle: called on the engine's thread when there is nothing to do; true if it moved the clock.
        log: where it works, and what it does not close; a log of its own, in memory, if not given.

    Raises:
        RuntimeError: the engine did not start.
    """

    def __init__(
        self,
        namespace: str,
        now_ms: Callable[[], int] | None = None,
        on_idle: Callable[[], bool] | None = None,
        log: Log | None = None,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="perdure-test-"))
        self.names = names = TopicNames(namespace=namespace, partitions=_PARTITIONS)
        self._owns_log = log is None
        self.log: Log = log or (EmbeddedLog(None) if now_ms is None else EmbeddedLog(None, now_ms=now_ms))
        if now_ms is None:
            history, matching, timers = HistoryRole(names), MatchingRole(names), TimersRole(names)
        else:
            history = HistoryRole(names, HistoryConfig(retention_ms=_FOREVER_MS), now_ms)
            matching = self._matching = _SeenMatchingRole(
                names, MatchingConfig(heartbeat_lapse_ms=_FOREVER_MS, heartbeat_age_ms_max=_FOREVER_MS), now_ms
            )
            timers = self._timers = _SeenTimersRole(names, now_ms)
        connect.create_platform_topics(self.log, names)
        clock: dict[str, Any] = {} if now_ms is None else {"now_ms": now_ms}
        self._engine = Engine(
            self.log,
            names,
            self._folder,
            [history, matching, timers],
            instance=_INSTANCE,
            on_idle=on_idle,
            **clock,
        )
        self._read_side = ReadSide(self.log, names, None, instance=_INSTANCE, **clock)
        self._relay = Relay(self.log, names, instance=_INSTANCE, **clock)
        self._engine.start()
        if not self._engine.wait_ready(_READY_TIMEOUT_S):
            reason = self._engine.failure()
            self.close()
            raise RuntimeError(f"the engine was not ready within {_READY_TIMEOUT_S:g} s") from reason
        self._read_side.start()
        self._relay.start()

    def next_timer_ms(self) -> int | None:
        """When the next timer is due; on the engine's thread only, and only with a clock of the caller's."""
        due_ms = (handler.next_wakeup_ms() for handler in self._timers.opened.values())
        return min((one_ms for one_ms in due_ms if one_ms is not None), default=None)

    def work_left(self) -> WorkLeft:
        """Tasks that are not done; on the engine's thread only, and only with a clock of the caller's."""
        counts = [work_left(handler.state) for handler in self._matching.opened.values()]
        return WorkLeft(sum(left.in_hand for left in counts), sum(left.without_worker for left in counts))

    def wake(self) -> None:
        """Make it look for work, and become idle again. From any thread."""
        self._engine.wake()

    def close(self) -> None:
        """Stop, and forget everything. Blocks."""
        self._relay.stop()
        self._read_side.stop()
        self._engine.stop()
        if self._owns_log:
            self.log.close()
        shutil.rmtree(self._folder, ignore_errors=True)
