"""Does one fault, and heals it. Called by :mod:`tests.chaos.run`, each fault on a thread of its own."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from perdure_runtime.connect import open_log
from perdure_runtime.log import LogError, NewRecord, TopicPartition
from perdure_schemas.topics import TopicNames
from tests.chaos.platform import START_TIMEOUT_S, ChaosPlatform, Part
from tests.chaos.schedule import Fault
from tests.support.kafka_native import BrokerUnavailableError

_APPEND_TIMEOUT_S = 30.0
_RETRY_PAUSE_S = 0.5
#: The key of bad records. A damaged command puts the open run that its key names into quarantine, as it should; here no
#: run of the load may wait for an operator who never comes.
_NOBODY = b"nobody"
_FILLER = "filler"
_FILL_CHUNK = bytes(1024 * 1024)


class Injector:
    """Breaks parts of a platform and heals them.

    Attributes:
        bad_values: what we have tried to write among the commands that is none.
        bad_records: keys of the dead letters that those which were acknowledged must become.
        files_damaged: how many files of state were truncated, overwritten or removed.
    """

    def __init__(self, platform: ChaosPlatform) -> None:
        self._platform = platform
        self._ended = threading.Event()
        self.bad_values: set[bytes] = set()
        self.bad_records: set[str] = set()
        self.files_damaged = 0
        self._locks = {id(target): threading.Lock() for target in [*platform.links, *platform.brokers]}

    def possible(self, kind: str) -> bool:
        """Whether this kind of fault can be done here."""
        return kind != "disk-full" or bool(self._platform.disks)

    def heal_now(self) -> None:
        """End the duration of all faults."""
        self._ended.set()

    def do(self, fault: Fault) -> None:
        """Do the fault, wait as long as it lasts, and heal it."""
        action: Callable[[Fault], None] = getattr(self, "_" + fault.kind.replace("-", "_"))
        action(fault)

    def _wait(self, fault: Fault) -> None:
        self._ended.wait(fault.duration_s)

    # --- processes --------------------------------------------------------------------------------------------------

    def _worker_kill(self, fault: Fault) -> None:
        self._kill(self._platform.workers[fault.target], fault)

    def _engine_kill(self, fault: Fault) -> None:
        self._kill(self._platform.engines[fault.target], fault)

    def _kill(self, part: Part, fault: Fault) -> None:
        with part.lock:
            part.process.kill()
            self._wait(fault)
            part.start()

    def _worker_stop(self, fault: Fault) -> None:
        self._stop(self._platform.workers[fault.target], fault)

    def _engine_stop(self, fault: Fault) -> None:
        self._stop(self._platform.engines[fault.target], fault)

    def _stop(self, part: Part, fault: Fault) -> None:
        with part.lock:
            if part.process.running:
                part.process.suspend()
                self._wait(fault)
                part.process.resume()

    def _clock_jump(self, fault: Fault) -> None:
        part = self._platform.parts[fault.target]
        part.clock.set(fault.amount)
        self._wait(fault)
        part.clock.set(0.0)

    # --- brokers and links ------------------------------------------------------------------------------------------

    def _broker_kill(self, fault: Fault) -> None:
        broker = self._platform.brokers[fault.target]
        with self._locks[id(broker)]:
            broker.kill()
            self._wait(fault)
            begun_s = time.monotonic()
            while True:
                try:
                    broker.start()
                    return
                except BrokerUnavailableError:  # a machine with much to do takes long to start one
                    if time.monotonic() - begun_s > START_TIMEOUT_S:
                        raise

    def _broker_stop(self, fault: Fault) -> None:
        broker = self._platform.brokers[fault.target]
        with self._locks[id(broker)]:
            broker.suspend()
            self._wait(fault)
            broker.resume()

    def _link_cut(self, fault: Fault) -> None:
        with self._link(fault) as link:
            link.cut()
            self._wait(fault)

    def _link_stall(self, fault: Fault) -> None:
        with self._link(fault) as link:
            link.stall()
            self._wait(fault)

    def _link_slow(self, fault: Fault) -> None:
        with self._link(fault) as link:
            link.slow(fault.amount)
            self._wait(fault)

    @contextlib.contextmanager
    def _link(self, fault: Fault) -> Iterator[object]:
        link = self._platform.links[fault.target]
        with self._locks[id(link)]:
            try:
                yield link
            finally:
                link.heal()

    # --- state ------------------------------------------------------------------------------------------------------

    def _state_delete(self, fault: Fault) -> None:
        part = self._platform.engines[fault.target]
        assert part.state is not None
        with part.lock:
            part.process.kill()
            shutil.rmtree(part.state, ignore_errors=True)
            part.start()

    def _state_damage(self, fault: Fault) -> None:
        """SIGKILL in the middle of writes, and then files that are too short, wrong or missing."""
        part = self._platform.engines[fault.target]
        assert part.state is not None
        chance = random.Random(fault.seed)
        with part.lock:
            part.process.kill()
            files = sorted(path for path in part.state.rglob("*") if path.is_file() and path.stat().st_size)
            for path in chance.sample(files, min(len(files), 3)):
                damage(path, chance)
                self.files_damaged += 1
            part.start()

    def _disk_full(self, fault: Fault) -> None:
        part = self._platform.engines[fault.target]
        disk = self._platform.disks[fault.target]
        with self._filled(disk):
            self._wait(fault)
        assert part.state is not None

    @contextlib.contextmanager
    def _filled(self, disk: Path) -> Iterator[None]:
        filler = disk / _FILLER
        try:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(_FILL_CHUNK):
                    pass
            yield
        finally:
            filler.unlink(missing_ok=True)

    # --- records ----------------------------------------------------------------------------------------------------

    def _bad_record(self, fault: Fault) -> None:
        """A command that was damaged on its way: it must become a dead letter, and nothing else may happen."""
        platform = self._platform
        names = TopicNames(namespace=platform.namespace, partitions=platform.partitions)
        place = TopicPartition(names.commands, fault.target)
        value = random.Random(fault.seed).randbytes(40)
        self.bad_values.add(value)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:  # until it is there, for certain; it may be there more than once
            try:
                offset = _append(platform.address, NewRecord(*place, _NOBODY, value))
                self.bad_records.add(f"{place.topic}/{place.partition}/{offset}")
                return
            except LogError:
                if time.monotonic() > deadline_s:
                    raise
                self._ended.wait(_RETRY_PAUSE_S)


def _append(address: str, record: NewRecord) -> int:
    """Append a record; its offset.

    Raises:
        LogError: it may not be there.
    """
    log = open_log(address)
    try:
        ack = log.producer("chaos").append([record])
        ack.wait(_APPEND_TIMEOUT_S)
        return ack.offsets()[TopicPartition(record.topic, record.partition)]
    finally:
        log.close()


def damage(path: Path, chance: random.Random) -> None:
    """Truncate a file anywhere, or change one byte of it; remove it, if it is none that is being written."""
    size = path.stat().st_size
    how = chance.choice(["truncate", "flip", "flip" if path.suffix == ".log" else "remove"])
    if how == "truncate":
        os.truncate(path, chance.randrange(size))
    elif how == "remove":
        path.unlink()
    else:
        with path.open("r+b") as file:
            place = chance.randrange(size)
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ (1 << chance.randrange(8))]))
