"""What an engine learns of a schema registry before it frames anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure_ops.errors import CliError
from perdure_ops.options import SubjectNaming
from perdure_ops.output import OutputFormat
from perdure_ops.registry_client import RegistryClient
from perdure_ops.schema_framing import learn_schema_ids
from perdure_ops.schema_registration import run, wanted_schemas
from perdure_schemas.avro import SCHEMA_FOLDER
from perdure_schemas.codec import fingerprint
from perdure_schemas.topics import TopicNames
from tests.support.schema_registry import StubRegistry, schema_registry

NAMES = TopicNames(namespace="shop")


@pytest.fixture
def registry() -> Iterator[StubRegistry]:
    with schema_registry() as running:
        yield running


def register(registry: StubRegistry, naming: SubjectNaming = SubjectNaming.TOPIC_RECORD) -> None:
    wanted = wanted_schemas(NAMES, naming)
    run(RegistryClient(registry.address), wanted, dry_run=False, assume_yes=True, output=OutputFormat.JSON)


def current(record: str) -> bytes:
    return fingerprint(json.loads((SCHEMA_FOLDER / f"{record}.avsc").read_text()))


@pytest.mark.parametrize("naming", list(SubjectNaming))
def test_the_ids_of_what_this_version_writes_are_learned(
    registry: StubRegistry, tmp_path: Path, naming: SubjectNaming
) -> None:
    register(registry, naming)
    ids = learn_schema_ids(RegistryClient(registry.address), NAMES, tmp_path)
    assert {topic: set(of) for topic, of in ids.items()} == {
        NAMES.history: {current("HistoryRecord"), current("OwnerMark")},
        NAMES.executions: {current("ExecutionSummary"), current("OwnerMark")},
    }
    by_id = {number: schema for of in registry.subjects.values() for number, schema in of}
    for of in ids.values():
        for mark, number in of.items():
            assert fingerprint(json.loads(by_id[number])) == mark


def test_a_schema_that_is_not_registered_keeps_the_engine_from_starting(registry: StubRegistry, tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"perdure\.shop\.history-io.perdure.HistoryRecord .*register-schemas .*-n shop"):
        learn_schema_ids(RegistryClient(registry.address), NAMES, tmp_path)
    assert registry.writes == 0


def test_a_registry_that_is_away_keeps_no_engine_from_starting_that_knows_its_ids(
    registry: StubRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register(registry)
    learned = learn_schema_ids(RegistryClient(registry.address), NAMES, tmp_path)
    (kept,) = tmp_path.iterdir()
    away = RegistryClient("http://127.0.0.1:1")
    with pytest.raises(CliError, match="gave no usable answer"):
        learn_schema_ids(away, NAMES, tmp_path)  # another registry has other ids
    content = json.loads(kept.read_text())
    kept.write_text(json.dumps({**content, "registry": away.address}))
    assert learn_schema_ids(away, NAMES, tmp_path) == learned
    assert "schema_registry_unavailable" in caplog.text
    with pytest.raises(CliError, match="gave no usable answer"):
        learn_schema_ids(away, TopicNames(namespace="other"), tmp_path)
    for damaged in ("", "[]", json.dumps({**content, "ids": {"x": 3}})):
        kept.write_text(damaged)
        with pytest.raises(CliError, match="gave no usable answer"):
            learn_schema_ids(away, NAMES, tmp_path)
