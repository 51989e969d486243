"""Slots: fixed, or by what the machine has left."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from perdure.worker import (
    FixedSizeSlotSupplier,
    ResourceBasedSlotConfig,
    ResourceBasedSlotSupplier,
    ResourceBasedTunerConfig,
    WorkerTuner,
)
from perdure.worker._tuning import Machine


def _machine(folder: Path, available: int) -> Machine:
    memory, cpu = folder / "meminfo", folder / "stat"
    memory.write_text(f"MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n")
    cpu.write_text("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1\n")
    return Machine(memory, cpu)


def _supplier(machine: Machine, **bounds: int) -> ResourceBasedSlotSupplier:
    config = ResourceBasedSlotConfig(ramp_throttle=timedelta(), **bounds)
    return ResourceBasedSlotSupplier(config, ResourceBasedTunerConfig(0.8, 0.9), machine)


def test_below_the_targets_there_is_room_up_to_the_maximum(tmp_path: Path) -> None:
    supplier = _supplier(_machine(tmp_path, available=500), minimum_slots=2, maximum_slots=40)
    assert supplier.slots(0) == 40


def test_above_a_target_nothing_is_added_but_the_minimum_stays(tmp_path: Path) -> None:
    supplier = _supplier(_machine(tmp_path, available=100), minimum_slots=2, maximum_slots=40)
    assert [supplier.slots(0), supplier.slots(7)] == [2, 7]


def test_senseless_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="num_slots is 0"):
        FixedSizeSlotSupplier(0)
    with pytest.raises(ValueError, match="target_memory_usage"):
        ResourceBasedTunerConfig(1.5, 0.5)


def test_a_machine_without_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="fixed slots"):
        Machine(tmp_path / "no", tmp_path / "no")


def test_the_tuners_have_the_documented_defaults() -> None:
    fixed = WorkerTuner.create_fixed(activity_slots=7)
    assert [fixed.workflow.slots(0), fixed.activity.slots(0), fixed.local_activity.slots(0)] == [100, 7, 100]
    by_resources = WorkerTuner.create_resource_based(target_memory_usage=1.0, target_cpu_usage=1.0)
    assert by_resources.workflow.slots(0) >= 5
    assert by_resources.activity.slots(0) >= 1
