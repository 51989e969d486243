"""What a measured program and the driver say to each other: a line of JSON each, on standard input and output.

The program first tells what it consists of::

    {"ready": true, "processes": {"server": [17]}, "folders": ["/tmp/x"]}

Then it answers each request with one line, until its input ends::

    {"do": "closed", "workload": "one", "count": 100, "seconds_max": 10}    → {"latencies_ms": [...]}
    {"do": "saturate", "workload": "one", "in_flight": 50, "seconds_max": 5} → {"seconds": 5.2, "latencies_ms": [...]}
    {"do": "records"}                                                       → {"records": 1234}

or with ``{"error": "..."}``. It uses nothing but the standard library and :mod:`bench.driving`, because other
systems' environments have no more. Called by the programs of this package.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TextIO

from bench.driving import closed_loop, collect_less_often, saturate

WORKLOADS = ("one", "ten")

#: Runs a workflow of a workload to its end, and checks its result.
Run = Callable[[str], Awaitable[None]]


def answers_on_stdout() -> TextIO:
    """Where answers go. Whatever else the program prints goes to standard error from now on.

    A termination is an interrupt from now on, too, so that what the program has started is stopped in good order.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


async def serve(
    run: Run,
    answers: TextIO,
    *,
    processes: Mapping[str, Sequence[int]],
    folders: Sequence[str],
    records: Callable[[], int] | None = None,
) -> None:
    """Tell that the program is ready, and answer requests until there are no more.

    Args:
        run: runs one workflow.
        answers: from :func:`answers_on_stdout`.
        processes: ids by role, this process included.
        folders: where data is kept.
        records: how many records were written to the log so far; ``None`` where nobody counts them.
    """
    collect_less_often()
    _say(answers, {"ready": True, "processes": dict(processes), "folders": list(folders)})
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            answer = await _answer(json.loads(line), run, records)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        _say(answers, answer)


async def _answer(request: dict[str, Any], run: Run, records: Callable[[], int] | None) -> dict[str, Any]:
    if request["do"] == "records":
        return {"records": None if records is None else await asyncio.to_thread(records)}
    workload = request["workload"]
    if workload not in WORKLOADS:
        raise ValueError(f"there is no workload {workload!r} here")

    async def execute(number: int) -> None:
        await run(workload)

    if request["do"] == "closed":
        latencies_ms = await closed_loop(execute, request["count"], seconds_max=request["seconds_max"])
        return {"latencies_ms": _rounded(latencies_ms)}
    if request["do"] == "saturate":
        found = await saturate(execute, None, request["in_flight"], seconds_max=request["seconds_max"])
        return {"seconds": found.seconds, "latencies_ms": _rounded(found.latencies_ms)}
    raise ValueError(f"nobody knows how to do {request['do']!r}")


def _rounded(latencies_ms: Sequence[float]) -> list[float]:
    return [round(latency_ms, 3) for latency_ms in latencies_ms]


def _say(answers: TextIO, what: dict[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


def check(result: object) -> None:
    """Every workload returns its input.

    Raises:
        RuntimeError: this one did not.
    """
    if result != "x":
        raise RuntimeError(f"a workflow returned {result!r}")
