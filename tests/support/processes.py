"""Child processes for tests: started until they say they are ready, signalled only by their own process id.

The output goes to a file, whose end is part of every error. Called by end-to-end tests.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LOG_TAIL_BYTES = 4_000


class ProcessFailedError(AssertionError):
    """A child process did not do what it had to."""


class PythonProcess:
    """``python -m …`` as a child, which can be killed and started again.

    Args:
        name: names the log file.
        arguments: what follows the interpreter.
        folder: where the log file goes.
        ready: a piece of the line on standard output that says the child is ready; ``None``: it is as soon as it runs.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        folder: Path,
        *,
        ready: str | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log_path = folder / f"{name}.log"
        self._arguments = arguments
        self._ready = ready
        self._env = os.environ | {"PYTHONUNBUFFERED": "1"} | (env or {})
        self._process: subprocess.Popen[str] | None = None
        self._drain: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        assert self._process is not None
        return self._process.pid

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._process is not None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = 30.0) -> float:
        """Start, and wait until it is ready; returns how long that took, in seconds."""
        started_s = time.monotonic()
        log = self.log_path.open("a")
        self._process = subprocess.Popen(
            [sys.executable, *self._arguments],
            cwd=REPOSITORY,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        seen = threading.Event()
        self._drain = threading.Thread(target=self._copy, args=(self._process, log, seen), daemon=True)
        self._drain.start()
        if self._ready is not None and not seen.wait(timeout_s):
            self.kill()
            raise ProcessFailedError(f"{self.name} was not ready within {timeout_s} s:\n{self.tail()}")
        if self._ready is not None and not self.running:
            raise ProcessFailedError(f"{self.name} ended before it was ready:\n{self.tail()}")
        return time.monotonic() - started_s

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._end(signal.SIGKILL, 10.0)

    def terminate(self, timeout_s: float = 20.0) -> int:
        """SIGTERM, and wait; killed if it takes longer. Returns the exit code."""
        return self._end(signal.SIGTERM, timeout_s)

    def suspend(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def tail(self) -> str:
        """The end of the log."""
        return self.log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")

    def _end(self, how: signal.Signals, timeout_s: float) -> int:
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return process.returncode

    def _copy(self, process: subprocess.Popen[str], log: object, seen: threading.Event) -> None:
        assert process.stdout is not None
        with self.log_path.open("a") as out:
            for line in process.stdout:
                out.write(line)
                out.flush()
                if self._ready is not None and self._ready in line:
                    seen.set()
        # The end of the output is the end of the process: whoever waits for it to be ready waits no more.
        process.wait()
        seen.set()


def free_port() -> int:
    """A port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
