"""How long lists take over HTTP: ``python -m tests.support.http_list_speed [--runs 100000]``.

Starts ``perdure dev``, writes summaries of runs into its log as the engine does, waits until its read side has them,
and asks the HTTP API for what the web UI shows: the first page of runs, pages of filters, counts. Prints the median and
the longest of several requests each. Nothing is asserted: the figures are those of this machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

from perdure_runtime.connect import create_platform_topics, names_of, open_log
from perdure_runtime.log import NewRecord
from perdure_schemas import keys
from tests.support.list_speed import changes
from tests.support.processes import PythonProcess, free_port

TIMES = 15
_TIMEOUT_S = 1_800.0
REQUESTS = (
    ("workflows", {"page_size": "100"}),
    ("workflows", {"page_size": "100", "query": "ExecutionStatus = 'Running'"}),
    ("workflows", {"page_size": "100", "query": "WorkflowType = 'Order-3' AND ExecutionStatus = 'Failed'"}),
    ("workflows", {"page_size": "100", "query": "CustomerId = 'c-4711'"}),
    ("workflow-count", {"query": "GROUP BY ExecutionStatus"}),
)


def main() -> None:
    """Write, wait, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.http_list_speed", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    runs = parser.parse_args().runs
    port, ui_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="perdure-http-list-speed-") as folder:
        arguments = [
            "-m",
            "perdure_ops",
            "dev",
            "--port",
            str(port),
            "--ui-port",
            str(ui_port),
            "--data",
            f"{folder}/data",
        ]
        process = PythonProcess("dev", arguments, Path(folder), ready="is ready")
        process.start(_TIMEOUT_S)
        try:
            _write(f"127.0.0.1:{port}", runs)
            _ask(f"http://127.0.0.1:{ui_port}/api/v1/", runs)
        finally:
            process.terminate()


def _write(address: str, runs: int) -> None:
    log = open_log(address)
    names = names_of(log)
    create_platform_topics(log, names)
    producer = log.producer("runs")
    for change in changes(runs):
        records = []
        for number, (run_id, value) in enumerate(change.summaries.items()):
            partition = number % names.partitions
            records.append(NewRecord(names.executions, partition, keys.fenced_key(run_id, partition, 0), value))
        producer.append(records)
    assert producer.flush(_TIMEOUT_S)
    log.close()


def _ask(url: str, runs: int) -> None:
    with httpx.Client(base_url=url, timeout=_TIMEOUT_S) as http:
        begun_s = time.perf_counter()
        while True:  # the first answer waits until the read side has everything
            answer = http.get("workflow-count")
            if answer.is_success and answer.json()["count"] >= runs:
                break
            time.sleep(1)
        print(f"{runs} runs, read by the index after {time.perf_counter() - begun_s:.0f} s more", flush=True)
        for path, query in REQUESTS:
            times_ms = []
            for _ in range(TIMES):
                begun_s = time.perf_counter()
                found = http.get(path, params=query).raise_for_status()
                times_ms.append((time.perf_counter() - begun_s) * 1000)
            what = f"{path} {query.get('query', '')}"
            print(
                f"{statistics.median(times_ms):8.1f} ms median {max(times_ms):8.1f} ms longest"
                f" {len(found.content):8} bytes  {what}",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
