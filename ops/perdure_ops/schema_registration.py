"""``perdure topics register-schemas``: the schemas of what stands in the topics, in a schema registry.

Which subjects there are, and which schemas they are to have, is pure; so is what is missing of them, given what the
registry knows. Invariants: nothing is registered unless everything may be; a schema that is there is not registered
again; versions are registered in the order in which they were released, and one that is older than what the registry
has is left out. Called by :mod:`perdure_ops.commands_topics`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from typing import Any

import typer

from perdure_ops.errors import CliError
from perdure_ops.options import SubjectNaming
from perdure_ops.output import OutputFormat, print_rows
from perdure_ops.registry_client import RegistryClient
from perdure_schemas import codec
from perdure_schemas.avro import SCHEMA_FOLDER
from perdure_schemas.topics import TOPICS, WORK, TopicNames, TopicSpec

COLUMNS = ("action", "subject", "version", "id", "reason")
CURRENT = "current"


class Action(StrEnum):
    """What is to be done about a schema."""

    REGISTER = "register"
    NONE = "none"
    SKIP = "skip"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A schema that a subject is to have: ``version`` is the released one that wrote it, or ``current``."""

    subject: str
    version: str
    schema: str


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about a schema, and why; ``id`` is that of the registry."""

    wanted: Wanted
    action: Action
    id: int | None = None
    reason: str = ""


def wanted_schemas(names: TopicNames, naming: SubjectNaming, topics: Sequence[str] = ()) -> list[list[Wanted]]:
    """For each subject its schemas, the oldest first.

    Args:
        names: the namespace.
        naming: how subjects are called.
        topics: only of these, by their names without prefix and namespace; all if empty.

    Raises:
        CliError: there is no such topic.
    """
    # There is a topic ``work.<task queue>`` for each task queue, so by topic it has no subject to name.
    specs = (*TOPICS, WORK) if naming is SubjectNaming.RECORD else TOPICS
    unknown = sorted(set(topics) - {spec.name for spec in specs})
    if unknown:
        raise CliError(f"no topic is called {', '.join(unknown)}: use {', '.join(spec.name for spec in specs)}")
    subjects: dict[str, list[Wanted]] = {}
    for spec in specs:
        for record in spec.records if not topics or spec.name in topics else ():
            subject = _subject(names, naming, spec, record)
            subjects[subject] = [Wanted(subject, version, schema) for version, schema in _versions(record)]
    return list(subjects.values())


def plan(registry: RegistryClient, subjects: Sequence[Sequence[Wanted]]) -> list[Step]:
    """What is to be done, in that order.

    Raises:
        CliError: the registry gave no usable answer.
    """
    return [step for wanted in subjects for step in _plan_subject(registry, wanted)]


def register(registry: RegistryClient, steps: Sequence[Step]) -> list[Step]:
    """Carry out a plan; returns it with the ids.

    Raises:
        CliError: the registry refused a schema; those before it are registered.
    """
    return [
        replace(step, id=registry.register(step.wanted.subject, step.wanted.schema))
        if step.action is Action.REGISTER
        else step
        for step in steps
    ]


def run(
    registry: RegistryClient,
    subjects: Sequence[Sequence[Wanted]],
    *,
    dry_run: bool,
    assume_yes: bool,
    output: OutputFormat,
) -> None:
    """Show what is missing, ask, and register it.

    Raises:
        CliError: a schema may not follow the one that is there (then nothing was registered), or the answer was no.
    """
    steps = plan(registry, subjects)
    missing = sum(step.action is Action.REGISTER for step in steps)
    refused = [step for step in steps if step.action is Action.REFUSE]
    if dry_run or refused or not missing or output is OutputFormat.TABLE:
        print_rows([_row(step) for step in steps], output, COLUMNS)
    if refused:
        raise CliError(
            f"nothing was registered: {len(refused)} schemas are not compatible with what {registry.address} has. "
            "Delete the subjects, or set their compatibility to BACKWARD, which is what the platform keeps"
        )
    if dry_run:
        return
    to_stderr = output is not OutputFormat.TABLE
    if not missing:
        typer.echo("every schema is registered: nothing to do", err=to_stderr)
        return
    if not assume_yes and not typer.confirm(f"Register {missing} schemas?", err=True):
        raise CliError("nothing was changed")
    done = register(registry, steps)
    if output is not OutputFormat.TABLE:
        print_rows([_row(step) for step in done], output, COLUMNS)
    typer.echo(f"done: {missing} schemas registered", err=to_stderr)


def _subject(names: TopicNames, naming: SubjectNaming, spec: TopicSpec, record: str) -> str:
    full_name = f"io.perdure.{record}"
    return full_name if naming is SubjectNaming.RECORD else f"{names.of(spec)}-{full_name}"


@cache
def _versions(record: str) -> tuple[tuple[str, str], ...]:
    """A record's schemas by version, the oldest first; each stands under the newest version that has it."""
    folders = sorted(SCHEMA_FOLDER.glob("versions/*"), key=lambda folder: int(folder.name))
    by_fingerprint: dict[bytes, tuple[str, str]] = {}
    for version, path in [
        *((folder.name, folder / f"{record}.avsc") for folder in folders),
        (CURRENT, SCHEMA_FOLDER / f"{record}.avsc"),
    ]:
        if path.exists():
            schema = json.loads(path.read_text())
            mark = codec.fingerprint(schema)
            by_fingerprint.pop(mark, None)
            # Without the comments, so that a better word in one of them is no other schema.
            by_fingerprint[mark] = (version, json.dumps(_without_doc(schema)))
    return tuple(by_fingerprint.values())


def _without_doc(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_doc(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value if name == "default" else _without_doc(value) for name, value in schema.items() if name != "doc"
    }


def _plan_subject(registry: RegistryClient, wanted: Sequence[Wanted]) -> Iterator[Step]:
    ids = [registry.id_of(one.subject, one.schema) for one in wanted]
    newest = max((index for index, number in enumerate(ids) if number is not None), default=-1)
    checked = False
    for index, (one, number) in enumerate(zip(wanted, ids, strict=True)):
        if number is not None:
            yield Step(one, Action.NONE, number, "is registered")
        elif index < newest:
            yield Step(one, Action.SKIP, None, "a later one is registered")
        else:
            # Those that follow are checked by the registry when this one is there.
            faults = [] if checked else registry.faults(one.subject, one.schema)
            checked = True
            yield Step(one, Action.REFUSE if faults else Action.REGISTER, None, "; ".join(faults))


def _row(step: Step) -> dict[str, Any]:
    return {
        "action": step.action.value,
        "subject": step.wanted.subject,
        "version": step.wanted.version,
        "id": step.id,
        "reason": step.reason,
    }
