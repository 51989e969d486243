"""The engine in one process: runs processors of the chosen roles, and starts one again when it fails.

Servers run all roles on one thread: a hop from one to the next is then a function call away, threads do not fight for
the interpreter, and the roles share a consumer; on Kafka, which shows a record late, matching hears of tasks from
history before it reads them. Crash-only: a processor that fails is thrown away and made anew from its last checkpoint,
with all that share its thread.
Called by ``perdure dev``, ``perdure server``, and tests.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.handler import Role
from perdure_runtime.log import Log, LogError, Reader
from perdure_runtime.metrics import Sample
from perdure_runtime.processor import IDLE_WAIT_S, Processor
from perdure_runtime.restarting import restart_delay_s
from perdure_runtime.stats import PartitionStatus, ProcessorStats
from perdure_runtime.store import StateStore, StateStoreError, discard
from perdure_schemas.topics import TopicNames

_logger = logging.getLogger("perdure.engine")

#: How long a failed role waits before it is started again: grows from the first to the second number.
RESTART_DELAY_S_MIN = 0.2
RESTART_DELAY_S_MAX = 10.0
#: How long a stop may take.
STOP_TIMEOUT_S = 10.0


class _Together(Protocol):
    """Readers of one thread, which can wait for all of them."""

    #: Whether a record can be read as soon as ``append`` has returned.
    shows_appends_at_once: bool

    def reader(self, name: str) -> Reader: ...

    def has_news(self, reader: Reader) -> bool: ...

    def wait_any(self, readers: Sequence[Reader], timeout_s: float) -> bool: ...


class _LogForOneThread(Protocol):
    """What logs offer beyond the port to an engine that runs all roles on one thread."""

    def together(self) -> _Together: ...


class Engine:
    """Runs roles on a log.

    Args:
        log: the log; the engine does not close it.
        names: the namespace's topics; they must exist.
        state_dir: folder for the state stores, one folder in it for each role.
        roles: what to run.
        instance: this engine's name across restarts; no other engine of the namespace may have it.
        now_ms: the wall clock.
        standbys: fold the partitions of other engines all the time, to take them over at once.
        on_idle: called on the engine's thread when no role finds anything to do; true if it gave them something, so
            that they look again before they wait. For a test environment that skips time.
    """

    def __init__(
        self,
        log: Log,
        names: TopicNames,
        state_dir: Path,
        roles: Sequence[Role],
        *,
        instance: str,
        now_ms: Callable[[], int] = wall_clock_ms,
        standbys: bool = False,
        on_idle: Callable[[], bool] | None = None,
    ) -> None:
        self._log = log
        self._names = names
        self._state_dir = state_dir
        self._roles = list(roles)
        self._instance = instance
        self._now_ms = now_ms
        self._standbys = standbys
        self._on_idle = on_idle
        self._stores: dict[str, StateStore] = {}
        self._processors: dict[str, Processor] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._failures: dict[str, BaseException] = {}

    def start(self) -> None:
        """Open the state stores and start to work.

        Raises:
            StateStoreError: a state folder is in use, cannot be written, or is of another version. A damaged one is
                rebuilt.
        """
        try:
            for role in self._roles:
                self._store(role)
        except StateStoreError:
            self._close_stores()
            raise
        name = "perdure-" + "-".join(role.name for role in self._roles)
        self._thread = threading.Thread(target=self._supervise, name=name, daemon=True)
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until every role has its share of the partitions and has restored it; false if that takes longer."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not self.ready:
                remaining_s = deadline_s - time.monotonic()
                if remaining_s <= 0 or self._failures:
                    return False
                self._changed.wait(min(remaining_s, IDLE_WAIT_S))
        return True

    @property
    def instance(self) -> str:
        """This engine's name across restarts."""
        return self._instance

    @property
    def ready(self) -> bool:
        """Whether every role is live on all partitions it owns."""
        return all(
            (processor := self._processors.get(role.name)) is not None and processor.ready for role in self._roles
        )

    def failure(self) -> BaseException | None:
        """The bug that stopped a role, until that role is ready again; outages of the log are none."""
        return next(iter(list(self._failures.values())), None)

    def stats(self) -> dict[str, ProcessorStats]:
        """Counters of each role since its last (re)start."""
        found = {}
        for name, processor in list(self._processors.items()):
            found[name] = processor.refresh_stats()
        return found

    def status(self) -> list[PartitionStatus]:
        """Every partition that is owned or folded here, by role and number."""
        return [status for processor in list(self._processors.values()) for status in processor.status()]

    def samples(self) -> list[Sample]:
        """What the partitions that are worked on here show of themselves: gauges and counters."""
        return [sample for processor in list(self._processors.values()) for sample in processor.samples()]

    def wake(self) -> None:
        """Make the roles look at once whether there is something to do. May be called from any thread."""
        for processor in list(self._processors.values()):
            processor.reader.wake()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Finish what is on its way, write checkpoints, give all partitions back, and stop.

        Returns after ``timeout_s`` at the latest. A role that hangs in the log by then is left to the end of the
        process, and keeps its state folder: what it had not finished is done by whoever takes over.
        """
        self._stopping.set()
        self.wake()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout_s)
        if thread is not None and thread.is_alive():
            _logger.warning("event=stopped_without_waiting thread=%s timeout_s=%g", thread.name, timeout_s)
        else:
            self._close_stores()

    # --- the thread ----------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        roles = self._roles
        delay_s = 0.0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            processors: list[Processor] = []
            graceful = False
            bad_state: StateStoreError | None = None
            try:
                together = cast("_LogForOneThread", self._log).together() if len(roles) > 1 else None
                for role in roles:
                    processors.append(self._open(role, together))
                if together is None:
                    self._run_one(processors[0])
                else:
                    self._run_together(processors, together)
                graceful = True
            except LogError as error:
                _logger.warning("roles=%s event=restarting reason=%r", [role.name for role in roles], str(error))
            except StateStoreError as error:
                _logger.warning("roles=%s event=restarting reason=%r", [role.name for role in roles], str(error))
                # Without the traceback, whose frames may hold iterators, which hold the database.
                bad_state = StateStoreError(error.path, str(error), damaged=error.damaged)
            except Exception as error:
                _logger.exception("roles=%s event=restarting", [role.name for role in roles])
                self._note_bug(roles, error)
            finally:
                self._close(processors, graceful=graceful)
            if bad_state is not None:
                self._give_up_stores(roles, bad_state)
            run_s = time.monotonic() - started_s
            delay_s = restart_delay_s(
                delay_s, run_s, min_s=RESTART_DELAY_S_MIN, max_s=RESTART_DELAY_S_MAX, good_s=RESTART_DELAY_S_MAX
            )
            self._stopping.wait(delay_s)

    def _store(self, role: Role) -> StateStore:
        """The role's open store."""
        store = self._stores.get(role.name)
        if store is None:
            path = self._state_dir / role.name
            store = self._stores[role.name] = StateStore.open_or_rebuild(path, role.store_version)
        return store

    def _give_up_stores(self, roles: Sequence[Role], error: StateStoreError) -> None:
        """Close the stores of roles, whose next start opens them anew: after an error RocksDB writes nothing more."""
        for role in roles:
            store = self._stores.pop(role.name, None)
            if store is not None:
                store.close()
        if error.damaged:
            discard(error.path, str(error))

    def _open(self, role: Role, together: _Together | None) -> Processor:
        processor = Processor(
            role,
            self._log,
            self._names,
            self._store(role),
            instance=self._instance,
            now_ms=self._now_ms,
            unique=lambda: uuid.uuid4().hex,
            standbys=self._standbys,
            readers=together or self._log,
        )
        self._processors[role.name] = processor
        return processor

    def _run_one(self, processor: Processor) -> None:
        was_ready = False
        while not self._stopping.is_set():
            processor.step(IDLE_WAIT_S)
            if processor.ready != was_ready:
                was_ready = processor.ready
                self._note_change([processor])

    def _run_together(self, processors: Sequence[Processor], together: _Together) -> None:
        if not together.shows_appends_at_once:
            for processor in processors:
                processor.on_sending = [other.foresee for other in processors if other is not processor]
        readers = [processor.reader for processor in processors]
        was_ready = False
        while not self._stopping.is_set():
            worked = False
            for processor in processors:
                if together.has_news(processor.reader) or processor.is_due():
                    worked |= processor.step(0.0)
            ready = all(processor.ready for processor in processors)
            if ready != was_ready:
                was_ready = ready
                self._note_change(processors)
            if worked:
                continue
            # Only when nothing came since the roles looked are they idle.
            if self._on_idle is not None and ready and not together.wait_any(readers, 0.0) and self._on_idle():
                continue
            together.wait_any(readers, min(processor.idle_wait_s() for processor in processors))

    def _close(self, processors: Sequence[Processor], *, graceful: bool) -> None:
        for processor in processors:
            # First of all: what is being closed is neither ready nor counted.
            self._processors.pop(processor.role.name, None)
            try:
                processor.close(graceful=graceful)
            except Exception:
                _logger.exception("role=%s event=close_failed", processor.role.name)
            store = self._stores[processor.role.name]
            for partition in processor.partitions:
                store.drop_partition(partition)

    def _close_stores(self) -> None:
        for store in self._stores.values():
            store.close()
        self._stores.clear()

    def _note_change(self, processors: Sequence[Processor]) -> None:
        """Processors became ready or stopped being ready. A bug that is over is none any more."""
        with self._changed:
            for processor in processors:
                if processor.ready:
                    self._failures.pop(processor.role.name, None)
            self._changed.notify_all()

    def _note_bug(self, roles: Sequence[Role], error: BaseException) -> None:
        """Bugs are retried as outages are, but whoever waits for readiness is told."""
        with self._changed:
            self._failures.update(dict.fromkeys((role.name for role in roles), error))
            self._changed.notify_all()
