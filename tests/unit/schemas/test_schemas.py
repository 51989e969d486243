"""The ``.avsc`` files follow the structs, and what an earlier version wrote stays readable."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from perdure_schemas import codec, records
from perdure_schemas.avro import SCHEMA_FOLDER, TOP_LEVEL, field_types, schema_of, write_schemas
from tests.unit.schemas.strategies import records_of

VERSIONS = sorted(path for path in codec.VERSIONS_FOLDER.glob("*/*.avsc"))
_by_type = pytest.mark.parametrize("record", TOP_LEVEL, ids=lambda record: record.__name__)


@pytest.fixture
def versions_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An own folder of earlier schemas instead of the committed one."""
    monkeypatch.setattr(codec, "VERSIONS_FOLDER", tmp_path)
    codec._earlier_versions.cache_clear()
    yield tmp_path
    codec._earlier_versions.cache_clear()


def _keep(folder: Path, record: type[records.Record], schema: dict[str, Any]) -> None:
    path = folder / "1" / f"{record.__name__}.avsc"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(schema))
    codec._earlier_versions.cache_clear()


def _write(schema: dict[str, Any], value: Any) -> bytes:
    out = io.BytesIO()
    out.write(codec.SINGLE_OBJECT_MARKER + codec.fingerprint(schema))
    plain = value if isinstance(value, dict) else msgspec.to_builtins(value, builtin_types=(bytes,))
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), plain)
    return out.getvalue()


def _records_in(schema: Any) -> Iterator[dict[str, Any]]:
    """Every record definition in a schema, the outermost one included."""
    if isinstance(schema, list):
        for member in schema:
            yield from _records_in(member)
    elif isinstance(schema, dict):
        if schema.get("type") == "record":
            yield schema
            for entry in schema["fields"]:
                yield from _records_in(entry["type"])
        else:
            yield from _records_in(schema.get("items", schema.get("values", schema.get("type"))))


@_by_type
def test_the_schema_file_equals_the_struct(record: type[records.Record]) -> None:
    written = json.loads((SCHEMA_FOLDER / f"{record.__name__}.avsc").read_text())
    assert written == schema_of(record), "run: python -m perdure_schemas.avro"


def test_there_is_no_schema_file_without_a_struct() -> None:
    assert {path.stem for path in SCHEMA_FOLDER.glob("*.avsc")} == {record.__name__ for record in TOP_LEVEL}


def test_writing_the_schemas_writes_one_file_for_each_type(tmp_path: Path) -> None:
    write_schemas(tmp_path / "avsc")
    assert len(list((tmp_path / "avsc").iterdir())) == len(TOP_LEVEL)


@_by_type
def test_a_schema_is_legal_avro_with_documented_records(record: type[records.Record]) -> None:
    fastavro.parse_schema(schema_of(record))
    undocumented = [part["name"] for part in _records_in(schema_of(record)) if not part["doc"]]
    assert not undocumented


@_by_type
def test_a_schema_has_the_fields_of_its_struct_in_order(record: type[records.Record]) -> None:
    assert [entry["name"] for entry in schema_of(record)["fields"]] == list(field_types(record))


def test_fingerprints_tell_all_types_apart() -> None:
    assert len({codec.fingerprint(schema_of(record)) for record in TOP_LEVEL}) == len(TOP_LEVEL)


def test_the_fingerprint_ignores_documentation_but_not_fields() -> None:
    schema = schema_of(records.OwnerMark)
    other = copy.deepcopy(schema)
    other["doc"] = "something else"
    assert codec.fingerprint(other) == codec.fingerprint(schema)
    other["fields"][0]["name"] = "origin"
    assert codec.fingerprint(other) != codec.fingerprint(schema)


# --- earlier versions ---------------------------------------------------------------------------------------------


def test_a_version_is_kept_of_every_type() -> None:
    assert {path.stem for path in VERSIONS} >= {record.__name__ for record in TOP_LEVEL}


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_a_committed_version_wrote_is_read(path: Path) -> None:
    """Records are drawn from today's structs, cut down to the fields the earlier schema knew."""
    record = next(record for record in TOP_LEVEL if record.__name__ == path.stem)
    earlier = json.loads(path.read_text())
    known = {part["name"]: {entry["name"] for entry in part["fields"]} for part in _records_in(earlier)}

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(records_of(record))
    def read(value: records.Record) -> None:
        cut = _cut(value, known)
        if cut is None:
            return  # it holds a member of a union that did not exist then
        data = _write(earlier, msgspec.to_builtins(cut, builtin_types=(bytes,)))
        assert codec.decode(data) == cut

    read()


def _cut(value: Any, known: dict[str, set[str]]) -> Any:
    """``value`` with what an earlier schema did not know at its default; ``None`` if it knew no such record."""
    if isinstance(value, list):
        parts = [_cut(part, known) for part in value]
        return None if any(part is None for part in parts) else parts
    if isinstance(value, dict):
        return dict(zip(value, parts, strict=True)) if (parts := _cut([*value.values()], known)) is not None else None
    if not isinstance(value, records.Record):
        return value
    fields = known.get(records.avro_name(type(value).__name__))
    if fields is None:
        return None
    kept = {}
    for name in msgspec.structs.asdict(value):
        if name not in fields:
            continue
        part = getattr(value, name)
        kept[name] = part if part is None else _cut(part, known)
        if kept[name] is None and part is not None:
            return None
    return type(value)(**kept)


def _removable(part: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields that a schema may lack: neither required, nor the one that defines a record others refer to."""
    return [e for e in part["fields"] if "default" in e and not any(True for _ in _records_in(e["type"]))]


def _older_schemas(record: type[records.Record]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Schemas of ``record`` each of whose inner records lacks one field with a default, and those fields' names.

    Together they lack each field once; one schema for each field would be hundreds, each with its fingerprint to find.
    """
    rounds = max((len(_removable(part)) for part in _records_in(schema_of(record))), default=0)
    for number in range(rounds):
        schema = copy.deepcopy(schema_of(record))
        missing = []
        for part in list(_records_in(schema)):
            removable = _removable(part)
            if number < len(removable):
                part["fields"].remove(removable[number])
                missing.append(f"{part['name']}.{removable[number]['name']}")
        yield missing, schema


@_by_type
def test_a_record_written_before_a_field_existed_is_read_with_the_default(
    record: type[records.Record], versions_folder: Path
) -> None:
    examples = _examples(record)
    for missing, schema in _older_schemas(record):
        _keep(versions_folder, record, schema)
        known = {part["name"]: {entry["name"] for entry in part["fields"]} for part in _records_in(schema)}
        for value in examples:
            cut = _cut(value, known)
            assert codec.decode(_write(schema, cut)) == cut, f"without {missing}"


def _examples(record: type[records.Record]) -> list[records.Record]:
    """A few values of a type, always the same ones."""
    found: list[records.Record] = []

    @settings(max_examples=5, phases=[Phase.generate], derandomize=True, suppress_health_check=list(HealthCheck))
    @given(records_of(record))
    def collect(value: records.Record) -> None:
        found.append(value)

    collect()
    return found


def test_a_record_of_a_schema_with_a_field_less_is_read(versions_folder: Path) -> None:
    schema = copy.deepcopy(schema_of(records.TaskRecord))
    schema["fields"] = [entry for entry in schema["fields"] if entry["name"] != "start_notice_delay_ms"]
    task = records.TaskRecord(
        task_id="r/a5.1",
        task_queue="q",
        kind="activity",
        workflow_id="w",
        run_id="r",
        created_time_ms=3,
        start_notice_delay_ms=77,
        body=b"b",
    )
    data = _write(schema, task)
    with pytest.raises(codec.DecodeError, match="unknown schema fingerprint"):
        codec.decode(data)
    _keep(versions_folder, records.TaskRecord, schema)
    assert codec.decode(data) == msgspec.structs.replace(task, start_notice_delay_ms=1_000)


def test_a_record_of_a_schema_with_a_smaller_union_is_read(versions_folder: Path) -> None:
    schema = copy.deepcopy(schema_of(records.Dispatch))
    body = next(entry for entry in schema["fields"] if entry["name"] == "body")
    body["type"] = [member for member in body["type"] if not member["name"].endswith("ProbeWorker")]
    dispatch = records.Dispatch(
        worker_id="w",
        source_partition=1,
        epoch=2,
        dispatch_number=3,
        time_ms=4,
        body=records.CancelActivity(task_id="r/a5.1", gone=True),
    )
    _keep(versions_folder, records.Dispatch, schema)
    assert codec.decode(_write(schema, dispatch)) == dispatch


def test_damaged_bytes_of_an_earlier_version_are_refused(versions_folder: Path) -> None:
    schema = copy.deepcopy(schema_of(records.OwnerMark))
    schema["fields"] = [entry for entry in schema["fields"] if entry["name"] != "epoch"]
    _keep(versions_folder, records.OwnerMark, schema)
    data = _write(schema, records.OwnerMark(source="history/0", owner="o", time_ms=1))
    with pytest.raises(codec.DecodeError):
        codec.decode(data[:-1])
