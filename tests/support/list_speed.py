"""How long lists take on an index with many runs: ``python -m tests.support.list_speed [--runs 1000000]``.

Fills an index on disk with runs whose custom attributes differ, as the read side does when it is built again, asks each
filter several times, and prints the median time of its first page, the time that the processor needed for it, and what
all pages took together (of those that end without a full one, up to ten). Nothing is asserted: the figures are those of
this machine, with what else it does.
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
#: Of a filter without rows, the pages that are asked for.
PAGES_MAX = 100
#: Many runs have one region, few one customer; no run of ``asia`` has the tier ``gold``, and none of type 4 failed.
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
    "Region = 'asia' AND Tier = 'gold'",
    "WorkflowType = 'Order-4' AND ExecutionStatus = 'Failed'",
    "HistoryLength > 1000",
    "",
)
COUNTS = ("GROUP BY ExecutionStatus", "Region = 'eu'", "Region = 'eu' GROUP BY ExecutionStatus")


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
                    "Tier": attribute("Keyword", "gold" if number % 6 == 0 else "silver"),
                },
            )
            values[summary.run_id] = codec.encode(summary)
        yield Change(0, values, begin + BATCH, b"")


def ask(index: ExecutionIndex, text: str) -> None:
    """Ask for the first page several times, for what follows once, and print."""
    times_ms, cpu_ms = [], []
    for _ in range(TIMES):
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        found = index.page(text, 100)
        times_ms.append((time.perf_counter() - begun_s) * 1000)
        cpu_ms.append((time.process_time() - begun_cpu_s) * 1000)
    line = f"{statistics.median(times_ms):8.1f} ms median {statistics.median(cpu_ms):8.1f} ms CPU "
    line += f"{max(times_ms):8.1f} ms longest {len(found.summaries):4} rows  {text or '(all)'}"
    pages, begun_cpu_s = 1, time.process_time()
    while found.next_page_token and not found.summaries and pages < PAGES_MAX:
        found, pages = index.page(text, 100, found.next_page_token), pages + 1
    if pages > 1:
        line += f"  ({pages} pages, all but the first {time.process_time() - begun_cpu_s:.2f} s CPU)"
    print(line, flush=True)


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.list_speed", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="perdure-list-speed-") as folder:
        file = Path(folder) / "executions.sqlite3"
        index = ExecutionIndex(file, TOPIC)
        took_s = cpu_s = 0.0
        for change in changes(runs):
            begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
            index.apply([change])
            took_s += time.perf_counter() - begun_s
            cpu_s += time.process_time() - begun_cpu_s
        print(f"{runs} runs in {took_s:.0f} s ({runs / took_s:.0f} a second), of which {cpu_s:.0f} s CPU", end="; ")
        print(f"{file.stat().st_size / 1e6:.0f} MB")
        for text in FILTERS:
            ask(index, text)
        for text in COUNTS:
            begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
            index.count(text)
            took_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
            print(f"{took_s * 1000:8.1f} ms count  {cpu_s * 1000:8.1f} ms CPU  {text}", flush=True)
        index.close()


if __name__ == "__main__":
    main()
