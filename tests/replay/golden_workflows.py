"""The workflows whose histories are kept in ``golden/``: one class for each feature, and how its history comes about.

A golden history was written by the code of its time. Changing a class here, or the runtime, so that its history does
not replay any more is the mistake this folder is there to find; so add workflows, and never record one anew to make a
test pass. To add one: write the class, put a scenario into :data:`SCENARIOS`, run ``python -m tests.replay.record
NAME``, and commit the file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from perdure import activity, workflow
from perdure.client import Client, WithStartWorkflowOperation, WorkflowHandle, WorkflowUpdateStage
from perdure.common import RetryPolicy, SearchAttributeKey, VersioningBehavior, WorkflowIDConflictPolicy
from perdure.exceptions import ActivityError, ApplicationError, ChildWorkflowError
from perdure.worker import Worker, WorkerDeploymentConfig, WorkerDeploymentVersion
from perdure_ops.deployments import read_deployments, with_current, write_routing
from perdure_runtime.embedded.carrying import user_topic_spec
from perdure_runtime.log import NewRecord
from perdure_schemas.records import PauseWorkflow, UnpauseWorkflow
from tests.replay import golden_messages

LIMIT = timedelta(seconds=20)
CUSTOMER = SearchAttributeKey.for_keyword("Customer")
AMOUNT = SearchAttributeKey.for_int("Amount")


@activity.defn
async def greet(name: str) -> str:
    return f"hello {name}"


@activity.defn
async def fail(reason: str) -> None:
    raise ApplicationError(reason, type="Refused", non_retryable=True)


@activity.defn
async def not_yet(reason: str) -> None:
    raise ApplicationError(reason, type="NotYet")


@workflow.defn
class Waits:
    """Sleeps a month, waits for a person, and has a deadline."""

    def __init__(self) -> None:
        self.answer = ""

    @workflow.run
    async def run(self) -> str:
        await workflow.sleep(timedelta(days=30))
        await workflow.wait_condition(lambda: self.answer != "", timeout=timedelta(days=7))
        return f"{self.answer} at {workflow.now().isoformat()} ({workflow.uuid4()})"

    @workflow.signal
    def decide(self, answer: str) -> None:
        self.answer = answer

    @workflow.query
    def current(self) -> str:
        return self.answer


@workflow.defn
class Compensates:
    """Runs activities beside each other, one of which fails, and undoes what was done."""

    @workflow.run
    async def run(self, names: list[str]) -> list[str]:
        done = await asyncio.gather(
            *(workflow.execute_activity(greet, name, start_to_close_timeout=LIMIT) for name in names)
        )
        try:
            await workflow.execute_activity(
                fail, "no", start_to_close_timeout=LIMIT, retry_policy=RetryPolicy(maximum_attempts=1)
            )
        except ActivityError:
            done.append(await workflow.execute_activity(greet, "undo", start_to_close_timeout=LIMIT))
        return done


@workflow.defn
class Cancelled:
    """Is cancelled while it sleeps, and cleans up."""

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.sleep(timedelta(days=1))
        except asyncio.CancelledError:
            await workflow.execute_activity(greet, "cleaner", start_to_close_timeout=LIMIT)
        return "clean"


@workflow.defn
class Helper:
    """A child: waits for what its parent says."""

    def __init__(self) -> None:
        self.word = ""

    @workflow.run
    async def run(self, refuses: bool) -> str:
        if refuses:
            raise ApplicationError("no", type="Refused")
        await workflow.wait_condition(lambda: self.word != "")
        return self.word

    @workflow.signal
    def say(self, word: str) -> None:
        self.word = word


@workflow.defn
class Composes:
    """Has children that return, fail and are cancelled, and talks to a workflow that is not there."""

    @workflow.run
    async def run(self) -> list[str]:
        said = []
        helper = await workflow.start_child_workflow(Helper.run, False)
        await helper.signal(Helper.say, "thanks")
        said.append(await helper)
        stopped = await workflow.start_child_workflow(Helper.run, False)
        stopped.cancel()
        for ending in (stopped, workflow.execute_child_workflow(Helper.run, True)):
            try:
                said.append(await ending)
            except ChildWorkflowError as error:
                said.append(f"{error.message}: {error.cause}")
        nobody = workflow.get_external_workflow_handle("nobody")
        for request in (nobody.signal("say", "hello"), nobody.cancel()):
            try:
                await request
            except ApplicationError as error:
                said.append(str(error.type))
        return said


@workflow.defn
class Updated:
    """Takes updates, with the start and alone, rejects one, and finishes a slow one before it ends."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.closed = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.closed)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.items

    @workflow.update
    def add(self, item: str) -> int:
        self.items.append(item)
        return len(self.items)

    @add.validator
    def check(self, item: str) -> None:
        if item in self.items:
            raise ApplicationError("there already")

    @workflow.update
    async def close(self, name: str) -> str:
        self.closed = True
        self.items.append(await workflow.execute_activity(greet, name, start_to_close_timeout=LIMIT))
        await workflow.sleep(1)
        return self.items[-1]


@workflow.defn
class Continues:
    """Changes its memo and its search attributes, and continues as new with what signals brought."""

    def __init__(self) -> None:
        self.total = 0

    @workflow.run
    async def run(self, runs_left: int, total: int) -> int:
        self.total += total
        workflow.upsert_memo({"total": self.total, "old": None})
        workflow.upsert_search_attributes([CUSTOMER.value_set("ada"), AMOUNT.value_unset()])
        await workflow.sleep(timedelta(hours=1))
        if runs_left:
            workflow.continue_as_new(args=[runs_left - 1, self.total], memo={"old": 1})
        return self.total

    @workflow.signal
    def add(self, number: int) -> None:
        self.total += number


async def _waits(client: Client, options: dict[str, str]) -> WorkflowHandle[Any, Any]:
    handle = await client.start_workflow(Waits.run, **options)
    await handle.signal(Waits.decide, "yes")
    return handle


async def _compensates(client: Client, options: dict[str, str]) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(Compensates.run, ["a", "b"], **options)


async def _cancelled(client: Client, options: dict[str, str]) -> WorkflowHandle[Any, Any]:
    handle = await client.start_workflow(Cancelled.run, **options)
    await handle.cancel()
    return handle


async def _composes(client: Client, options: dict[str, str]) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(Composes.run, **options)


async def _updated(client: Client, options: dict[str, str]) -> WorkflowHandle[Any, Any]:
    start = WithStartWorkflowOperation(
        Updated.run,
        id=options["id"],
        task_queue=options["task_queue"],
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
    )
    await client.execute_update_with_start_workflow(Updated.add, "a", start_workflow_operation=start, id="first")
    handle = await start.workflow_handle()
    rejected = await handle.start_update(Updated.add, "a", wait_for_stage=WorkflowUpdateStage.ACCEPTED, id="rejected")
    assert rejected.id == "rejected"
    await handle.execute_update(Updated.add, "b", id="second")
    await handle.execute_update(Updated.close, "c", id="third")
    return handle


async def _continues(client: Client, options: dict[str, str]) -> WorkflowHandle[Any, Any]:
    handle = await client.start_workflow(Continues.run, args=[1, 5], **options)
    await handle.signal(Continues.add, 2)
    # The history of the run that continued as new is the one to keep.
    await handle.result()
    return client.get_workflow_handle(options["id"], run_id=handle.result_run_id)


@workflow.defn
class Locals:
    """Local activities: side by side, failing, waiting with a timer, and cancelled."""

    @workflow.run
    async def run(self) -> list[object]:
        limit = {"start_to_close_timeout": timedelta(minutes=1)}
        side_by_side = await asyncio.gather(
            workflow.execute_local_activity(greet, "one", **limit),
            workflow.execute_local_activity(greet, "two", **limit),
        )
        ends: list[object] = []
        waiting = RetryPolicy(initial_interval=timedelta(minutes=5), maximum_attempts=2)
        try:
            await workflow.execute_local_activity(not_yet, "x", retry_policy=waiting, **limit)
        except ActivityError as error:
            ends.append(type(error.cause).__name__)
        handle = workflow.start_local_activity(greet, "three", **limit)
        handle.cancel()
        try:
            await handle
        except ActivityError as error:
            ends.append(type(error.cause).__name__)
        return [*side_by_side, *ends]


async def _locals(client: Client, options: dict[str, str]) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(Locals.run, **options)


@workflow.defn
class Paused:
    """Is paused and unpaused between two signals."""

    def __init__(self) -> None:
        self.signals: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: len(self.signals) == 2)
        self.signals.append(await workflow.execute_activity(greet, "Ada", start_to_close_timeout=LIMIT))
        return self.signals

    @workflow.signal
    def note(self, text: str) -> None:
        self.signals.append(text)

    @workflow.query
    def count(self) -> int:
        return len(self.signals)


async def _paused(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    handle = await client.start_workflow(Paused.run, **options)
    await handle.signal(Paused.note, "before")
    assert await handle.query(Paused.count) == 1
    connection = await client.connection()
    await connection.ask(handle.id, "", PauseWorkflow(reason="night"), 10.0, "the pause")
    await handle.signal(Paused.note, "while paused")
    await connection.ask(handle.id, "", UnpauseWorkflow(), 10.0, "the end of the pause")
    return handle


@workflow.defn(versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class Versioned:
    """Is moved from one version of its workers to another, and does what the version says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: len(self.said) == 2)
        if self.said[-1] == "two":
            self.said.append(await workflow.execute_activity(greet, "Ada", start_to_close_timeout=LIMIT))
        return self.said

    @workflow.signal
    def note(self) -> None:
        version = workflow.info().get_current_deployment_version()
        self.said.append("" if version is None else version.build_id)

    @workflow.query
    def all_said(self) -> list[str]:
        return self.said


async def _versioned(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    connection = await client.connection()
    task_queue = "golden-versions"

    def worker(build_id: str) -> Worker:
        config = WorkerDeploymentConfig(WorkerDeploymentVersion("golden", build_id), use_worker_versioning=True)
        return Worker(
            client, task_queue=task_queue, workflows=[Versioned], activities=[greet], deployment_config=config
        )

    async def make_current(build_id: str) -> None:
        while True:
            found = read_deployments(connection.log, connection.names).get("golden")
            if found is not None and build_id in found.versions:
                break
            await asyncio.sleep(0.05)
        routing = with_current(found, build_id, any_queues=False, now_ms=connection.now_ms())
        await asyncio.to_thread(write_routing, connection.log, connection.names, routing)

    async with worker("one"):
        await make_current("one")
        handle = await client.start_workflow(Versioned.run, **{**options, "task_queue": task_queue})
        await handle.signal(Versioned.note)
        assert await handle.query(Versioned.all_said) == ["one"]
    async with worker("two"):
        await make_current("two")
        await handle.signal(Versioned.note)
        assert await handle.result() == ["one", "two", "hello Ada"]
    return handle


@workflow.defn
class Emits:
    """Emits records before and after it waits."""

    @workflow.run
    async def run(self, topic: str) -> int:
        for number in range(2):
            workflow.emit(topic, workflow.info().workflow_id, {"number": number}, {"kind": "golden"})
            await workflow.sleep(60)
        workflow.emit(topic, key=b"end")
        return 3


async def _emits(client: Client, options: dict[str, str]) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(Emits.run, "golden", **options)


@workflow.defn
class AwaitsRecords:
    """Waits for a record that does not come, and for one that was there."""

    @workflow.run
    async def run(self, topic: str) -> list[Any]:
        found: list[Any] = []
        try:
            await workflow.wait_for_record(topic, "nobody", timeout=60)
        except TimeoutError:
            found.append("timed out")
        record = await workflow.wait_for_record(topic, "k", where={"n": 1}, look_back=timedelta(days=1))
        return [*found, record.value, workflow.now().isoformat()]


async def _awaits_records(client: Client, options: dict[str, str]) -> WorkflowHandle[Any, Any]:
    log = (await client.connection()).log
    log.create_topics({"golden-waits": user_topic_spec("golden-waits")}, 1)
    handle = await client.start_workflow(AwaitsRecords.run, "golden-waits", **options)
    values = (b'{"n":0}', b'{"n":1}')
    log.producer("golden").append([NewRecord("golden-waits", 0, b"k", value) for value in values])
    return handle


Scenario = Callable[[Client, dict[str, str]], Awaitable[WorkflowHandle[Any, Any]]]

WORKFLOWS: list[type] = [
    Waits, Compensates, Cancelled, Helper, Composes, Updated, Continues, Locals, Paused, Versioned, Emits,
    AwaitsRecords,
    *golden_messages.WORKFLOWS,
]  # fmt: skip
ACTIVITIES: list[Callable[..., Any]] = [greet, fail, not_yet, *golden_messages.ACTIVITIES]
#: Name of the file in ``golden/`` → starts the workflow with these options (id, task queue) and does all it waits for.
SCENARIOS: dict[str, Scenario] = {
    "waits": _waits,
    "compensates": _compensates,
    "cancelled": _cancelled,
    "composes": _composes,
    "updated": _updated,
    "continues": _continues,
    "locals": _locals,
    "paused": _paused,
    "versioned": _versioned,
    "emits": _emits,
    "awaits_records": _awaits_records,
    **golden_messages.SCENARIOS,
}
