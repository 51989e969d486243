"""More workflows of golden histories: messages, composition and time. The rules of :mod:`golden_workflows` hold here.

Called by :mod:`tests.replay.golden_workflows`, which puts them all together.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from perdure.common import RawValue, RetryPolicy
from perdure.exceptions import ActivityError, ApplicationError, ChildWorkflowError, WorkflowAlreadyStartedError
from perdure_schemas.records import ResetWorkflow, WorkflowTaskCompletedEvent

LIMIT = timedelta(seconds=20)


@activity.defn
async def step(name: str) -> str:
    return f"{name} done"


@activity.defn
async def left_open() -> str:
    activity.raise_complete_async()


@activity.defn
async def works_until_cancelled() -> None:
    activity.heartbeat("begun")
    try:
        await asyncio.Event().wait()
    finally:
        activity.heartbeat("stopped")


@activity.defn
async def fails_once() -> int:
    if activity.info().attempt == 1:
        raise ApplicationError("once", type="Once")
    return activity.info().attempt


@activity.defn(dynamic=True)
async def any_activity(args: Sequence[RawValue]) -> str:
    return f"{activity.info().activity_type} with {len(args)}"


@workflow.defn
class Signalled:
    """Gets signals before its code runs: with the start, to a method, to a handler set later, and to none."""

    @workflow.init
    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.taken: list[str] = []

    @workflow.run
    async def run(self, wanted: int) -> list[str]:
        await workflow.wait_condition(lambda: len(self.taken) >= 1)
        workflow.set_signal_handler("late", lambda text: self.taken.append(f"late {text}"))
        workflow.set_current_details(f"{len(self.taken)} of {wanted}")
        await workflow.wait_condition(lambda: len(self.taken) == self.wanted)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.taken

    @workflow.signal
    async def early(self, text: str) -> None:
        await workflow.sleep(5)
        self.taken.append(f"early {text}")

    @workflow.query
    def count(self) -> int:
        return len(self.taken)


async def signalled(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    handle = await client.start_workflow(Signalled.run, 4, start_signal="early", start_signal_args=["a"], **options)
    await handle.signal("late", "b")
    await handle.signal("late", "c")
    assert await handle.query(Signalled.count) <= 3
    await handle.signal(Signalled.early, "d")
    return handle


@workflow.defn(dynamic=True)
class Dynamic:
    """Whatever it is called: it takes any signal, update, query and activity."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> list[str]:
        self.seen.append(
            f"{workflow.info().workflow_type} {workflow.payload_converter().from_payload(args[0].payload)}"
        )
        await workflow.wait_condition(lambda: len(self.seen) == 3)
        self.seen.append(await workflow.execute_activity("unheard_of", args=[1, 2], start_to_close_timeout=LIMIT))
        return self.seen

    @workflow.signal(dynamic=True)
    def any_signal(self, name: str, args: Sequence[RawValue]) -> None:
        self.seen.append(f"signal {name} {len(args)}")

    @workflow.update(dynamic=True)
    def any_update(self, name: str, args: Sequence[RawValue]) -> str:
        self.seen.append(f"update {name} {len(args)}")
        return name

    @workflow.query(dynamic=True)
    def any_query(self, name: str, args: Sequence[RawValue]) -> str:
        return f"query {name} {len(args)}"


async def dynamic(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    handle = await client.start_workflow("NeverDefined", "x", **options)
    assert await handle.query("what", 1) == "query what 1"
    assert await handle.execute_update("change", args=[1, 2]) == "change"
    await handle.signal("hurry")
    return handle


@workflow.defn
class Deadlines:
    """Conditions that run into their timeouts and one that does not, a cancelled timer, timeouts of asyncio."""

    @workflow.run
    async def run(self) -> list[str]:
        said: list[str] = []
        for awaited in (workflow.wait_condition(lambda: False, timeout=timedelta(hours=1)), self._too_long()):
            try:
                await awaited
            except TimeoutError:
                said.append(f"late at {workflow.time():.0f}")
        await workflow.wait_condition(lambda: len(said) == 2, timeout=timedelta(hours=1))
        sleeper = asyncio.create_task(workflow.sleep(timedelta(days=1), summary="never ends"))
        await workflow.sleep(1)
        sleeper.cancel()
        _, pending = await workflow.wait([sleeper], return_when=asyncio.ALL_COMPLETED)
        said.append(f"{len(pending)} pending")
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(self._in_turn(number, said))
        return said

    async def _too_long(self) -> None:
        async with asyncio.timeout(60):
            await asyncio.Event().wait()

    async def _in_turn(self, number: int, said: list[str]) -> None:
        await asyncio.sleep(workflow.random().randint(1, 9))
        said.append(str(number))


async def deadlines(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(Deadlines.run, **options)


@workflow.defn
class Patched:
    """Its code was changed under a patch, which an older one deprecates."""

    @workflow.run
    async def run(self) -> list[str]:
        said = []
        for _ in range(2):
            said.append("new" if workflow.patched("new-greeting") else "old")
            await workflow.sleep(1)
        workflow.deprecate_patch("older")
        said.append(await workflow.execute_activity(step, said[0], start_to_close_timeout=LIMIT))
        return said


async def patched(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(Patched.run, **options)


@workflow.defn
class Activities:
    """Activities that are retried, cancelled while they run, completed from outside and time out."""

    @workflow.run
    async def run(self) -> list[str]:
        said = [str(await workflow.execute_activity(fails_once, start_to_close_timeout=LIMIT))]
        running = workflow.start_activity(
            works_until_cancelled,
            start_to_close_timeout=timedelta(hours=1),
            heartbeat_timeout=timedelta(minutes=5),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        outside = workflow.start_activity(left_open, activity_id="outside", start_to_close_timeout=timedelta(hours=1))
        said.append(await outside)
        running.cancel()
        once = RetryPolicy(maximum_attempts=1)
        expiring = workflow.start_activity(left_open, start_to_close_timeout=timedelta(seconds=1), retry_policy=once)
        for ending in (running, expiring):
            try:
                await ending
            except ActivityError as error:
                said.append(type(error.cause).__name__)
        return said


async def activities(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    handle = await client.start_workflow(Activities.run, **options)
    while len((await handle.describe()).raw_description.pending_activities) < 2:
        await asyncio.sleep(0.05)
    outside = client.get_async_activity_handle(workflow_id=handle.id, run_id=None, activity_id="outside")
    await outside.heartbeat("nearly")
    await outside.complete("from outside")
    return handle


@workflow.defn
class Retried:
    """Fails and is run again by its retry policy: the history kept is that of the last attempt."""

    @workflow.run
    async def run(self) -> str:
        attempt = workflow.info().attempt
        if attempt < 3:
            raise ApplicationError(f"attempt {attempt}", type="Flaky")
        failure = workflow.get_last_failure()
        await workflow.sleep(1)
        raise ApplicationError(f"gave up after {failure}", non_retryable=True)


async def retried(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    policy = RetryPolicy(initial_interval=timedelta(minutes=1), maximum_attempts=5)
    return await _last_run(client, await client.start_workflow(Retried.run, retry_policy=policy, **options), 3)


@workflow.defn
class Daily:
    """Runs by a cron string, and knows what its last run returned."""

    @workflow.run
    async def run(self) -> int:
        last = workflow.get_last_completion_result(int) if workflow.has_last_completion_result() else 0
        return last + await workflow.execute_activity(fails_once, start_to_close_timeout=LIMIT)


async def daily(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    handle = await client.start_workflow(Daily.run, cron_schedule="0 3 * * *", **options)
    last = await _last_run(client, handle, 2)
    await last.result(follow_runs=False)
    await client.get_workflow_handle(handle.id).terminate(reason="enough days")
    return last


async def _last_run(client: Client, handle: WorkflowHandle[Any, Any], runs: int) -> WorkflowHandle[Any, Any]:
    """The handle of the run that stands at that place of the chain, once it is closed."""
    run_id = handle.result_run_id
    for _ in range(runs - 1):
        link = client.get_workflow_handle(handle.id, run_id=run_id)
        with contextlib.suppress(WorkflowFailureError):  # how a run ends is its own affair
            await link.result(follow_runs=False)
        run_id = getattr((await link.fetch_history()).events[-1].attributes, "new_run_id", "")
        assert run_id, "no run follows"
    return client.get_workflow_handle(handle.id, run_id=run_id)


@workflow.defn
class Listener:
    """Waits for a word of another workflow."""

    def __init__(self) -> None:
        self.words: list[str] = []

    @workflow.run
    async def run(self, patience: float) -> list[str]:
        await workflow.wait_condition(lambda: bool(self.words), timeout=patience)
        return self.words

    @workflow.signal
    def say(self, word: str) -> None:
        self.words.append(word)


@workflow.defn
class Family:
    """Reaches other workflows by their ids, and has children that time out, are terminated and cannot be started."""

    @workflow.run
    async def run(self, listener: str, victim: str) -> list[str]:
        known = workflow.get_external_workflow_handle_for(Listener.run, listener)
        await known.signal(Listener.say, "hello")
        await workflow.get_external_workflow_handle(victim).cancel()
        said = []
        children = [
            workflow.start_child_workflow(Listener.run, 60.0, id=f"{listener}-late"),
            workflow.start_child_workflow(
                Listener.run, 3600.0, id=f"{listener}-slow", execution_timeout=timedelta(minutes=2)
            ),
            workflow.start_child_workflow(
                Listener.run,
                3600.0,
                id=f"{listener}-left",
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            ),
            workflow.start_child_workflow(Listener.run, 36_000.0, id=f"{listener}-doomed"),
        ]
        late, slow, left, doomed = [await child for child in children]
        await left.signal(Listener.say, "word")
        said.append(str(await left))
        taken = workflow.execute_child_workflow(Listener.run, 1.0, id=workflow.info().workflow_id)
        for ending in (late, slow, doomed, taken):
            try:
                said.append(str(await ending))
            except ChildWorkflowError as error:
                said.append(type(error.cause).__name__)
            except WorkflowAlreadyStartedError as error:
                said.append(type(error).__name__)
        return said


async def family(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    task_queue = options["task_queue"]
    stem = options["id"]
    for name in ("listener", "victim"):
        await client.start_workflow(Listener.run, 360_000.0, id=f"{stem}-{name}", task_queue=task_queue)
    handle = await client.start_workflow(Family.run, args=[f"{stem}-listener", f"{stem}-victim"], **options)
    doomed = client.get_workflow_handle(f"{stem}-listener-doomed")
    while doomed.id not in [
        c.workflow_id for c in (await handle.describe()).raw_description.pending_children if c.run_id
    ]:
        await asyncio.sleep(0.05)
    await doomed.terminate(reason="the scenario wants it")
    return handle


async def timed_out(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    limit = timedelta(minutes=1)
    return await client.start_workflow(Listener.run, 3600.0, execution_timeout=limit, **options)


async def canceled(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    handle = await client.start_workflow(Listener.run, 3600.0, **options)
    await handle.cancel(reason="not needed")
    return handle


async def terminated(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    handle = await client.start_workflow(Patient.run, **options)
    assert await handle.query(Patient.ready)
    await handle.terminate("a detail", reason="enough")
    return handle


@workflow.defn
class Patient:
    """Waits until it is terminated."""

    @workflow.run
    async def run(self) -> None:
        await workflow.sleep(timedelta(days=365))

    @workflow.query
    def ready(self) -> bool:
        return True


@workflow.defn
class Stumbles:
    """Its code is broken when it runs for the first time, and repaired then: its workflow task is tried again."""

    broken = True

    @workflow.run
    async def run(self) -> str:
        if Stumbles.broken and not workflow.unsafe.is_replaying():
            Stumbles.broken = False
            raise RuntimeError("a bug")
        return await workflow.execute_activity(step, "repaired", start_to_close_timeout=LIMIT)


async def stumbles(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(Stumbles.run, **options)


@workflow.defn
class Amended:
    """Two steps with a word between them, for what operators do to a run: reset and fork."""

    def __init__(self) -> None:
        self.words: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        first = await workflow.execute_activity(step, str(workflow.uuid4()), start_to_close_timeout=LIMIT)
        await workflow.wait_condition(lambda: bool(self.words))
        second = await workflow.execute_activity(step, "second", start_to_close_timeout=LIMIT)
        return [first, second, *self.words]

    @workflow.signal
    def say(self, word: str) -> None:
        self.words.append(word)

    @workflow.update
    def refuse(self) -> None:
        raise ApplicationError("never", type="Refused")


async def reset(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    handle = await client.start_workflow(Amended.run, **options)
    try:
        await handle.execute_update(Amended.refuse, id="refused")
    except WorkflowUpdateFailedError:
        await handle.signal(Amended.say, "kept")
    await handle.result()
    body = ResetWorkflow(run_id=f"{handle.id}-anew", point="FirstWorkflowTask", reason="a bug")
    await (await client.connection()).ask(handle.id, "", body, 20.0, "the reset")
    return client.get_workflow_handle(handle.id, run_id=body.run_id)


@workflow.defn
class Copied:
    """Tells how far it is, and does the last of three steps as often as it is forked."""

    @workflow.run
    async def run(self) -> list[str]:
        done: list[str] = []
        for name in ("one", "two", "three"):
            workflow.set_current_details(f"before {name}")
            done.append(await workflow.execute_activity(step, name, start_to_close_timeout=LIMIT))
            await workflow.sleep(60)
        return done


async def forked(client: Client, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    source = await client.start_workflow(Copied.run, id=f"{options['id']}-source", task_queue=options["task_queue"])
    await source.result()
    history = await source.fetch_history()
    steps = [e.event_id for e in history.events if isinstance(e.attributes, WorkflowTaskCompletedEvent)]
    return await source.fork(options["id"], event_id=steps[3])


WORKFLOWS: list[type] = [
    Signalled, Dynamic, Deadlines, Patched, Activities, Retried, Daily, Listener, Family, Amended,
    Patient, Stumbles, Copied,
]  # fmt: skip
ACTIVITIES = [step, left_open, works_until_cancelled, fails_once, any_activity]
SCENARIOS = {
    "signalled": signalled,
    "dynamic": dynamic,
    "deadlines": deadlines,
    "patched": patched,
    "activities": activities,
    "retried": retried,
    "daily": daily,
    "family": family,
    "timed_out": timed_out,
    "canceled": canceled,
    "terminated": terminated,
    "stumbles": stumbles,
    "forked": forked,
    "reset": reset,
}
