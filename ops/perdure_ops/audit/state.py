"""Compares the state folder of a stopped engine with what the log says, key by key.

For each partition that the folder holds, the engine's own fold runs twice over the log: from the beginning into an
empty store, and from the folder's checkpoint on into a copy of the folder. Both must end with the same runs, tasks and
timers. Invariants: the folder itself is never opened for writing; memory does not grow with the log (both stores are on
disk). Called by the command ``audit``, with the records it reads anyway.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from perdure_history import layout
from perdure_history.service import HistoryRole
from perdure_matching.core.model import MatchingConfig, TaskState
from perdure_matching.service import MatchingRole
from perdure_ops.audit.breach import Breach
from perdure_ops.errors import CliError
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.handler import PartitionHandler, Role
from perdure_runtime.log import LogRecord
from perdure_runtime.store import StateStore, StateStoreError, StorePartition
from perdure_schemas.topics import TopicNames
from perdure_timers.service import TimersConfig, TimersRole

__all__ = ["StateCheck"]

#: The effects of what is folded are not wanted: the group has committed everything, as it were.
_COMMITTED = 2**62
_COMMIT_RECORDS = 5_000
_DIFFERENCES_MAX = 1_000
_EXIT_UNABLE = 2


class _Side:
    """One fold of one partition, into a store of its own."""

    def __init__(self, role: Role, store: StateStore, partition: int) -> None:
        self.store = store
        self.partition: StorePartition = store.partition(partition)
        self.handler: PartitionHandler = role.open(partition, self.partition, _COMMITTED)
        self.start = self.handler.restore_offset()
        self._folded = 0

    def take(self, record: LogRecord) -> None:
        if self.start is not None and record.offset < self.start:
            return
        try:
            self.handler.fold(record)
        except Exception:  # the engine gives such a record up and goes on, whatever it raises
            return
        self._folded += 1
        if self._folded % _COMMIT_RECORDS == 0:
            self.write()

    def write(self) -> None:
        self.handler.checkpoint()
        self.store.commit([self.store.seal()], {})


class _Pair:
    """A partition of a role as the folder has it, and as the log alone tells it."""

    def __init__(self, role: Role, folder: _Side, log: _Side) -> None:
        self.role = role
        self.folder = folder
        self.log = log
        self.last_offset = -1

    def take(self, record: LogRecord) -> None:
        self.last_offset = record.offset
        self.folder.take(record)
        self.log.take(record)


class StateCheck:
    """Takes the records of a whole log and compares. Close it.

    Args:
        names: the namespace.
        state_dir: the state folder of one engine; it holds a folder for each of its roles.

    Raises:
        CliError: it is no such folder, or is in use, damaged or of another version.
    """

    def __init__(self, names: TopicNames, state_dir: Path) -> None:
        found = [name for name in _ROLES if (state_dir / name / "CURRENT").is_file()]
        if not found:
            raise CliError(_no_state(state_dir), _EXIT_UNABLE)
        self._temporary = tempfile.TemporaryDirectory(prefix="perdure-audit-")
        self._stores: list[StateStore] = []
        self._pairs: dict[tuple[str, int], _Pair] = {}
        try:
            for name in found:
                self._open(name, state_dir / name, names)
        except BaseException:
            self.close()
            raise

    def take(self, record: LogRecord) -> None:
        """Take in a record; those of a partition in the order of their offsets."""
        pair = self._pairs.get((record.topic, record.partition))
        if pair is not None:
            pair.take(record)

    def finish(self) -> list[Breach]:
        """All differences, once the log was taken in to its end."""
        found: list[Breach] = []
        for (topic, number), pair in self._pairs.items():
            start = pair.folder.start
            if start is not None and start > pair.last_offset + 1:
                message = f"the {pair.role.name} folder is at offset {start}, the log ends at {pair.last_offset + 1}"
                found.append(Breach("state", message, topic, number, pair.last_offset))
                continue
            pair.folder.write()
            pair.log.write()
            for message, run_id in _COMPARE[pair.role.name](pair.folder.partition, pair.log.partition):
                found.append(Breach("state", message, topic, number, pair.last_offset, "", run_id))
                if len(found) >= _DIFFERENCES_MAX:
                    return found
        return found

    def close(self) -> None:
        """Remove the copies."""
        for store in self._stores:
            store.close()
        self._temporary.cleanup()

    def _open(self, name: str, folder: Path, names: TopicNames) -> None:
        role = _ROLES[name](names)
        copy = Path(self._temporary.name) / "folder" / name
        _copy(folder, copy)
        try:
            stores = [
                StateStore(copy, role.store_version),
                StateStore(Path(self._temporary.name) / "log" / name, role.store_version),
            ]
        except StateStoreError as error:
            reason = str(error).replace(str(copy), str(folder))
            raise CliError(reason, _EXIT_UNABLE) from error
        self._stores += stores
        for partition in range(names.partitions):
            side = _Side(role, stores[0], partition)
            if side.start is not None:
                pair = _Pair(role, side, _Side(role, stores[1], partition))
                self._pairs[role.restored_topic, partition] = pair


_ROLES: dict[str, Callable[[TopicNames], Any]] = {
    "history": lambda names: HistoryRole(names, clock=wall_clock_ms),
    # What is young is written at once, too, so that nothing stays in memory only.
    "matching": lambda names: MatchingRole(names, MatchingConfig(store_after_ms=0), clock=wall_clock_ms),
    "timers": lambda names: TimersRole(names, TimersConfig(store_after_ms=0), clock=wall_clock_ms),
}


def _no_state(state_dir: Path) -> str:
    inside = sorted({str(path.parent.parent) for path in state_dir.glob("*/**/CURRENT")}) if state_dir.is_dir() else []
    hint = f"; did you mean {' or '.join(inside[:3])}?" if inside else ""
    return f"{state_dir} is no state folder of an engine: it has no folder history, matching or timers{hint}"


def _copy(folder: Path, copy: Path) -> None:
    """Copy a database that nobody has open; its large files never change, so they are shared where that can be."""
    with (folder / "LOCK").open("ab") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"the state folder {folder} is in use: stop its engine first, or copy a stopped engine's folder"
            raise CliError(message, _EXIT_UNABLE) from error
        copy.mkdir(parents=True)
        for path in folder.iterdir():
            if path.name == "LOCK" or not path.is_file():
                continue
            if path.suffix == ".sst":
                try:
                    os.link(path, copy / path.name)
                    continue
                except OSError:
                    pass
            shutil.copy2(path, copy / path.name)


# --- what is compared ---------------------------------------------------------------------------------------------

_Differences = Iterator[tuple[str, str]]
_Fields = Callable[[bytes, bytes], list[str]]


def _differences(
    folder: StorePartition, log: StorePartition, prefix: bytes, fields: _Fields
) -> Iterator[tuple[bytes, str]]:
    """Keys under a prefix that differ, with what is wrong; ``fields`` names what differs in two values."""
    left, right = folder.scan(prefix), log.scan(prefix)
    one, two = next(left, None), next(right, None)
    while one is not None or two is not None:
        if two is None or (one is not None and one[0] < two[0]):
            assert one is not None
            yield one[0], "is in the folder and should not be"
            one = next(left, None)
        elif one is None or two[0] < one[0]:
            yield two[0], "is missing in the folder"
            two = next(right, None)
        else:
            if one[1] != two[1]:
                different = fields(one[1], two[1])
                if different:
                    yield one[0], f"differs in {', '.join(different)}"
            one, two = next(left, None), next(right, None)


def _value(_one: bytes, _two: bytes) -> list[str]:
    return ["its value"]


def _nothing(_one: bytes, _two: bytes) -> list[str]:
    return []


def _struct_fields(
    decode: Callable[[bytes], Any], compared: tuple[str, ...] = ()
) -> Callable[[bytes, bytes], list[str]]:
    def fields(one: bytes, two: bytes) -> list[str]:
        left, right = decode(one), decode(two)
        names = compared or left.__struct_fields__
        return [name for name in names if getattr(left, name) != getattr(right, name)]

    return fields


#: What a task is. The rest is where it stands in the queue, which workers know better.
_TASK_FIELDS = (
    "task_queue", "kind", "workflow_id", "run_id", "scheduled_event_id", "attempt", "cancel_requested", "left_open",
    "held", "paused",
)  # fmt: skip


def _compare(role: str, prefixes: dict[bytes, _Fields]) -> Callable[..., _Differences]:
    def compare(folder: StorePartition, log: StorePartition) -> _Differences:
        for prefix, fields in prefixes.items():
            for key, what in _differences(folder, log, prefix, fields):
                parts = key.decode(errors="replace").split("/")
                run_id = parts[2] if parts[0] == "r" else parts[1] if parts[0] in "shudtbi" else ""
                yield f"{role}: key {key.decode(errors='replace')!r} {what}", run_id

    return compare


_COMPARE: dict[str, Callable[[StorePartition, StorePartition], _Differences]] = {
    "history": _compare(
        "history",
        {
            b"c/": _value,
            b"s/": _struct_fields(layout.decode_state),
            b"h/": _value,
            b"u/": _value,
            b"d/": _value,
            b"n/": _value,
            b"r/": _value,
        },
    ),
    "matching": _compare(
        "matching", {b"t/": _struct_fields(msgspec.msgpack.Decoder(TaskState).decode, _TASK_FIELDS), b"b/": _nothing}
    ),
    "timers": _compare("timers", {b"i/": _value}),
}
