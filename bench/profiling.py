"""``python -m bench profile``: where the CPU time of a workload goes, by process, thread and function.

Every process runs under a profiler that sees each call, so all of them are slower, and small functions seem dearer than
they are: read it for what is called how often and for shares, not for speed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bench import profiled
from bench.driving import saturate
from bench.profiled import NoProfilerError, Profile
from bench.report import number, show_table
from bench.running import add_target_options, target_options
from bench.stage import TASK_QUEUE, Stage
from bench.targets import ALL, BROKER, CLIENT, CLIENT_AND_WORKER, TARGETS, open_target
from bench.workloads.base import fresh_id
from bench.workloads.sequence import WORKFLOWS


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``profile``."""
    parser.add_argument("--target", choices=list(TARGETS), default="embedded", help="what to profile (embedded)")
    parser.add_argument("--workload", choices=list(WORKFLOWS), default="one", help="what it does (one)")
    parser.add_argument("--count", type=int, default=500, help="workflows (500)")
    parser.add_argument("--in-flight", type=int, default=100, help="workflows at a time (100)")
    parser.add_argument("--top", type=int, default=25, help="functions to show for each process (25)")
    parser.add_argument("--under", default="", metavar="TEXT", help="only functions whose place has this text in it")
    parser.add_argument("--output", type=Path, help="also write all profiles to this folder, as JSON")
    add_target_options(parser)


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Profile]:
    """The profile of each process, by its name."""
    setting = replace(target_options(options), profiles=folder)
    async with open_target(options.target, setting) as stage:
        await _drive(stage, options, min(options.in_flight, options.count))
        for role, pids in stage.processes.items():
            for pid in pids:
                if role != BROKER and pid != os.getpid() and (folder / f"pid-{pid}").exists():
                    os.kill(pid, signal.SIGUSR1)
        profiled.start()
        await _drive(stage, options, options.count)
        mine = profiled.stop()
        own = next(role for role in (ALL, CLIENT_AND_WORKER, CLIENT) if role in stage.processes)
    others = {path.stem: profiled.from_json(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return {own: mine, **others}


async def _drive(stage: Stage, options: argparse.Namespace, count: int) -> None:
    async def execute(_: int) -> None:
        run = WORKFLOWS[options.workload].run
        await stage.client.execute_workflow(run, "x", id=fresh_id("profile"), task_queue=TASK_QUEUE)

    await saturate(execute, count, options.in_flight)


def function_lines(profile: Profile, count: int, top: int, under: str = "") -> list[str]:
    """The functions with the most CPU time of their own: share, s per 1,000 workflows, calls each, name, place."""
    whole_s = sum(function.own_s for function in profile.functions) or 1.0
    chosen = [function for function in profile.functions if under in function.place]
    return [f"{'share':>8} {'CPU s':>9} {'calls':>9}  function"] + [
        f"{function.own_s * 100 / whole_s:>6.1f} % {function.own_s * 1000 / count:>9.4f} "
        f"{number(function.calls / count):>9}  {function.name} ({function.place})"
        for function in chosen[:top]
    ]


def main(options: argparse.Namespace) -> int:
    """Profile and print."""
    with tempfile.TemporaryDirectory(prefix="perdure-profiles-") as temporary:
        folder = options.output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            profiles = asyncio.run(measure(options, folder))
        except NoProfilerError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        if options.output is not None:
            for name, profile in profiles.items():
                (folder / f"{name.replace('+', '-')}.json").write_text(profiled.to_json(profile))
    whole_s = sum(profile.cpu_s for profile in profiles.values())
    rows = [
        [f"{name}, {thread}", f"{used_s * 1000 / options.count:.3f}", f"{used_s * 100 / whole_s:.1f} %"]
        for name, profile in profiles.items()
        for thread, used_s in sorted(profile.threads.items(), key=lambda item: -item[1])
        if used_s > whole_s / 1000
    ]
    title = f"{options.workload} on {options.target}: CPU s per 1,000 workflows, under the profiler"
    show_table(["process, thread", "CPU s per 1,000", "share"], rows, title)
    for name, profile in profiles.items():
        print(f"\n{name}: CPU s of its own per 1,000 workflows, calls per workflow")
        print("\n".join(function_lines(profile, options.count, options.top, options.under)))
    return 0
