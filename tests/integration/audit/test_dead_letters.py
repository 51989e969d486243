"""A dead letter keeps its record, and putting it back after a fix lets its workflow go on: on both logs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from perdure import activity, workflow
from perdure.client import Client, WorkflowHandle
from perdure.worker import Worker
from perdure_ops import cli, dlq
from perdure_ops.dead_letters import REPLAY_HEADER, Action, Letter, Plan, letters_of, plan_replay, put_back
from perdure_runtime.log import Log
from perdure_schemas import codec, keys
from perdure_schemas.records import ActivityTaskCompleted, Command, Done, ReleaseWorkflow
from perdure_schemas.topics import TopicNames
from tests.integration.bad_input.records import Stranger

TIMEOUT_S = 60.0

pytestmark = pytest.mark.writes_nonsense


@workflow.defn
class Patient:
    """Waits for one activity."""

    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity("treat", start_to_close_timeout=timedelta(minutes=5))


class Ward:
    """A workflow whose activity is running, and stops where the test lets it."""

    def __init__(self, client: Client, log: Log, names: TopicNames, handle: WorkflowHandle, go: asyncio.Event) -> None:
        self.client = client
        self.log = log
        self.names = names
        self.handle = handle
        self.go = go
        self.partition = keys.partition_of(handle.id, names.partitions)

    def letters(self) -> list[Letter]:
        """Those of this workflow: its commands are keyed by its id."""
        return [letter for letter in letters_of(self.log, self.names) if letter.content.key == self.handle.id.encode()]

    async def letter(self, found: Callable[[Letter], bool]) -> Letter:
        """Wait for a letter."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for letter in await asyncio.to_thread(self.letters):
                    if found(letter):
                        return letter
                await asyncio.sleep(0.05)

    async def fall_ill(self) -> tuple[Letter, Letter]:
        """Garbage puts the run into quarantine; so the completion of its activity goes to the dead letters, too."""
        topic = self.names.commands
        offset = Stranger(self.log, self.names).write(topic, self.partition, self.handle.id.encode(), b"garbage")
        garbage = await self.letter(lambda letter: letter.content.offset == offset)
        self.go.set()
        return garbage, await self.letter(is_completion)

    async def release(self) -> None:
        connection = await self.client.connection()
        answer = await connection.ask(self.handle.id, "", ReleaseWorkflow(), TIMEOUT_S, "a release")
        assert isinstance(answer, Done)

    def plans(self, *letters: Letter) -> list[Plan]:
        return plan_replay(self.log, self.names, letters)


def is_completion(letter: Letter) -> bool:
    try:
        command = codec.decode_as(letter.content.value, Command)
    except codec.DecodeError:
        return False
    return isinstance(command.body, ActivityTaskCompleted)


@pytest.fixture
async def ward(client: Client, platform: tuple[Log, TopicNames], task_queue: str) -> AsyncIterator[Ward]:
    started, go = asyncio.Event(), asyncio.Event()

    @activity.defn
    async def treat() -> str:
        started.set()
        await go.wait()
        return "well"

    async with Worker(client, task_queue=task_queue, workflows=[Patient], activities=[treat]):
        handle = await client.start_workflow(Patient.run, id=f"{task_queue}-patient", task_queue=task_queue)
        await asyncio.wait_for(started.wait(), TIMEOUT_S)
        yield Ward(client, *platform, handle, go)


async def test_a_completion_that_was_not_taken_is_put_back(ward: Ward) -> None:
    garbage, completion = await ward.fall_ill()
    assert garbage.content.value == b"garbage"
    assert "quarantined" in completion.content.reason
    await ward.release()

    plans = await asyncio.to_thread(ward.plans, garbage, completion)
    assert [plan.action for plan in plans] == [Action.REFUSED, Action.REPLAY]
    assert "it still cannot be read" in plans[0].reason
    record = plans[1].record
    assert record is not None
    assert (record.topic, record.partition) == (ward.names.commands, ward.partition)
    assert (record.key, record.value) == (completion.content.key, completion.content.value)

    assert await asyncio.to_thread(put_back, ward.log, plans) == 1
    assert await asyncio.wait_for(ward.handle.result(), TIMEOUT_S) == "well"
    (again,) = await asyncio.to_thread(ward.plans, completion)
    assert (again.action, again.record) == (Action.DONE, None)
    assert await asyncio.to_thread(put_back, ward.log, [again]) == 0


async def test_what_fails_again_names_the_letter_it_came_from(ward: Ward) -> None:
    _, completion = await ward.fall_ill()
    # Not released: it ends in the dead letters again.
    await asyncio.to_thread(lambda: put_back(ward.log, ward.plans(completion)))
    second = await ward.letter(lambda letter: letter.replay_of == completion.id)
    assert second.content.offset > completion.content.offset
    assert second.content.headers[REPLAY_HEADER] == completion.id.encode()
    await ward.release()
    plans = await asyncio.to_thread(ward.plans, completion, second)
    assert [plan.action for plan in plans] == [Action.DONE, Action.REPLAY]
    await asyncio.to_thread(put_back, ward.log, plans)
    assert await asyncio.wait_for(ward.handle.result(), TIMEOUT_S) == "well"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


async def test_the_command(ward: Ward, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    garbage, completion = await ward.fall_ill()
    await ward.release()
    monkeypatch.setattr(ward.log, "close", lambda: None)
    monkeypatch.setattr(dlq, "open_log", lambda _: ward.log)
    space = ("-n", ward.names.namespace)

    async def command(*arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(run, "dlq", *arguments, *space)
        return code, *capsys.readouterr()

    code, out, _ = await command("list", "-o", "json", "--limit", "100000")
    assert code == 0
    assert {garbage.id, completion.id} <= {row["id"] for row in json.loads(out)}
    code, out, _ = await command("show", completion.id, "-o", "json")
    shown = json.loads(out)
    assert (code, shown["record_type"], shown["unreadable"]) == (0, "Command", "")
    assert shown["record"]["workflow_id"] == ward.handle.id
    code, out, _ = await command("show", garbage.id)
    assert code == 0
    assert b"garbage".hex() in out
    assert "not an Avro" in out

    code, out, _ = await command("replay", completion.id, garbage.id, "--dry-run")
    assert code == 0
    assert "1 of 2 would be put back" in out
    code, _, err = await command("replay", completion.id)  # nobody answers the question
    assert code == 1
    assert "Put 1 records back?" in err
    code, out, _ = await command("replay", completion.id, "--yes")
    assert (code, "1 records put back" in out) == (0, True)
    assert await asyncio.wait_for(ward.handle.result(), TIMEOUT_S) == "well"
    code, out, _ = await command("replay", completion.id, "--yes")
    assert (code, "nothing to put back" in out, "replayed before" in out) == (0, True, True)

    for arguments, message in (
        (("replay",), "name the letters to replay"),
        (("replay", completion.id, "--all"), "name the letters to replay"),
        (("show", "no/1/2"), "has no dead letter no/1/2"),
    ):
        code, _, err = await command(*arguments)
        assert code == 1
        assert message in err
