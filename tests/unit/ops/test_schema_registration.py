"""``perdure topics register-schemas`` against a registry: what it registers, and what it leaves as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from perdure_ops.cli import main
from perdure_ops.options import SubjectNaming
from perdure_ops.schema_registration import wanted_schemas
from perdure_schemas.avro import SCHEMA_FOLDER
from perdure_schemas.codec import fingerprint
from perdure_schemas.topics import TOPICS, TopicNames
from tests.support.schema_registry import StubRegistry, schema_registry

HISTORY = "perdure.default.history-io.perdure.HistoryRecord"
MARK = "perdure.default.history-io.perdure.OwnerMark"


@pytest.fixture
def registry() -> Iterator[StubRegistry]:
    with schema_registry() as running:
        yield running


def perdure(*arguments: str) -> int:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as ended:
        main(["topics", "register-schemas", "--yes", *arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def run(registry: StubRegistry, *options: str, topic: str = "history") -> int:
    return perdure("--schema-registry", registry.address, "--topic", topic, *options)


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_every_released_version_is_registered_once(registry: StubRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(registry, "-o", "json") == 0
    done = rows(capsys)
    assert {row["action"] for row in done} == {"register"}
    assert all(isinstance(row["id"], int) for row in done)
    kept = [*SCHEMA_FOLDER.glob("versions/*/HistoryRecord.avsc"), SCHEMA_FOLDER / "HistoryRecord.avsc"]
    expected = {fingerprint(json.loads(path.read_text())) for path in kept}
    assert {fingerprint(json.loads(schema)) for _, schema in registry.subjects[HISTORY]} == expected
    newest = json.loads(registry.subjects[HISTORY][-1][1])
    assert fingerprint(newest) == fingerprint(json.loads((SCHEMA_FOLDER / "HistoryRecord.avsc").read_text()))
    assert len(registry.subjects[MARK]) == 1

    writes = registry.writes
    assert run(registry, "-o", "json") == 0
    assert registry.writes == writes
    assert {row["action"] for row in rows(capsys)} == {"none"}


def test_a_dry_run_registers_nothing(registry: StubRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(registry, "--dry-run") == 0
    assert "register" in capsys.readouterr().out
    assert not registry.subjects


def test_what_is_not_compatible_stops_everything(registry: StubRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    registry.subjects[MARK] = [(77, '"string"')]
    registry.incompatible.add(MARK)
    assert run(registry) == 1
    told = capsys.readouterr()
    assert "a field is missing" in told.out
    assert "nothing was registered" in told.err
    assert registry.writes == 0


def test_an_older_version_does_not_follow_a_later_one(
    registry: StubRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = {one[0].subject: one for one in wanted_schemas(TopicNames(), SubjectNaming.TOPIC_RECORD)}[HISTORY]
    assert len(wanted) > 1
    registry.subjects[HISTORY] = [(9, wanted[-1].schema)]
    assert run(registry, "-o", "jsonl") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["action"] for row in found if row["subject"] == HISTORY] == ["skip"] * (len(wanted) - 1) + ["none"]
    assert len(registry.subjects[HISTORY]) == 1


def test_subjects_by_record_are_shared_by_namespaces() -> None:
    by_topic = wanted_schemas(TopicNames(namespace="a"), SubjectNaming.TOPIC_RECORD)
    assert len(by_topic) == sum(len(spec.records) for spec in TOPICS)
    assert all(one.subject.startswith("perdure.a.") for subject in by_topic for one in subject)
    shared = [wanted_schemas(TopicNames(namespace=name), SubjectNaming.RECORD) for name in ("a", "b")]
    assert shared[0] == shared[1]
    assert "io.perdure.Dispatch" in {subject[0].subject for subject in shared[0]}


def test_comments_are_no_part_of_what_is_registered() -> None:
    for subject in wanted_schemas(TopicNames(), SubjectNaming.RECORD):
        for one in subject:
            assert '"doc":' not in one.schema


@pytest.mark.parametrize("given", ["user", "option"])
def test_credentials_are_sent_and_never_shown(
    registry: StubRegistry, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    address = registry.address.replace("//", "//me:s3cret%21@") if given == "user" else registry.address
    options = [] if given == "user" else ["--registry-auth", "Bearer s3cret!"]
    registry.incompatible.add(HISTORY)
    assert perdure("--schema-registry", address, "--topic", "history", *options) == 1
    told = capsys.readouterr()
    assert "answered 409" in told.err
    assert "s3cret" not in told.out + told.err
    expected = "Basic bWU6czNjcmV0IQ==" if given == "user" else "Bearer s3cret!"
    assert {authorization for _, _, authorization in registry.requests} == {expected}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--schema-registry", "kafka://b:9092"], "must be an address like http://HOST:8081"),
        (["--schema-registry", "http://"], "must be an address like http://HOST:8081"),
        (["--schema-registry", "http://127.0.0.1:1"], "gave no usable answer"),
        (["--schema-registry", "http://127.0.0.1:1", "--topic", "nothing"], "no topic is called nothing: use commands"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert perdure(*arguments) == 1
    assert message in capsys.readouterr().err


def test_something_else_than_a_registry_is_told(registry: StubRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    assert perdure("--schema-registry", f"{registry.address}/elsewhere", "--topic", "history") == 1
    assert "answered 404" in capsys.readouterr().err
