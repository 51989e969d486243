"""How many tasks of each kind a worker takes: fixed numbers, or as many as memory and processors allow.

Names are those of ``temporalio.worker``. A supplier is asked before each heartbeat, so slots that depend on the machine
change about once a second; matching dispatches no more than a worker last said. Reading the machine needs ``/proc``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from perdure_schemas.limits import WORKER_SLOTS_MAX

_MEMORY_FILE = Path("/proc/meminfo")
_CPU_FILE = Path("/proc/stat")
#: The machine is read this often at most; more often, processor times say nothing.
_READ_EVERY_S = 0.5


class SlotSupplier(ABC):
    """Says how many slots of one kind a worker has."""

    @abstractmethod
    def slots(self, used: int) -> int:
        """The number of slots now, while ``used`` tasks are held."""


@dataclass(frozen=True)
class FixedSizeSlotSupplier(SlotSupplier):
    """Always the same number of slots."""

    num_slots: int

    def __post_init__(self) -> None:
        """Check the number.

        Raises:
            ValueError: it makes no sense.
        """
        if not 1 <= self.num_slots <= WORKER_SLOTS_MAX:
            raise ValueError(f"num_slots is {self.num_slots}; it must be 1 to {WORKER_SLOTS_MAX}")

    def slots(self, used: int) -> int:
        """The fixed number."""
        return self.num_slots


@dataclass(frozen=True)
class ResourceBasedTunerConfig:
    """How much of the machine may be in use, by whatever runs on it; shares of 1."""

    target_memory_usage: float
    target_cpu_usage: float

    def __post_init__(self) -> None:
        """Check the shares.

        Raises:
            ValueError: one is not between 0 and 1.
        """
        for name in ("target_memory_usage", "target_cpu_usage"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class ResourceBasedSlotConfig:
    """Bounds of slots that follow the machine.

    Attributes:
        minimum_slots: These are there in any case; 5 for workflow tasks and 1 for activities if not given.
        maximum_slots: No more than these; 500 if not given.
        ramp_throttle: The wait between two slots more; 0 for workflow tasks and 50 ms for activities if not given.
    """

    minimum_slots: int | None = None
    maximum_slots: int | None = None
    ramp_throttle: timedelta | None = None


class Machine:
    """How much of the machine's memory and processors is in use.

    Args:
        memory_file, cpu_file: What the kernel says of them.

    Raises:
        NotImplementedError: this system has no such files.
    """

    def __init__(self, memory_file: Path = _MEMORY_FILE, cpu_file: Path = _CPU_FILE) -> None:
        if not memory_file.exists() or not cpu_file.exists():
            raise NotImplementedError(
                f"slots by resources need {memory_file} and {cpu_file}, which this system has not; use fixed slots"
            )
        self._memory_file = memory_file
        self._cpu_file = cpu_file
        self._read_s = 0.0
        self._busy, self._total = self._cpu_times()
        self._usage = (0.0, 0.0)

    def usage(self) -> tuple[float, float]:
        """The shares of memory and of processor time in use now."""
        now_s = time.monotonic()
        if now_s - self._read_s >= _READ_EVERY_S:
            self._read_s = now_s
            busy, total = self._cpu_times()
            cpu = (busy - self._busy) / (total - self._total) if total > self._total else self._usage[1]
            self._busy, self._total = busy, total
            self._usage = (self._memory(), cpu)
        return self._usage

    def _memory(self) -> float:
        sizes = {}
        for line in self._memory_file.read_text().splitlines():
            name, _, rest = line.partition(":")
            sizes[name] = int(rest.split()[0]) if rest.split() else 0
        return 1.0 - sizes["MemAvailable"] / sizes["MemTotal"]

    def _cpu_times(self) -> tuple[int, int]:
        times = [int(number) for number in self._cpu_file.read_text().splitlines()[0].split()[1:9]]
        idle = times[3] + times[4]
        return sum(times) - idle, sum(times)


@dataclass
class ResourceBasedSlotSupplier(SlotSupplier):
    """One slot more than is used while the machine is below its targets, within bounds."""

    slot_config: ResourceBasedSlotConfig
    tuner_config: ResourceBasedTunerConfig
    machine: Machine = field(default_factory=Machine, repr=False)
    minimum_default: int = field(default=1, repr=False)
    ramp_throttle_default: timedelta = field(default=timedelta(milliseconds=50), repr=False)
    _last_s: float = field(default=0.0, init=False, repr=False)
    _slots: int = field(default=0, init=False, repr=False)

    def slots(self, used: int) -> int:
        """As many more as the ramp throttle has allowed since it was last asked; none more above the targets."""
        config = self.slot_config
        minimum = self.minimum_default if config.minimum_slots is None else config.minimum_slots
        maximum = min(500 if config.maximum_slots is None else config.maximum_slots, WORKER_SLOTS_MAX)
        now_s = time.monotonic()
        passed_s, self._last_s = now_s - self._last_s, now_s
        memory, cpu = self.machine.usage()
        if memory >= self.tuner_config.target_memory_usage or cpu >= self.tuner_config.target_cpu_usage:
            self._slots = max(minimum, min(used, maximum))
            return self._slots
        throttle = self.ramp_throttle_default if config.ramp_throttle is None else config.ramp_throttle
        throttle_s = throttle.total_seconds()
        more = maximum if throttle_s <= 0 else max(1, int(min(passed_s, 1.0) / throttle_s))
        self._slots = max(minimum, min(maximum, used + more))
        return self._slots


class WorkerTuner:
    """The suppliers of a worker's slots. Made by one of the ``create`` functions."""

    def __init__(self, workflow: SlotSupplier, activity: SlotSupplier, local_activity: SlotSupplier) -> None:
        self.workflow = workflow
        self.activity = activity
        self.local_activity = local_activity

    @staticmethod
    def create_fixed(
        *,
        workflow_slots: int | None = None,
        activity_slots: int | None = None,
        local_activity_slots: int | None = None,
    ) -> WorkerTuner:
        """Fixed numbers of slots; 100 of a kind if not given."""
        return WorkerTuner(
            FixedSizeSlotSupplier(100 if workflow_slots is None else workflow_slots),
            FixedSizeSlotSupplier(100 if activity_slots is None else activity_slots),
            FixedSizeSlotSupplier(100 if local_activity_slots is None else local_activity_slots),
        )

    @staticmethod
    def create_resource_based(
        *,
        target_memory_usage: float,
        target_cpu_usage: float,
        workflow_config: ResourceBasedSlotConfig | None = None,
        activity_config: ResourceBasedSlotConfig | None = None,
        local_activity_config: ResourceBasedSlotConfig | None = None,
    ) -> WorkerTuner:
        """Slots as long as memory and processors are used less than the targets, which are shares of 1."""
        config = ResourceBasedTunerConfig(target_memory_usage, target_cpu_usage)
        machine = Machine()
        return WorkerTuner(
            ResourceBasedSlotSupplier(workflow_config or ResourceBasedSlotConfig(), config, machine, 5, timedelta()),
            ResourceBasedSlotSupplier(activity_config or ResourceBasedSlotConfig(), config, machine),
            ResourceBasedSlotSupplier(local_activity_config or ResourceBasedSlotConfig(), config, machine),
        )

    @staticmethod
    def create_composite(
        *,
        workflow_supplier: SlotSupplier,
        activity_supplier: SlotSupplier,
        local_activity_supplier: SlotSupplier,
    ) -> WorkerTuner:
        """A supplier for each kind."""
        return WorkerTuner(workflow_supplier, activity_supplier, local_activity_supplier)
