"""What ``perdure partitions`` and ``perdure lag`` do: look at groups, owner marks and summaries, and print.

Called by their commands; changes nothing. An owner is who wrote the newest owner mark of its partition (I1).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from perdure_ops.audit.reading import TopicScan
from perdure_ops.errors import CliError
from perdure_ops.group_lag import PartitionLag, lags_of
from perdure_ops.opening import opened
from perdure_ops.output import OutputFormat, iso, print_rows, to_json
from perdure_ops.roles import ROLE_NAMES
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.fence import Fence
from perdure_runtime.fenced import admitted_key
from perdure_runtime.log import Log, LogRecord, TopicPartition
from perdure_schemas import codec, keys
from perdure_schemas.records import ExecutionSummary, OwnerMark, WorkflowStatus
from perdure_schemas.topics import EXECUTIONS, TopicNames

__all__ = ["Owner", "lag", "newest_mark", "open_runs", "partition_rows", "partitions"]

LAG_COLUMNS = ("group", "topic", "partition", "committed", "end", "lag", "lag_s", "member")
PARTITION_COLUMNS = ("role", "partition", "state", "owner", "epoch", "since", "lag", "lag_s", "open_workflows")
_WINDOW_OFFSETS = 1_000
_WINDOW_GROWTH = 8
_POLL_S = 0.5
_POLL_RECORDS = 5_000
_QUIET_S = 5.0


class Owner(NamedTuple):
    """Who has taken a partition over last: its instance name, its epoch, and when."""

    instance: str
    epoch: int
    time_ms: int


# --- lag ----------------------------------------------------------------------------------------------------------


def lag(
    address: str,
    namespace: str,
    watch_s: float | None,
    output: OutputFormat,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Print how far every group is, once or again and again.

    Raises:
        CliError: ``json`` is one document, and watching has no end.
    """
    if watch_s is not None and output is OutputFormat.JSON:
        raise CliError("-o json is one document, and --watch has no end: use -o jsonl")
    with opened(address, namespace) as (log, names):
        while True:
            now_ms = wall_clock_ms()
            rows = [_lag_row(found, now_ms) for found in lags_of(log, names)]
            if watch_s is not None and output is OutputFormat.TABLE:
                print(iso(now_ms))
            print_rows(rows if watch_s is None else [{"time": iso(now_ms), **row} for row in rows], output, LAG_COLUMNS)
            if watch_s is None:
                return
            print(end="", flush=True)
            sleep(watch_s)


def _lag_row(found: PartitionLag, now_ms: int) -> dict[str, Any]:
    return {
        "group": found.group.name,
        "topic": found.group.topic,
        "partition": found.partition,
        "committed": found.committed,
        "end": found.end,
        "lag": found.lag,
        "lag_s": round(found.age_s(now_ms), 3),
        "member": found.member,
    }


# --- partitions ---------------------------------------------------------------------------------------------------


def partitions(address: str, namespace: str, *, count: bool, output: OutputFormat) -> None:
    """Print who owns which partition, and how much work each has."""
    with opened(address, namespace) as (log, names):
        runs = open_runs(log, names) if count else None
        rows = partition_rows(log, names, None if runs is None else [len(runs[n]) for n in range(names.partitions)])
    skews = _skews(rows)
    if output is OutputFormat.JSON:
        print(to_json({"partitions": rows, "skew": skews}, indent=2))
        return
    print_rows(rows, output, PARTITION_COLUMNS if count else PARTITION_COLUMNS[:-1])
    if output is OutputFormat.TABLE:
        for role, found in skews.items():
            shown = ", ".join(f"{what} {value:.2f}" for what, value in found.items())
            if shown:
                print(f"skew of {role} (max/mean): {shown}")


def partition_rows(log: Log, names: TopicNames, open_counts: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Who owns which partition, and how far behind it is; with its open workflows, if they were counted."""
    now_ms = wall_clock_ms()
    rows = []
    for found in lags_of(log, names):
        role, number = found.group.role, found.partition
        if role not in ROLE_NAMES:
            continue
        restored = names.history if role == "history" else found.group.topic
        owner = newest_mark(log, TopicPartition(restored, number), f"{role}/{number}")
        row: dict[str, Any] = {
            "role": role,
            "partition": number,
            "state": _state(owner, found.member),
            "owner": owner.instance if owner else None,
            "epoch": owner.epoch if owner else None,
            "since": iso(owner.time_ms) if owner else None,
            "member": found.member,
            "lag": found.lag,
            "lag_s": round(found.age_s(now_ms), 3),
        }
        if open_counts is not None:
            row["open_workflows"] = open_counts[number] if role == "history" else None
        rows.append(row)
    return rows


def _state(owner: Owner | None, member: str) -> str:
    if not member:
        return "no owner"
    return "owned" if owner is not None and owner.instance == member else "being taken over"


def _skews(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By role: the largest of its partitions' numbers to their mean; without what is 0 everywhere."""
    skews: dict[str, dict[str, float]] = {}
    for role in dict.fromkeys(row["role"] for row in rows):
        found = skews[role] = {}
        for what in ("lag", "open_workflows"):
            numbers = [row[what] for row in rows if row["role"] == role and row.get(what) is not None]
            if sum(numbers):
                found[what] = round(max(numbers) * len(numbers) / sum(numbers), 3)
    return skews


# --- looking ------------------------------------------------------------------------------------------------------


def newest_mark(log: Log, place: TopicPartition, source: str, below: int | None = None) -> Owner | None:
    """The newest owner mark of ``source`` in its own topic, looked for from the end backwards.

    Parameters:
        log / place: where.
        source: for example ``history/3``.
        below: only marks below this offset count.
    """
    low, end = log.watermarks(place)
    end = end if below is None else min(end, below)
    window = _WINDOW_OFFSETS
    while low < end:
        begin = max(low, end - window)
        newest = None
        for record in _read(log, place, begin, end):
            if keys.is_mark(record.key):
                mark = _mark_of(record)
                if mark is not None and mark.source == source:
                    newest = Owner(mark.owner, record.offset, mark.time_ms)
        if newest is not None:
            return newest
        end, window = begin, window * _WINDOW_GROWTH
    return None


def _mark_of(record: LogRecord) -> OwnerMark | None:
    try:
        return codec.decode_as(record.value, OwnerMark)
    except codec.DecodeError:
        return None  # written by a stranger


def _read(log: Log, place: TopicPartition, begin: int, end: int) -> Iterator[LogRecord]:
    reader = log.reader("partitions")
    try:
        reader.assign({place: begin})
        heard_s = time.monotonic()
        while time.monotonic() - heard_s < _QUIET_S:
            records = reader.poll(_POLL_RECORDS, _POLL_S)
            for record in records:
                if record.offset >= end:
                    return
                yield record
            if records:
                heard_s = time.monotonic()
            if reader.position(place) >= end:
                return
    finally:
        reader.close()


def open_runs(log: Log, names: TopicNames) -> dict[int, dict[str, ExecutionSummary]]:
    """The summaries of all open runs, by partition and run id, folded from ``executions``."""
    scan = TopicScan(log, names, [EXECUTIONS])
    try:
        return fold_open_runs(scan.to_end(), names.partitions)
    finally:
        scan.close()


def fold_open_runs(records: Iterable[LogRecord], partition_count: int) -> dict[int, dict[str, ExecutionSummary]]:
    """The open runs in records of ``executions``; void records (I1) and what cannot be read do not count."""
    fences = [Fence() for _ in range(partition_count)]
    found: dict[int, dict[str, ExecutionSummary]] = {number: {} for number in range(partition_count)}
    for record in records:
        runs = found[record.partition]
        try:
            key = admitted_key(fences[record.partition], record)
            if key is None:
                continue
            summary = None if record.value is None else codec.decode_as(record.value, ExecutionSummary)
        except (ValueError, codec.DecodeError):
            continue
        if summary is not None and summary.status is WorkflowStatus.RUNNING and summary.schedule is None:
            runs[key.id] = summary
        else:
            runs.pop(key.id, None)
    return found
