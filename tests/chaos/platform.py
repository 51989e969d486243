"""A whole platform of real processes, each part of which can be broken: brokers, engines, workers, and the links.

Invariants: every process is started again whenever it ends (what an operator's supervisor does), and an end that no
fault asked for is counted; engines and workers reach the log only through proxies, while the harness's own client has
a way of its own. Called by :mod:`tests.chaos.run` and :mod:`tests.chaos.faults`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.chaos.clock import ProcessClock
from tests.chaos.proxy import Proxy
from tests.support.kafka_native import NativeBroker, NativeCluster, free_port
from tests.support.processes import ProcessFailedError, PythonProcess

SESSION_TIMEOUT_MS = 6_000
#: A process may find its broker gone when it is started, give up, and be started again: all within this time.
START_TIMEOUT_S = 120.0
_START_ATTEMPT_S = 30.0
_SUPERVISOR_INTERVAL_S = 0.25
_DISK_MIB = 512


class Part:
    """A process that is kept running, with its clock, and a lock for whoever breaks it."""

    def __init__(self, process: PythonProcess, clock: ProcessClock, state: Path | None = None) -> None:
        self.process = process
        self.clock = clock
        self.state = state
        self.lock = threading.RLock()
        self.ends_unasked = 0
        self.slowest_start_s = 0.0

    def start(self) -> None:
        """Start it, and again if it gives up, until it is ready."""
        begun_s = time.monotonic()
        with self.lock:
            while True:
                try:
                    self.process.start(_START_ATTEMPT_S)
                    break
                except ProcessFailedError:
                    if time.monotonic() - begun_s > START_TIMEOUT_S:
                        raise
            self.slowest_start_s = max(self.slowest_start_s, time.monotonic() - begun_s)

    def supervise(self) -> None:
        """Start it again if it ended by itself."""
        if self.lock.acquire(blocking=False):
            try:
                if not self.process.running:
                    self.ends_unasked += 1
                    self.start()
            finally:
                self.lock.release()


class ChaosPlatform:
    """See the module.

    Parameters:
        folder: where everything goes.
        brokers: how many; 0: the embedded log, whose only engine is the development server.
        engines / workers: how many processes.
        partitions: of the namespace.
    """

    def __init__(self, folder: Path, *, brokers: int, engines: int, workers: int, partitions: int = 8) -> None:
        self.folder = folder
        self.oracle = folder / "oracle.txt"
        self.oracle.touch()
        self.partitions = partitions
        self.namespace = "default"
        self.disks: list[Path] = []
        self._ended = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        #: One for each engine, and one that all workers share.
        links = engines + 1
        self.cluster: NativeCluster | NativeBroker | None = None
        self.brokers: list[NativeBroker] = []
        if brokers:
            addresses = self._make_brokers(brokers, links)
            self.address = f"kafka://{','.join(broker.bootstrap for broker in self.brokers)}"
        else:
            assert engines == 1, "the embedded log belongs to one process"
            port, through = free_port(), free_port()
            self.address = f"localhost:{port}"
            addresses = ["", f"localhost:{through}"]
            self.links = [Proxy({through: port})]
        self.engines = [self._engine(number, addresses[number]) for number in range(engines)]
        self.workers = [self._worker(number, addresses[-1]) for number in range(workers)]

    def _make_brokers(self, count: int, links: int) -> list[str]:
        """Brokers with a listener for each link, which they announce at its proxy. Returns each link's address."""
        inside = [[free_port() for _ in range(links)] for _ in range(count)]
        outside = [[free_port() for _ in range(links)] for _ in range(count)]

        def listeners(node: int, port: int, controller_port: int) -> Mapping[str, str]:
            own = [f"LINK{link}://127.0.0.1:{inside[node - 1][link]}" for link in range(links)]
            told = [f"LINK{link}://127.0.0.1:{outside[node - 1][link]}" for link in range(links)]
            plain = f"PLAINTEXT://127.0.0.1:{port}"
            protocols = ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *(f"LINK{n}:PLAINTEXT" for n in range(links))]
            return {
                "listeners": ",".join([plain, f"CONTROLLER://127.0.0.1:{controller_port}", *own]),
                "advertised.listeners": ",".join([plain, *told]),
                "listener.security.protocol.map": ",".join(protocols),
                "num.network.threads": "1",
            }

        cluster = NativeCluster(count, configure=listeners)
        self.cluster, self.brokers = cluster, list(cluster.brokers)
        self.links = [
            Proxy({outside[node][link]: inside[node][link] for node in range(count)}) for link in range(links)
        ]
        return [
            "kafka://" + ",".join(f"127.0.0.1:{outside[node][link]}" for node in range(count)) for link in range(links)
        ]

    def _engine(self, number: int, address: str) -> Part:
        clock = ProcessClock(self.folder / f"engine{number}.clock")
        disk = self.folder / f"disk{number}"
        disk.mkdir()
        if self._mount(disk):
            self.disks.append(disk)
        if address:
            state = disk / "state"
            arguments = ["-m", "perdure_ops", "server", "--address", address, "--namespace", self.namespace]
            arguments += ["--partitions", str(self.partitions), "--state-dir", str(state)]
            arguments += ["--instance", f"engine-{number}", "--session-timeout-ms", str(SESSION_TIMEOUT_MS)]
        else:
            state = disk / "data" / "state"
            port = self.address.rpartition(":")[2]
            arguments = ["-m", "perdure_ops", "dev", "--port", port, "--headless", "--data", str(disk / "data")]
            arguments += ["--partitions", str(self.partitions)]
        process = PythonProcess(f"engine{number}", arguments, self.folder, ready="ready", env=clock.environment)
        return Part(process, clock, state)

    def _worker(self, number: int, address: str) -> Part:
        clock = ProcessClock(self.folder / f"worker{number}.clock")
        arguments = ["-m", "tests.e2e.faults.program", address, self.namespace, str(self.oracle)]
        process = PythonProcess(f"worker{number}", arguments, self.folder, ready="worker ready", env=clock.environment)
        return Part(process, clock)

    @staticmethod
    def _mount(folder: Path) -> bool:
        """A small disk of its own for an engine's state, where the test is allowed to make one."""
        if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("mount") is None:
            return False
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    @property
    def parts(self) -> list[Part]:
        """All processes of ours."""
        return [*self.engines, *self.workers]

    def __enter__(self) -> Self:
        try:
            if self.cluster is not None:
                self.cluster.start()
            for link in self.links:
                link.start()
            for part in self.parts:
                part.start()
        except BaseException:
            self.__exit__()
            raise
        self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._supervisor.is_alive():
            self._supervisor.join(START_TIMEOUT_S)
        for part in reversed(self.parts):
            if part.process.started:
                part.process.kill()
        for link in self.links:
            link.close()
        if self.cluster is not None:
            self.cluster.close()
        for disk in self.disks:
            subprocess.run(["umount", "--lazy", str(disk)], capture_output=True, check=False)

    def _supervise(self) -> None:
        while not self._ended.wait(_SUPERVISOR_INTERVAL_S):
            for part in self.parts:
                part.supervise()
