"""Crash points on the real logs: a whole platform in a process that ends at its write number k, and one that recovers.

The process holds a client, a worker and an engine, as a program on ``perdure dev`` would; on the embedded log it holds
the log, too. Its writes are numbered across all threads: appends, commits of groups, writes of state stores. The one
with the number k is not made, or made and waited for; then the process ends at once, and the operating system takes its
memory. A second process opens what is left and goes on. The final histories, results and answers must be those of a run
without a crash, and the audit of the whole log must be empty.

Threads and the disk decide what comes in between, so two runs are never the same here: the write number k is only the
place where a run is cut. Invariant: the parent opens no log and starts no thread, because its children are forks of it.
Called by the command (``python -m tests.sim --crash-points --log embedded``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from confluent_kafka.admin import AdminClient

from perdure.client import Client
from perdure.worker import Worker
from perdure_history.service import HistoryRole
from perdure_matching.core.model import MatchingConfig
from perdure_matching.service import MatchingRole
from perdure_ops.audit import Audit
from perdure_runtime.connect import create_platform_topics
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.engine import Engine
from perdure_runtime.kafka import KafkaLog
from perdure_runtime.log import Ack, Log, LogRecord, Membership, NewRecord, Producer, TopicPartition
from perdure_runtime.store import StateStore
from perdure_schemas.topics import TOPICS, TopicNames
from perdure_timers.service import TimersRole
from tests.sim.crash_points import SCENARIOS, Scenario
from tests.sim.driver import TASK_QUEUE, Driver, Outcome
from tests.sim.histories import comparable, final_events
from tests.sim.program import Program, quick, work

CUTS = ("before", "behind")

_KILLED = 9
#: How long a process may take before it is a failure, and how long after the result everything may take to be done.
_PROCESS_S_MAX = 240.0
_SETTLE_S_MAX = 60.0
_WAIT_S = 30.0
_SIGNAL_MS = 300

T = TypeVar("T")


def real_scenarios() -> list[Scenario]:
    """Those scenarios in which no client has to come at the right moment, which only a virtual clock can promise."""
    found = []
    for scenario in SCENARIOS:
        plan = scenario.plan
        if plan.updates or plan.cancel_ms is not None or plan.terminate_ms is not None or plan.reset_ms is not None:
            continue
        if plan.signals:
            scenario = replace(scenario, plan=replace(plan, signals=[_SIGNAL_MS] * len(plan.signals)))
        found.append(scenario)
    return found


@dataclass(frozen=True)
class Where:
    """A platform's place. ``bootstrap``: of Kafka; empty: an embedded log in the folder."""

    folder: Path
    bootstrap: str
    names: TopicNames

    def open(self) -> Log:
        """The log."""
        return KafkaLog(self.bootstrap, {}) if self.bootstrap else EmbeddedLog(self.folder / "log")


class Outcomes(msgspec.Struct):
    """What a process found at its end."""

    writes: int
    breaches: list[str]
    histories: dict[str, list[list[str]]]
    answers: list[Any]


@dataclass
class RealResult:
    """What the enumeration of a scenario came to. ``unreached``: the run ended before it had so many writes."""

    scenario: str
    writes: int = 0
    crash_points: int = 0
    unreached: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


# --- the process that dies --------------------------------------------------------------------------------------------


class Countdown:
    """Numbers the writes of this process, and ends it at one of them. ``kill_at`` -1: at none."""

    def __init__(self, kill_at: int, cut: str) -> None:
        self._kill_at = kill_at
        self._cut = cut
        self._lock = threading.Lock()
        self.count = 0

    def write(self, make: Callable[[], T], wait: Callable[[T], object]) -> T:
        """Make a write; ``wait`` waits until it is safe."""
        with self._lock:
            number, kill_at = self.count, self._kill_at
            self.count += 1
        if number != kill_at:
            return make()
        if self._cut == "behind":
            wait(make())
        os._exit(_KILLED)

    def disarm(self) -> None:
        """The run is over: what is written from now on belongs to no run."""
        with self._lock:
            self._kill_at = -1


class _CountedProducer:
    def __init__(self, producer: Producer, countdown: Countdown) -> None:
        self._producer = producer
        self._countdown = countdown

    def append(self, records: Sequence[NewRecord]) -> Ack:
        if not records:
            return self._producer.append(records)
        return self._countdown.write(lambda: self._producer.append(records), lambda ack: ack.wait(_WAIT_S))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)


class _CountedMembership:
    def __init__(self, membership: Membership, countdown: Countdown) -> None:
        self._membership = membership
        self._countdown = countdown

    def commit(self, offsets: Mapping[int, int]) -> Ack:
        return self._countdown.write(lambda: self._membership.commit(offsets), self._wait)

    def _wait(self, ack: Ack) -> None:
        deadline_s = time.monotonic() + _WAIT_S
        while not ack.done() and time.monotonic() < deadline_s:
            self._membership.poll()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._membership, name)


class _CountedLog:
    """A log whose writes are numbered."""

    def __init__(self, log: Log, countdown: Countdown) -> None:
        self._log = log
        self._countdown = countdown

    def producer(self, name: str) -> _CountedProducer:
        return _CountedProducer(self._log.producer(name), self._countdown)

    def join(self, *arguments: Any) -> _CountedMembership:
        return _CountedMembership(self._log.join(*arguments), self._countdown)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def _live(where: Where, scenario: Scenario, countdown: Countdown, number: int) -> Outcomes:
    """The life of a process, if nothing ends it. ``number``: how many came before it."""
    _count_stores(countdown)
    log = cast("Log", _CountedLog(where.open(), countdown))
    if number == 0:
        create_platform_topics(log, where.names)
    matching = MatchingConfig(heartbeat_lapse_ms=2_500)
    roles = [HistoryRole(where.names), MatchingRole(where.names, matching), TimersRole(where.names)]
    engine = Engine(log, where.names, where.folder / "state", roles, instance="engine")
    engine.start()
    if not engine.wait_ready(_WAIT_S * 2):
        raise RuntimeError(f"the engine is not ready: {engine.failure()!r}")
    outcome = Outcome(scenario.plan, drivers=number)
    asyncio.run(_drive(log, where.names, outcome))
    records, breaches = _settled(log, where.names)
    breaches = [f"complaint: {complaint}" for complaint in outcome.complaints] + breaches
    if engine.failure() is not None:
        breaches.append(f"bug: {engine.failure()!r}")
    histories = comparable(final_events(record for record in records if record.topic == where.names.history))
    answers = [(outcome.result or {}).get("out"), outcome.failure, outcome.updates]
    return Outcomes(countdown.count, breaches, histories, answers)


def _count_stores(countdown: Countdown) -> None:
    write = StateStore._write

    def counted(self: StateStore, *arguments: Any) -> None:
        countdown.write(lambda: write(self, *arguments), lambda _: None)

    StateStore._write = counted  # type: ignore[method-assign]


async def _drive(log: Log, names: TopicNames, outcome: Outcome) -> None:
    client = Client.from_log(log, names=names)
    async with Worker(client, task_queue=TASK_QUEUE, workflows=[Program], activities=[work, quick]):
        await asyncio.wait_for(Driver(client, outcome.plan, outcome).run(), _PROCESS_S_MAX)


def _settled(log: Log, names: TopicNames) -> tuple[list[LogRecord], list[str]]:
    """All records when nothing is outstanding any more, and what the audit says of them."""
    deadline_s = time.monotonic() + _SETTLE_S_MAX
    while True:
        records = _read(log, names)
        audit = Audit(names)
        for record in records:
            audit.take(record)
        breaches = [f"{breach.check}: {breach.message}" for breach in audit.finish()]
        counts = audit.counts()
        for what in ("runs_open", "tasks_outstanding", "timers_outstanding", "dead_letters"):
            if getattr(counts, what):
                breaches.append(f"outstanding: {what} is {getattr(counts, what)}")
        if not breaches or time.monotonic() > deadline_s:
            return records, breaches
        time.sleep(0.1)


def _read(log: Log, names: TopicNames) -> list[LogRecord]:
    places = [TopicPartition(names.of(spec), number) for spec in TOPICS for number in range(names.partitions)]
    known = log.describe_topics([names.of(spec) for spec in TOPICS])
    places = [place for place in places if place.topic in known]
    ends = {place: log.watermarks(place)[1] for place in places}
    reader = log.reader("settled")
    try:
        reader.assign(dict.fromkeys(places, log.BEGIN))
        records: list[LogRecord] = []
        deadline_s = time.monotonic() + _WAIT_S
        left = {place for place in places if ends[place]}
        while left and time.monotonic() < deadline_s:
            records += reader.poll(1_000, 0.2)
            left = {place for place in left if reader.position(place) < ends[place]}
        return records
    finally:
        reader.close()


# --- the parent -------------------------------------------------------------------------------------------------------


def _fork(where: Where, scenario: Scenario, kill_at: int, cut: str, number: int) -> int:
    """Start a process; it leaves its outcome in the folder."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        logging.disable(logging.CRITICAL)
        countdown = Countdown(kill_at, cut)
        found = _live(where, scenario, countdown, number)
        countdown.disarm()
        (where.folder / "outcome").write_bytes(msgspec.json.encode(found))
        if where.bootstrap:
            _remove_topics(where)
        status = 0
    except BaseException:
        (where.folder / "error").write_text(traceback.format_exc())
    finally:
        os._exit(status)


def _remove_topics(where: Where) -> None:
    admin = AdminClient({"bootstrap.servers": where.bootstrap})
    prefix = f"{where.names.prefix}.{where.names.namespace}."
    topics = [name for name in admin.list_topics(timeout=_WAIT_S).topics if name.startswith(prefix)]
    for gone in admin.delete_topics(topics).values():
        with contextlib.suppress(Exception):  # what is left of it disturbs nobody
            gone.result(_WAIT_S)


@contextlib.contextmanager
def _place(bootstrap: str) -> Iterator[Where]:
    folder = Path(tempfile.mkdtemp(prefix="perdure-crash-"))
    try:
        yield Where(
            folder, bootstrap, TopicNames(namespace=f"c{uuid.uuid4().hex[:10]}", partitions=1 if bootstrap else 2)
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(bootstrap: str, scenario: Scenario, kill_at: int, cut: str) -> Generator[int, int, Outcomes | str | None]:
    """One run: yields a process and is sent its exit status. Returns its outcome, or what is wrong; ``None`` in front
    of an outcome that follows without a crash is told by its number of writes."""
    with _place(bootstrap) as where:
        status = yield _fork(where, scenario, kill_at, cut, 0)
        if kill_at >= 0 and status == _KILLED:
            status = yield _fork(where, scenario, -1, "", 1)
        elif kill_at >= 0 and status == 0:
            return None
        if status:
            error = where.folder / "error"
            return f"process: it ended with {status}: {error.read_text() if error.exists() else 'it hung'}"
        return msgspec.json.decode((where.folder / "outcome").read_bytes(), type=Outcomes)


def enumerate_real_crashes(
    scenario: Scenario,
    *,
    bootstrap: str = "",
    cuts: Sequence[str] = CUTS,
    every: int = 1,
    jobs: int = 4,
) -> RealResult:
    """Run the crash points of a scenario.

    Parameters:
        scenario: one of :func:`real_scenarios`.
        bootstrap: of Kafka; empty: on the embedded log.
        cuts: whether the write is made.
        every: take every so-manieth write only.
        jobs: how many runs at once: most of the time they wait for a dead worker's tasks to be given to another one.
    """
    result = RealResult(scenario.name)
    wanted = _run_all([("", _run(bootstrap, scenario, -1, ""))], 1)[""]
    if not isinstance(wanted, Outcomes) or wanted.breaches:
        problem = wanted if isinstance(wanted, str) else "; ".join(wanted.breaches) if wanted else "nothing"
        result.failures.append(("without a crash", problem))
        return result
    result.writes = wanted.writes
    points = [(number, cut) for number in range(0, wanted.writes, every) for cut in cuts]
    runs = [(f"write {number} ({cut})", _run(bootstrap, scenario, number, cut)) for number, cut in points]
    for point, found in _run_all(runs, jobs).items():
        if found is None:
            result.unreached += 1
            continue
        result.crash_points += 1
        if isinstance(found, str):
            result.failures.append((point, found))
        else:
            result.failures += [(point, difference) for difference in found.breaches or _differences(wanted, found)]
    return result


def _differences(wanted: Outcomes, found: Outcomes) -> list[str]:
    differences = []
    if found.answers != wanted.answers:
        differences.append(f"answers: {found.answers}, without the crash {wanted.answers}")
    if found.histories != wanted.histories:
        differences.append(f"history: {found.histories}, without the crash {wanted.histories}")
    return differences


def _run_all(
    runs: Sequence[tuple[str, Generator[int, int, Outcomes | str | None]]], jobs: int
) -> dict[str, Outcomes | str | None]:
    """Drive runs to their ends, ``jobs`` of them at once, without a thread."""
    waiting = list(reversed(runs))
    active: dict[int, tuple[str, Generator[int, int, Outcomes | str | None], float]] = {}
    found: dict[str, Outcomes | str | None] = {}

    def go_on(name: str, run: Generator[int, int, Outcomes | str | None], status: int | None) -> None:
        try:
            pid = next(run) if status is None else run.send(status)
        except StopIteration as stop:
            found[name] = stop.value
        else:
            active[pid] = (name, run, time.monotonic() + _PROCESS_S_MAX)

    while waiting or active:
        while waiting and len(active) < jobs:
            go_on(*waiting.pop(), None)
        time.sleep(0.01)
        for pid, (name, run, deadline_s) in list(active.items()):
            if time.monotonic() > deadline_s:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                status = -1
            else:
                ended, code = os.waitpid(pid, os.WNOHANG)
                if not ended:
                    continue
                status = os.waitstatus_to_exitcode(code)
            del active[pid]
            go_on(name, run, status)
    return found
