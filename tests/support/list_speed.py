"""How long lists take on an index with many runs: ``python -m tests.support.list_speed [--runs 1000000]``.

Fills an index on disk with runs whose custom attributes differ, asks each filter several times, and prints the median
and the longest time. Nothing is asserted: the figures are those of this machine, with what else it does.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from perdure_readside.index import Change, ExecutionIndex
from perdure_schemas import codec
from perdure_schemas.records import WorkflowStatus
from tests.unit.readside.runs import TOPIC, attribute, run

BATCH = 5_000
TIMES = 15
#: Many runs have one region, few one customer.
FILTERS = (
    "CustomerId = 'c-4711'",
    "Region = 'eu' ORDER BY StartTime DESC",
    "Region = 'eu' AND ExecutionStatus = 'Running'",
    "Region = 'eu' AND CustomerId = 'c-4711'",
    "Region = 'eu' AND WorkflowType = 'Order-3'",
    "WorkflowType = 'Order-3'",
    "WorkflowId = 'w-0000777'",
    "ExecutionStatus = 'Failed' AND CustomerId IN ('c-1', 'c-2')",
    "Amount BETWEEN 100 AND 101",
    "",
)


def changes(runs: int) -> Iterator[Change]:
    """Batches of new runs."""
    statuses = (WorkflowStatus.RUNNING, WorkflowStatus.COMPLETED, WorkflowStatus.COMPLETED, WorkflowStatus.FAILED)
    for begin in range(0, runs, BATCH):
        values = {}
        for number in range(begin, min(begin + BATCH, runs)):
            summary = run(
                f"{number:07}",
                workflow_type=f"Order-{number % 50}",
                start_time_ms=1_700_000_000_000 + number * 100,
                status=statuses[number % 4],
                search_attributes={
                    "CustomerId": attribute("Keyword", f"c-{number % 20_000}"),
                    "Region": attribute("Keyword", ("eu", "us", "asia")[number % 3]),
                    "Amount": attribute("Int", number % 10_000),
                },
            )
            values[summary.run_id] = codec.encode(summary)
        yield Change(0, values, begin + BATCH, b"")


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.list_speed", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="perdure-list-speed-") as folder:
        index = ExecutionIndex(Path(folder) / "executions.sqlite3", TOPIC)
        begun_s = time.perf_counter()
        for change in changes(runs):
            index.apply([change])
        took_s = time.perf_counter() - begun_s
        print(f"{runs} runs in {took_s:.0f} s ({runs / took_s:.0f} a second)")
        for text in FILTERS:
            times_ms = []
            for _ in range(TIMES):
                begun_s = time.perf_counter()
                found = index.page(text, 100)
                times_ms.append((time.perf_counter() - begun_s) * 1000)
            print(
                f"{statistics.median(times_ms):8.1f} ms median {max(times_ms):8.1f} ms longest "
                f"{len(found.summaries):4} rows  {text or '(all)'}"
            )
        index.close()


if __name__ == "__main__":
    main()
