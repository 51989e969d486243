"""Workflows over HTTP: list, count, start, describe, result, fork and delete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from perdure._ids import new_id
from perdure.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from perdure.service import RPCError, RPCStatusCode
from perdure_ops.http_api import fields
from perdure_ops.http_api.context import REQUEST_S, Api
from perdure_ops.http_api.operations import Answer, Nothing, Operations
from perdure_ops.http_api.paging import page_token, page_token_text
from perdure_ops.http_api.values import SearchAttribute, json_of, raw_values, typed_attributes
from perdure_ops.http_api.views import FailureView, Run, RunDescription, described_run, failure_view, run_of
from perdure_schemas.limits import HTTP_WAIT_MS_MAX
from perdure_schemas.records import (
    AwaitResult,
    Described,
    DescribeWorkflow,
    IdConflictPolicy,
    IdReusePolicy,
    WorkflowClosed,
    WorkflowStatus,
)

__all__ = ["StartBody", "operation", "start_options"]

operation = Operations("Workflows", "Runs of workflows: what there is, how it stands, how it ended.")

_PAGE_SIZE = 100
#: A filter that hardly any run fulfils is asked for so often for one page of the API, as long as there are none.
_PAGES_MAX = 20
#: The list may change all the time; one message for what came in so long.
_QUIET_S = 0.25
_WATCH_S = 60.0
_POLICY_TEXT = {409: "The workflow id is taken, and the policies do not allow it."}


class ListQuery(fields.Query, kw_only=True):
    """Which runs."""

    query: Annotated[str, Meta(description="A list filter; all runs if empty.")] = ""
    page_size: Annotated[int, Meta(ge=1, le=1000, description="How many runs at most.")] = _PAGE_SIZE
    page_token: Annotated[str, Meta(description="`next_page_token` of the page before, with the same filter.")] = ""


class RunPage(Answer, kw_only=True):
    """A page of runs. Without ``next_page_token`` it is the last one; with it, it may have fewer than were asked for,
    even none, if very many runs had to be looked at."""

    runs: list[Run]
    next_page_token: str | None


class CountQuery(fields.Query, kw_only=True):
    """Which runs."""

    query: Annotated[str, Meta(description="A list filter, maybe with GROUP BY; all runs if empty.")] = ""


class CountGroup(msgspec.Struct, kw_only=True):
    """A group of a count: its values in the order of GROUP BY."""

    values: list[str]
    count: int


class RunCount(Answer, kw_only=True):
    """How many runs there are; ``groups`` only with GROUP BY."""

    count: int
    groups: list[CountGroup]


class Change(Answer, kw_only=True):
    """Some run or schedule of the namespace changed: list again what you show."""

    changed: bool = True


@operation("GET", "/workflows")
async def list_workflows(api: Api, query: ListQuery) -> RunPage:
    """List runs, the newest start first unless the filter orders them otherwise.

    The answer holds everything that was in the log when the question was read.
    """
    found = api.client.list_workflows(
        query.query or None, page_size=query.page_size, next_page_token=page_token(query.page_token)
    )
    await found.fetch_next_page()
    for _ in range(_PAGES_MAX):
        if found.current_page or not found.next_page_token:
            break
        await found.fetch_next_page()
    return RunPage(
        runs=[run_of(execution.raw_info) for execution in found.current_page or ()],
        next_page_token=page_token_text(found.next_page_token),
    )


@operation("GET", "/workflow-count")
async def count_workflows(api: Api, query: CountQuery) -> RunCount:
    """Count runs, in groups if the filter has GROUP BY."""
    counted = await api.client.count_workflows(query.query or None)
    groups = [
        CountGroup(values=[str(value) for value in group.group_values], count=group.count) for group in counted.groups
    ]
    return RunCount(count=counted.count, groups=groups)


@operation("GET", "/workflow-changes")
async def watch_workflows(api: Api) -> AsyncIterator[Change]:
    """Follow changes of the lists of runs and schedules, by server-sent events.

    The first message comes at once, another one after each change; many changes make one message.
    """
    async with api.streaming(), api.feed.executions() as watch:
        yield Change(changed=False)
        while not api.feed.closed:
            if await watch.wait(_WATCH_S):
                yield Change()
                await watch.settle(_QUIET_S)


# --- start ----------------------------------------------------------------------------------------------------------


class StartBody(fields.Body, kw_only=True):
    """A workflow to start. Names are those of the client's ``start_workflow``."""

    workflow_type: fields.Name
    task_queue: fields.Name
    args: fields.Arguments = []
    execution_timeout_ms: fields.Milliseconds | None = None
    run_timeout_ms: fields.Milliseconds | None = None
    task_timeout_ms: fields.Milliseconds | None = None
    start_delay_ms: fields.Milliseconds | None = None
    id_reuse_policy: Annotated[IdReusePolicy, Meta(description="If a closed run has the id.")] = (
        IdReusePolicy.ALLOW_DUPLICATE
    )
    id_conflict_policy: Annotated[IdConflictPolicy, Meta(description="If a running one has it.")] = (
        IdConflictPolicy.UNSPECIFIED
    )
    retry_policy: fields.RetryPolicyField | None = None
    cron_schedule: str = ""
    memo: dict[str, msgspec.Raw] = {}
    search_attributes: dict[str, SearchAttribute] = {}
    static_summary: str | None = None
    static_details: str | None = None
    priority: fields.PriorityField | None = None
    versioning_override: fields.VersioningOverrideField | None = None


class NewWorkflowBody(StartBody, kw_only=True):
    """A workflow to start, with its id; a random one if not given."""

    workflow_id: fields.WorkflowId | None = None


class Started(Answer, kw_only=True):
    """The workflow runs: as it was started now, or as it was found."""

    workflow_id: str
    run_id: str

    def status_code(self) -> int:
        """Created."""
        return 201


def start_options(body: StartBody) -> dict[str, Any]:
    """The arguments of the client's start.

    Raises:
        ValueError: one makes no sense.
    """
    memo = {key: raw_values([value], f"memo.{key}")[0] for key, value in body.memo.items()}
    options: dict[str, Any] = {
        "task_queue": body.task_queue,
        "args": raw_values(body.args, "args"),
        "execution_timeout": fields.duration(body.execution_timeout_ms),
        "run_timeout": fields.duration(body.run_timeout_ms),
        "task_timeout": fields.duration(body.task_timeout_ms),
        "start_delay": fields.duration(body.start_delay_ms),
        "id_reuse_policy": WorkflowIDReusePolicy[body.id_reuse_policy.name],
        "id_conflict_policy": WorkflowIDConflictPolicy[body.id_conflict_policy.name],
        "cron_schedule": body.cron_schedule,
        "memo": memo or None,
        "search_attributes": typed_attributes(body.search_attributes),
        "static_summary": body.static_summary,
        "static_details": body.static_details,
    }
    if body.retry_policy is not None:
        options["retry_policy"] = body.retry_policy.policy()
    if body.priority is not None:
        options["priority"] = body.priority.priority()
    if body.versioning_override is not None:
        options["versioning_override"] = body.versioning_override.override()
    return options


@operation("POST", "/workflows", {201: "It runs.", **_POLICY_TEXT})
async def start_workflow(api: Api, body: NewWorkflowBody) -> Started:
    """Start a workflow."""
    workflow_id = body.workflow_id or new_id()
    handle = await api.client.start_workflow(body.workflow_type, id=workflow_id, **start_options(body))
    return Started(workflow_id=workflow_id, run_id=handle.result_run_id or "")


# --- one workflow ---------------------------------------------------------------------------------------------------


class ResultQuery(fields.RunQuery, kw_only=True):
    """Which run, and how long to wait."""

    follow_runs: Annotated[bool, Meta(description="If the run went on as a new one, that one's result.")] = True
    wait_ms: fields.WaitMs = HTTP_WAIT_MS_MAX


class Result(Answer, kw_only=True):
    """How a workflow ended; with status RUNNING it has not yet, so ask again."""

    workflow_id: str
    run_id: str
    status: WorkflowStatus
    result: msgspec.Raw
    failure: FailureView | None

    def status_code(self) -> int:
        """202 as long as there is no result."""
        return 202 if self.status is WorkflowStatus.RUNNING else 200


class DeleteQuery(fields.RunQuery, kw_only=True):
    """Which run, and why."""

    reason: fields.Reason = ""


class ForkBody(fields.RunBody, kw_only=True):
    """Where to fork (at the last workflow task if nothing is given), and the new workflow's id."""

    new_workflow_id: fields.WorkflowId
    event_id: (
        Annotated[int, Meta(ge=1, description="The completion of a workflow task; the last one if not given.")] | None
    ) = None
    first_workflow_task: bool = False


@operation("GET", "/workflows/{workflow_id}")
async def describe_workflow(api: Api, workflow_id: str, query: fields.RunQuery) -> RunDescription:
    """Describe a run: how it stands, what is pending, and why it fails."""
    return described_run(await api.ask(workflow_id, query.run_id, DescribeWorkflow(), Described, REQUEST_S))


@operation("GET", "/workflows/{workflow_id}/result", {202: "It has not ended yet: ask again."})
async def get_result(api: Api, workflow_id: str, query: ResultQuery) -> Result:
    """Wait for a workflow's end (long poll)."""
    run_id = query.run_id
    try:
        while True:
            closed = await api.ask(workflow_id, run_id, AwaitResult(), WorkflowClosed, query.wait_ms / 1000)
            if not (query.follow_runs and closed.new_run_id):
                break
            run_id = closed.new_run_id
    except RPCError as error:
        if error.status is not RPCStatusCode.DEADLINE_EXCEEDED:
            raise
        return Result(
            workflow_id=workflow_id, run_id=run_id, status=WorkflowStatus.RUNNING, result=json_of(None), failure=None
        )
    return Result(
        workflow_id=workflow_id,
        run_id=closed.run_id,
        status=closed.status,
        result=json_of(next(iter(closed.result), None)),
        failure=failure_view(closed.failure),
    )


@operation("POST", "/workflows/{workflow_id}/fork", {201: "The new workflow runs.", **_POLICY_TEXT})
async def fork_workflow(api: Api, workflow_id: str, body: ForkBody) -> Started:
    """Begin another workflow with the history of this one up to a step; this one is left as it is."""
    source = api.client.get_workflow_handle(workflow_id, run_id=body.run_id or None)
    handle = await source.fork(
        body.new_workflow_id, event_id=body.event_id, first_workflow_task=body.first_workflow_task
    )
    return Started(workflow_id=body.new_workflow_id, run_id=handle.result_run_id or "")


@operation("DELETE", "/workflows/{workflow_id}")
async def delete_workflow(api: Api, workflow_id: str, query: DeleteQuery) -> Nothing:
    """Remove a run with its history; an open one is terminated first."""
    handle = api.client.get_workflow_handle(workflow_id, run_id=query.run_id or None)
    await handle.delete(reason=query.reason)
    return Nothing()
