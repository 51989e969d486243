"""Starts and kills the programs of :mod:`child`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CHILD = Path(__file__).with_name("child.py")


def start(what: str, path: Path, *arguments: int) -> subprocess.Popen[str]:
    """Start a child; its input and output are pipes of text."""
    command = [sys.executable, str(_CHILD), what, str(path), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def kill(child: subprocess.Popen[str]) -> str:
    """Kill it the hard way, and return what it had printed and nobody had read."""
    child.kill()
    rest, _ = child.communicate(timeout=30)
    return rest


class ServerProcess:
    """A server of a log with the topic ``t`` in a process of its own, always on the same port."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.port = 0
        self._child: subprocess.Popen[str] | None = None

    def start(self, path: Path | None = None) -> None:
        """Start it (on another folder, if given)."""
        self._child = start("serve", path or self._path, self.port)
        self.port = int(self._line())

    def order(self, line: str) -> None:
        """Give an order and wait until it is done."""
        assert self._child is not None and self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()
        assert self._line() == "ok"

    def kill(self) -> None:
        """``kill -9``."""
        if self._child is not None:
            kill(self._child)
            self._child = None

    def stop(self) -> None:
        """Let it end by itself."""
        assert self._child is not None
        self._child.communicate(timeout=30)
        assert self._child.returncode == 0
        self._child = None

    def _line(self) -> str:
        assert self._child is not None and self._child.stdout is not None
        line = self._child.stdout.readline().strip()
        assert line, "the server process died"
        return line
