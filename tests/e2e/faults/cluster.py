"""A running platform made of real processes, any of which can be killed: on the embedded log, or on a Kafka broker."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Self

from tests.support.auditing import assert_cluster_sound
from tests.support.processes import PythonProcess, free_port


class Cluster:
    """Engine and worker as processes of their own.

    Args:
        folder: where data, state and logs go.
        broker: a broker with ``kill`` and ``start``; ``None``: the embedded log.
        engines: how many engine processes share the partitions (Kafka only).
    """

    def __init__(self, folder: Path, broker: Any | None = None, *, engines: int = 1, workers: int = 1) -> None:
        self.folder = folder
        self.broker = broker
        self.oracle = folder / "oracle.txt"
        self.oracle.touch()
        if broker is None:
            port = free_port()
            self.namespace = "default"
            self.address = f"localhost:{port}"
            data = folder / "data"
            arguments = ["-m", "perdure_ops", "dev", "--port", str(port), "--ui-port", "0", "--data", str(data)]
            self.engines = [PythonProcess("engine", arguments, folder, ready="ready")]
            self.state_folders = [data / "state"]
        else:
            self.namespace = f"faults{free_port()}"
            self.address = f"kafka://{broker.bootstrap}"
            self.state_folders = [folder / f"state{number}" for number in range(engines)]
            self.engines = [self._kafka_engine(number) for number in range(engines)]
        worker = ["-m", "tests.e2e.faults.program", self.address, self.namespace, str(self.oracle)]
        self.workers = [
            PythonProcess(f"worker{number}", worker, folder, ready="worker ready") for number in range(workers)
        ]

    def _kafka_engine(self, number: int) -> PythonProcess:
        arguments = ["-m", "perdure_ops", "server", "--address", self.address, "--namespace", self.namespace]
        arguments += ["--partitions", "4", "--state-dir", str(self.state_folders[number])]
        arguments += ["--instance", f"engine-{number}", "--session-timeout-ms", "6000"]
        return PythonProcess(f"engine{number}", arguments, self.folder, ready="ready")

    def __enter__(self) -> Self:
        for process in [*self.engines, *self.workers]:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.workers, *self.engines]:
            if process.running:
                process.kill()

    def restart(self, process: PythonProcess) -> None:
        """SIGKILL a process and start it again."""
        process.kill()
        process.start()

    def audit(self) -> None:
        """Everything in the log must be sound, whatever was killed."""
        assert_cluster_sound(self.address, self.namespace)

    def delete_state(self) -> None:
        """Kill all engines, delete every state folder, start them again."""
        for engine in self.engines:
            engine.kill()
        for state in self.state_folders:
            assert state.is_dir(), f"{state} is not where the state is"
            shutil.rmtree(state)
        for engine in self.engines:
            engine.start()
