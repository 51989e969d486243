"""Records become runs while the service and the engine are killed: the long run.

``python -m tests.e2e.triggers.kills --records 10000 --every-s 5`` starts a broker, an engine and two services, appends
records, and kills one process after the other with SIGKILL. Then each record must have made one run, and that run one
receipt; each device must have its signals, and have emitted its shipments, in the order of the records; nothing may be
left over, Kafka's own tool must find no lag, and the audit no breach. What is emitted is read as a ``read_committed``
consumer sees it. ``--bootstrap`` takes a broker that runs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from perdure.client import Client
from perdure_runtime.connect import names_of, open_log
from perdure_runtime.log import Log, LogRecord, NewRecord
from perdure_schemas.topics import Cleanup, TopicSpec
from tests.e2e.triggers.service import receipts_of, shipments_of
from tests.support.auditing import assert_cluster_sound
from tests.support.kafka_broker import session_bootstrap
from tests.support.kafka_native import kafka_tool
from tests.support.processes import ProcessFailedError, PythonProcess, free_port
from tests.support.user_topics import emit_id_of, read_all, wait_until_relayed

KEYS = 50
PARTITIONS = 4
PATIENCE_S = 600.0
_CHUNK = 100
_START_S = 120.0
_STARTS_MAX = 5


class Scene:
    """An engine and services as processes, and a topic with records for them.

    Args:
        folder: where state and logs go.
        bootstrap: a broker.
        services: how many service processes share the topic.
    """

    def __init__(self, folder: Path, bootstrap: str, services: int) -> None:
        port = free_port()
        self.topic, self.group, self.namespace = f"orders{port}", f"orders-service{port}", f"kills{port}"
        self.bootstrap, self.address = bootstrap, f"kafka://{bootstrap}"
        arguments = ["server", "--address", self.address, "--namespace", self.namespace, "--partitions", "4"]
        arguments += ["--state-dir", str(folder / "state"), "--instance", "engine", "--session-timeout-ms", "6000"]
        self.engine = PythonProcess("engine", ["-m", "perdure_ops", *arguments], folder, ready="ready")
        service = ["-m", "tests.e2e.triggers.service", self.address, self.namespace, self.topic, self.group]
        self.services = [
            PythonProcess(f"service{n}", [*service, f"service-{n}"], folder, ready="ready") for n in range(services)
        ]
        self.appended = 0

    def __enter__(self) -> Scene:
        _start(self.engine)
        self.log: Log = open_log(self.address)
        topics = (self.topic, receipts_of(self.topic), shipments_of(self.topic))
        specs = {topic: TopicSpec(topic, "key", "text", Cleanup.DELETE, (), (), ()) for topic in topics}
        self.log.create_topics(specs, PARTITIONS)
        for service in self.services:
            _start(service)
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.services, self.engine):
            if process.running:
                process.kill()
        self.log.close()

    def kill(self, *processes: PythonProcess) -> None:
        """SIGKILL all of them, and start them again."""
        for process in processes:
            process.kill()
        for process in processes:
            _start(process)

    def append(self, count: int) -> None:
        """Append the next records: those of a key to one partition, numbered in their order."""
        numbers = range(self.appended, self.appended + count)
        records = [
            NewRecord(self.topic, n % KEYS % PARTITIONS, str(n % KEYS).encode(), json.dumps(n).encode())
            for n in numbers
        ]
        producer = self.log.producer("records")
        try:
            ack = producer.append(records)
            if not ack.wait(PATIENCE_S) or ack.error() is not None:
                raise RuntimeError(f"the log did not take the records: {ack.error()}")
        finally:
            producer.close()
        self.appended += count

    def lag(self) -> int:
        """How many records the group has not committed."""
        committed = self.log.describe_group(self.group, self.topic).committed
        return self.appended - sum(committed.values())

    def wait_for_lag(self, lag: int, on_wait: Callable[[], None] = lambda: None) -> None:
        """Wait until no more than so many records are uncommitted."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            if self.lag() <= lag:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"the group still lags by {self.lag()} records")
            on_wait()
            threading.Event().wait(0.2)

    async def check(self) -> dict[str, Any]:
        """What must hold once all is done; returns what was counted."""
        client = await Client.connect(self.address, namespace=self.namespace, connect_timeout=timedelta(minutes=2))
        try:
            runs = await self._count_runs(client)
            for key in range(KEYS):
                _assert_same(f"signals of device {key}", await _signals(client, f"device-{key}"), self._numbers(key))
        finally:
            await client.close()
        emitted = await asyncio.to_thread(self._check_emitted)
        return {"records": self.appended, "runs": runs, **emitted, "lag": self.lag(), "devices": KEYS}

    def _numbers(self, key: int) -> list[int]:
        """The records of a device."""
        return list(range(key, self.appended, KEYS))

    def _check_emitted(self) -> dict[str, int]:
        """Each order has emitted one receipt, and each device its shipments in the order of its records."""
        wait_until_relayed(self.log, names_of(self.log, self.namespace), PATIENCE_S)
        receipts = read_all(self.log, receipts_of(self.topic))
        _assert_same("receipts", sorted(map(_number, receipts)), list(range(self.appended)))
        shipments = read_all(self.log, shipments_of(self.topic))
        for key in range(KEYS):
            mine = [_number(record) for record in shipments if record.key == str(key).encode()]
            _assert_same(f"shipments of device {key}", mine, self._numbers(key))
        ids = {emit_id_of(record) for record in (*receipts, *shipments)}
        assert len(ids) == len(receipts) + len(shipments), "two records have the same emit id"
        return {"receipts": len(receipts), "shipments": len(shipments)}

    def lag_by_kafka(self) -> int:
        """The group's lag as Kafka's own tool tells it."""
        tool = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
        text = kafka_tool(tool, "--bootstrap-server", self.bootstrap, "--describe", "--group", self.group)
        lines = [line.split() for line in text.splitlines() if line.split()]
        (heading,) = [line for line in lines if line[0] == "GROUP"]
        rows = [line for line in lines if line[0] == self.group]
        assert len(rows) == PARTITIONS, text
        return sum(int(row[heading.index("LAG")]) for row in rows)

    async def _count_runs(self, client: Client) -> int:
        """The read side follows: wait until it has seen all closed, then there must not be one more."""
        deadline = time.monotonic() + PATIENCE_S
        done = 0
        while done < self.appended and time.monotonic() < deadline:
            done = (await client.count_workflows("WorkflowType = 'Order' AND ExecutionStatus = 'Completed'")).count
            await asyncio.sleep(0.5)
        runs = (await client.count_workflows("WorkflowType = 'Order'")).count
        assert (done, runs) == (self.appended, self.appended), f"{done} completed of {runs} runs"
        return runs

    def audit(self) -> None:
        """Everything in the log must be sound."""
        assert_cluster_sound(self.address, self.namespace)


def _assert_same(what: str, found: list[int], expected: list[int]) -> None:
    assert found == expected, f"{what}: {len(found)}, {found[:20]}… instead of {len(expected)}, {expected[:20]}…"


def _number(record: LogRecord) -> int:
    assert record.value is not None
    return int(record.value)


def _start(process: PythonProcess) -> None:
    """Start; again if it gave up because a busy machine answered too late, as a supervisor would."""
    for attempt in range(1, _STARTS_MAX + 1):
        try:
            process.start(_START_S)
        except ProcessFailedError:
            if attempt == _STARTS_MAX:
                raise
        else:
            return


async def _signals(client: Client, workflow_id: str) -> list[int]:
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    found: list[int] = []
    for event in history.events:
        if type(event.attributes).__name__ == "WorkflowExecutionSignaled":
            found += await client.data_converter.decode(event.attributes.input)  # type: ignore[union-attr]
    return found


def run(records: int, every_s: float, bootstrap: str, folder: Path, *, together: bool = False) -> dict[str, Any]:
    """The long run; returns what was counted. ``together``: the engine dies with each service, and not in its turn."""
    kills = 0
    with Scene(folder, bootstrap, services=2) as scene:
        alone = [[process] for process in (*scene.services, scene.engine)]
        victims = _endless([[service, scene.engine] for service in scene.services] if together else alone)
        due = time.monotonic() + every_s

        def kill_when_due() -> None:
            nonlocal kills, due
            if time.monotonic() >= due:
                chosen = next(victims)
                scene.kill(*chosen)
                kills += len(chosen)
                due = time.monotonic() + every_s
                names = " and ".join(victim.name for victim in chosen)
                print(f"killed {names}; {scene.appended} records, lag {scene.lag()}", flush=True)

        while scene.appended < records:
            scene.append(min(_CHUNK, records - scene.appended))
            # No more than this is waiting, so that the kills come while there is work.
            scene.wait_for_lag(10 * _CHUNK, kill_when_due)
            kill_when_due()
        scene.wait_for_lag(0, kill_when_due)
        counted = asyncio.run(scene.check())
        counted["lag_by_kafka"] = scene.lag_by_kafka()
        assert counted["lag_by_kafka"] == 0, counted
        scene.audit()
    return {**counted, "kills": kills}


def _endless(victims: list[list[PythonProcess]]) -> Iterator[list[PythonProcess]]:
    while True:
        yield from victims


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--every-s", type=float, default=5.0)
    parser.add_argument("--together", action="store_true", help="kill the engine together with each service")
    parser.add_argument("--bootstrap", help="a broker that runs, as host:port")
    arguments = parser.parse_args()
    given = contextlib.nullcontext(arguments.bootstrap) if arguments.bootstrap else session_bootstrap()
    with given as bootstrap, tempfile.TemporaryDirectory(prefix="perdure-kills-") as folder:
        began_s = time.monotonic()
        counted = run(arguments.records, arguments.every_s, bootstrap, Path(folder), together=arguments.together)
        print(json.dumps({**counted, "seconds": round(time.monotonic() - began_s)}))


if __name__ == "__main__":
    sys.exit(main())
