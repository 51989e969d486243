"""Deployments of workers over HTTP: which versions there are, which of them gets new work, and changes of that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from perdure_ops import deployments as found
from perdure_ops.http_api import fields
from perdure_ops.http_api.context import Api
from perdure_ops.http_api.operations import Answer, Nothing, Operations
from perdure_ops.http_api.problems import ProblemError
from perdure_ops.http_api.views import time_of
from perdure_schemas.keys import version_name
from perdure_schemas.records import DeploymentRouting

__all__ = ["operation"]

operation = Operations("Deployments", "Versions of workers: which there are, and which of them gets new work.")

_BuildId = Annotated[str, Meta(description="A build id; empty: workers without a version.")]


class VersionView(msgspec.Struct, kw_only=True):
    """A version. ``status`` is INACTIVE, CURRENT, RAMPING, DRAINING (open runs are pinned to it) or DRAINED."""

    build_id: str
    status: str
    open_pinned_runs: int
    task_queues: list[str]
    retired_time: datetime | None


class DeploymentView(Answer, kw_only=True):
    """A deployment. A build id that is empty means workers without a version; ``ramping_build_id`` ``null``: none."""

    name: str
    current_build_id: str
    ramping_build_id: str | None
    ramping_percentage: float
    changed_time: datetime | None
    changed_by: str
    versions: list[VersionView]


class DeploymentList(Answer, kw_only=True):
    """All deployments."""

    deployments: list[DeploymentView]


class CurrentBody(fields.Body, kw_only=True):
    """The version that gets new work."""

    build_id: _BuildId
    ignore_missing_task_queues: bool = False


class RampingBody(fields.Body, kw_only=True):
    """The version that gets a part of the workflows; ``null``: none."""

    build_id: _BuildId | None
    percentage: Annotated[float, Meta(ge=0, le=100)] = 0.0
    ignore_missing_task_queues: bool = False


class DeleteVersionQuery(fields.Query, kw_only=True):
    """Whether to wait for its runs."""

    skip_drainage: Annotated[bool, Meta(description="Even if open runs are pinned to it.")] = False


@operation("GET", "/deployments")
async def list_deployments(api: Api) -> DeploymentList:
    """List deployments with their versions."""
    all_ = await _read(api)
    open_runs = await found.open_pinned_runs(api.client) if all_ else {}
    return DeploymentList(deployments=[_view(deployment, open_runs) for deployment in all_.values()])


@operation("GET", "/deployments/{deployment}")
async def describe_deployment(api: Api, deployment: str) -> DeploymentView:
    """Describe a deployment."""
    known = _existing(await _read(api), deployment)
    return _view(known, await found.open_pinned_runs(api.client))


@operation("POST", "/deployments/{deployment}/current")
async def set_current_version(api: Api, deployment: str, body: CurrentBody) -> Nothing:
    """Lead new runs, and the next workflow task of auto-upgrade runs, to a version."""
    return await _change(
        api,
        deployment,
        lambda known, now_ms: found.with_current(
            known, body.build_id, any_queues=body.ignore_missing_task_queues, now_ms=now_ms
        ),
    )


@operation("POST", "/deployments/{deployment}/ramping")
async def set_ramping_version(api: Api, deployment: str, body: RampingBody) -> Nothing:
    """Lead a part of the workflows to a version, to try it out; or, without a version, end that."""
    return await _change(
        api,
        deployment,
        lambda known, now_ms: found.with_ramping(
            known, body.build_id, body.percentage, any_queues=body.ignore_missing_task_queues, now_ms=now_ms
        ),
    )


@operation("DELETE", "/deployments/{deployment}/versions/{build_id}")
async def delete_version(api: Api, deployment: str, build_id: str, query: DeleteVersionQuery) -> Nothing:
    """Forget a version that gets no work any more. Stop its workers before: a living one makes it known again."""
    known = _existing(await _read(api), deployment)
    if build_id not in known.versions:
        raise ProblemError(404, "NOT_FOUND", f"deployment {deployment!r} has no version {build_id!r}", "build_id")
    status = known.status(build_id, await found.open_pinned_runs(api.client))
    if status in (found.VersionStatus.CURRENT, found.VersionStatus.RAMPING):
        detail = f"build id {build_id!r} is {status.lower()}; make another one that before"
        raise ProblemError(409, "FAILED_PRECONDITION", detail, "build_id")
    if status is found.VersionStatus.DRAINING and not query.skip_drainage:
        detail = f"open runs are pinned to build id {build_id!r}: wait until it is drained, or give skip_drainage=true"
        raise ProblemError(409, "FAILED_PRECONDITION", detail, "build_id")
    await asyncio.to_thread(found.delete_version, api.log, api.names, known, build_id)
    return Nothing()


async def _read(api: Api) -> found.Deployments:
    return await asyncio.to_thread(found.read_deployments, api.log, api.names)


def _existing(all_: found.Deployments, name: str) -> found.Deployment:
    known = all_.get(name)
    if known is None:
        names = ", ".join(all_) or "none"
        detail = f"there is no deployment {name!r}; there are: {names}. It is there once a worker of it started"
        raise ProblemError(404, "NOT_FOUND", detail, "deployment")
    return known


async def _change(api: Api, name: str, change: Callable[[found.Deployment, int], DeploymentRouting]) -> Nothing:
    connection = await api.client.connection()

    def work() -> None:
        known = _existing(found.read_deployments(api.log, api.names), name)
        routing = change(known, connection.now_ms())
        found.write_routing(api.log, api.names, msgspec.structs.replace(routing, identity=connection.identity))

    await asyncio.to_thread(work)
    return Nothing()


def _view(deployment: found.Deployment, open_runs: dict[str, int]) -> DeploymentView:
    routing = deployment.routing
    retired = {} if routing is None else routing.retired_ms
    return DeploymentView(
        name=deployment.name,
        current_build_id="" if routing is None else routing.current_build_id,
        ramping_build_id=None if routing is None else routing.ramping_build_id,
        ramping_percentage=0.0 if routing is None else routing.ramping_percentage,
        changed_time=None if routing is None else time_of(routing.time_ms),
        changed_by="" if routing is None else routing.identity,
        versions=[
            VersionView(
                build_id=build_id,
                status=deployment.status(build_id, open_runs).value,
                open_pinned_runs=open_runs.get(version_name(deployment.name, build_id), 0),
                task_queues=sorted(queues),
                retired_time=time_of(retired.get(build_id)),
            )
            for build_id, queues in sorted(deployment.versions.items())
        ],
    )
