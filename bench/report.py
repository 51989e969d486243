"""Results as JSON lines, as a table for the terminal, and as a Markdown table for the docs. Pure but for printing.

A workload has a table, with a row for each figure and a column for each target. Called by the commands of
``python -m bench``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table

from bench.stats import Figures

#: How figures are called in tables, in this order, before all others; others go by their names.
LABELS = {
    "latency_ms_p50": "latency p50, ms",
    "latency_ms_p99": "latency p99, ms",
    "latency_ms_p999": "latency p99.9, ms",
    "open_offered_per_s": "open loop: offered per s",
    "open_latency_ms_p50": "open loop: latency p50, ms",
    "open_latency_ms_p99": "open loop: latency p99, ms",
    "open_latency_ms_p999": "open loop: latency p99.9, ms",
    "workflows_per_s": "workflows per s",
    "activities_per_s": "activities per s",
    "workflows_per_cpu_s": "workflows per CPU second (per s and core)",
    "activities_per_cpu_s": "activities per CPU second (per s and core)",
    "cpu_s_per_1000": "CPU s per 1,000 workflows",
    "records_per_workflow": "records per workflow",
    "disk_bytes_per_workflow": "bytes on disk per workflow",
    "others_cores": "cores taken by others meanwhile",
}


@dataclass(frozen=True)
class Result:
    """What one workload gave on one target."""

    workload: str
    target: str
    figures: Figures = field(default_factory=dict)


def to_json_line(result: Result) -> str:
    """One line of JSON."""
    return json.dumps(asdict(result), ensure_ascii=False)


def from_json_line(line: str) -> Result:
    """A result as :func:`to_json_line` wrote it."""
    return Result(**json.loads(line))


def number(value: float | None) -> str:
    """A figure for people, with about four digits; a dash where there is none."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    size = abs(value)
    return f"{value:,.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 1 else 3}f}"


def _is_detail(name: str) -> bool:
    """Whether a figure is for JSON only."""
    return name.endswith(("_samples", "_max")) or name.startswith("saturated_") or "/thread/" in name


def tables(results: Sequence[Result]) -> list[tuple[str, list[str], list[list[str]]]]:
    """For each workload its name, headings, and rows."""
    by_workload: dict[str, list[Result]] = {}
    for result in results:
        by_workload.setdefault(result.workload, []).append(result)
    found = []
    for workload, measured in by_workload.items():
        names = dict.fromkeys(name for result in measured for name in result.figures if not _is_detail(name))
        ordered = [name for name in LABELS if name in names] + [name for name in names if name not in LABELS]
        rows = [
            [LABELS.get(name) or name.replace("_", " "), *(number(result.figures.get(name)) for result in measured)]
            for name in ordered
        ]
        found.append((workload, ["figure", *(result.target for result in measured)], rows))
    return found


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """One table in Markdown: the first column to the left, numbers to the right."""
    rule = ["---"] + ["---:"] * (len(headings) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))


def to_markdown(results: Sequence[Result]) -> str:
    """The tables in Markdown, each below the name of its workload."""
    return "\n\n".join(f"`{name}`\n\n{markdown_table(headings, rows)}" for name, headings, rows in tables(results))


def cpu_by_thread(result: Result) -> list[tuple[str, float]]:
    """Where the CPU time of this process went, in s per 1,000 workflows: its threads, the busiest first."""
    start = "cpu_s_per_1000/thread/"
    return [(name.removeprefix(start), value) for name, value in result.figures.items() if name.startswith(start)]


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str) -> None:
    """Print a table."""
    table = Table(title=title)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def show(results: Sequence[Result], title: str) -> None:
    """Print the tables, and where the CPU time of this process went."""
    for name, headings, rows in tables(results):
        show_table(headings, rows, f"{name}: {title}")
    for result in results:
        if threads := cpu_by_thread(result):
            shown = ", ".join(f"{name} {value:.3f}" for name, value in threads if value >= 0.005)
            print(f"{result.workload}, {result.target}: CPU s per 1,000 workflows by thread of this process: {shown}")
