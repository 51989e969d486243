"""What ``perdure audit`` and ``perdure dump`` do: reading, printing, exit codes. Called by their commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import typer

from perdure_ops.audit import AUDITED, Audit, Breach
from perdure_ops.audit.dumps import DumpHeader, read_dump, read_header, write_dump
from perdure_ops.audit.reading import Progress, TopicScan, settled_breaches
from perdure_ops.errors import CliError, describe_error
from perdure_ops.output import OutputFormat, print_done, print_rows, to_json
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.connect import names_of, open_log
from perdure_runtime.log import Log, LogError, LogRecord
from perdure_schemas.topics import TOPICS, TopicNames, TopicSpec

__all__ = ["audit", "dump"]

EXIT_BREACHES = 1
EXIT_UNABLE = 2
_COLUMNS = ("check", "topic", "partition", "offset", "workflow_id", "run_id", "message")
_AUDITED_NAMES = {spec.name: spec for spec in AUDITED}


def audit(
    address: str,
    namespace: str,
    dump_file: Path | None,
    state_dir: Path | None,
    settle_s: float,
    output: OutputFormat,
) -> None:
    """Check a cluster or a dump, and print what is wrong.

    Raises:
        CliError: it could not look (exit code 2).
        typer.Exit: there are breaches (exit code 1).
    """
    with _unable_means_two():
        if dump_file is None:
            check, breaches = _audit_cluster(address, namespace, state_dir, settle_s)
        else:
            check, breaches = _audit_dump(dump_file, state_dir)
    _print(check, breaches, output)
    if breaches:
        raise typer.Exit(EXIT_BREACHES)


def dump(file: Path, address: str, namespace: str, *, all_topics: bool, force: bool, output: OutputFormat) -> None:
    """Write the topics of a namespace into a file.

    Raises:
        CliError: there is such a file, it cannot be written, or the cluster cannot be read (exit code 2).
    """
    if file.exists() and not force:
        raise CliError(f"{file} exists; choose another name, or give --force", EXIT_UNABLE)
    topics = TOPICS if all_topics else AUDITED
    with _unable_means_two(), ExitStack() as opened:
        log, names = _open(address, namespace, opened)
        scan = TopicScan(log, names, topics, _progress())
        opened.callback(scan.close)
        header = DumpHeader(
            prefix=names.prefix,
            namespace=names.namespace,
            partitions=names.partitions,
            topics=[spec.name for spec in topics],
            time_ms=wall_clock_ms(),
        )
        count = write_dump(file, header, scan.to_end())
    done = f"{count} records of {len(header.topics)} topics of namespace {namespace} written to {file}"
    print_done(done, output, file=file, records=count, topics=header.topics)


def _audit_cluster(address: str, namespace: str, state_dir: Path | None, settle_s: float) -> tuple[Audit, list[Breach]]:
    with ExitStack() as opened:
        log, names = _open(address, namespace, opened)
        scan = TopicScan(log, names, AUDITED, _progress())
        opened.callback(scan.close)
        check = Audit(names)
        take, state_breaches = _takers(check, names, state_dir, opened)
        for record in scan.to_end():
            take(record)
        return check, [*settled_breaches(check, scan, settle_s, take), *state_breaches()]


def _audit_dump(dump_file: Path, state_dir: Path | None) -> tuple[Audit, list[Breach]]:
    header = read_header(dump_file)
    topics: list[TopicSpec] = [_AUDITED_NAMES[name] for name in header.topics if name in _AUDITED_NAMES]
    with ExitStack() as opened:
        check = Audit(header.names, topics)
        take, state_breaches = _takers(check, header.names, state_dir, opened)
        _take_all(read_dump(dump_file), take)
        return check, [*check.finish(), *state_breaches()]


def _take_all(records: Iterable[LogRecord], take: Callable[[LogRecord], None]) -> None:
    for record in records:
        take(record)


def _takers(
    check: Audit, names: TopicNames, state_dir: Path | None, opened: ExitStack
) -> tuple[Callable[[LogRecord], None], Callable[[], list[Breach]]]:
    """What takes each record, and what the state folder is asked at the end."""
    if state_dir is None:
        return check.take, list
    from perdure_ops.audit.state import StateCheck

    state = StateCheck(names, state_dir)
    opened.callback(state.close)

    def take(record: LogRecord) -> None:
        check.take(record)
        state.take(record)

    return take, state.finish


def _open(address: str, namespace: str, opened: ExitStack) -> tuple[Log, TopicNames]:
    log = open_log(address)
    opened.callback(log.close)
    return log, names_of(log, namespace)


@contextmanager
def _unable_means_two() -> Iterator[None]:
    try:
        yield
    except LogError as error:
        raise CliError(describe_error(error), EXIT_UNABLE) from error


def _progress() -> Callable[[Progress], None]:
    """Tells on a terminal how far a long reading has come; nothing on a pipe."""

    def tell(progress: Progress) -> None:
        if sys.stderr.isatty():
            share = progress.done / max(1, progress.total)
            print(f"\r{progress.done} of {progress.total} offsets ({share:.0%}) ", end="", file=sys.stderr, flush=True)

    return tell


def _print(check: Audit, breaches: list[Breach], output: OutputFormat) -> None:
    counts = check.counts()
    counts.breaches = len(breaches)
    rows = [breach.as_dict() for breach in breaches]
    if output is OutputFormat.JSON:
        print(to_json({"sound": not breaches, "counts": asdict(counts), "breaches": rows}, indent=2))
        return
    if output is OutputFormat.JSONL:
        print_rows(rows, output, _COLUMNS)
        return
    print(
        f"{counts.records} records: {counts.runs_open} open runs, {counts.runs_closed} closed,"
        f" {counts.tasks_scheduled} tasks ({counts.tasks_done} done, {counts.tasks_outstanding} outstanding,"
        f" {counts.tasks_dead} dead), {counts.timers_outstanding} timers, {counts.dead_letters} dead letters,"
        f" {counts.void_records} void records"
    )
    if not breaches:
        print("sound: no breach found")
        return
    print_rows(rows, output, _COLUMNS)
    for name in dict.fromkeys(breach.check for breach in breaches):
        first = next(breach for breach in breaches if breach.check == name)
        print(f"\n{name}: it must be that {first.expected}.\n  To do: {first.remedy}")
