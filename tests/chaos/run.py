"""One run of chaos: workflows and faults at the same time, then the verdict.

Called by ``python -m tests.chaos`` and, in short, by ``tests/e2e/chaos``.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perdure.client import Client
from perdure_ops.audit import AUDITED, Audit
from perdure_runtime.connect import open_log
from perdure_runtime.log import Log, LogRecord, TopicPartition
from perdure_schemas import codec
from perdure_schemas.keys import partition_of
from perdure_schemas.records import DeadLetter
from perdure_schemas.topics import TopicNames
from tests.chaos.faults import Injector
from tests.chaos.load import Load
from tests.chaos.platform import ChaosPlatform
from tests.chaos.schedule import EMBEDDED_KINDS, KINDS, Fault, schedule
from tests.e2e.faults.check import check_all, check_families, check_history
from tests.e2e.faults.program import EXPECTED, FAMILY_SIGNALS, family_result

_READ_TIMEOUT_S = 30.0
#: After all is over, what is on its way between processors and to the group may take a moment.
_QUIET_TIMEOUT_S = 60.0
_QUIET_PAUSE_S = 1.0


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        seconds: how long workflows are started and faults happen.
        workflows: how many workflows.
        fault_every_s: the time between two faults.
        brokers: Kafka brokers; 0: the embedded log.
        engines / workers: how many processes.
        seed: of the faults.
        kinds: kinds of faults; empty: all that apply.
    """

    seconds: float = 600.0
    workflows: int = 5_000
    fault_every_s: float = 5.0
    brokers: int = 1
    engines: int = 2
    workers: int = 3
    seed: int = 1
    kinds: Sequence[str] = ()


@dataclass
class Report:
    """What happened.

    Attributes:
        survived: faults by kind.
        skipped: kinds that cannot be done here.
        broken: what must not be: each one is a bug.
        numbers: figures, by their names.
    """

    survived: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    numbers: dict[str, object] = field(default_factory=dict)


async def run(options: Options, folder: Path) -> Report:
    """Run workflows and faults, heal everything, and check all there is to check."""
    report = Report()
    platform = await asyncio.to_thread(
        ChaosPlatform, folder, brokers=options.brokers, engines=options.engines, workers=options.workers
    )
    await asyncio.to_thread(platform.__enter__)
    try:
        client = await Client.connect(platform.address, namespace=platform.namespace)
        try:
            await _storm(options, platform, client, report)
        finally:
            await client.close()
    finally:
        await asyncio.to_thread(platform.__exit__)
    return report


async def _storm(options: Options, platform: ChaosPlatform, client: Client, report: Report) -> None:
    injector = Injector(platform)
    load = Load(client)
    kinds = options.kinds or (tuple(KINDS) if options.brokers else EMBEDDED_KINDS)
    report.skipped = [kind for kind in kinds if not injector.possible(kind)]
    targets = {
        "worker": len(platform.workers),
        "engine": len(platform.engines),
        "clock": len(platform.parts),
        "broker": max(1, len(platform.brokers)),
        "link": len(platform.links),
        "topic": platform.partitions,
    }
    faults = schedule(
        options.seed,
        options.seconds,
        options.fault_every_s,
        [kind for kind in kinds if kind not in report.skipped],
        targets,
    )
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(options.workflows, options.seconds))
            group.create_task(_inject(faults, injector, report))
    finally:
        injector.heal_now()  # after an error, too: nothing may go on waiting
    await _liveness(platform, load, report)
    await _verdict(platform, client, load, injector, report)


async def _inject(faults: Sequence[Fault], injector: Injector, report: Report) -> None:
    begun_s = time.monotonic()

    async def one(fault: Fault) -> None:
        await asyncio.to_thread(injector.do, fault)
        report.survived[fault.kind] += 1

    async with asyncio.TaskGroup() as group:
        for fault in faults:
            await asyncio.sleep(max(0.0, begun_s + fault.at_s - time.monotonic()))
            late_s = time.monotonic() - begun_s - fault.at_s
            print(f"{fault.at_s:7.1f} s  {fault.kind} of {fault.target}  ({late_s:.1f} s late)", flush=True)
            group.create_task(one(fault))


async def _liveness(platform: ChaosPlatform, load: Load, report: Report) -> None:
    """After the last heal: a fresh workflow on every partition."""
    fresh: dict[int, str] = {}
    number = 0
    while len(fresh) < platform.partitions:
        fresh.setdefault(partition_of(f"fresh-{number}", platform.partitions), f"fresh-{number}")
        number += 1
    begun_s = time.monotonic()
    await asyncio.gather(*map(load.one_of_steps, fresh.values()))
    report.numbers["fresh workflows on every partition (s)"] = round(time.monotonic() - begun_s, 1)


async def _verdict(platform: ChaosPlatform, client: Client, load: Load, injector: Injector, report: Report) -> None:
    numbers = report.numbers
    wrong = {found: result for found, result in load.steps.items() if result != EXPECTED}
    report.broken += [f"{found} returned {result}" for found, result in wrong.items()]
    for workflow_id, (_, result) in load.families.items():
        expected = family_result(workflow_id)
        signals = sorted(set(result.signals)) if workflow_id in load.resent else result.signals
        if (result.results, result.updates, signals) != (expected.results, expected.updates, FAMILY_SIGNALS):
            report.broken.append(f"{workflow_id} returned {result}")
    try:
        numbers |= await check_all(client, load.steps, platform.oracle)
        certain = {found: of for found, of in load.families.items() if found not in load.resent}
        await check_families(client, certain, platform.oracle)
        for workflow_id in load.families.keys() & load.resent:
            await check_history(client, workflow_id)
    except AssertionError as error:
        report.broken.append(f"histories: {error}")
    numbers["workflows"] = load.completed
    numbers["longest stall (s)"] = round(load.longest_stall_s, 1)
    numbers["slowest workflow (s)"] = round(load.slowest_s, 1)
    numbers["errors the client was told"] = dict(load.errors)
    numbers["families whose signals may have come twice"] = len(load.resent)
    numbers["processes that ended unasked"] = {part.process.name: part.ends_unasked for part in platform.parts}
    numbers["slowest start (s)"] = round(max(part.slowest_start_s for part in platform.parts), 1)
    numbers["state files damaged"] = injector.files_damaged
    await asyncio.to_thread(_audit, platform, injector, report)


def _audit(platform: ChaosPlatform, injector: Injector, report: Report) -> None:
    """Everything in the log, from outside; once more while something is still on its way."""
    names = TopicNames(namespace=platform.namespace, partitions=platform.partitions)
    log = open_log(platform.address)
    deadline_s = time.monotonic() + _QUIET_TIMEOUT_S
    try:
        while True:
            check = Audit(names)
            letters = []
            for spec in AUDITED:
                for record in _records(log, names.of(spec), platform.partitions):
                    check.take(record)
                    if record.topic == names.dead_letters:
                        letters.append(codec.decode_as(record.value, DeadLetter))
            breaches = check.finish()
            if not breaches or time.monotonic() > deadline_s:
                break
            time.sleep(_QUIET_PAUSE_S)
    finally:
        log.close()
    report.broken += [f"audit: {breach}" for breach in breaches]
    found = {f"{letter.topic}/{letter.partition}/{letter.offset}" for letter in letters}
    foreign = [letter for letter in letters if letter.value not in injector.bad_values]
    report.broken += [f"dead letter of {x.topic}/{x.partition}/{x.offset}: {x.reason}" for x in foreign]
    report.broken += [f"no dead letter of the bad record {key}" for key in sorted(injector.bad_records - found)]
    counts = check.counts()
    report.numbers["audited records"] = counts.records
    report.numbers["audited events"] = counts.events
    report.numbers["void records of deposed owners"] = counts.void_records
    report.numbers["dead letters, all of them ours"] = len(found)
    report.numbers["audit breaches"] = len(breaches)


def _records(log: Log, topic: str, partitions: int) -> list[LogRecord]:
    """All records of a topic, partition by partition."""
    reader = log.reader("chaos-audit")
    found: list[LogRecord] = []
    try:
        for number in range(partitions):
            place = TopicPartition(topic, number)
            begin, end = log.watermarks(place)
            reader.assign({place: begin})
            deadline_s = time.monotonic() + _READ_TIMEOUT_S
            position = begin
            while position < end:
                records = [record for record in reader.poll(1_000, 1.0) if record.offset < end]
                found += records
                if records:
                    position = records[-1].offset + 1
                elif time.monotonic() > deadline_s:
                    raise TimeoutError(f"{place} could not be read to its end")
                else:
                    position = reader.position(place)
            reader.unassign([place])
    finally:
        reader.close()
    return found
