"""``python -m bench.profiled FILE MODULE ARGUMENT...``: runs a module as a program, and profiles all its threads.

CPU time by function and by thread, taken by yappi (``pip install -e ".[bench]"``). SIGUSR1 forgets what was measured so
far, so that the start of the program does not count; what was measured is written to ``FILE`` when the program ends.
Started by :mod:`bench.targets` for the processes that are to be profiled.
"""

from __future__ import annotations

import json
import runpy
import signal
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


class NoProfilerError(RuntimeError):
    """There is no profiler here; the message says what to install."""


@dataclass(frozen=True)
class FunctionTime:
    """CPU time of one function: its own, and with all that it called, in s."""

    name: str
    place: str
    calls: int
    own_s: float
    total_s: float


@dataclass(frozen=True)
class Profile:
    """CPU time of a process, by thread in s and by function."""

    threads: dict[str, float]
    functions: list[FunctionTime]

    @property
    def cpu_s(self) -> float:
        """CPU time of all threads, in s."""
        return sum(self.threads.values())


def _yappi() -> Any:
    try:
        import yappi
    except ImportError:
        raise NoProfilerError('profiles need yappi: install it with `pip install -e ".[bench]"`') from None
    return yappi


def start() -> None:
    """Profile all threads of this process from now on.

    Raises:
        NoProfilerError: yappi is missing.
    """
    yappi = _yappi()
    yappi.set_clock_type("cpu")
    yappi.set_context_name_callback(lambda: threading.current_thread().name)
    # What C functions take counts for their callers: calls of them are too short to be timed one by one.
    yappi.start(builtins=False, profile_threads=True)


def forget() -> None:
    """Forget what was measured so far."""
    _yappi().clear_stats()


def stop() -> Profile:
    """End profiling; gives what was measured."""
    yappi = _yappi()
    yappi.stop()
    threads: dict[str, float] = {}
    for thread in yappi.get_thread_stats():
        threads[thread.name] = threads.get(thread.name, 0.0) + thread.ttot
    functions = [
        FunctionTime(found.name, _place(found.module, found.lineno), found.ncall, found.tsub, found.ttot)
        for found in yappi.get_func_stats()
    ]
    return Profile(threads, sorted(functions, key=lambda found: -found.own_s))


def _place(module: str, line: int) -> str:
    """Where a function is, as short as it can be told."""
    if not module.endswith(".py"):
        return module
    parts = Path(module).parts
    return f"{'/'.join(parts[-3:])}:{line}"


def to_json(profile: Profile) -> str:
    """A profile as text."""
    return json.dumps(asdict(profile))


def from_json(text: str) -> Profile:
    """A profile as :func:`to_json` wrote it."""
    found = json.loads(text)
    return Profile(found["threads"], [FunctionTime(**function) for function in found["functions"]])


def main(arguments: list[str]) -> None:
    """Run a program under the profiler."""
    file, module, *rest = arguments
    sys.argv = [module, *rest]
    signal.signal(signal.SIGUSR1, lambda number, frame: forget())
    start()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        Path(file).write_text(to_json(stop()))


if __name__ == "__main__":
    main(sys.argv[1:])
