"""What the ``perdure workflow`` commands do, on :class:`perdure.client.Client`.

JSON inputs are sent as ``json/plain`` payloads just as they were written. Called by
:mod:`perdure_ops.commands_workflow`.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from perdure.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from perdure.common import QueryRejectCondition, RawValue, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from perdure.contrib.codec_server import RemoteCodec
from perdure.converter import DataConverter, PayloadCodec
from perdure.exceptions import CancelledError, TerminatedError, TimeoutError
from perdure_ops import history_view as view
from perdure_ops.errors import CliError, describe_error
from perdure_ops.output import OutputFormat, print_done, print_fields, print_rows, progress, to_json
from perdure_ops.values import json_inputs, json_pairs, parse_duration
from perdure_schemas.records import AwaitUpdate, Payload, Rejected, UpdateAnswer, UpdateStage

E = TypeVar("E", bound=Enum)
Args = Sequence[RawValue]

EVENT_COLUMNS = ("id", "time", "type", "details")


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What ``start`` and ``execute`` were asked for, checked."""

    workflow_type: str
    task_queue: str
    workflow_id: str
    args: Args
    execution_timeout: timedelta | None
    run_timeout: timedelta | None
    task_timeout: timedelta | None
    id_reuse_policy: WorkflowIDReusePolicy
    id_conflict_policy: WorkflowIDConflictPolicy
    memo: dict[str, Any] | None

    @classmethod
    def parse(
        cls,
        workflow_type: str,
        task_queue: str,
        workflow_id: str | None,
        inputs: Sequence[str],
        input_files: Sequence[Path],
        execution_timeout: str | None,
        run_timeout: str | None,
        task_timeout: str | None,
        id_reuse_policy: str | None,
        id_conflict_policy: str | None,
        memo: Sequence[str],
    ) -> StartRequest:
        """Read the options' texts.

        Raises:
            CliError: one of them is wrong.
        """
        return cls(
            workflow_type=workflow_type,
            task_queue=task_queue,
            workflow_id=workflow_id or str(uuid.uuid4()),
            args=parse_inputs(inputs, input_files),
            execution_timeout=parse_duration(execution_timeout, "--execution-timeout"),
            run_timeout=parse_duration(run_timeout, "--run-timeout"),
            task_timeout=parse_duration(task_timeout, "--task-timeout"),
            id_reuse_policy=parse_choice(
                id_reuse_policy, WorkflowIDReusePolicy, WorkflowIDReusePolicy.ALLOW_DUPLICATE, "--id-reuse-policy"
            ),
            id_conflict_policy=parse_choice(
                id_conflict_policy,
                WorkflowIDConflictPolicy,
                WorkflowIDConflictPolicy.UNSPECIFIED,
                "--id-conflict-policy",
            ),
            memo=json_pairs(memo, "--memo") or None,
        )


def parse_inputs(inputs: Sequence[str], files: Sequence[Path], option: str = "--input") -> Args:
    """Arguments from JSON texts and files.

    Raises:
        CliError: one is no JSON.
    """
    return [
        RawValue(Payload(metadata={"encoding": b"json/plain"}, data=text))
        for text in json_inputs(inputs, files, option)
    ]


def parse_choice(text: str | None, choices: type[E], default: E, option: str) -> E:
    """A member of an enumeration by its name, however it is written (``AllowDuplicate``, ``allow_duplicate`` …).

    Raises:
        CliError: there is no such member.
    """
    if text is None:
        return default
    wanted = "".join(c for c in text if c.isalnum()).lower()
    by_name = {member.name.replace("_", "").lower(): member for member in choices}
    if wanted not in by_name:
        names = ", ".join("".join(part.capitalize() for part in member.name.split("_")) for member in choices)
        raise CliError(f"{option}: {text!r} is none of {names}")
    return by_name[wanted]


def parse_status(text: str | None) -> WorkflowExecutionStatus | None:
    """The status of ``--status``; ``None`` if it was not given."""
    if text is None:
        return None
    return parse_choice(text, WorkflowExecutionStatus, WorkflowExecutionStatus.RUNNING, "--status")


def parse_reject_condition(text: str | None) -> QueryRejectCondition | None:
    """The condition of ``--reject-condition``; ``None`` if it was not given."""
    if text is None:
        return None
    return parse_choice(text, QueryRejectCondition, QueryRejectCondition.NONE, "--reject-condition")


def remote_codec(endpoint: str | None, namespace: str, authorization: str | None) -> PayloadCodec | None:
    """The codec of ``--codec-endpoint``; ``None`` if it was not given.

    Raises:
        CliError: the address is none of HTTP.
    """
    if endpoint is None:
        return None
    try:
        return RemoteCodec(endpoint, namespace=namespace, authorization=authorization)
    except ValueError as error:
        raise CliError(f"--codec-endpoint: {error}") from error


def run(
    address: str,
    namespace: str,
    action: Callable[[Client], Coroutine[Any, Any, None]],
    codec: PayloadCodec | None = None,
) -> None:
    """Connect, and do something with the client."""
    options: dict[str, Any] = {} if codec is None else {"data_converter": DataConverter(payload_codec=codec)}

    async def connected() -> None:
        with progress(f"connecting to {address}"):
            client = await Client.connect(address, namespace=namespace, **options)
        try:
            await action(client)
        finally:
            await client.close()

    asyncio.run(connected())


async def start(client: Client, request: StartRequest, output: OutputFormat, **signal: Any) -> None:
    """Start a workflow, with a signal if there is one, and print its ids."""
    handle = await _start(client, request, **signal)
    print_fields(_started_fields(client, request, handle), output)


async def execute(client: Client, request: StartRequest, output: OutputFormat) -> None:
    """Start a workflow, wait for it, and print its result."""
    handle = await _start(client, request)
    if output is OutputFormat.TABLE:
        print(f"started {handle.id} (run {handle.first_execution_run_id})", file=sys.stderr)
    await _print_result(handle, output)


async def result(client: Client, workflow_id: str, run_id: str | None, output: OutputFormat) -> None:
    """Wait for a workflow and print its result."""
    await _print_result(client.get_workflow_handle(workflow_id, run_id=run_id), output)


async def describe(client: Client, workflow_id: str, run_id: str | None, output: OutputFormat) -> None:
    """Print where a run stands."""
    description = await client.get_workflow_handle(workflow_id, run_id=run_id).describe()
    described = description.raw_description
    fields = view.description_fields(described)
    pending = [view.pending_activity_row(activity) for activity in described.pending_activities]
    children = [view.pending_child_row(child) for child in described.pending_children]
    if output is not OutputFormat.TABLE:
        print_fields(fields | {"pending_activities": pending, "pending_children": children}, output)
        return
    print_fields(fields, output)
    if pending:
        print(f"\n{len(pending)} pending activit{'y' if len(pending) == 1 else 'ies'}:")
        print_rows(pending, output, view.PENDING_COLUMNS)
    if children:
        print(f"\n{len(children)} open child workflow{'' if len(children) == 1 else 's'}:")
        print_rows(children, output, view.PENDING_CHILD_COLUMNS)


async def show(
    client: Client, workflow_id: str, run_id: str | None, output: OutputFormat, codec: PayloadCodec | None = None
) -> None:
    """Print the history of a run, its payloads decoded if there is a codec."""
    with progress("fetching the history"):
        history = await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
        if codec is not None:
            history = await history.decoded(DataConverter(payload_codec=codec))
    if output is OutputFormat.JSON:
        # The form that a replayer reads.
        print(to_json(history.to_json_dict(), indent=2))
        return
    as_row = view.event_line if output is OutputFormat.TABLE else view.event_row
    print_rows([as_row(event) for event in history.events], output, EVENT_COLUMNS)


async def signal(
    client: Client, workflow_id: str, run_id: str | None, name: str, args: Args, output: OutputFormat
) -> None:
    """Send a signal."""
    await client.get_workflow_handle(workflow_id, run_id=run_id).signal(name, args=args)
    print_done(f"signal {name!r} sent to {workflow_id}", output, workflow_id=workflow_id, run_id=run_id)


async def query(
    client: Client,
    workflow_id: str,
    run_id: str | None,
    name: str,
    args: Args,
    condition: QueryRejectCondition | None,
    output: OutputFormat,
) -> None:
    """Print a query's answer."""
    with progress(f"waiting for a worker to answer {name!r}"):
        answer = await client.get_workflow_handle(workflow_id, run_id=run_id).query(
            name, args=args, reject_condition=condition
        )
    print(to_json(answer, indent=2 if output is OutputFormat.JSON else None))


async def describe_update(
    client: Client, workflow_id: str, run_id: str | None, update_id: str, output: OutputFormat
) -> None:
    """Print how far an update is."""
    what = f"update {update_id!r} of workflow {workflow_id!r}"
    body = AwaitUpdate(update_id=update_id, wait_stage=UpdateStage.ACCEPTED)
    connection = await client.connection()
    with progress(f"asking for {what}"):
        answer = await connection.ask(workflow_id, run_id or "", body, 30.0, what)
    if isinstance(answer, Rejected):
        raise CliError(f"{what}: {answer.message}")
    assert isinstance(answer, UpdateAnswer)
    fields: dict[str, Any] = {
        "workflow_id": workflow_id,
        "run_id": answer.run_id,
        "update_id": answer.update_id,
        "stage": answer.stage.value,
    }
    if answer.stage is UpdateStage.COMPLETED:
        if answer.failure is not None:
            fields["failure"] = describe_error(await client.data_converter.decode_failure(answer.failure))
        else:
            fields["result"] = next(iter(await client.data_converter.decode(answer.result)), None)
    print_fields(fields, output)


async def cancel(client: Client, workflow_id: str, run_id: str | None, reason: str, output: OutputFormat) -> None:
    """Ask a run to stop."""
    await client.get_workflow_handle(workflow_id, run_id=run_id).cancel(reason=reason)
    print_done(f"cancellation of {workflow_id} requested", output, workflow_id=workflow_id, run_id=run_id)


async def terminate(client: Client, workflow_id: str, run_id: str | None, reason: str, output: OutputFormat) -> None:
    """Close a run."""
    await client.get_workflow_handle(workflow_id, run_id=run_id).terminate(reason=reason)
    print_done(f"{workflow_id} terminated", output, workflow_id=workflow_id, run_id=run_id)


async def _start(client: Client, request: StartRequest, **signal: Any) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(
        request.workflow_type,
        args=request.args,
        id=request.workflow_id,
        task_queue=request.task_queue,
        execution_timeout=request.execution_timeout,
        run_timeout=request.run_timeout,
        task_timeout=request.task_timeout,
        id_reuse_policy=request.id_reuse_policy,
        id_conflict_policy=request.id_conflict_policy,
        memo=request.memo,
        **signal,
    )


def _started_fields(client: Client, request: StartRequest, handle: WorkflowHandle[Any, Any]) -> dict[str, Any]:
    return {
        "workflow_id": handle.id,
        "run_id": handle.first_execution_run_id,
        "type": request.workflow_type,
        "namespace": client.namespace,
        "task_queue": request.task_queue,
    }


async def _print_result(handle: WorkflowHandle[Any, Any], output: OutputFormat) -> None:
    """Print a result: the bare value for people, with ids and status for programs. A failure is an error for both."""
    try:
        with progress(f"waiting for {handle.id}"):
            value = await handle.result()
    except WorkflowFailureError as error:
        reason = describe_error(error)
        if output is not OutputFormat.TABLE:
            print_fields({"workflow_id": handle.id, "status": _status_of(error.cause), "failure": reason}, output)
        raise CliError(f"workflow {handle.id} did not complete: {reason}") from error
    if output is OutputFormat.TABLE:
        print(to_json(value))
    else:
        print_fields({"workflow_id": handle.id, "status": "COMPLETED", "result": value}, output)


def _status_of(cause: BaseException) -> str:
    """The status of a run that ended with ``cause``."""
    for kind, status in (
        (CancelledError, WorkflowExecutionStatus.CANCELED),
        (TerminatedError, WorkflowExecutionStatus.TERMINATED),
        (TimeoutError, WorkflowExecutionStatus.TIMED_OUT),
    ):
        if isinstance(cause, kind):
            return status.name
    return WorkflowExecutionStatus.FAILED.name
