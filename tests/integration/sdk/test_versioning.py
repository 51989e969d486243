"""Worker versions against a running engine: the main path on both logs, the rest on the embedded one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from perdure import activity, workflow
from perdure.client import Client, WorkflowHandle
from perdure.common import (
    AutoUpgradeVersioningOverride,
    PinnedVersioningOverride,
    RawValue,
    VersioningBehavior,
    WorkerDeploymentVersion,
)
from perdure.worker import Worker, WorkerDeploymentConfig
from perdure.workflow import ContinueAsNewVersioningBehavior, DynamicWorkflowConfig
from perdure_matching.core.ramping import ramps
from perdure_ops.commands_deployment import _version_rows
from perdure_ops.deployments import (
    Deployment,
    VersionStatus,
    delete_version,
    open_pinned_runs,
    read_deployments,
    with_current,
    with_ramping,
    write_routing,
)
from perdure_schemas.records import WorkflowExecutionStarted

DEADLINE_S = 60.0


def version() -> str:
    found = workflow.info().get_current_deployment_version()
    build_id = workflow.info().get_current_build_id()
    assert found is None or found.build_id == build_id
    return build_id


@workflow.defn(versioning_behavior=VersioningBehavior.PINNED)
class Pinned:
    """Notes the version of each of its workflow tasks, and that of its activities."""

    def __init__(self) -> None:
        self.versions: list[str] = []
        self.ended = False

    @workflow.run
    async def run(self) -> list[str]:
        self.versions.append(version())
        await workflow.wait_condition(lambda: self.ended)
        return self.versions

    @workflow.signal
    async def work(self) -> None:
        self.versions.append(version())
        done_by = await workflow.execute_activity("who", start_to_close_timeout=timedelta(seconds=30), result_type=str)
        self.versions.append(f"activity {done_by}")

    @workflow.signal
    def end(self) -> None:
        self.ended = True

    @workflow.query
    def seen(self) -> list[str]:
        return self.versions


@workflow.defn(versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class Moving(Pinned):
    @workflow.run
    async def run(self) -> list[str]:
        self.versions.append(version())
        await workflow.wait_condition(lambda: self.ended)
        return self.versions


@workflow.defn(versioning_behavior=VersioningBehavior.PINNED)
class Quick:
    @workflow.run
    async def run(self) -> str:
        return version()


@workflow.defn(versioning_behavior=VersioningBehavior.PINNED)
class Parent:
    """Starts children and goes on as new when it is told to."""

    def __init__(self) -> None:
        self.go = False

    @workflow.run
    async def run(self, how: str) -> list[str]:
        if how == "second run":
            return [version()]
        await workflow.wait_condition(lambda: self.go)
        if how != "child":
            workflow.continue_as_new("second run", initial_versioning_behavior=ContinueAsNewVersioningBehavior[how])
        return [version(), await workflow.execute_child_workflow(Quick.run)]

    @workflow.signal
    def now(self) -> None:
        self.go = True


@workflow.defn(dynamic=True)
class ByType:
    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> str:
        return version()

    @workflow.dynamic_config
    def config(self) -> DynamicWorkflowConfig:
        kind = workflow.info().workflow_type
        pinned = VersioningBehavior.PINNED if kind == "Stays" else VersioningBehavior.AUTO_UPGRADE
        return DynamicWorkflowConfig(versioning_behavior=pinned)


WORKFLOWS = [Pinned, Moving, Quick, Parent]


class Deployed:
    """A deployment on a task queue of a test: starts workers of its versions, and routes."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self.client = client
        self.task_queue = task_queue
        self.name = f"deployment-{task_queue}"

    def config(self, build_id: str) -> WorkerDeploymentConfig:
        return WorkerDeploymentConfig(WorkerDeploymentVersion(self.name, build_id), use_worker_versioning=True)

    def worker(self, build_id: str, workflows: list[type] = WORKFLOWS) -> Worker:
        @activity.defn(name="who")
        async def who() -> str:
            return build_id

        return Worker(
            self.client,
            task_queue=self.task_queue,
            workflows=workflows,
            activities=[who],
            deployment_config=self.config(build_id),
        )

    async def read(self) -> Deployment:
        connection = await self.client.connection()
        found = await asyncio.to_thread(read_deployments, connection.log, connection.names)
        return found.get(self.name, Deployment(self.name))

    async def known(self, *build_ids: str) -> Deployment:
        async with asyncio.timeout(DEADLINE_S):
            while not set(build_ids) <= (found := await self.read()).versions.keys():
                await asyncio.sleep(0.05)
        return found

    async def current(self, build_id: str) -> None:
        connection = await self.client.connection()
        routing = with_current(await self.known(build_id), build_id, any_queues=False, now_ms=connection.now_ms())
        await asyncio.to_thread(write_routing, connection.log, connection.names, routing)

    async def ramping(self, build_id: str | None, percentage: float) -> None:
        connection = await self.client.connection()
        found = await self.read() if build_id is None else await self.known(build_id)
        routing = with_ramping(found, build_id, percentage, any_queues=False, now_ms=connection.now_ms())
        await asyncio.to_thread(write_routing, connection.log, connection.names, routing)

    async def status(self, build_id: str) -> tuple[str, int]:
        rows = _version_rows(await self.read(), await open_pinned_runs(self.client))
        (row,) = [row for row in rows if row["build_id"] == build_id]
        return row["status"], row["open_pinned_runs"]

    async def until_status(self, build_id: str, status: VersionStatus) -> int:
        """How many runs are open once the version has that status."""
        async with asyncio.timeout(DEADLINE_S):
            while (found := await self.status(build_id))[0] != status.value:
                await asyncio.sleep(0.05)
        return found[1]

    async def start(self, workflow_type: Any, *args: Any, **options: Any) -> WorkflowHandle[Any, Any]:
        options.setdefault("id", f"{self.task_queue}-{uuid.uuid4().hex[:8]}")
        return await self.client.start_workflow(workflow_type, args=args, task_queue=self.task_queue, **options)

    async def until_routed(self, build_id: str) -> None:
        """Until new runs go to a version: every partition learns of a change by itself."""
        async with asyncio.timeout(DEADLINE_S):
            while await (await self.start(Quick.run)).result() != build_id:
                pass


async def until_seen(handle: WorkflowHandle[Any, Any], condition: Callable[[list[str]], bool]) -> list[str]:
    """What the run has noted, once that is enough."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition(seen := await handle.query(Pinned.seen)):
            await asyncio.sleep(0.02)
    return seen


async def test_pinned_runs_keep_their_version_and_others_move(client: Client, task_queue: str) -> None:
    deployed = Deployed(client, task_queue)
    async with deployed.worker("v1"):
        await deployed.current("v1")
        assert (await deployed.status("v1"))[0] == "CURRENT"
        pinned, moving = await deployed.start(Pinned.run), await deployed.start(Moving.run)
        for handle in (pinned, moving):
            assert await until_seen(handle, bool) == ["v1"]
        async with deployed.worker("v2"):
            await deployed.known("v1", "v2")
            assert (await deployed.status("v2"))[0] == "INACTIVE"
            await deployed.current("v2")
            await deployed.until_routed("v2")
            assert await deployed.until_status("v1", VersionStatus.DRAINING) == 1
            for handle in (pinned, moving):
                await handle.signal("work")
            assert await until_seen(pinned, lambda seen: len(seen) == 3) == ["v1", "v1", "activity v1"]
            assert await until_seen(moving, lambda seen: len(seen) == 3) == ["v1", "v2", "activity v2"]
            for handle in (pinned, moving):
                await handle.signal("end")
            assert await pinned.result() == ["v1", "v1", "activity v1"]
            assert await moving.result() == ["v1", "v2", "activity v2"]
            assert await deployed.until_status("v1", VersionStatus.DRAINED) == 0


async def test_a_ramp_leads_workflows_by_their_ids(embedded_client: Client, task_queue: str) -> None:
    deployed = Deployed(embedded_client, task_queue)
    async with deployed.worker("v1"), deployed.worker("v2"):
        await deployed.current("v1")
        await deployed.until_routed("v1")
        ids = [f"{task_queue}-ramp-{number}" for number in range(20)]
        for percentage, sample in ((100.0, ids[0]), (0.0, ids[0]), (50.0, next(id for id in ids if ramps(id, 50.0)))):
            await deployed.ramping("v2", percentage)
            expected = {id: "v2" if ramps(id, percentage) else "v1" for id in ids}
            async with asyncio.timeout(DEADLINE_S):
                while await (await deployed.start(Quick.run, id=sample)).result() != expected[sample]:
                    pass  # the routing is on its way
            handles = {id: await deployed.start(Quick.run, id=id) for id in ids}
            assert {id: await handle.result() for id, handle in handles.items()} == expected
        assert set(expected.values()) == {"v1", "v2"}
        await deployed.ramping(None, 0)
        assert (await deployed.read()).routing is not None
        assert await deployed.status("v2") == ("DRAINED", 0)


async def test_overrides_count_before_the_code(embedded_client: Client, task_queue: str) -> None:
    deployed = Deployed(embedded_client, task_queue)
    async with deployed.worker("v1"), deployed.worker("v2"):
        await deployed.known("v1", "v2")
        await deployed.current("v1")
        await deployed.until_routed("v1")
        on_v2 = PinnedVersioningOverride(WorkerDeploymentVersion(deployed.name, "v2"))
        kept = await deployed.start(Moving.run, versioning_override=on_v2)
        moved = await deployed.start(Pinned.run, versioning_override=AutoUpgradeVersioningOverride())
        assert await until_seen(kept, bool) == ["v2"]
        assert await until_seen(moved, bool) == ["v1"]
        assert await open_pinned_runs(embedded_client) == {f"{deployed.name}.v2": 1}
        await deployed.current("v2")
        await deployed.until_routed("v2")
        await moved.signal("work")
        assert await until_seen(moved, lambda seen: len(seen) == 3) == ["v1", "v2", "activity v2"]
        for handle in (kept, moved):
            await handle.signal("end")
            await handle.result()


async def test_children_and_runs_continued_as_new_inherit(embedded_client: Client, task_queue: str) -> None:
    deployed = Deployed(embedded_client, task_queue)
    async with deployed.worker("v1"):
        await deployed.current("v1")
        handles = {how: await deployed.start(Parent.run, how) for how in ("child", "UNSPECIFIED", "AUTO_UPGRADE")}
        async with deployed.worker("v2"):
            await deployed.until_status("v1", VersionStatus.CURRENT)
            async with asyncio.timeout(DEADLINE_S):
                while (await deployed.status("v1"))[1] < len(handles):
                    await asyncio.sleep(0.02)
            await deployed.current("v2")
            await deployed.until_routed("v2")
            for handle in handles.values():
                await handle.signal(Parent.now)
            results = {how: await handle.result() for how, handle in handles.items()}
    assert results == {"child": ["v1", "v1"], "UNSPECIFIED": ["v1"], "AUTO_UPGRADE": ["v2"]}


async def test_a_run_pinned_to_a_version_without_workers_waits_for_them(
    embedded_client: Client, task_queue: str
) -> None:
    deployed = Deployed(embedded_client, task_queue)
    async with deployed.worker("v1"):
        await deployed.current("v1")
        handle = await deployed.start(Pinned.run)
        assert await until_seen(handle, bool) == ["v1"]
    async with deployed.worker("v2"):
        await deployed.current("v2")
        await deployed.until_routed("v2")
        await handle.signal("end")
        description = await handle.describe()
        assert description.raw_description.summary.deployment_version == f"{deployed.name}.v1"
        assert description.raw_description.pending_workflow_task is not None
        assert await deployed.until_status("v1", VersionStatus.DRAINING) == 1
        async with deployed.worker("v1"):
            assert await handle.result() == ["v1"]


async def test_workers_without_a_version_take_what_is_not_routed(embedded_client: Client, task_queue: str) -> None:
    deployed = Deployed(embedded_client, task_queue)
    unversioned = Worker(embedded_client, task_queue=task_queue, workflows=WORKFLOWS, build_id="loose")
    async with unversioned, deployed.worker("v1"):
        await deployed.known("v1")
        handle = await deployed.start(Quick.run)
        assert await handle.result() == "loose"
        summary = (await handle.describe()).raw_description.summary
        assert (summary.deployment_version, summary.versioning_behavior.value) == ("", "UNSPECIFIED")


async def test_a_dynamic_workflow_says_how_it_moves(embedded_client: Client, task_queue: str) -> None:
    deployed = Deployed(embedded_client, task_queue)
    async with deployed.worker("v1", [ByType]):
        await deployed.current("v1")
        for kind, expected in (("Stays", "PINNED"), ("Moves", "AUTO_UPGRADE")):
            handle = await deployed.start(kind)
            assert await handle.result() == "v1"
            summary = (await handle.describe()).raw_description.summary
            assert summary.versioning_behavior.value == expected


async def test_a_deleted_version_is_known_again_when_a_worker_lives(embedded_client: Client, task_queue: str) -> None:
    deployed = Deployed(embedded_client, task_queue)
    connection = await embedded_client.connection()
    async with deployed.worker("v1"):
        found = await deployed.known("v1")
        await asyncio.to_thread(delete_version, connection.log, connection.names, found, "v1")
        await deployed.known("v1")
    async with asyncio.timeout(DEADLINE_S):
        # Its last heartbeats may be read behind the first deletion.
        while (found := await deployed.read()).versions:
            await asyncio.to_thread(delete_version, connection.log, connection.names, found, "v1")


async def test_a_run_of_no_version_has_none_in_its_history(embedded_client: Client, task_queue: str) -> None:
    async with Worker(embedded_client, task_queue=task_queue, workflows=[Quick]):
        handle = await embedded_client.start_workflow(Quick.run, id=f"{task_queue}-plain", task_queue=task_queue)
        assert await handle.result() == ""
    events = (await handle.fetch_history()).events
    started = events[0].attributes
    assert isinstance(started, WorkflowExecutionStarted)
    assert (started.versioning_override, started.inherited_version) == (None, "")
