"""What a checkpoint of matching holds, and how it gets into the partition's store and out of it.

Layout: ``t/<task id>`` the task's state, ``b/<task id>`` its encoded body, ``w/<task queue>\\0<worker id>`` a worker
that lives, ``m`` the positions and the fence.

Invariants:

* the state of a checkpoint together with the ``tasks`` records from its position on is the state now; so the position
  may stand below what was read, and tasks that are done within ``store_after_ms`` never reach the store;
* the position never stands below a mark that the fence knows: a record in front of the mark would be judged by it;
* a store that was written too long ago is emptied: compaction may have dropped tombstones it never saw.

Called by the service.
"""

from __future__ import annotations

import msgspec

from perdure_matching.core.model import MatchingConfig, TaskState, WorkerState
from perdure_matching.core.state import MatchingState
from perdure_matching.core.tasks import load
from perdure_matching.core.workers import load_worker
from perdure_runtime.fence import Fence
from perdure_runtime.handler import PartitionStore
from perdure_schemas import limits
from perdure_schemas.records import WorkerHeartbeat

__all__ = ["Bodies", "Positions", "load_state", "save_state"]

_META = b"m"
_TASK = b"t/"
_BODY = b"b/"
_WORKER = b"w/"


class Positions(msgspec.Struct, array_like=True):
    """How far the topics were read, and what the fence knew then."""

    tasks: int = 0
    workers: int = 0
    saved_ms: int = 0
    fence: bytes = b""
    #: Offset of the newest mark in ``tasks``; the checkpoint's position is above it.
    mark: int = -1


_encode = msgspec.msgpack.Encoder().encode
_decode_positions = msgspec.msgpack.Decoder(Positions).decode
_decode_task = msgspec.msgpack.Decoder(TaskState).decode
_decode_worker = msgspec.msgpack.Decoder(WorkerHeartbeat).decode


class Bodies:
    """Encoded task bodies: in memory up to a bound, in the store beyond it.

    New bodies go to the store when memory is full: those at the head of the backlog, needed first, stay in memory.
    """

    __slots__ = ("_bytes", "_bytes_max", "_in_memory", "_store")

    def __init__(self, store: PartitionStore, bytes_max: int) -> None:
        self._store = store
        self._in_memory: dict[str, bytes] = {}
        self._bytes = 0
        self._bytes_max = bytes_max

    def add(self, task: TaskState, body: bytes) -> None:
        """Keep the body of a new task."""
        if not self.has_room(body):
            self._store.put(_BODY + task.task_id.encode(), body)
            task.body_stored = True
        else:
            self._in_memory[task.task_id] = body
            self._bytes += len(body)

    def has_room(self, body: bytes) -> bool:
        """Whether memory takes one more."""
        return self._bytes + len(body) <= self._bytes_max

    def get(self, task: TaskState) -> bytes | None:
        """The body of a task; ``None`` only if the store was damaged."""
        body = self._in_memory.get(task.task_id)
        return self._store.get(_BODY + task.task_id.encode()) if body is None else body

    def remove(self, task: TaskState) -> None:
        """Forget the body of a task that is over."""
        body = self._in_memory.pop(task.task_id, None)
        if body is not None:
            self._bytes -= len(body)
        if task.body_stored:
            self._store.delete(_BODY + task.task_id.encode())

    def store(self, task: TaskState) -> None:
        """Make sure that the store has the body."""
        if not task.body_stored:
            self._store.put(_BODY + task.task_id.encode(), self._in_memory[task.task_id])
            task.body_stored = True


def load_state(
    store: PartitionStore, config: MatchingConfig, now_ms: int
) -> tuple[MatchingState, Positions | None, Fence]:
    """The state of the last checkpoint; an empty one without positions if there is none that can be used."""
    state = MatchingState(config)
    meta = store.get(_META)
    if meta is None:
        return state, None, Fence()
    positions = _decode_positions(meta)
    if now_ms - positions.saved_ms > limits.STATE_AGE_MS_MAX:
        for prefix in (_TASK, _BODY, _WORKER, _META):
            for key in [key for key, _ in store.scan(prefix)]:
                store.delete(key)
        return state, None, Fence()
    for _, value in store.scan(_WORKER):
        load_worker(state, _decode_worker(value))
    tasks = [_decode_task(value) for _, value in store.scan(_TASK)]
    tasks.sort(key=lambda task: task.sequence)
    for task in tasks:
        load(state, task)
    return state, positions, Fence.decode(positions.fence)


def save_state(
    state: MatchingState, bodies: Bodies, store: PartitionStore, positions: Positions, fence: Fence, now_ms: int
) -> int:
    """Stage what changed since the last checkpoint; returns the position of ``tasks`` it belongs to.

    Parameters:
        positions: where the state stands; its ``saved_ms`` is the time the checkpoint is valid for.
    """
    # Removals first: an id may have come again since.
    for task in state.removed:
        store.delete(_TASK + task.task_id.encode())
    state.removed.clear()
    position = positions.tasks
    for task in _old_enough(state, positions.mark, now_ms):
        del state.unstored[task.task_id]
        bodies.store(task)
        task.stored = True
        state.changed[task.task_id] = task
    for task in state.unstored.values():
        position = min(position, task.sequence)
        break
    for task in state.changed.values():
        store.put(_TASK + task.task_id.encode(), _encode(task))
    state.changed.clear()
    for (queue, worker_id), worker in state.workers_changed.items():
        key = _WORKER + f"{queue}\0{worker_id}".encode()
        if worker.gone:
            store.delete(key)
        else:
            store.put(key, _encode(_heartbeat_of(worker, now_ms)))
    state.workers_changed.clear()
    saved = Positions(position, positions.workers, positions.saved_ms, fence.encode(), positions.mark)
    store.put(_META, _encode(saved))
    return position


def _old_enough(state: MatchingState, mark: int, now_ms: int) -> list[TaskState]:
    """Tasks to store now: in order of arrival, up to the first that may still be over soon."""
    found = []
    for task in state.unstored.values():
        if task.sequence > mark and now_ms - task.arrived_ms < state.config.store_after_ms:
            break
        found.append(task)
    return found


def _heartbeat_of(worker: WorkerState, now_ms: int) -> WorkerHeartbeat:
    return WorkerHeartbeat(
        worker_id=worker.worker_id,
        task_queue=worker.queue.name,
        identity=worker.identity,
        inbox_partition=worker.inbox_partition,
        workflow_slots=worker.slots[0],
        activity_slots=worker.slots[1],
        time_ms=now_ms,
        draining=worker.draining,
        deployment_name=worker.deployment_name,
        build_id=worker.build_id,
    )
