"""The command line of the payments example: `python -m examples.payments [FILE]`.

Exit codes: 0 the batch reconciles, 1 it does not or the run failed, 2 the file or an option is refused, 130
interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from examples.payments.bank_books import read_books
from examples.payments.bank_faults import Faults
from examples.payments.generate import generate_batch
from examples.payments.models import Batch, euros
from examples.payments.pain001 import BatchRefusedError, read_batch, read_batch_file

DATA = Path(__file__).parent / "data"
SHIPPED_BATCH = DATA / "batch-1000.xml"
UNAVAILABLE_SHARE = 0.05
DROP_SHARE = 0.03
PROBLEMS_SHOWN_MAX = 50


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.payments",
        description="Pays a batch of payments, one workflow each, while the bank fails calls and processes are killed.",
    )
    parser.add_argument("file", nargs="?", type=Path, help="a pain.001.001.09 batch (data/batch-1000.xml)")
    parser.add_argument("--count", type=int, help="generate a batch of that many payments instead of reading a file")
    parser.add_argument("--seed", type=int, default=1, help="chooses the generated payments and the bank's faults (1)")
    parser.add_argument(
        "--address", help="localhost:PORT of a running engine, or kafka://HOST:PORT (an engine of its own)"
    )
    parser.add_argument(
        "--data", type=Path, help="keep the run here, and go on with it when started again (a temporary one)"
    )
    parser.add_argument(
        "--books", type=Path, default=DATA / "bank.json", help="the bank's opening books (data/bank.json)"
    )
    parser.add_argument("--in-flight", type=int, default=100, help="payments under way at the same time (100)")
    parser.add_argument("--no-faults", action="store_true", help="the bank behaves and nothing is killed")
    parser.add_argument(
        "--unavailable-share", type=float, default=UNAVAILABLE_SHARE, help="calls failed with 503 (0.05)"
    )
    parser.add_argument("--drop-share", type=float, default=DROP_SHARE, help="replies dropped after acting (0.03)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the example. Returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    # Soft wrapping: a path or an IBAN in a message is never broken.
    console, errors = Console(), Console(stderr=True, soft_wrap=True, highlight=False)
    if options.file is not None and options.count is not None:
        parser.error("give a FILE or --count, not both")
    if options.in_flight < 1:
        parser.error(f"--in-flight must be 1 or more, not {options.in_flight}")
    if options.no_faults:
        options.unavailable_share = options.drop_share = 0.0
    try:
        Faults(options.seed, options.unavailable_share, options.drop_share)
        read_books(options.books)
        batch = _batch(options)
    except BatchRefusedError as refused:
        _print_problems(errors, options.file or SHIPPED_BATCH, refused)
        return 2
    except (ValueError, OSError) as error:
        parser.error(str(error))
    console.print(
        f"batch {batch.message_id}: {len(batch.payments):,} payments, {euros(batch.total_cents)} EUR, all checks passed"
    )
    return _run(console, errors, batch, options)


def _batch(options: argparse.Namespace) -> Batch:
    if options.count is not None:
        return read_batch(generate_batch(options.count, options.seed).encode())
    return read_batch_file(options.file or SHIPPED_BATCH)


def _print_problems(errors: Console, file: Path, refused: BatchRefusedError) -> None:
    count = len(refused.problems)
    errors.print(
        f"[bold red]refused[/]: {escape(str(file))} has {count:,} problem{'s' if count > 1 else ''}; "
        "no payment was started",
    )
    for problem in refused.problems[:PROBLEMS_SHOWN_MAX]:
        errors.print(f"  {escape(str(problem))}")
    if count > PROBLEMS_SHOWN_MAX:
        errors.print(f"  ... and {count - PROBLEMS_SHOWN_MAX:,} more")


def _run(console: Console, errors: Console, batch: Batch, options: argparse.Namespace) -> int:
    # Imported late, so that a refused file is told about at once, without loading the client.
    from examples.payments import connecting, demo, processes, run_directory

    is_temporary = options.data is None
    path = options.data or Path(tempfile.mkdtemp(prefix="perdure-payments-"))
    wanted = demo.Options(
        address=options.address,
        books=options.books.absolute(),
        in_flight_max=options.in_flight,
        seed=options.seed,
        unavailable_share=options.unavailable_share,
        drop_share=options.drop_share,
        kills=not options.no_faults,
    )
    try:
        run = run_directory.open_run_directory(path, batch)
    except (run_directory.WrongDirectoryError, OSError) as error:
        errors.print(f"[bold red]refused[/]: {escape(str(error))}")
        return 2
    code = 1
    try:
        code = 0 if asyncio.run(_until_signalled(demo.run_demo(console, batch, run, wanted))) else 1
    except (asyncio.CancelledError, KeyboardInterrupt):
        code = 130
        errors.print("interrupted; every process of the demo is stopped")
    except (processes.ChildDiedError, connecting.NoEngineError, demo.StalledError) as error:
        errors.print(f"[bold red]failed[/]: {escape(str(error))}")
    finally:
        if is_temporary and code == 0:
            shutil.rmtree(path, ignore_errors=True)
        elif code != 0:
            errors.print(f"logs: {run.logs}\nto go on with this run: --data {run.path}")
    return code


async def _until_signalled(work: Coroutine[Any, Any, bool]) -> bool:
    """Runs `work`, and cancels it once on Ctrl-C or SIGTERM. A second signal does not cut its cleaning up short."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    was_signalled = False

    def on_signal() -> None:
        nonlocal was_signalled
        if task is not None and not was_signalled:
            was_signalled = True
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    return await work


if __name__ == "__main__":
    sys.exit(main())
