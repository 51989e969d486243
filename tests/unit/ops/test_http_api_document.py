"""The HTTP API's document, guard, and values, without a server."""

from __future__ import annotations

import base64
import inspect
import json
import re
import subprocess
import sys

import msgspec
import pytest
from openapi_spec_validator import validate

from perdure.client import AsyncActivityHandle, Client, ScheduleHandle, WorkflowHandle, WorkflowUpdateHandle
from perdure_ops.errors import CliError
from perdure_ops.http_api.application import GROUPS, openapi_document
from perdure_ops.http_api.guards import Access
from perdure_ops.http_api.operations import PREFIX
from perdure_ops.http_api.values import json_of, raw_values
from perdure_ops.http_endpoints import check_access
from perdure_schemas.limits import NESTING_MAX
from perdure_schemas.records import Payload

#: By class: each public method of the client, and the operations it is over HTTP. ``None``: there is nothing to do over
#: HTTP, for the method makes an object in the caller's own process.
OPERATIONS_OF_THE_CLIENT: dict[type, dict[str, set[str] | None]] = {
    Client: {
        **dict.fromkeys(("connect", "connection", "from_log", "config", "close"), None),
        **dict.fromkeys(("get_workflow_handle", "get_workflow_handle_for"), None),
        **dict.fromkeys(("get_async_activity_handle", "get_schedule_handle"), None),
        "start_workflow": {"start_workflow", "signal_with_start"},
        "execute_workflow": {"start_workflow", "get_result"},
        "start_update_with_start_workflow": {"update_with_start"},
        "execute_update_with_start_workflow": {"update_with_start"},
        "list_workflows": {"list_workflows"},
        "count_workflows": {"count_workflows"},
        "create_schedule": {"create_schedule"},
        "list_schedules": {"list_schedules"},
    },
    WorkflowHandle: {
        **dict.fromkeys(("get_update_handle", "get_update_handle_for"), None),
        "result": {"get_result"},
        "describe": {"describe_workflow"},
        "cancel": {"cancel_workflow"},
        "terminate": {"terminate_workflow"},
        "delete": {"delete_workflow"},
        "fork": {"fork_workflow"},
        "signal": {"signal_workflow"},
        "query": {"query_workflow", "get_stack_trace"},
        "start_update": {"update_workflow"},
        "execute_update": {"update_workflow"},
        "fetch_history": {"get_history_document"},
        "fetch_history_events": {"get_history", "follow_history"},
    },
    WorkflowUpdateHandle: {"result": {"get_update"}},
    AsyncActivityHandle: {
        "complete": {"complete_activity"},
        "fail": {"fail_activity"},
        "heartbeat": {"heartbeat_activity"},
        "report_cancellation": {"report_cancellation"},
    },
    ScheduleHandle: {
        "describe": {"describe_schedule", "follow_schedule"},
        "update": {"update_schedule"},
        "pause": {"pause_schedule"},
        "unpause": {"unpause_schedule"},
        "trigger": {"trigger_schedule"},
        "backfill": {"backfill_schedule"},
        "matching_times": {"list_matching_times"},
        "delete": {"delete_schedule"},
    },
}


@pytest.mark.parametrize("kind", OPERATIONS_OF_THE_CLIENT, ids=lambda kind: kind.__name__)
def test_every_operation_of_the_client_is_there(kind: type) -> None:
    methods = {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}
    assert methods == set(OPERATIONS_OF_THE_CLIENT[kind]), "say over which operation a new method is there"
    there = {operation.name for group in GROUPS for operation in group.all}
    for operations in OPERATIONS_OF_THE_CLIENT[kind].values():
        assert (operations or set()) <= there


def test_the_document_is_valid() -> None:
    validate(json.loads(json.dumps(openapi_document())))


def test_each_operation_is_in_the_document_once_with_a_summary() -> None:
    paths = openapi_document()["paths"]
    operations = [operation for group in GROUPS for operation in group.all]
    assert len({operation.name for operation in operations}) == len(operations)
    assert sum(len(item) for item in paths.values()) == len(operations)
    for operation in operations:
        described = paths[PREFIX + operation.path][operation.method.lower()]
        assert described["summary"].endswith("."), operation.name
        assert described["operationId"] == operation.name
        parameters = re.findall(r"{(\w+)}", operation.path)
        assert [p["name"] for p in described.get("parameters", []) if p["in"] == "path"] == parameters


def test_texts_of_the_document_are_markdown() -> None:
    assert "``" not in json.dumps(openapi_document())


def test_the_command_line_does_not_load_a_web_server() -> None:
    program = "import sys, perdure_ops.cli; print([m for m in ('starlette', 'uvicorn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_needs_no_token(host: str) -> None:
    check_access(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_another_address_needs_a_token(host: str) -> None:
    with pytest.raises(CliError, match="--api-token or PERDURE_API_TOKEN"):
        check_access(host, None)
    check_access(host, "secret")


@pytest.mark.parametrize("token", ["", "  ", "a\nb", "ü"])
def test_a_token_must_be_one(token: str) -> None:
    with pytest.raises(CliError, match="--api-token"):
        check_access("127.0.0.1", token)


def test_names_that_are_given_are_the_only_ones() -> None:
    access = Access("0.0.0.0", "token", ("ui.example.com",))
    assert access.knows("ui.example.com")
    assert access.knows("localhost")
    assert not access.knows("evil.example.com")
    assert not Access("127.0.0.1").knows("evil.example.com")


@pytest.mark.parametrize(
    "text", [b"1", b'"x"', b"null", b"[1.50, 12345678901234567890]", b'{"metadata": {"a": 1}}', b'{"data": "x"}']
)
def test_json_travels_byte_for_byte(text: bytes) -> None:
    payload = raw_values([msgspec.Raw(text)], "args")[0].payload
    assert payload.data in (text, b"")
    assert bytes(json_of(payload)) == text


@pytest.mark.parametrize(
    "payload",
    [
        Payload(metadata={"encoding": b"binary/plain"}, data=b"\xff\x00"),
        Payload(metadata={"encoding": b"binary/encrypted", "key": b"\xff"}, data=b"x"),
        Payload(metadata={"encoding": b"json/plain"}, data=b"{damaged"),
        Payload(metadata={"encoding": b"json/plain"}, data=b"\xff"),
        Payload(metadata={"encoding": b"json/plain"}, data=b"[" * (NESTING_MAX + 1) + b"]" * (NESTING_MAX + 1)),
        Payload(metadata={"encoding": b"json/plain"}, data=b'{"metadata": {"encoding": "x"}, "data": "eA=="}'),
        Payload(metadata={"encoding": b"json/protobuf", "messageType": b"a.B"}, data=b"{}"),
    ],
)
def test_what_is_no_plain_json_comes_back_as_it_was(payload: Payload) -> None:
    shown = json_of(payload)
    assert json.loads(bytes(shown))["data"] == base64.b64encode(payload.data).decode()
    assert raw_values([shown], "args")[0].payload == payload
