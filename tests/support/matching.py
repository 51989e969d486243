"""A matching partition in a test: tasks and workers in a line each, and what was sent as short tuples."""

from __future__ import annotations

from typing import Any

from perdure_matching.core.model import MatchingConfig
from perdure_matching.service import MatchingPartition, MatchingRole
from perdure_schemas import codec, keys
from perdure_schemas.records import (
    CancelActivity,
    Command,
    DeploymentRouting,
    DeploymentVersionSeen,
    Dispatch,
    FairnessKeyConfig,
    HeldTask,
    ProbeWorker,
    RunTask,
    TaskQueueConfig,
    TaskRecord,
    WorkerHeartbeat,
    WorkerStopped,
)
from perdure_schemas.topics import TopicNames
from tests.support.fakes import DictStore, FakeLog, HandlerDriver

NAMES = TopicNames(partitions=1)
START_MS = 1_700_000_000_000


class Matching:
    """One owner of partition 0; a second one on the same log is a takeover."""

    def __init__(
        self,
        log: FakeLog | None = None,
        store: DictStore | None = None,
        now_ms: int = START_MS,
        config: MatchingConfig | None = None,
        owner: str = "first",
    ) -> None:
        self.log = log or FakeLog()
        self.store = store or DictStore()
        self.history_epoch = 0
        self._now_ms = now_ms
        role = MatchingRole(NAMES, config or MatchingConfig(), clock=lambda: self._now_ms)
        self.driver = HandlerDriver(role, self.log, self.store, now_ms)
        self.epoch = self.driver.take_over(owner)
        handler = self.driver.handler
        assert isinstance(handler, MatchingPartition)
        self.handler = handler
        self.state = handler.state

    @property
    def now_ms(self) -> int:
        return self._now_ms

    @now_ms.setter
    def now_ms(self, value: int) -> None:
        """Set the clock without a tick."""
        self._now_ms = self.driver.now_ms = value

    def advance(self, duration_ms: int) -> list[tuple[Any, ...]]:
        """Let time pass, with a tick at each wake-up on the way."""
        end_ms = self._now_ms + duration_ms
        while (due_ms := self.handler.next_wakeup_ms()) is not None and due_ms <= end_ms:
            self.now_ms = max(due_ms, self._now_ms)
            self.driver.tick()
            assert self.handler.next_wakeup_ms() != due_ms, "the tick changed nothing"
        self.now_ms = end_ms
        return self.sent()

    # --- what history writes --------------------------------------------------------------------------------------

    def write_task(self, task_id: str, *, epoch: int | None = None, **fields: Any) -> None:
        """Append a task record without reading it."""
        defaults: dict[str, Any] = {
            "task_queue": "q",
            "kind": kind_of(task_id),
            "workflow_id": "wf",
            "run_id": task_id.partition("/")[0],
            "scheduled_event_id": 5,
            "created_time_ms": self._now_ms,
            "body": b"body of " + task_id.encode(),
        }
        record = TaskRecord(task_id=task_id, **{**defaults, **fields})
        key = keys.fenced_key(task_id, 0, self.history_epoch if epoch is None else epoch)
        self.log.append(NAMES.tasks, key, codec.encode(record), self._now_ms)

    def write_tombstone(self, task_id: str, *, epoch: int | None = None) -> None:
        """Append a tombstone without reading it."""
        key = keys.fenced_key(task_id, 0, self.history_epoch if epoch is None else epoch)
        self.log.append(NAMES.tasks, key, None, self._now_ms)

    def task(self, task_id: str, **fields: Any) -> list[tuple[Any, ...]]:
        """A new or changed task."""
        self.write_task(task_id, **fields)
        return self.poll()

    def done(self, task_id: str, **fields: Any) -> list[tuple[Any, ...]]:
        """History needs a task no more."""
        self.write_tombstone(task_id, **fields)
        return self.poll()

    # --- what workers write ---------------------------------------------------------------------------------------

    def write_heartbeat(
        self, worker_id: str, *, held: tuple[str, ...] = (), held_since_ms: int = 0, **fields: Any
    ) -> None:
        """Append a heartbeat without reading it. ``held_since_ms``: now, if not given."""
        defaults: dict[str, Any] = {
            "task_queue": "q",
            "inbox_partition": 0,
            "workflow_slots": 1,
            "activity_slots": 1,
            "time_ms": self._now_ms,
            "held": [HeldTask(task_id=task_id, started_time_ms=held_since_ms or self._now_ms) for task_id in held],
        }
        record = WorkerHeartbeat(worker_id=worker_id, **{**defaults, **fields})
        self.log.append(NAMES.workers, worker_id.encode(), codec.encode(record), self._now_ms)

    def beat(self, worker_id: str, **fields: Any) -> list[tuple[Any, ...]]:
        """A heartbeat."""
        self.write_heartbeat(worker_id, **fields)
        return self.poll()

    def answer(self, worker_id: str, number: int = 1, **fields: Any) -> list[tuple[Any, ...]]:
        """A heartbeat that has seen our dispatches up to ``number``."""
        return self.beat(worker_id, last_dispatch_epoch=self.epoch, last_dispatch_number=number, **fields)

    def stop(self, worker_id: str, **fields: Any) -> list[tuple[Any, ...]]:
        """A worker leaves."""
        record = WorkerStopped(worker_id=worker_id, task_queue="q", time_ms=self._now_ms, **fields)
        self.log.append(NAMES.workers, worker_id.encode(), codec.encode(record), self._now_ms)
        return self.poll()

    # --- what operators write -------------------------------------------------------------------------------------

    def write_routing(self, **fields: Any) -> None:
        """Append the routing of deployment ``d`` without reading it."""
        routing = DeploymentRouting(**{"deployment_name": "d", "time_ms": self._now_ms, **fields})
        key = keys.routing_key(routing.deployment_name)
        self.log.append(NAMES.deployments, key, codec.encode(routing), self._now_ms)

    def route(self, **fields: Any) -> list[tuple[Any, ...]]:
        """Another routing of deployment ``d``."""
        self.write_routing(**fields)
        return self.poll()

    def forget(self, version: str, task_queue: str = "q") -> list[tuple[Any, ...]]:
        """A version was deleted."""
        self.log.append(NAMES.deployments, keys.version_seen_key(version, task_queue), None, self._now_ms)
        return self.poll()

    def write_config(self, *keys_set: FairnessKeyConfig, **fields: Any) -> None:
        """Append the settings of the activities of task queue ``q`` without reading them."""
        defaults: dict[str, Any] = {"task_queue": "q", "task_type": "activity", "time_ms": self._now_ms}
        config = TaskQueueConfig(keys=list(keys_set), **{**defaults, **fields})
        key = keys.queue_config_key(config.task_queue, config.task_type)
        self.log.append(NAMES.deployments, key, codec.encode(config), self._now_ms)

    def configure(self, *keys_set: FairnessKeyConfig, **fields: Any) -> list[tuple[Any, ...]]:
        """Other settings of the activities of task queue ``q``."""
        self.write_config(*keys_set, **fields)
        return self.poll()

    def unset(self, task_queue: str = "q", task_type: str = "activity") -> list[tuple[Any, ...]]:
        """Nothing is set for a task queue any more."""
        self.log.append(NAMES.deployments, keys.queue_config_key(task_queue, task_type), None, self._now_ms)
        return self.poll()

    # --- what came of it ------------------------------------------------------------------------------------------

    def poll(self) -> list[tuple[Any, ...]]:
        """Read everything new, check the invariants, and return what was sent."""
        self.driver.poll()
        self.state.check()
        return self.sent()

    def sent(self) -> list[tuple[Any, ...]]:
        """What was sent, as ``("run", worker, task)``, ``("cancel" | "pause" | "reset" | "gone", worker, task)``,
        ``("probe", worker)``, ``("seen", deployment, build id, task queue)`` or ``(<command type>, command id)``."""
        records = self.driver.outbox.take()
        for record in records:
            if record.topic == NAMES.deployments:  # which it reads itself, too
                self.log.append(record.topic, record.key, record.value, self._now_ms)
        return [short(codec.decode(record.value)) for record in records if record.value is not None]


def kind_of(task_id: str) -> str:
    """The kind of a task by its id."""
    return {"w": "workflow", "a": "activity", "q": "query"}[task_id.partition("/")[2][0]]


def short(value: Any) -> tuple[Any, ...]:
    """A sent record as a short tuple."""
    if isinstance(value, Command):
        return (type(value.body).__name__, value.command_id)
    if isinstance(value, DeploymentVersionSeen):
        return ("seen", value.deployment_name, value.build_id, value.task_queue)
    assert isinstance(value, Dispatch)
    if isinstance(value.body, RunTask):
        return ("run", value.worker_id, value.body.task_id)
    if isinstance(value.body, CancelActivity):
        body = value.body
        what = "gone" if body.gone else "pause" if body.paused else "reset" if body.reset else "cancel"
        return (what, value.worker_id, value.body.task_id)
    assert isinstance(value.body, ProbeWorker)
    return ("probe", value.worker_id)
