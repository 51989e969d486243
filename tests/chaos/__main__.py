"""``python -m tests.chaos``: real faults on real processes for some minutes; prints what was survived.

Ends with code 1 if anything was lost, wrong, stuck, or named by the audit.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Options, Report, run
from tests.chaos.schedule import KINDS

#: After the last heal, fresh workflows on every partition must be done within this time.
LIVENESS_S_MAX = 30.0


def _arguments() -> argparse.Namespace:
    default = Options()
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=default.seconds)
    parser.add_argument("--workflows", type=int, default=default.workflows)
    parser.add_argument("--fault-every", type=float, default=default.fault_every_s, metavar="SECONDS")
    parser.add_argument("--engines", type=int, default=default.engines)
    parser.add_argument("--workers", type=int, default=default.workers)
    parser.add_argument("--brokers", type=int, default=default.brokers, help="0: the embedded log")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--kinds", nargs="*", default=[], choices=list(KINDS), metavar="KIND")
    parser.add_argument("--folder", type=Path, help="keep everything there")
    return parser.parse_args()


def _print(report: Report) -> None:
    print("\nfaults survived")
    for kind in KINDS:
        if report.survived[kind]:
            print(f"  {kind:<14} {report.survived[kind]}")
    print(f"  {'together':<14} {report.survived.total()}")
    for kind in report.skipped:
        print(f"  {kind}: not possible here (it needs a disk of its own: run as root on Linux)")
    print("\nnumbers")
    for name, value in report.numbers.items():
        print(f"  {name}: {value}")
    print("\nbroken" if report.broken else "\nnothing lost, nothing wrong")
    for line in report.broken[:50]:
        print(f"  {line}")


def main() -> int:
    """Run, print, and return the exit code."""
    given = _arguments()
    options = Options(
        seconds=given.seconds,
        workflows=given.workflows,
        fault_every_s=given.fault_every,
        brokers=given.brokers,
        engines=given.engines if given.brokers else 1,
        workers=given.workers,
        seed=given.seed,
        kinds=tuple(given.kinds),
    )
    folder = given.folder or Path(tempfile.mkdtemp(prefix="perdure-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{options}; logs in {folder}", flush=True)
    report = asyncio.run(run(options, folder))
    _print(report)
    live = float(str(report.numbers["fresh workflows on every partition (s)"])) <= LIVENESS_S_MAX
    if not live:
        print(f"fresh workflows took longer than {LIVENESS_S_MAX} s")
    return 0 if live and not report.broken else 1


if __name__ == "__main__":
    sys.exit(main())
