"""The HTTP API's document, guard, and values, without a server."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys

import msgspec
import pytest
from openapi_spec_validator import validate

from perdure_ops.errors import CliError
from perdure_ops.http_api.application import GROUPS, openapi_document
from perdure_ops.http_api.guards import Access
from perdure_ops.http_api.operations import PREFIX
from perdure_ops.http_api.values import json_of, raw_values
from perdure_ops.http_endpoints import check_access
from perdure_schemas.limits import NESTING_MAX
from perdure_schemas.records import Payload


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
