"""``python -m tests.sim``: run seeds, show a failing one in its shortest form, try the deliberately broken builds."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time

if os.environ.get("PYTHONHASHSEED") != "0":
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]])

from tests.sim.simulation import simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed")
    parser.add_argument("--seeds", help="run these seeds: A-B")
    parser.add_argument("--steps", type=int, default=60, help="workflow steps of each seed, at least")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failing seed")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if arguments.seeds:
        first, _, last = arguments.seeds.partition("-")
        seeds = range(int(first), int(last or first) + 1)
    else:
        seeds = range(arguments.seed or 0, (arguments.seed or 0) + 1)
    failed = 0
    steps = turns = 0
    started_s, cpu_s = time.monotonic(), time.process_time()
    for seed in seeds:
        report = simulate(seed, arguments.steps, tracing=arguments.trace)
        steps += report.steps
        turns += report.turns
        if arguments.trace:
            for at_ms, text in report.trace:
                print(f"{at_ms:>8} {text}")
        if report.breaches:
            failed += 1
            print(f"seed {seed}: {len(report.breaches)} breaches")
            for breach in report.breaches[:6]:
                print(f"    {breach[:600]}")
            sys.stdout.flush()
            if not arguments.keep_going:
                break
    cpu_s = time.process_time() - cpu_s
    print(
        f"{len(seeds)} seeds, {failed} failed; {steps} workflow steps, {turns} turns in {time.monotonic() - started_s:.1f} s"
        f" ({steps / cpu_s:.0f} steps per CPU second)"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
