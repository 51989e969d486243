"""One workflow out of a namespace into a file, and from a file into another namespace or cluster.

A file holds the events of one run as JSON, in the form that a replayer reads, with where they come from. Loading is a
fork whose source is elsewhere: the new run begins with the events up to the last completed workflow task, and its code
decides anew from there. Invariants: the source is left as it is; loading a file twice makes one run (I3). Called by the
commands ``dump --workflow-id`` and ``load``.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import typer

from perdure.client import Client, WorkflowHistory
from perdure_ops.errors import CliError
from perdure_ops.output import OutputFormat, print_done, print_fields
from perdure_ops.workflow_actions import run as with_client
from perdure_schemas import codec
from perdure_schemas.limits import COMMAND_BYTES_MAX
from perdure_schemas.records import (
    Command,
    ForkWorkflow,
    HistoryRecord,
    Rejected,
    Started,
    WorkflowExecutionStarted,
)

__all__ = ["Dumped", "dump_workflow", "load_workflow", "parse"]

#: What a file says that it is.
FORMAT = "perdure-workflow"
VERSION = 1
_TIMEOUT_S = 30.0


class Dumped(NamedTuple):
    """What a file holds."""

    namespace: str
    workflow_id: str
    history: WorkflowHistory

    @property
    def started(self) -> WorkflowExecutionStarted:
        """The first event."""
        attributes = self.history.events[0].attributes
        assert isinstance(attributes, WorkflowExecutionStarted)
        return attributes


def dump_workflow(
    file: Path, address: str, namespace: str, workflow_id: str, run_id: str | None, *, force: bool, output: OutputFormat
) -> None:
    """Write a run into a file. Payloads stand in it as they stand in the log.

    Raises:
        CliError: there is such a file, or it cannot be written. RPCError: there is no such run.
    """
    if file.exists() and not force:
        raise CliError(f"{file} exists; choose another name, or give --force")

    async def act(client: Client) -> None:
        history = await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
        about = {"format": FORMAT, "version": VERSION, "namespace": namespace, "workflow_id": workflow_id}
        text = json.dumps(about | history.to_json_dict(), ensure_ascii=False)
        try:
            await asyncio.to_thread(file.write_text, text)
        except OSError as error:
            raise CliError(f"{file} cannot be written: {error.strerror}") from error
        done = f"{len(history.events)} events of workflow {workflow_id}, run {history.run_id}, written to {file}"
        print_done(done, output, file=file, workflow_id=workflow_id, run_id=history.run_id, events=len(history.events))

    with_client(address, namespace, act)


def parse(text: str, where: str) -> Dumped:
    """What a file's text holds.

    Raises:
        CliError: it is no dump of a workflow.
    """
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CliError(f"{where} is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CliError(f"{where} is no dump of a workflow; those are written by `perdure dump FILE --workflow-id ID`")
    if document.get("version") != VERSION:
        raise CliError(f"{where} is of version {document.get('version')}; this program reads version {VERSION}")
    namespace, workflow_id = document.get("namespace"), document.get("workflow_id")
    if not isinstance(namespace, str) or not isinstance(workflow_id, str):
        raise CliError(f"{where} does not say which workflow it holds")
    try:
        history = WorkflowHistory.from_json(workflow_id, document)
    except ValueError as error:
        raise CliError(f"{where}: {error}") from error
    if not history.events or not isinstance(history.events[0].attributes, WorkflowExecutionStarted):
        raise CliError(f"{where}: its history does not begin with the start of a run")
    return Dumped(namespace, workflow_id, history)


def load_workflow(
    file: Path,
    address: str,
    namespace: str,
    workflow_id: str | None,
    *,
    dry_run: bool,
    assume_yes: bool,
    output: OutputFormat,
) -> None:
    """Begin the workflow of a file in a namespace.

    Parameters:
        workflow_id: its id there; the one it had if not given.

    Raises:
        CliError: the file is wrong, the answer was no, or the engine refuses.
    """
    try:
        dumped = parse(file.read_text(), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    new_id = workflow_id or dumped.workflow_id
    run_id, body = _fork(dumped, namespace, new_id, file)
    fields = {
        "workflow_id": new_id,
        "run_id": run_id,
        "type": dumped.started.workflow_type,
        "task_queue": dumped.started.task_queue,
        "events": len(dumped.history.events),
        "from": f"{dumped.namespace}/{dumped.workflow_id}/{dumped.history.run_id}",
    }
    if dry_run:
        print_fields(fields, output)
        return
    question = (
        f"Begin workflow {new_id} in namespace {namespace} with {fields['events']} events? What it came from runs on"
    )
    if not assume_yes and not typer.confirm(question, err=True):
        raise CliError("nothing was loaded")

    async def act(client: Client) -> None:
        connection = await client.connection()
        what = f"the loading of workflow {new_id!r}"
        answer = await connection.ask(new_id, "", body, _TIMEOUT_S, what, command_id=run_id)
        if isinstance(answer, Rejected):
            raise CliError(f"workflow {new_id!r} was not loaded: {answer.message}")
        assert isinstance(answer, Started)
        print_fields(fields | {"run_id": answer.run_id}, output)

    with_client(address, namespace, act)


def _fork(dumped: Dumped, namespace: str, workflow_id: str, file: Path) -> tuple[str, ForkWorkflow]:
    """The id of the run that loading makes, always the same for the same file and place, and the request for it."""
    source_run_id = dumped.history.run_id
    run_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"perdure:{source_run_id}/{namespace}/{workflow_id}"))
    record = HistoryRecord(
        workflow_id=dumped.workflow_id,
        run_id=source_run_id,
        command_offset=0,
        epoch=0,
        events=list(dumped.history.events),
    )
    body = ForkWorkflow(
        run_id=run_id,
        # It may have the same id here, because it is another workflow.
        source_workflow_id=f"{dumped.namespace}/{dumped.workflow_id}",
        source_run_id=source_run_id,
        records=[codec.encode(record)],
    )
    size_bytes = len(codec.encode(Command(command_id=run_id, workflow_id=workflow_id, body=body)))
    if size_bytes > COMMAND_BYTES_MAX:
        raise CliError(f"{file} has {size_bytes} bytes of history; {COMMAND_BYTES_MAX} can be loaded")
    return run_id, body
