"""Kafka brokers started from Apache Kafka's own jars: no container engine is needed, only Java and, once, Maven.

Responsible for fetching the jars once into a cache folder, and for the life of single brokers and small clusters
(KRaft, combined mode). Everything listens on loopback only; ports and data survive ``kill`` and ``stop``, so that a
broker can be started again where it was. Called by :class:`perdure.testing.kafka.KafkaEnvironment`.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

KAFKA_VERSION = "4.1.0"
SCALA_VERSION = "2.13"
_LOG4J_VERSION = "2.24.3"
_START_TIMEOUT_S = 60.0
_PROBE_PAUSE_S = 0.05
#: A random cluster id in Kafka's base64 form; all of these clusters may share it, they never meet.
_CLUSTER_ID = "cGVyZHVyZS10ZXN0cy0wMQ"

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>perdure.tests</groupId><artifactId>kafka-jars</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_{SCALA_VERSION}</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>{_LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

_LOG4J = """Configuration:
  status: error
  Appenders:
    Console:
      name: stdout
      PatternLayout: {pattern: "%d %p %m (%c{1})%n"}
  Loggers:
    Root: {level: warn, AppenderRef: {ref: stdout}}
"""


class BrokerUnavailableError(Exception):
    """No broker can be started here. The message says what is missing, or what the broker said."""


def kafka_jars(cache: Path | None = None) -> Path:
    """The folder of Kafka's jars; fetched by Maven on the first call on a machine.

    Raises:
        BrokerUnavailableError: Java or Maven is missing, or the jars could not be fetched.
    """
    return _fetched(f"kafka-{KAFKA_VERSION}", f"kafka_{SCALA_VERSION}-{KAFKA_VERSION}.jar", _POM, cache)


def kafka_tool(java_class: str, *arguments: str, timeout_s: float = 120) -> str:
    """What one of Kafka's own command line tools prints.

    Raises:
        BrokerUnavailableError: it cannot be had here, or it failed.
    """
    pom = _POM.replace(f"kafka_{SCALA_VERSION}<", "kafka-tools<")
    jars = _fetched(f"kafka-tools-{KAFKA_VERSION}", f"kafka-tools-{KAFKA_VERSION}.jar", pom, None)
    command = [java(), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*", java_class, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    if done.returncode != 0:
        raise BrokerUnavailableError(f"{java_class} failed: {done.stderr[-2000:]}{done.stdout[-2000:]}")
    return done.stdout


def _fetched(name: str, marker: str, pom: str, cache: Path | None) -> Path:
    """A folder of jars in the cache, with a jar that says that it is complete."""
    folder = cache or Path(os.environ.get("PERDURE_KAFKA_CACHE") or Path.home() / ".cache" / "perdure")
    jars = folder / name
    if (jars / marker).exists():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerUnavailableError(f"Maven (mvn) is not installed and {jars} holds no Kafka {KAFKA_VERSION}")
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="kafka-jars-", dir=folder))
    try:
        (work / "pom.xml").write_text(pom)
        goal = ["org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies", "-DoutputDirectory=jars"]
        result = subprocess.run(
            [maven, "-q", "-B", "-f", str(work / "pom.xml"), *goal], capture_output=True, text=True, timeout=600
        )
        if result.returncode != 0:
            raise BrokerUnavailableError(f"Maven could not fetch Kafka {KAFKA_VERSION}:\n{result.stdout[-2000:]}")
        try:
            (work / "jars").rename(jars)
        except OSError:  # another test run was faster
            if not jars.exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return jars


def java() -> str:
    """Java's path.

    Raises:
        BrokerUnavailableError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = found or shutil.which("java")
    if found is None:
        raise BrokerUnavailableError("Java is not installed (Kafka needs version 17 or newer)")
    return found


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end_with_parent() -> Callable[[], None] | None:
    """A hook that makes Linux end the broker when the test process is killed; ``None`` elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    pr_set_pdeathsig = 1
    return lambda: libc.prctl(pr_set_pdeathsig, signal.SIGKILL)


def wait_until_serving(
    port: int, nodes: int = 1, alive: Callable[[], bool] = lambda: True, options: Mapping[str, str] | None = None
) -> None:
    """Wait until the broker on a loopback port answers and knows of ``nodes`` brokers; ``options`` are the client's.

    Raises:
        BrokerUnavailableError: it is not ``alive`` any more, or did not answer in time.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if not alive():
            raise BrokerUnavailableError("the Kafka broker ended")
        if _serves(port, nodes, options or {}):
            return
    raise BrokerUnavailableError(f"the Kafka broker on port {port} did not serve within {_START_TIMEOUT_S} s")


def _serves(port: int, nodes: int, options: Mapping[str, str]) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            pass
    except OSError:
        threading.Event().wait(_PROBE_PAUSE_S)
        return False
    config: dict[str, Any] = {**options, "bootstrap.servers": f"127.0.0.1:{port}", "logger": _silent_logger()}
    admin = AdminClient(config)
    try:
        return len(admin.list_topics(timeout=5).brokers) >= nodes
    except KafkaException:
        return False


def _silent_logger() -> logging.Logger:
    """Swallows the client's complaints about a broker that is still starting."""
    logger = logging.getLogger("perdure.testing.kafka.probe")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


def broker_properties(node_id: int, nodes: int = 1) -> dict[str, str]:
    """What every test broker is configured with besides its addresses and folders: small, quick, and strict about
    topics."""
    replication = str(min(3, nodes))
    in_sync = str(min(2, nodes))
    return {
        "process.roles": "broker,controller",
        "node.id": str(node_id),
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "auto.create.topics.enable": "false",
        "default.replication.factor": replication,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replication,
        "offsets.topic.num.partitions": "2",
        "transaction.state.log.replication.factor": replication,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": "2",
        "share.coordinator.state.topic.replication.factor": replication,
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "group.coordinator.threads": "1",
        "num.network.threads": "2",
        "num.io.threads": "2",
        "num.replica.fetchers": "1",
        "background.threads": "2",
        "log.cleaner.threads": "1",
        "log.cleaner.dedupe.buffer.size": "4194304",
        "log.cleaner.io.buffer.size": "1048576",
        # The index files are preallocated and mapped: small ones keep hundreds of test partitions cheap.
        "log.index.size.max.bytes": "1048576",
        "message.max.bytes": "8388608",
        # A killed node is known as dead soon, so that tests may start it again at once.
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "400",
        "controlled.shutdown.enable": "true" if nodes > 1 else "false",
    }


class NativeBroker:
    """One broker process (broker and controller in one), on fixed loopback ports with a data folder of its own.

    Parameters:
        folder: where data, configuration and ``broker.log`` go; a temporary one that is removed by :meth:`close` if
        not given.
        config: broker properties that replace the defaults.
        node_id / voters: set by :class:`NativeCluster`.
        heap_mb: the JVM's heap, in MiB.
        full_jit: compile hot code as a broker in production does; else only quickly, which starts sooner.
        client_options: what a client needs to reach it, besides its address; used while it starts.
        format_arguments: more arguments for Kafka's storage tool, when the data folder is made.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        config: Mapping[str, str] | None = None,
        node_id: int = 1,
        ports: tuple[int, int] | None = None,
        voters: str | None = None,
        nodes: int = 1,
        heap_mb: int = 384,
        full_jit: bool = False,
        client_options: Mapping[str, str] | None = None,
        format_arguments: Sequence[str] = (),
    ) -> None:
        self._client_options = dict(client_options or {})
        self._format_arguments = list(format_arguments)
        self._jars = kafka_jars()
        self._java = java()
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="perdure-kafka-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port, self._controller_port = ports or (free_port(), free_port())
        self.node_id = node_id
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.log_file = self.folder / "broker.log"
        self._heap_mb = heap_mb
        self._full_jit = full_jit
        self._process: subprocess.Popen[bytes] | None = None
        self._properties = {
            **broker_properties(node_id, nodes),
            "controller.quorum.voters": voters or f"{node_id}@127.0.0.1:{self._controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": str(self.folder / "data"),
            **(config or {}),
        }

    def _run_options(self) -> list[str]:
        return [
            self._java,
            "-XX:+UseSerialGC",
            *([] if self._full_jit else ["-XX:TieredStopAtLevel=1"]),
            f"-Xmx{self._heap_mb}m",
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.yaml'}",
            "-cp",
            f"{self._jars}/*",
        ]

    def _format(self) -> None:
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in self._properties.items()))
        (self.folder / "log4j2.yaml").write_text(_LOG4J)
        if (self.folder / "data" / "meta.properties").exists():
            return
        arguments = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties)]
        arguments += self._format_arguments
        result = subprocess.run(
            [*self._run_options(), *arguments], capture_output=True, text=True, timeout=_START_TIMEOUT_S
        )
        if result.returncode != 0:
            raise BrokerUnavailableError(f"Kafka's storage tool failed:\n{result.stdout}{result.stderr}")

    def launch(self) -> None:
        """Start the process without waiting until it serves."""
        if self._process is not None and self._process.poll() is None:
            return
        self._format()
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._run_options(), "kafka.Kafka", str(self.folder / "server.properties")],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                preexec_fn=_end_with_parent(),
            )

    def start(self) -> Self:
        """Start (again, after :meth:`stop` or :meth:`kill`) and wait until the broker serves.

        Raises:
            BrokerUnavailableError: it ended or did not serve in time; the message names its log file.
        """
        self.launch()
        self.wait_ready()
        return self

    def wait_ready(self, nodes: int = 1) -> None:
        """Wait until this broker answers and knows of ``nodes`` brokers.

        Raises:
            BrokerUnavailableError: it ended, or did not answer in time.
        """
        try:
            wait_until_serving(self.port, nodes, lambda: self.running, self._client_options)
        except BrokerUnavailableError as error:
            raise BrokerUnavailableError(f"{error}; see {self.log_file}:\n{self._log_tail()}") from None

    def _log_tail(self) -> str:
        return self.log_file.read_text(errors="replace")[-3000:] if self.log_file.exists() else ""

    @property
    def pid(self) -> int:
        """The broker's process id."""
        if self._process is None:
            raise BrokerUnavailableError("the broker is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives (a suspended one does, too)."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop in an orderly way; ports and data are kept."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; ports and data are kept."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def suspend(self) -> None:
        """SIGSTOP: the broker keeps its connections, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after :meth:`suspend`."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Kill, and remove the folder if it was a temporary one."""
        self.kill()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class NativeCluster:
    """A KRaft cluster of ``count`` combined nodes on loopback; replication 3 and two in-sync replicas from three
    nodes on."""

    def __init__(
        self,
        count: int = 3,
        *,
        config: Mapping[str, str] | None = None,
        configure: Callable[[int, int, int], Mapping[str, str]] | None = None,
        heap_mb: int = 320,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="perdure-kafka-cluster-"))
        ports = [(free_port(), free_port()) for _ in range(count)]
        voters = ",".join(f"{node}@127.0.0.1:{controller}" for node, (_, controller) in enumerate(ports, 1))
        self.brokers: Sequence[NativeBroker] = [
            NativeBroker(
                self.folder / f"node-{node}",
                config={**(config or {}), **(configure(node, *pair) if configure is not None else {})},
                node_id=node,
                ports=pair,
                voters=voters,
                nodes=count,
                heap_mb=heap_mb,
            )
            for node, pair in enumerate(ports, 1)
        ]
        self.bootstrap = ",".join(broker.bootstrap for broker in self.brokers)

    def start(self) -> Self:
        """Start all nodes and wait until each knows of all."""
        for broker in self.brokers:
            broker.launch()
        for broker in self.brokers:
            broker.wait_ready(len(self.brokers))
        return self

    def close(self) -> None:
        """Kill all nodes and remove their data."""
        for broker in self.brokers:
            broker.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
