"""Run a fleet, measure it and check it: ``python -m examples.fleet --devices 100000``.

Exit codes: 0 all was right, 1 it was not, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from examples.fleet.actor import READINGS, STATES, TASK_QUEUE, Device, DeviceState, reading_came
from examples.fleet.check import Check
from perdure.kafka import RecordTriggers
from perdure.testing.kafka import KafkaEnvironment
from perdure.worker import Worker

PARTITIONS = 4
PRODUCED_AT_ONCE = 1_000
REPORT_EVERY_S = 10.0
STALLED_AFTER_S = 300.0
FAULTS_SHOWN_MAX = 20


def readings_of(devices: int, readings: int) -> Iterator[list[tuple[str, dict[str, float]]]]:
    """The records, in the order of time: every device's first reading, then every device's second …"""
    for number in range(1, readings + 1):
        for first in range(0, devices, PRODUCED_AT_ONCE):
            chunk = range(first, min(first + PRODUCED_AT_ONCE, devices))
            yield [(f"d{device}", {"number": number, "celsius": 20.0 + device % 70}) for device in chunk]


def memory_mib() -> int:
    """The most memory that this process has used so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def report(seen: int, total: int, seconds: float) -> None:
    print(f"{seen:>9,} of {total:,} readings after {seconds:,.0f} s, {seen / seconds:,.0f}/s, {memory_mib():,} MiB")


async def run(devices: int, readings: int, readings_per_run: int, memory_mib_max: int, folder: Path) -> bool:
    """Run the fleet. Returns whether all was right."""
    total, check = devices * readings, Check(devices, readings)
    trigger = replace(
        reading_came, start_args=lambda record: [DeviceState(record.key_text, readings_per_run=readings_per_run)]
    )
    async with await KafkaEnvironment.start("embedded", data=folder / "log") as env:
        await env.create_topic(READINGS, STATES, partitions=PARTITIONS)
        print(f"{devices:,} devices with {readings} readings each, a snapshot after {readings_per_run} of them;")
        print(
            f"the embedded log on disk, engine, worker and triggers in one process: {memory_mib():,} MiB at the start"
        )
        begun = reported = time.monotonic()
        cpu_s = time.process_time()
        for chunk in readings_of(devices, readings):
            await env.produce_many(READINGS, chunk)
        async with (
            Worker(env.client, task_queue=TASK_QUEUE, workflows=[Device]),
            RecordTriggers(env.client, triggers=[trigger], group="fleet"),
        ):
            async for record in env.follow(STATES, timeout_s=STALLED_AFTER_S):
                check.take(record)
                if check.seen == total:
                    break
                if time.monotonic() - reported >= REPORT_EVERY_S:
                    reported = time.monotonic()
                    report(check.seen, total, reported - begun)
        seconds = time.monotonic() - begun
    report(check.seen, total, seconds)
    print(f"{(time.process_time() - cpu_s) * 1000 / total:.2f} s of CPU time for 1,000 readings")
    faults = check.faults + [f"{device} is not complete" for device in check.missing()]
    if memory_mib() > memory_mib_max:
        faults.append(f"the process took {memory_mib():,} MiB of memory, more than {memory_mib_max:,}")
    for fault in faults[:FAULTS_SHOWN_MAX]:
        print(f"WRONG: {fault}")
    if faults:
        return False
    print(f"nothing lost, nothing doubled, every device in order; {check.after_snapshot:,} readings after a snapshot")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m examples.fleet", description="Runs a fleet of devices, measures it, and checks it."
    )
    parser.add_argument("--devices", type=int, default=1_000, help="how many (1,000)")
    parser.add_argument("--readings", type=int, default=4, help="of each device (4)")
    parser.add_argument("--readings-per-run", type=int, default=2, help="after so many an actor continues as new (2)")
    parser.add_argument("--memory-max", type=int, default=2_048, help="of the process, in MiB, or it is wrong (2,048)")
    options = parser.parse_args()
    numbers = (options.devices, options.readings, options.readings_per_run, options.memory_max)
    if min(numbers) < 1:
        parser.error("all numbers must be 1 or more")
    folder = Path(tempfile.mkdtemp(prefix="perdure-fleet-"))
    try:
        right = asyncio.run(run(*numbers, folder))
    except TimeoutError as error:
        print(f"WRONG: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
