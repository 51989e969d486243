"""What ``perdure migrate-partitions`` does: looks, asks, copies, compares. Called by its command.

Invariants: nothing is written while an engine has either topic set; nothing is begun that cannot come out right, and
whoever asked is told why; the same command again goes on where it was interrupted, and once the copy is complete it
only carries over commands that came late.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from perdure_ops.audit import Audit
from perdure_ops.errors import CliError
from perdure_ops.group_lag import groups_of
from perdure_ops.migrating.copying import COPIED, Copy, Survey, commit_decided, copy_late_commands
from perdure_ops.migrating.manifest import Manifest, difference, manifest_in, undecided
from perdure_ops.output import OutputFormat, print_fields, progress
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.connect import KafkaAddress, names_of, open_log, parse_address, without_secrets
from perdure_runtime.log import Log, TopicPartition
from perdure_runtime.relay.service import RELAY
from perdure_schemas.topics import COMMANDS, DEAD_LETTERS, EXECUTIONS, HISTORY, TASKS, TIMERS, TOPICS, TopicNames

__all__ = ["Request", "migrate"]

_READ_TIMEOUT_S = 30.0
_RERUN = "run the command again, it goes on where it stopped"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for: ``partitions`` of namespace ``target``, with ``replication`` copies (-1: the default)."""

    source: str
    target: str
    partitions: int
    replication: int = -1


def migrate(
    request: Request, address: str, data: Path | None, *, dry_run: bool, assume_yes: bool, output: OutputFormat
) -> None:
    """Carry a namespace over, after asking.

    Parameters:
        address: the Kafka cluster.
        data: instead of it, the data folder of a development server that is stopped.

    Raises:
        CliError: it cannot be done, the answer was no, or the copy is not what it has to be.
    """
    if request.source == request.target:
        raise CliError("--to must be another namespace: the number of partitions of this one cannot be changed")
    with _opened(address, data) as log:
        carry_over(log, request, dry_run=dry_run, assume_yes=assume_yes, output=output)


def carry_over(log: Log, request: Request, *, dry_run: bool, assume_yes: bool, output: OutputFormat) -> None:
    """:func:`migrate`, on a log that is open."""
    source = names_of(log, request.source)
    target = TopicNames(request.target, source.prefix, request.partitions)
    if source.partitions == target.partitions:
        raise CliError(f"namespace {source.namespace} has {source.partitions} partitions already")
    _require_unused(log, source)
    begun = _begun(log, target)
    if begun is not None and _is_complete(log, target):
        _finish_late(log, source, target, begun, dry_run=dry_run, assume_yes=assume_yes, output=output)
        return
    with progress("reading the old topics"):
        survey = Survey(log, source)
    now = _manifest(log, source, target)
    _require_sound(survey, source, now)
    if begun is not None:
        changed = difference(begun, now)
        if changed:
            raise CliError(
                f"namespace {target.namespace} holds a copy that was not finished, and it cannot go on: {changed}."
                f" Delete the topics {target.prefix}.{target.namespace}.*, or choose another namespace"
            )
    print_fields(_plan_fields(source, target, survey, begun or now, begun is not None), output)
    if dry_run:
        typer.echo("nothing was written", err=output is not OutputFormat.TABLE)
        return
    if not assume_yes and not typer.confirm("Copy this?", err=True):
        raise CliError("nothing was written")
    if begun is not None:
        _require_unused(log, target)
    _copy(log, source, target, Copy(log, source, target, begun or now, survey), survey, request.replication, output)
    late = copy_late_commands(log, source, target, begun or now)
    if late:
        typer.echo(f"{late} commands came meanwhile, and were carried over, too", err=True)


def _copy(
    log: Log,
    source: TopicNames,
    target: TopicNames,
    copy: Copy,
    survey: Survey,
    replication: int,
    output: OutputFormat,
) -> None:
    with progress("copying"):
        written = copy.write(replication)
    with progress("comparing"):
        audit, differences = copy.verify()
    breaches = audit.finish()
    faults = [*differences, *_count_faults(survey, audit)]
    faults += [f"{breach.check}: {breach.message} ({breach.topic}[{breach.partition}])" for breach in breaches[:5]]
    if faults:
        raise CliError(
            f"the copy is not what it has to be, so do not use it: {'; '.join(faults)}. Delete the topics"
            f" {target.prefix}.{target.namespace}.* and {_RERUN}"
        )
    commit_decided(log, target, copy.decisions)
    typer.echo(
        f"done: {written} records written, compared, and audited without a finding. Start engines, workers and clients"
        f" with namespace {target.namespace}; start none with namespace {source.namespace} any more",
        err=output is not OutputFormat.TABLE,
    )


def _finish_late(
    log: Log,
    source: TopicNames,
    target: TopicNames,
    begun: Manifest,
    *,
    dry_run: bool,
    assume_yes: bool,
    output: OutputFormat,
) -> None:
    """The copy is complete: only what clients have sent to the old topics since is to be carried over."""
    if (begun.source, begun.source_partitions) != (source.namespace, source.partitions):
        raise CliError(f"namespace {target.namespace} is a copy of {begun.source}, not of {source.namespace}")
    if _decided_below(log, source) != begun.decided_below:
        raise CliError(
            f"namespace {target.namespace} is a complete copy, but engines have worked on {source.namespace} since."
            " What they decided cannot be carried over: delete the copy and begin anew, if nothing has used it"
        )
    late = sum(end - below for below, end in zip(begun.commands_to, _ends(log, source.commands, source), strict=True))
    fields = {"from": source.namespace, "to": target.namespace, "state": "complete", "late_commands": late}
    print_fields(fields, output)
    if dry_run or not late:
        return
    if not assume_yes and not typer.confirm(f"Carry over what is missing of {late} late commands?", err=True):
        raise CliError("nothing was written")
    count = copy_late_commands(log, source, target, begun)
    typer.echo(f"done: {count} commands carried over", err=output is not OutputFormat.TABLE)


# --- what has to hold before --------------------------------------------------------------------------------------


def _require_unused(log: Log, names: TopicNames) -> None:
    groups = groups_of(names)
    existing = log.describe_topics([group.topic for group in groups])
    members = {
        f"{group.role} ({owner})"
        for group in groups
        if group.topic in existing
        for owner in log.describe_group(group.name, group.topic).owners.values()
    }
    if members:
        raise CliError(
            f"namespace {names.namespace} is in use by {', '.join(sorted(members))}: stop all of its engines with"
            " SIGTERM (one that was killed counts until its session ends), then run the command again"
        )


def _require_sound(survey: Survey, source: TopicNames, now: Manifest) -> None:
    for number, survivors in survey.histories.items():
        if survivors.recorded >= now.decided_below[number]:
            raise CliError(
                f"the engine that had partition {number} of namespace {source.namespace} did not stop in good order:"
                f" command {survivors.recorded} is decided, and not committed. Start an engine, stop it with SIGTERM,"
                " and run the command again"
            )
    breaches = survey.audit.finish()
    if breaches:
        kinds = ", ".join(sorted({breach.check for breach in breaches}))
        raise CliError(
            f"the audit finds {len(breaches)} breaches in namespace {source.namespace} ({kinds}), which a copy would"
            " not mend: see `perdure audit`, or carry single workflows over with `perdure dump` and `perdure load`"
        )


def _begun(log: Log, target: TopicNames) -> Manifest | None:
    """The manifest of a copy that was begun there; ``None`` if there is nothing yet.

    Raises:
        CliError: the topics are somebody else's.
    """
    found = log.describe_topics([target.of(spec) for spec in TOPICS])
    wrong = next((topic for topic in found.values() if topic.partitions != target.partitions), None)
    if wrong is not None:
        raise CliError(
            f"{wrong.name} exists and has {wrong.partitions} partitions, not {target.partitions}: choose another"
            " namespace with --to"
        )
    used = [name for name in found if any(_ends(log, name, target))]
    if not used:
        return None
    first = TopicPartition(target.history, 0)
    manifest = None
    if target.history in used and log.watermarks(first)[1]:
        manifest = _first_manifest(log, first)
    if manifest is None:
        raise CliError(
            f"namespace {target.namespace} is in use: {', '.join(sorted(used))} hold records of others. Choose another"
            " namespace with --to"
        )
    return manifest


def _first_manifest(log: Log, place: TopicPartition) -> Manifest | None:
    reader = log.reader("migrate")
    try:
        reader.assign({place: log.BEGIN})
        records = reader.poll(1, _READ_TIMEOUT_S)
    finally:
        reader.close()
    return manifest_in(records[0]) if records else None


def _is_complete(log: Log, target: TopicNames) -> bool:
    if target.commands not in log.describe_topics([target.commands]):
        return False
    committed = log.describe_group(f"{target.prefix}.{target.namespace}.history", target.commands).committed
    return len(committed) == target.partitions


def _manifest(log: Log, source: TopicNames, target: TopicNames) -> Manifest:
    relay = log.describe_group(f"{source.prefix}.{source.namespace}.{RELAY}", source.history).committed
    return Manifest(
        source=source.namespace,
        source_partitions=source.partitions,
        target_partitions=target.partitions,
        time_ms=wall_clock_ms(),
        ends={spec.name: _ends(log, source.of(spec), source) for spec in COPIED if spec is not COMMANDS},
        decided_below=_decided_below(log, source),
        commands_to=_ends(log, source.commands, source),
        emitted_below=[relay.get(number, 0) for number in range(source.partitions)],
    )


def _decided_below(log: Log, source: TopicNames) -> list[int]:
    group = f"{source.prefix}.{source.namespace}.history"
    committed = log.describe_group(group, source.commands).committed
    return [committed.get(number, 0) for number in range(source.partitions)]


def _ends(log: Log, topic: str, names: TopicNames) -> list[int]:
    return [log.watermarks(TopicPartition(topic, number))[1] for number in range(names.partitions)]


# --- what is shown ------------------------------------------------------------------------------------------------


def _plan_fields(
    source: TopicNames, target: TopicNames, survey: Survey, manifest: Manifest, goes_on: bool
) -> dict[str, Any]:
    counts = survey.audit.counts()
    return {
        "from": source.namespace,
        "to": target.namespace,
        "partitions": f"{source.partitions} -> {target.partitions}",
        "state": "goes on" if goes_on else "begins",
        "open_runs": counts.runs_open,
        "closed_runs": counts.runs_closed,
        HISTORY.name: sum(len(survivors.kept()) for survivors in survey.histories.values()),
        TASKS.name: survey.count(TASKS),
        TIMERS.name: survey.count(TIMERS),
        EXECUTIONS.name: survey.count(EXECUTIONS),
        DEAD_LETTERS.name: counts.dead_letters,
        "undecided_commands": undecided(manifest),
    }


def _count_faults(survey: Survey, after: Audit) -> list[str]:
    """What there is more or less of than before."""
    old, new = survey.audit.counts(), after.counts()
    pairs = {
        "open runs": (old.runs_open, new.runs_open),
        "closed runs": (old.runs_closed, new.runs_closed),
        "tasks": (survey.count(TASKS), new.tasks_outstanding + new.tasks_dead),
        "timers": (old.timers_outstanding, new.timers_outstanding),
    }
    return [f"{what}: {before} before, {after} now" for what, (before, after) in pairs.items() if before != after]


@contextmanager
def _opened(address: str, data: Path | None) -> Iterator[Log]:
    if data is not None:
        from perdure_runtime.embedded import EmbeddedLog

        folder = data / "log"
        if not folder.is_dir():
            raise CliError(f"{data} is no data folder of a development server: it has no folder `log`")
        log: Log = EmbeddedLog(folder)
    elif isinstance(parse_address(address), KafkaAddress):
        log = open_log(address)
    else:
        raise CliError(
            f"address {without_secrets(address)!r} is not one of Kafka. The log of a development server is carried over"
            " while it is stopped: give its data folder with --data (.perdure/dev if it was not told otherwise)"
        )
    try:
        yield log
    finally:
        log.close()
