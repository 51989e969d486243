"""``perdure server --schema-registry``: which ids the registry has for what this engine writes for others to read.

The registry is asked once, when the engine starts. Invariants: an engine that was told to frame never writes a value
that the registry does not know; a registry that does not answer keeps no engine from starting that has learned its ids
before, because a schema's id never changes. Called by :mod:`perdure_ops.server`.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from perdure_ops.errors import CliError
from perdure_ops.options import SubjectNaming
from perdure_ops.registry_client import RegistryClient
from perdure_ops.schema_registration import Wanted, wanted_schemas
from perdure_schemas import codec
from perdure_schemas.framing import SchemaIds
from perdure_schemas.topics import EXECUTIONS, HISTORY, TopicNames

_logger = logging.getLogger("perdure.server")

#: The topics that others read.
FRAMED = (HISTORY, EXECUTIONS)
_KEPT_FILE = "schema-ids.json"


def learn_schema_ids(registry: RegistryClient, names: TopicNames, folder: Path) -> SchemaIds:
    """The ids of the schemas that this version writes to ``history`` and ``executions``.

    Args:
        registry: Where they are registered.
        names: The namespace.
        folder: Where they are kept for a start without the registry.

    Raises:
        CliError: a schema is not registered, or the registry gave no answer and never has given one.
    """
    path = folder / _KEPT_FILE
    try:
        found = {names.of(spec): _ask(registry, names, spec.name) for spec in FRAMED}
    except _UnknownSchemaError as error:
        raise CliError(str(error)) from None
    except CliError as error:
        kept = _kept(path, registry.address, names)
        if kept is None:
            raise
        _logger.warning("event=schema_registry_unavailable using=%s reason=%r", path, str(error))
        return kept
    _keep(path, registry.address, found)
    return found


class _UnknownSchemaError(Exception):
    """The registry answered, and lacks a schema."""


def _ask(registry: RegistryClient, names: TopicNames, topic: str) -> dict[bytes, int]:
    by_record = wanted_schemas(names, SubjectNaming.RECORD, [topic])
    by_topic = wanted_schemas(names, SubjectNaming.TOPIC_RECORD, [topic])
    ids = {}
    for choices in zip(by_topic, by_record, strict=True):
        newest = [versions[-1] for versions in choices]
        number = next((one for one in (registry.id_of(each.subject, each.schema) for each in newest) if one), None)
        if number is None:
            raise _UnknownSchemaError(
                f"the schema registry {registry.address} has no {newest[0].subject} as this version writes it: run"
                f" `perdure topics register-schemas --schema-registry {registry.address} -n {names.namespace}` first"
            )
        ids[_fingerprint(newest[0])] = number
    return ids


def _fingerprint(wanted: Wanted) -> bytes:
    return codec.fingerprint(json.loads(wanted.schema))


def _keep(path: Path, address: str, found: dict[str, dict[bytes, int]]) -> None:
    ids = {topic: {mark.hex(): number for mark, number in of.items()} for topic, of in found.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"registry": address, "ids": ids}, indent=1))
    except OSError as error:
        _logger.warning("event=schema_ids_not_kept path=%s reason=%r", path, str(error))


def _kept(path: Path, address: str, names: TopicNames) -> dict[str, dict[bytes, int]] | None:
    """What was learned from this registry before, if it covers what this version writes."""
    try:
        content: Any = json.loads(path.read_text())
        ids = {
            str(topic): {bytes.fromhex(mark): int(number) for mark, number in of.items()}
            for topic, of in content["ids"].items()
        }
        if content["registry"] != address:
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    for spec in FRAMED:
        wanted = {_fingerprint(each[-1]) for each in wanted_schemas(names, SubjectNaming.RECORD, [spec.name])}
        if wanted != set(ids.get(names.of(spec), ())):
            return None
    return ids
