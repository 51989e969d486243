"""The part of the workflow handle that Temporal's clients leave to its service: forking a workflow, and deleting a run.

Invariant: neither changes what another run does; a fork leaves its source alone, and a deletion names its run. Called
by user code and by the command line.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure._ids import new_run_id
from perdure._limits import check_name
from perdure.client._replies import REQUEST_TIMEOUT, expect
from perdure_schemas import codec
from perdure_schemas.limits import COMMAND_BYTES_MAX
from perdure_schemas.records import (
    Command,
    CommandBody,
    DeleteWorkflow,
    Done,
    ForkWorkflow,
    HistoryRecord,
    ReplyBody,
    Started,
    WorkflowTaskCompletedEvent,
)

if TYPE_CHECKING:
    from perdure.client._client import Client
    from perdure.client._handle import WorkflowHandle


class OperatesWorkflow:
    """The base of :class:`perdure.client.WorkflowHandle` that forks and deletes."""

    _client: Client
    _id: str
    _run_id: str | None

    async def fork(
        self,
        id: str,
        *,
        event_id: int | None = None,
        first_workflow_task: bool = False,
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowHandle[Any, Any]:
        """Begin another workflow with the history of this one up to a step; this one is left as it is.

        The new workflow's code replays what happened before the step, and decides anew from there. Activities that had
        finished by then are not run again; those that were pending are run for the new workflow, too.

        Args:
            id: The new workflow's id, which no running workflow may have.
            event_id: The step: the completion of a workflow task. The last one if not given.
            first_workflow_task: Take the first one instead.
            rpc_timeout: How long the engine has to answer; 30 s if not given.

        Raises:
            RPCError: there is no such workflow, the event is no step to fork from, a step before it concerns another
                workflow, or the id is taken.
            ValueError: the history is too large to be copied, or ``id`` is no workflow id.
        """
        from perdure.client._handle import WorkflowHandle

        check_name(id, "workflow id")
        if event_id is not None and (event_id < 1 or first_workflow_task):
            raise ValueError(
                f"event_id is {event_id}; give the id of an event, from 1 on, or first_workflow_task, but not both"
            )
        source = WorkflowHandle[Any, Any](self._client, self._id, run_id=self._run_id)
        history = await source.fetch_history()
        events = list(history.events)
        if event_id is not None:
            # What stands behind the step is not needed; a wrong step is refused with the right ones, so with them all.
            step = events[event_id - 1].attributes if event_id <= len(events) else None
            events = events[:event_id] if isinstance(step, WorkflowTaskCompletedEvent) else events
        run_id = new_run_id()
        copied = HistoryRecord(workflow_id=self._id, run_id=history.run_id, command_offset=0, epoch=0, events=events)
        body = ForkWorkflow(
            run_id=run_id,
            source_workflow_id=self._id,
            source_run_id=history.run_id,
            records=[codec.encode(copied)],
            event_id=event_id or 0,
            point="FirstWorkflowTask" if first_workflow_task else "",
        )
        size_bytes = len(codec.encode(Command(command_id=run_id, workflow_id=id, body=body)))
        if size_bytes > COMMAND_BYTES_MAX:
            raise ValueError(
                f"the history up to there has {size_bytes} bytes; a fork copies it into one record, so the limit is"
                f" {COMMAND_BYTES_MAX} bytes. Fork from an earlier event, or start a new workflow"
            )
        started = expect(await self._request(id, "", body, rpc_timeout, "the fork"), Started)
        return WorkflowHandle(
            self._client, id, result_run_id=started.run_id, first_execution_run_id=started.first_execution_run_id
        )

    async def delete(self, *, reason: str = "", rpc_timeout: timedelta | None = None) -> None:
        """Remove the workflow's run with its history, as if its retention were over; an open one is terminated first.

        From now on it is not found any more; its records go from the log a minute later.

        Args:
            reason: Why, for the log.
            rpc_timeout: How long the engine has to answer each of two requests; 30 s if not given.

        Raises:
            RPCError: there is no such run.
        """
        from perdure.client._handle import WorkflowHandle

        handle = WorkflowHandle[Any, Any](self._client, self._id, run_id=self._run_id)
        # The run is named, so that a repetition never deletes the one that came after it.
        run_id = (await handle.describe(rpc_timeout=rpc_timeout)).run_id
        expect(await self._request(self._id, run_id, DeleteWorkflow(reason=reason), rpc_timeout, "the deletion"), Done)

    async def _request(
        self, workflow_id: str, run_id: str, body: CommandBody, rpc_timeout: timedelta | None, what: str
    ) -> ReplyBody:
        connection = await self._client.connection()
        timeout_s = (rpc_timeout or REQUEST_TIMEOUT).total_seconds()
        return await connection.ask(workflow_id, run_id, body, timeout_s, f"{what} of workflow {self._id!r}")
