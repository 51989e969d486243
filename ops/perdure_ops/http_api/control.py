"""What operators do to a workflow over HTTP: cancel, terminate, reset, pause, unpause, release."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from perdure._ids import new_run_id
from perdure_ops.http_api import fields
from perdure_ops.http_api.context import REQUEST_S, Api
from perdure_ops.http_api.operations import Nothing, Operations
from perdure_ops.http_api.values import raw_values
from perdure_ops.http_api.workflows import Started
from perdure_schemas import records

__all__ = ["operation"]

operation = Operations("Control", "What operators do to a workflow.")


class ChainBody(fields.ReasonBody, kw_only=True):
    """Which run, and why."""

    first_execution_run_id: Annotated[
        str, Meta(description="Only if the run belongs to the chain that began with this one.")
    ] = ""


class TerminateBody(ChainBody, kw_only=True):
    """Which run, why, and details to keep in the history."""

    details: fields.Arguments = []


class ResetBody(fields.ReasonBody, kw_only=True):
    """Which workflow task to decide anew: ``event_id``, a WorkflowTaskCompleted event, or else ``point``."""

    event_id: Annotated[int, Meta(ge=0, description="0: `point` says which.")] = 0
    point: Annotated[str, Meta(pattern="^(FirstWorkflowTask|LastWorkflowTask)$")] = "LastWorkflowTask"
    reapply_signals: Annotated[bool, Meta(description="Deliver signals again that came after that point.")] = True


@operation("POST", "/workflows/{workflow_id}/cancel")
async def cancel_workflow(api: Api, workflow_id: str, body: ChainBody) -> Nothing:
    """Ask a workflow to stop. Its code decides how; this does not wait for it."""
    handle = api.client.get_workflow_handle(
        workflow_id, run_id=body.run_id or None, first_execution_run_id=body.first_execution_run_id or None
    )
    await handle.cancel(reason=body.reason)
    return Nothing()


@operation("POST", "/workflows/{workflow_id}/terminate")
async def terminate_workflow(api: Api, workflow_id: str, body: TerminateBody) -> Nothing:
    """Close a workflow now, without asking its code."""
    handle = api.client.get_workflow_handle(
        workflow_id, run_id=body.run_id or None, first_execution_run_id=body.first_execution_run_id or None
    )
    await handle.terminate(*raw_values(body.details, "details"), reason=body.reason or None)
    return Nothing()


@operation("POST", "/workflows/{workflow_id}/reset", {201: "The new run runs."})
async def reset_workflow(api: Api, workflow_id: str, body: ResetBody) -> Started:
    """Begin a new run with the history of the newest one up to a workflow task, and decide that one anew.

    If the old run is open, it is terminated. Activities that had finished by then are not run again.
    """
    command = records.ResetWorkflow(
        run_id=new_run_id(),
        event_id=body.event_id,
        point=body.point,
        reason=body.reason,
        reapply_signals=body.reapply_signals,
    )
    started = await api.ask(workflow_id, body.run_id, command, records.Started, REQUEST_S)
    return Started(workflow_id=workflow_id, run_id=started.run_id)


@operation("POST", "/workflows/{workflow_id}/pause")
async def pause_workflow(api: Api, workflow_id: str, body: fields.ReasonBody) -> Nothing:
    """Hand out no workflow task and no activity of a workflow; what workers have is finished.

    Its timers and timeouts go on, and signals are kept for when it is unpaused.
    """
    await api.tell(workflow_id, body.run_id, records.PauseWorkflow(reason=body.reason))
    return Nothing()


@operation("POST", "/workflows/{workflow_id}/unpause")
async def unpause_workflow(api: Api, workflow_id: str, body: fields.ReasonBody) -> Nothing:
    """Let a paused workflow go on."""
    await api.tell(workflow_id, body.run_id, records.UnpauseWorkflow(reason=body.reason))
    return Nothing()


@operation("POST", "/workflows/{workflow_id}/release")
async def release_workflow(api: Api, workflow_id: str, body: fields.RunBody) -> Nothing:
    """Lift the quarantine of a workflow, once its cause is repaired.

    The message that could not be processed is not processed again: it stays with the dead letters.
    """
    await api.tell(workflow_id, body.run_id, records.ReleaseWorkflow())
    return Nothing()
