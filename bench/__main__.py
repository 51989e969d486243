"""``python -m bench``: measures the workloads on the embedded log and on Kafka, and prints one table.

Figures of different targets are comparable only within one run on one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from bench.targets import TARGETS, open_target
from bench.workloads import WORKFLOWS, Figures, measure


async def _run(options: argparse.Namespace) -> list[Figures]:
    found = []
    for target in options.target or TARGETS:
        async with open_target(target, options.bootstrap) as client:
            for workload in options.workload or WORKFLOWS:
                figures = await measure(
                    client,
                    workload,
                    target,
                    latency_count=options.latency_count,
                    count=options.count,
                    in_flight=options.in_flight,
                )
                found.append(figures)
    return found


def _table(found: list[Figures]) -> Table:
    table = Table(title="Perdure, this machine, one run")
    for column in ("workload", "target", "p50 ms", "p99 ms", "workflows/s", "activities/s"):
        table.add_column(column, justify="left" if column in ("workload", "target") else "right")
    for row in found:
        table.add_row(
            row.workload,
            row.target,
            f"{row.latency_ms_p50:.2f}",
            f"{row.latency_ms_p99:.2f}",
            f"{row.workflows_per_s:,.0f}",
            f"{row.activities_per_s:,.0f}",
        )
    return table


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="default: all")
    parser.add_argument("--workload", action="append", choices=list(WORKFLOWS), help="default: all")
    parser.add_argument("--bootstrap", help="a Kafka broker; default: one is started natively")
    parser.add_argument("--latency-count", type=int, default=300, help="workflows one at a time")
    parser.add_argument("--count", type=int, default=2_000, help="workflows at saturation")
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    options = parser.parse_args()
    found = asyncio.run(_run(options))
    if options.json:
        for row in found:
            print(json.dumps(asdict(row)))
    else:
        Console().print(_table(found))


if __name__ == "__main__":
    main()
