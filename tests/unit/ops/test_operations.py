"""What the commands for operators ask of the engine, with a client that answers from memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perdure.client import Client
from perdure_ops import cli
from perdure_schemas.records import (
    Done,
    ErrorCode,
    PauseActivity,
    PauseWorkflow,
    Rejected,
    ReleaseWorkflow,
    ResetActivity,
    UnpauseActivity,
    UnpauseWorkflow,
    UpdateActivityOptions,
)


class FakeClient:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.answer: Any = Done()
        self.asked: list[tuple[str, str, Any]] = []
        self.calls: list[tuple[Any, ...]] = []

    async def connection(self) -> FakeClient:
        return self

    async def ask(self, workflow_id: str, run_id: str, body: Any, timeout_s: float, what: str) -> Any:
        self.asked.append((workflow_id, run_id, body))
        return self.answer

    def get_workflow_handle(self, workflow_id: str, *, run_id: str | None) -> FakeClient:
        self.calls.append((workflow_id, run_id))
        return self

    async def execute_update(self, name: str, *, args: Any, id: str | None) -> Any:
        self.calls.append(("execute", name, [arg.payload.data for arg in args], id))
        return {"count": 2}

    async def start_update(self, name: str, *, args: Any, id: str | None, wait_for_stage: Any) -> FakeClient:
        self.calls.append(("start", name, wait_for_stage.name))
        return self

    def get_update_handle(self, id: str) -> FakeClient:
        self.calls.append(("handle", id))
        return self

    async def result(self) -> Any:
        return 7

    @property
    def id(self) -> str:
        return "u-1"

    async def close(self) -> None:
        self.calls.append(("closed",))


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()

    async def connect(address: str, *, namespace: str) -> FakeClient:
        return fake

    monkeypatch.setattr(Client, "connect", connect)
    return fake


@pytest.fixture
def run(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (("workflow", "pause", "--reason", "night"), PauseWorkflow(reason="night")),
        (("workflow", "unpause"), UnpauseWorkflow()),
        (("workflow", "release"), ReleaseWorkflow()),
        (("activity", "pause", "-a", "x", "--reason", "r"), PauseActivity(activity_id="x", reason="r")),
        (
            ("activity", "unpause", "-a", "x", "--reset-attempts", "--reset-heartbeats", "--jitter", "2s"),
            UnpauseActivity(activity_id="x", reset_attempts=True, reset_heartbeat=True, jitter_ms=2_000),
        ),
        (("activity", "reset", "-a", "x", "--keep-paused"), ResetActivity(activity_id="x", keep_paused=True)),
        (("activity", "pause", "--activity-type", "charge"), PauseActivity(activity_type="charge")),
        (
            ("activity", "reset", "--activity-type", "charge", "--restore-original-options"),
            ResetActivity(activity_type="charge", restore_original_options=True),
        ),
        (
            ("activity", "update-options", "-a", "x", "--restore-original"),
            UpdateActivityOptions(activity_id="x", restore_original=True),
        ),
        (
            (
                "activity",
                "update-options",
                "-a",
                "x",
                "-t",
                "q",
                "--heartbeat-timeout",
                "1m",
                "--retry-maximum-attempts",
                "0",
            ),
            UpdateActivityOptions(
                activity_id="x", task_queue="q", heartbeat_timeout_ms=60_000, retry_maximum_attempts=0
            ),
        ),
    ],
)
def test_a_command_is_one_request(run: Run, client: FakeClient, arguments: tuple[str, ...], body: Any) -> None:
    code, out, _ = run(*arguments, "-w", "w-1", "-r", "r-1")
    assert (code, client.asked) == (0, [("w-1", "r-1", body)])
    assert "w-1" in out


@pytest.mark.parametrize("name", ["pause", "unpause", "reset", "update-options"])
def test_an_activity_is_meant_by_its_id_or_by_its_type(run: Run, client: FakeClient, name: str) -> None:
    for options in ((), ("-a", "x", "--activity-type", "charge")):
        code, _, errors = run("activity", name, "-w", "w-1", *options)
        assert (code, client.asked) == (2, [])
        assert "either --activity-id or --activity-type" in errors


def test_a_refusal_is_an_error(run: Run, client: FakeClient) -> None:
    client.answer = Rejected(code=ErrorCode.NOT_FOUND, message="workflow 'w' has no pending activity 'x'")
    code, out, err = run("activity", "pause", "-w", "w", "-a", "x")
    assert (code, out) == (1, "")
    assert "no pending activity 'x'" in err


def test_a_duration_that_is_none_is_an_error(run: Run, client: FakeClient) -> None:
    code, _, err = run("activity", "unpause", "-w", "w", "-a", "x", "--jitter", "soon")
    assert (code, client.asked) == (1, [])
    assert "--jitter" in err


def test_update_execute_prints_the_result(run: Run, client: FakeClient) -> None:
    code, out, _ = run("workflow", "update", "execute", "-w", "w", "--name", "add", "-i", '"A1"', "--update-id", "u")
    assert (code, out) == (0, '{"count": 2}\n')
    assert ("execute", "add", [b'"A1"'], "u") in client.calls


def test_update_start_waits_until_it_is_accepted_and_prints_its_id(run: Run, client: FakeClient) -> None:
    code, out, _ = run("workflow", "update", "start", "-w", "w", "--name", "add")
    assert (code, out) == (0, "u-1\n")
    assert ("start", "add", "ACCEPTED") in client.calls


def test_update_result_asks_for_one_that_was_sent(run: Run, client: FakeClient) -> None:
    code, out, _ = run("workflow", "update", "result", "-w", "w", "--update-id", "u-1")
    assert (code, out) == (0, "7\n")
    assert ("handle", "u-1") in client.calls
