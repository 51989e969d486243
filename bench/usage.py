"""What processes used: CPU time, memory and disk, read from ``/proc`` and the file system.

CPU time is the figure to trust on a machine that does other things, too: it does not depend on what others take. How
much they took is told beside it. Linux only. Called by everything that measures.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")
#: Threads that Python does not know: RocksDB's, librdkafka's.
NATIVE = "native threads"
#: The end of a name that differs from run to run.
_OWN_END = re.compile(r"-[0-9a-f]{8}$|[-_]\d+$")

#: Process ids by what they do, for example ``{"engine": [17], "broker": [18]}``.
Processes = Mapping[str, Sequence[int]]


def _cpu_s_of(stat: str) -> float:
    """User and system time out of a ``stat`` file, whose second field may hold blanks and brackets."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def cpu_s(pid: int) -> float:
    """CPU seconds that a process used so far; 0 if it is gone."""
    try:
        return _cpu_s_of((_PROC / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def thread_cpu_s() -> dict[str, float]:
    """CPU seconds of this process's threads by name; those that Python did not start are one."""
    names = {thread.native_id: _OWN_END.sub("", thread.name) for thread in threading.enumerate()}
    found: dict[str, float] = {}
    for task in (_PROC / "self" / "task").iterdir():
        try:
            used_s = _cpu_s_of((task / "stat").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
        name = names.get(int(task.name), NATIVE)
        found[name] = found.get(name, 0.0) + used_s
    return found


def rss_mib(pids: Iterable[int]) -> float:
    """Memory in use by processes, in MiB; those that are gone count nothing."""
    pages = 0
    for pid in pids:
        try:
            pages += int((_PROC / str(pid) / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * _PAGE_BYTES / 1024**2


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    parents: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def disk_bytes(folders: Iterable[Path]) -> int:
    """Bytes that folders take on disk: allocated blocks, so that sparse files count what they hold."""
    found = 0
    for folder in folders:
        for root, _, files in os.walk(folder):
            for file in files:
                try:
                    found += os.lstat(Path(root) / file).st_blocks * 512
                except FileNotFoundError:
                    continue
    return found


def _machine_busy_s() -> float:
    """CPU seconds that everything on this machine used since it runs."""
    fields = (_PROC / "stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _io, irq, softirq, steal = (int(field) for field in fields[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S


@dataclass(frozen=True)
class Used:
    """What was used between two moments.

    Attributes:
        seconds: wall time.
        cpu_s: CPU seconds by role of processes.
        thread_cpu_s: CPU seconds of this process by thread, those that used any.
        others_cores: how many cores on average were taken by what is not measured.
    """

    seconds: float
    cpu_s: dict[str, float]
    thread_cpu_s: dict[str, float]
    others_cores: float

    @property
    def total_cpu_s(self) -> float:
        """CPU seconds of all roles."""
        return sum(self.cpu_s.values())


class Meter:
    """Measures from its making on.

    Args:
        processes: what to measure.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._cpu_s = {role: sum(map(cpu_s, pids)) for role, pids in processes.items()}
        self._threads_s = thread_cpu_s()
        self._busy_s = _machine_busy_s()
        self._started_s = time.perf_counter()

    def read(self) -> Used:
        """What was used until now."""
        seconds = time.perf_counter() - self._started_s
        used = {role: sum(map(cpu_s, pids)) - self._cpu_s[role] for role, pids in self._processes.items()}
        threads = {name: used_s - self._threads_s.get(name, 0.0) for name, used_s in thread_cpu_s().items()}
        others_s = _machine_busy_s() - self._busy_s - sum(used.values())
        return Used(
            seconds=seconds,
            cpu_s=used,
            thread_cpu_s={name: used_s for name, used_s in threads.items() if used_s > 0},
            others_cores=max(0.0, others_s / seconds),
        )
