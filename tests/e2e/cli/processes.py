"""Starts ``perdure`` processes for tests, and looks at them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class DevServer:
    """A running ``perdure dev``."""

    process: subprocess.Popen[str]
    ready_line: str
    ready_s: float

    @property
    def port(self) -> int:
        found = re.search(r"localhost:(\d+) ", self.ready_line)
        assert found, self.ready_line
        return int(found[1])

    @property
    def ui_port(self) -> int:
        found = re.search(r"http://localhost:(\d+)", self.ready_line)
        assert found, self.ready_line
        return int(found[1])

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def cpu_s(self) -> float:
        """CPU time of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def stop(self) -> tuple[int, str]:
        """Ask it to stop; returns the exit code and its stderr."""
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.communicate()


def perdure_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "perdure_ops", *arguments]


def environment() -> dict[str, str]:
    """Ours, without the variables that the command reads."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PERDURE_", "KAFKA_"))}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def start_dev(*arguments: str, cwd: Path = ROOT) -> DevServer:
    """Start ``perdure dev`` on free ports and wait for its ready line."""
    begun_s = time.monotonic()
    process = subprocess.Popen(
        perdure_command("dev", "--port", "0", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment(),
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("Perdure dev is ready"):
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"perdure dev did not get ready: {line}{out}{err}")
    return DevServer(process, line.strip(), time.monotonic() - begun_s)


def perdure(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        perdure_command(*arguments), capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=timeout_s
    )
