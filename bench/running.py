"""``python -m bench run``: each workload on each target, one after the other."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from bench import workloads
from bench.report import Result, show, to_json_line, to_markdown
from bench.targets import PARTITIONS, TARGETS, TargetOptions, open_target


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """How targets are set up."""
    group = parser.add_argument_group("targets")
    group.add_argument("--bootstrap", help="a Kafka broker; default: one is started natively")
    group.add_argument("--partitions", type=int, default=PARTITIONS, help=f"of the namespace ({PARTITIONS})")
    group.add_argument("--workers", type=int, default=0, help="worker processes; 0: in the client's process (0)")
    group.add_argument("--engine-processes", default="one", help="on Kafka: one, roles, or a number (one)")
    group.add_argument("--data", type=Path, help="keep all data in this folder; default: a temporary one")


def target_options(options: argparse.Namespace) -> TargetOptions:
    """Those options as parsed."""
    return TargetOptions(
        bootstrap=options.bootstrap,
        partitions=options.partitions,
        workers=options.workers,
        engine_processes=options.engine_processes,
        data=options.data,
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Where results go."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    group.add_argument("--markdown", action="store_true", help="print a Markdown table instead")
    group.add_argument("--output", type=Path, help="also write JSON lines to this file")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``run``."""
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="default: all")
    parser.add_argument(
        "--workload",
        action="append",
        choices=list(workloads.WORKLOADS),
        help=f"default: {' and '.join(workloads.DEFAULT_WORKLOADS)}",
    )
    add_target_options(parser)
    add_output_options(parser)
    workloads.add_options(parser)


async def measure(options: argparse.Namespace) -> list[Result]:
    """Measure what was chosen."""
    found = []
    for target in options.target or TARGETS:
        async with open_target(target, target_options(options)) as stage:
            for name in options.workload or workloads.DEFAULT_WORKLOADS:
                figures = await workloads.WORKLOADS[name].measure(stage, options)
                found.append(Result(name, target, figures))
    return found


def emit(results: list[Result], options: argparse.Namespace, title: str) -> None:
    """Print and write results as asked for."""
    if options.json:
        print("\n".join(map(to_json_line, results)))
    elif options.markdown:
        print(to_markdown(results))
    else:
        show(results, title)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text("".join(f"{to_json_line(result)}\n" for result in results))


def main(options: argparse.Namespace) -> int:
    """Run, print, write."""
    emit(asyncio.run(measure(options)), options, "this machine, one run")
    return 0
