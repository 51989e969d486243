"""The processes of a simulated cluster: engines, workers, clients. Each may be killed, stopped and started again.

An engine has the three roles in three real processor shells. A worker is the real one, put together by its own code, on
timers and an event loop of ours. What a process keeps across its death is its engine's disk.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from perdure._connection import Connection
from perdure.client import Client
from perdure.worker import Worker
from perdure.worker import _worker as worker_module
from perdure_history.config import HistoryConfig
from perdure_history.service import HistoryRole
from perdure_matching.core.model import TaskState
from perdure_matching.service import MatchingPartition, MatchingRole
from perdure_runtime.engine import RESTART_DELAY_S_MAX, RESTART_DELAY_S_MIN
from perdure_runtime.handler import Role
from perdure_runtime.log import LogError, NewRecord
from perdure_runtime.processor import Processor
from perdure_schemas.topics import TopicNames
from perdure_timers.service import TimersRole
from tests.sim.loop import SimLoop, SimTimers, graveyard
from tests.sim.mortal import Process
from tests.sim.reading import SimReader
from tests.sim.simlog import SimLog
from tests.sim.store import Disk, SimStore
from tests.sim.world import World

ROLES = ("history", "matching", "timers")


def make_role(name: str, names: TopicNames, clock: Callable[[], int]) -> Role:
    """A role as the engine has it."""
    if name == "history":
        return HistoryRole(names, HistoryConfig(), clock)
    if name == "matching":
        return MatchingRole(names, clock=clock)
    return TimersRole(names, clock=clock)


class ProcessorActor:
    """One role of an engine."""

    def __init__(self, engine: EngineProcess, name: str) -> None:
        self.engine = engine
        self.name = name
        self.alive = True
        self.queued = False
        self.processor: Processor | None = None
        self.store: SimStore | None = None
        self.bugs: list[BaseException] = []
        #: As in the engine: a role that fails again and again waits longer and longer.
        self._restart_delay_ms = RESTART_DELAY_S_MIN * 1_000
        self._opened_ms = self._opens_ms = 0.0
        self._alarm_ms = -1

    def wake(self) -> None:
        """There may be something to do."""
        self.engine.world.wake(self)

    def step(self) -> None:
        engine, world = self.engine, self.engine.world
        process = engine.process
        if not process.alive or process.doomed:
            return
        if process.stopped_until_ms > world.now_ms:
            self._alarm(process.stopped_until_ms)
            return
        if self.processor is None:
            if world.now_ms < self._opens_ms:
                return
            self._open()
        processor = self.processor
        assert processor is not None
        try:
            processor.step(0.0)
        except LogError as error:
            world.note(f"{process.name}/{self.name} starts again: {error}")
            self._close()
            return
        except Exception as error:  # what the engine would log as a bug
            world.note(f"{process.name}/{self.name} fails: {error!r}")
            self.bugs.append(error)
            engine.cluster.bugs.append(error)
            self._close()
            return
        reader = processor.reader
        assert isinstance(reader, SimReader)
        if reader.has_more:
            self.wake()
        else:
            self._alarm(world.now_ms + max(1, int(processor.idle_wait_s() * 1000 + 0.999)))

    def outstanding_tasks(self) -> Iterator[TaskState]:
        """The tasks in the queues of the partitions that matching owns here."""
        if self.processor is not None and self.engine.process.alive:
            for owned in self.processor._owned.values():
                if isinstance(owned.handler, MatchingPartition):
                    yield from owned.handler.state.tasks.values()

    def _alarm(self, due_ms: int) -> None:
        world = self.engine.world
        if world.now_ms < self._alarm_ms <= due_ms:
            return
        self._alarm_ms = due_ms

        def due() -> None:
            if self._alarm_ms == due_ms:
                self._alarm_ms = -1
                world.wake(self)

        world.at(due_ms, due)

    def _open(self) -> None:
        engine, world = self.engine, self.engine.world
        self._opened_ms = world.now_ms
        role = make_role(self.name, engine.cluster.names, world.clock_ms)
        log = engine.cluster.log.for_process(engine.process, self.wake)
        self.store = SimStore(engine.disks[self.name], engine.process, f"{engine.process.name}/{self.name}")
        self.processor = Processor(
            role,
            log,
            engine.cluster.names,
            self.store,
            instance=engine.process.name,
            now_ms=world.clock_ms,
            unique=world.unique,
            monotonic_s=world.monotonic_s,
            standbys=engine.cluster.standbys,
        )
        self.processor.on_sending = [self._announce]

    def _announce(self, records: Sequence[NewRecord]) -> None:
        """As in an engine that runs all roles on one thread: they hear of records before the log shows them."""
        for other in self.engine.actors.values():
            if other is not self and other.processor is not None:
                other.processor.foresee(records)
                other.wake()

    def _close(self) -> None:
        processor, self.processor = self.processor, None
        if processor is not None:
            processor.close(graceful=False)
            assert self.store is not None
            for partition in processor.partitions:
                self.store.drop_partition(partition)
        world = self.engine.world
        if world.now_ms - self._opened_ms > RESTART_DELAY_S_MAX * 1_000:
            self._restart_delay_ms = RESTART_DELAY_S_MIN * 1_000
        self._opens_ms = world.now_ms + self._restart_delay_ms
        world.at(self._opens_ms, self.wake)
        self._restart_delay_ms = min(self._restart_delay_ms * 2, RESTART_DELAY_S_MAX * 1_000)


class EngineProcess:
    """One engine."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.name = name
        self.disks = {role: Disk() for role in ROLES}
        self.process = Process(self.world, name)
        self.actors = {role: ProcessorActor(self, role) for role in ROLES}
        self._started = False

    def start(self) -> None:
        """Start, or start again after a death; one that runs goes on running."""
        if self._started and self.process.alive:
            return  # it was stopped and started again before its first start was due
        self._started = True
        self.process = Process(self.world, self.name)
        self.actors = {role: ProcessorActor(self, role) for role in ROLES}
        for actor in self.actors.values():
            actor.wake()

    def kill(self) -> None:
        """SIGKILL."""
        if not self.process.alive:
            return
        self.process.alive = False
        for actor in self.actors.values():
            actor.alive = False
        for group in self.cluster.log.groups.values():
            member = group.members.get(self.name)
            if member is not None:  # the group notices when the session lapses, or when the name comes back
                group.world.later(self.cluster.session_ms, lambda group=group, member=member: group.give_up(member, 0))
        for producer in self.process.producers:
            producer.abandon()

    def leave(self) -> None:
        """A graceful stop: what the engine does when it is asked to."""
        process = self.process  # time passes while roles close: it may be killed meanwhile, and be started again
        process.alive = True
        for actor in self.actors.values():
            processor, actor.processor = actor.processor, None
            actor.alive = False
            if processor is not None:
                processor.close(graceful=True)
        process.alive = False


class _Peer:
    """A process with a client's connection and an event loop."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.process = Process(self.world, name)
        self.alive = True
        self.queued = False
        self.loop = SimLoop(self.world, self.process, self.wake)
        self.log = cluster.log.for_process(self.process, self.wake)
        self.client = Client.from_log(
            self.log,
            identity=name,
            names=cluster.names,
            now_ms=self.world.clock_ms,  # type: ignore[arg-type]
        )
        connection = self.client._connection
        assert isinstance(connection, Connection)
        self.connection = connection
        self.replies = connection.open_replies()
        self._look_again()

    def _look_again(self) -> None:
        if self.alive:
            self.wake()
            self.world.later(1_000, self._look_again)

    def wake(self) -> None:
        """There may be something to do."""
        self.world.wake(self)

    def step(self) -> None:
        if self.process.doomed:
            return
        wait_ms = self.process.stopped_until_ms - self.world.now_ms
        if wait_ms > 0:
            self.world.later(wait_ms, self.wake)
            return
        self._serve()
        self.connection.read_replies(0.0)
        self.loop.run_ready()
        if self.replies.has_more or self.loop.ready:  # type: ignore[attr-defined]
            self.wake()

    def _serve(self) -> None:
        """What else it does."""

    def kill(self) -> None:
        """SIGKILL."""
        if not self.alive:
            return
        self.alive = self.process.alive = False
        for producer in self.process.producers:
            producer.abandon()
        self.replies.close()
        graveyard.append(self)


class ClientProcess(_Peer):
    """Runs the coroutines of clients."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(cluster, name)
        self._coroutines: list[Coroutine[Any, Any, Any]] = []

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a coroutine."""
        self._coroutines.append(coroutine)
        task = self.loop.create_task(coroutine)
        self.wake()
        return task

    def kill(self) -> None:
        for coroutine in self._coroutines:
            # What has not begun never will, and Python would warn of it.
            if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()
        super().kill()


class WorkerProcess(_Peer):
    """A real worker."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        task_queue: str,
        workflows: Sequence[type],
        activities: Sequence[Any],
        **options: Any,
    ) -> None:
        super().__init__(cluster, name)
        world, process = self.world, self.process
        worker = Worker(
            self.client, task_queue=task_queue, workflows=workflows, activities=activities, debug_mode=True, **options
        )
        with _replaced(worker_module, "TimerThread", lambda _name: SimTimers(world, process)):
            self.parts = worker_module._Parts(self.client, self.connection, worker._options, self.loop, self._fail)
        self.dispatch = self.parts._dispatch
        self.inbox = self.dispatch.open()
        self.dispatch.register()

    def _fail(self, error: BaseException) -> None:
        self.cluster.bugs.append(error)

    def _serve(self) -> None:
        self.dispatch.serve(0.0)
        if self.inbox.has_more:  # type: ignore[attr-defined]
            self.wake()

    def kill(self) -> None:
        if self.alive:
            self.inbox.close()
        super().kill()


class Cluster:
    """All processes on one log."""

    def __init__(self, world: World, *, partitions: int = 2, session_ms: int = 6_000, standbys: bool = False) -> None:
        self.world = world
        #: Whether engines fold the partitions of others all the time.
        self.standbys = standbys
        self.names = TopicNames(partitions=partitions)
        self.log = SimLog(world)
        self.session_ms = session_ms
        self.engines: dict[str, EngineProcess] = {}
        self.workers: dict[str, WorkerProcess] = {}
        self.clients: dict[str, ClientProcess] = {}
        #: Exceptions that no one of the product's own error handlers took.
        self.bugs: list[BaseException] = []

    def bury(self) -> None:
        """Kill those who were doomed within the last step."""
        while self.world.doomed:
            process = self.world.doomed.pop()
            for group in (self.engines, self.workers, self.clients):
                for one in group.values():
                    if one.process is process:
                        one.kill()


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Any:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
