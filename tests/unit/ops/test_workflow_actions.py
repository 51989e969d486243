"""What the workflow commands send and print, with a client that answers from memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.client import (
    Client,
    WorkflowExecutionCount,
    WorkflowExecutionCountAggregationGroup,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHistory,
)
from perdure.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from perdure.exceptions import ApplicationError, CancelledError, TerminatedError
from perdure_ops import cli
from perdure_schemas import records


class FakeHandle:
    def __init__(self, client: FakeClient, workflow_id: str, run_id: str | None = None) -> None:
        self.client = client
        self.id = workflow_id
        self.run_id = run_id
        self.first_execution_run_id = "run-1"

    async def result(self) -> Any:
        if isinstance(self.client.answer, BaseException):
            raise self.client.answer
        return self.client.answer

    async def signal(self, name: str, *, args: Any) -> None:
        self.client.calls.append(("signal", self.id, self.run_id, name, _values(args)))

    async def query(self, name: str, *, args: Any, reject_condition: Any) -> Any:
        self.client.calls.append(("query", self.id, name, _values(args), reject_condition))
        return self.client.answer

    async def cancel(self, *, reason: str) -> None:
        self.client.calls.append(("cancel", self.id, self.run_id, reason))

    async def terminate(self, *, reason: str) -> None:
        self.client.calls.append(("terminate", self.id, self.run_id, reason))

    async def describe(self) -> Any:
        return SimpleNamespace(raw_description=self.client.answer)

    async def fetch_history(self) -> Any:
        return self.client.answer


class FakeClient:
    namespace = "default"

    def __init__(self) -> None:
        self.answer: Any = None
        self.calls: list[tuple[Any, ...]] = []
        self.connected: tuple[str, str] | None = None
        self.closed = False
        self.executions: list[Any] = []

    async def start_workflow(self, workflow: str, *, args: Any, **options: Any) -> FakeHandle:
        self.calls.append(("start", workflow, _values(args), options))
        return FakeHandle(self, options["id"])

    def get_workflow_handle(self, workflow_id: str, *, run_id: str | None) -> FakeHandle:
        return FakeHandle(self, workflow_id, run_id)

    async def list_workflows(self, query: str, *, limit: int, page_size: int) -> AsyncIterator[Any]:
        self.calls.append(("list", query, limit, page_size))
        for execution in self.executions[:limit]:
            yield execution

    async def count_workflows(self, query: str) -> WorkflowExecutionCount:
        self.calls.append(("count", query))
        groups = [WorkflowExecutionCountAggregationGroup(2, ["Running"])] if "GROUP" in query else []
        return WorkflowExecutionCount(2, groups)

    async def close(self) -> None:
        self.closed = True


def _values(args: Any) -> list[Any]:
    assert all(arg.payload.metadata == {"encoding": b"json/plain"} for arg in args)
    return [json.loads(arg.payload.data) for arg in args]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()

    async def connect(address: str, *, namespace: str) -> FakeClient:
        fake.connected = (address, namespace)
        return fake

    monkeypatch.setattr(Client, "connect", connect)
    for variable in ("PERDURE_ADDRESS", "PERDURE_NAMESPACE", cli.DEBUG_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    return fake


@pytest.fixture
def run(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(("workflow", *arguments))
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return run


Run = Callable[..., tuple[int, str, str]]
START = ("--type", "Order", "-t", "orders", "-w", "o-1")


def test_start_sends_every_option(run: Run, client: FakeClient) -> None:
    code, out, _ = run(
        "start", *START, "-i", '{"a": 1}', "-i", "null", "--execution-timeout", "1h", "--run-timeout", "30m",
        "--task-timeout", "5s", "--id-reuse-policy", "RejectDuplicate", "--id-conflict-policy", "use_existing",
        "--memo", 'team="red"', "-o", "json",
    )  # fmt: skip
    assert code == 0
    assert client.calls == [
        (
            "start",
            "Order",
            [{"a": 1}, None],
            {
                "id": "o-1",
                "task_queue": "orders",
                "execution_timeout": timedelta(hours=1),
                "run_timeout": timedelta(minutes=30),
                "task_timeout": timedelta(seconds=5),
                "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
                "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
                "memo": {"team": "red"},
            },
        )
    ]
    assert json.loads(out) == {
        "workflow_id": "o-1",
        "run_id": "run-1",
        "type": "Order",
        "namespace": "default",
        "task_queue": "orders",
    }
    assert client.closed


def test_the_connection_follows_the_options_and_the_environment(
    run: Run, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("list")
    assert client.connected == ("localhost:7233", "default")
    monkeypatch.setenv("PERDURE_ADDRESS", "kafka://b")
    monkeypatch.setenv("PERDURE_NAMESPACE", "prod")
    run("list")
    assert client.connected == ("kafka://b", "prod")
    run("list", "--address", "h:1", "-n", "x")
    assert client.connected == ("h:1", "x")


def test_a_start_without_an_id_makes_one(run: Run, client: FakeClient) -> None:
    run("start", "--type", "Order", "-t", "orders")
    run("start", "--type", "Order", "-t", "orders")
    ids = {call[3]["id"] for call in client.calls}
    assert len(ids) == 2


def test_an_unknown_policy_names_the_known_ones(run: Run) -> None:
    code, _, err = run("start", *START, "--id-reuse-policy", "Maybe")
    assert code == 1
    assert err == (
        "Error: --id-reuse-policy: 'Maybe' is none of AllowDuplicate, AllowDuplicateFailedOnly, RejectDuplicate,"
        " TerminateIfRunning\n"
    )


def test_execute_prints_the_bare_result_for_people_and_more_for_programs(run: Run, client: FakeClient) -> None:
    client.answer = {"paid": "ü"}
    code, out, err = run("execute", *START)
    assert (code, out) == (0, '{"paid": "ü"}\n')
    assert "o-1" in err
    code, out, err = run("execute", *START, "-o", "jsonl")
    assert json.loads(out) == {"workflow_id": "o-1", "status": "COMPLETED", "result": {"paid": "ü"}}
    assert err == ""


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        (ApplicationError("no luck", type="Broken"), "FAILED"),
        (CancelledError("asked to stop"), "CANCELED"),
        (TerminatedError("enough"), "TERMINATED"),
    ],
)
def test_a_workflow_that_does_not_complete_fails_the_command(
    run: Run, client: FakeClient, cause: BaseException, status: str
) -> None:
    client.answer = WorkflowFailureError(cause=cause)
    code, out, err = run("result", "-w", "o-1", "-o", "json")
    assert code == 1
    assert json.loads(out)["status"] == status
    assert err.count("\n") == 1
    assert err.startswith("Error: workflow o-1 did not complete: ")
    assert str(cause) in err


def test_signal_query_cancel_and_terminate_reach_the_handle(run: Run, client: FakeClient) -> None:
    client.answer = [1, 2]
    assert run("signal", "-w", "w", "-r", "r", "--name", "add", "-i", "5")[0] == 0
    assert run("query", "-w", "w", "--name", "content")[1] == "[1, 2]\n"
    assert run("cancel", "-w", "w", "--reason", "why")[0] == 0
    assert run("terminate", "-w", "w", "-r", "r")[0] == 0
    assert client.calls == [
        ("signal", "w", "r", "add", [5]),
        ("query", "w", "content", [], None),
        ("cancel", "w", None, "why"),
        ("terminate", "w", "r", ""),
    ]


def _execution(number: int, status: WorkflowExecutionStatus, workflow_type: str = "Order") -> SimpleNamespace:
    return SimpleNamespace(
        status=status,
        id=f"w-{number}",
        run_id=f"r-{number}",
        workflow_type=workflow_type,
        task_queue="orders",
        start_time=datetime(2026, 1, number, tzinfo=UTC),
        close_time=None,
        history_length=3,
        raw_info=SimpleNamespace(paused=number == 1, stuck_reason="boom" if number == 4 else ""),
    )


def test_list_filters_and_limits(run: Run, client: FakeClient) -> None:
    running, failed = WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.FAILED
    client.executions = [
        _execution(4, running),
        _execution(3, failed),
        _execution(2, running, "Refund"),
        _execution(1, failed),
    ]

    def ids(*options: str) -> list[str]:
        return [json.loads(line)["workflow_id"] for line in run("list", *options, "-o", "jsonl")[1].splitlines()]

    assert ids() == ["w-4", "w-3", "w-2", "w-1"]
    assert ids("--limit", "2") == ["w-4", "w-3"]
    assert client.calls[-1] == ("list", "", 2, 2)
    ids("--status", "failed", "--type", "It's")
    assert client.calls[-1] == ("list", "ExecutionStatus = 'FAILED' AND WorkflowType = 'It''s'", 100, 100)
    ids("-q", "WorkflowId STARTS_WITH 'a' ORDER BY CloseTime", "--limit", "5000")
    assert client.calls[-1] == ("list", "WorkflowId STARTS_WITH 'a' ORDER BY CloseTime", 5000, 1000)
    ids("--stuck", "--type", "Refund")
    assert client.calls[-1] == ("list", "WorkflowType = 'Refund' AND Stuck = true", 100, 100)
    assert "boom" in run("list")[1]
    assert json.loads(run("list", "-o", "json")[1])[0]["status"] == "RUNNING"
    assert [row["paused"] for row in json.loads(run("list", "-o", "json")[1])] == [False, False, False, True]
    lines = run("list")[1].splitlines()
    assert len(lines) == 5
    assert "2026-01-04T00:00:00.000Z" in lines[1]
    assert "RUNNING" in lines[1]
    assert "boom" in lines[1]


def test_a_filter_stands_alone(run: Run, client: FakeClient) -> None:
    code, _, errors = run("list", "-q", "WorkflowId = 'a'", "--status", "failed")
    assert code == 1
    assert "--query stands alone" in errors
    assert client.calls == []


def test_counts_come_whole_or_in_groups(run: Run, client: FakeClient) -> None:
    assert json.loads(run("count", "-o", "json")[1]) == [{"count": 2}]
    found = json.loads(run("count", "-q", "GROUP BY ExecutionStatus", "-o", "json")[1])
    assert found == [{"count": 2, "group": "Running"}]


def test_describe_lists_pending_activities_with_their_last_failure(run: Run, client: FakeClient) -> None:
    summary = records.ExecutionSummary(
        workflow_id="w",
        run_id="r",
        first_execution_run_id="r",
        workflow_type="Order",
        task_queue="orders",
        status=records.WorkflowStatus.RUNNING,
        start_time_ms=1_000,
        execution_time_ms=1_000,
        history_length=7,
        version=3,
    )
    failure = records.Failure(kind=records.FailureKind.APPLICATION, type="Broken", message="no luck")
    activity = records.PendingActivity(
        activity_id="1",
        activity_type="pay",
        task_queue="orders",
        attempt=4,
        maximum_attempts=0,
        scheduled_time_ms=2_000,
        last_failure=failure,
    )
    client.answer = records.Described(summary=summary, pending_activities=[activity])
    out = run("describe", "-w", "w")[1]
    assert "RUNNING" in out
    assert "1 pending activity:" in out
    assert "Broken: no luck" in out
    assert json.loads(run("describe", "-w", "w", "-o", "json")[1])["pending_activities"][0]["attempt"] == "4/∞"


def test_show_prints_a_table_lines_or_what_a_replayer_reads(run: Run, client: FakeClient) -> None:
    attributes = records.WorkflowExecutionSignaled(signal_name="add", command_id="c")
    event = records.Event(event_id=1, event_time_ms=1_000, attributes=attributes)
    client.answer = WorkflowHistory("w", [event], "r")
    assert "signal_name=add" in run("show", "-w", "w")[1]
    assert json.loads(run("show", "-w", "w", "-o", "jsonl")[1])["type"] == "WorkflowExecutionSignaled"
    assert WorkflowHistory.from_json("w", run("show", "-w", "w", "-o", "json")[1]) == client.answer
