"""``perdure batch``: one request to every run that a list filter holds for, so many in a second.

Invariants: a batch that is interrupted and resumed does nothing twice, because the ids of its commands follow from the
batch's id and the run's (I3); it never reaches runs that started after it, nor those that it made itself, which their
ids show, so it ends. The id says when the batch began, so nothing has to be kept anywhere. Called by the commands of
``batch``.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import typer

from perdure.client import Client, WorkflowExecution, WorkflowExecutionStatus
from perdure.converter import PayloadCodec
from perdure.service import RPCError
from perdure_ops.errors import CliError, one_line
from perdure_ops.output import OutputFormat, print_fields, print_rows
from perdure_ops.workflow_actions import run as with_client
from perdure_runtime.clock import wall_clock_ms
from perdure_schemas.records import CommandBody, ErrorCode, Rejected, ReplyBody

__all__ = ["Batch", "Request", "Target", "new_batch_id", "run_batch", "started_ms"]

_ID = re.compile(r"b(\d{13})-[0-9a-f]{8}")
_TIMEOUT_S = 30.0
#: So many requests wait for their answers at a time.
_CONCURRENT_MAX = 100
_PROGRESS_S = 1.0
_FAILURES_SHOWN = 20
_SAMPLE_ROWS = 20
#: The run has closed, or is gone, meanwhile: there is nothing to do to it any more.
_OVER = (ErrorCode.NOT_FOUND, ErrorCode.FAILED_PRECONDITION)


class Target(NamedTuple):
    """A run that the filter holds for."""

    workflow_id: str
    run_id: str
    workflow_type: str


class Request(NamedTuple):
    """What is asked of each run.

    Attributes:
        verb: for people, for example ``signal``.
        body: makes the request, given the batch's id for this run.
        open_only: closed runs are passed over.
        newest_only: of several runs of a workflow only the newest one.
    """

    verb: str
    body: Callable[[str], CommandBody]
    open_only: bool = True
    newest_only: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch: what it is called, which runs, how fast, and whether to ask before."""

    batch_id: str
    resumed: bool
    query: str
    rps: float
    dry_run: bool
    assume_yes: bool


def new_batch_id(now_ms: int) -> str:
    """An id for a batch that begins now."""
    return f"b{now_ms:013d}-{uuid.uuid4().hex[:8]}"


def started_ms(batch_id: str) -> int:
    """When a batch began, in milliseconds since the epoch.

    Raises:
        CliError: this is no id of a batch.
    """
    found = _ID.fullmatch(batch_id)
    if found is None:
        raise CliError(f"--resume: {batch_id!r} is no id of a batch; a batch prints its id when it begins")
    return int(found[1])


def id_for(batch_id: str, run_id: str) -> str:
    """The id of a batch's command for a run, and of the run that it makes: always the same one."""
    return str(uuid.UUID(hex=_prefix_of(batch_id) + sha256(f"{batch_id}/{run_id}".encode()).hexdigest()[:16]))


def is_made_by(batch_id: str, run_id: str) -> bool:
    """Whether a batch made a run, by a reset: it has the start time of the run before."""
    return run_id.replace("-", "").startswith(_prefix_of(batch_id))


def _prefix_of(batch_id: str) -> str:
    return sha256(batch_id.encode()).hexdigest()[:16]


def chosen(found: Iterable[WorkflowExecution], request: Request, batch_id: str) -> tuple[list[Target], int]:
    """The runs to ask, the newest first, and how many the filter holds for besides."""
    begun_ms = started_ms(batch_id)
    targets: list[Target] = []
    seen: set[str] = set()
    count = 0
    for execution in found:
        count += 1
        if execution.start_time.timestamp() * 1000 > begun_ms or is_made_by(batch_id, execution.run_id):
            continue
        if request.open_only and execution.status is not WorkflowExecutionStatus.RUNNING:
            continue
        if request.newest_only and execution.id in seen:
            continue
        seen.add(execution.id)
        targets.append(Target(execution.id, execution.run_id, execution.workflow_type))
    return targets, count - len(targets)


def run_batch(
    address: str, namespace: str, batch: Batch, request: Request, output: OutputFormat, codec: PayloadCodec | None
) -> None:
    """Ask every run, and print what came of it.

    Raises:
        CliError: the filter is none, the answer was no, or a request failed.
        KeyboardInterrupt: it was interrupted; how to go on is said before.
    """
    if not batch.query.strip():
        raise CliError("--query: give a list filter; one that holds for all runs is StartTime > '2000-01-01T00:00:00Z'")
    if re.search(r"\b(order|group)\s+by\b", batch.query, re.IGNORECASE):
        raise CliError("--query: ORDER BY and GROUP BY mean nothing to a batch: leave them out")
    begun: list[str] = []
    try:
        with_client(address, namespace, lambda client: _run(client, batch, request, output, begun), codec)
    except KeyboardInterrupt:
        if begun:
            print(f"\ninterrupted; go on with the same command and --resume {batch.batch_id}", file=sys.stderr)
        raise


async def _run(client: Client, batch: Batch, request: Request, output: OutputFormat, begun: list[str]) -> None:
    found = [execution async for execution in client.list_workflows(batch.query)]
    targets, passed_over = chosen(found, request, batch.batch_id)
    if batch.dry_run:
        _print_plan(targets, passed_over, request, output)
        return
    if not targets:
        print(f"no run to {request.verb}: the filter holds for {passed_over}, none of which can be", file=sys.stderr)
    elif not batch.assume_yes and not batch.resumed:
        more = f" ({passed_over} more are closed, older or too new)" if passed_over else ""
        if not await asyncio.to_thread(typer.confirm, f"{request.verb} {len(targets)} runs{more}?", err=True):
            raise CliError("nothing was done")
    begun.append(batch.batch_id)
    print(f"batch {batch.batch_id}: {request.verb} {len(targets)} runs", file=sys.stderr)
    connection = await client.connection()

    async def ask(target: Target) -> ReplyBody:
        own_id = id_for(batch.batch_id, target.run_id)
        what = f"the {request.verb} of workflow {target.workflow_id!r}"
        return await connection.ask(
            target.workflow_id, target.run_id, request.body(own_id), _TIMEOUT_S, what, command_id=own_id
        )

    counts, failures = await carry_out(targets, ask, batch.rps)
    fields: dict[str, Any] = {
        "batch_id": batch.batch_id,
        "verb": request.verb,
        "matched": len(targets),
        "done": counts["done"],
        "over_already": counts["over"],
        "failed": counts["failed"],
    }
    if output is not OutputFormat.TABLE:
        fields["failures"] = failures
    print_fields(fields, output)
    if counts["failed"]:
        for failure in failures if output is OutputFormat.TABLE else ():
            print(f"{failure['workflow_id']} {failure['run_id']}: {failure['reason']}", file=sys.stderr)
        raise CliError(
            f"{counts['failed']} of {len(targets)} requests failed; try those again with the same command and"
            f" --resume {batch.batch_id}"
        )


async def carry_out(
    targets: Sequence[Target], ask: Callable[[Target], Awaitable[ReplyBody]], rps: float
) -> tuple[Counter[str], list[dict[str, str]]]:
    """Ask for each target, no faster than ``rps`` in a second; how many were done, over already or failed, and the
    first failures."""
    counts: Counter[str] = Counter()
    failures: list[dict[str, str]] = []
    slots = asyncio.Semaphore(_CONCURRENT_MAX)
    told_s = [time.monotonic()]

    async def one(target: Target) -> None:
        try:
            answer = await ask(target)
            reason = answer.message if isinstance(answer, Rejected) else ""
            over = isinstance(answer, Rejected) and answer.code in _OVER
        except RPCError as error:
            reason, over = str(error), False
        finally:
            slots.release()
        kind = "over" if over else "failed" if reason else "done"
        counts[kind] += 1
        if kind == "failed" and len(failures) < _FAILURES_SHOWN:
            failures.append({"workflow_id": target.workflow_id, "run_id": target.run_id, "reason": one_line(reason)})
        if sys.stderr.isatty() and time.monotonic() - told_s[0] > _PROGRESS_S:
            told_s[0] = time.monotonic()
            told = f"\r{counts.total()} of {len(targets)}, {counts['failed']} failed "
            print(told, end="", file=sys.stderr, flush=True)

    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    async with asyncio.TaskGroup() as group:
        for number, target in enumerate(targets):
            due_s = begun_s + number / rps
            if due_s > loop.time():
                await asyncio.sleep(due_s - loop.time())
            await slots.acquire()
            group.create_task(one(target))
    return counts, failures


def _print_plan(targets: Sequence[Target], passed_over: int, request: Request, output: OutputFormat) -> None:
    rows = [target._asdict() for target in targets]
    if output is not OutputFormat.TABLE:
        print_rows(rows, output, ())
        return
    print(f"would {request.verb} {len(targets)} runs, and pass over {passed_over} that are closed, older or too new")
    if rows:
        print_rows(rows[:_SAMPLE_ROWS], output, Target._fields)
    if len(rows) > _SAMPLE_ROWS:
        print(f"… and {len(rows) - _SAMPLE_ROWS} more; -o jsonl shows all")


def batch_of(query: str, rps: float, resume: str | None, *, dry_run: bool, assume_yes: bool) -> Batch:
    """A batch from the options that all of them share.

    Raises:
        CliError: ``resume`` is no id of a batch.
    """
    if resume is not None:
        started_ms(resume)
    return Batch(resume or new_batch_id(wall_clock_ms()), resume is not None, query, rps, dry_run, assume_yes)
