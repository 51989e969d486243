"""What ``perdure doctor`` does: reads what the checks need, prints their findings, and ends with 1 if there are any.

Changes nothing. Called by its command; the checks stand in ``perdure_ops.doctor``.
"""

from __future__ import annotations

import sys

import typer

from perdure_ops import doctor
from perdure_ops.audit import AUDITED, Audit
from perdure_ops.audit.reading import TopicScan, settled_breaches
from perdure_ops.dead_letters import letters_of, plan_replay
from perdure_ops.errors import CliError, describe_error
from perdure_ops.group_lag import lags_of
from perdure_ops.opening import opened
from perdure_ops.output import OutputFormat, print_rows, to_json
from perdure_ops.partition_view import open_runs
from perdure_runtime import topics_plan
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.log import Log, LogError, TopicPartition
from perdure_schemas.topics import TASKS, TIMERS, WORKERS, TopicNames

__all__ = ["examine"]

EXIT_FINDINGS = 1
EXIT_UNABLE = 2


def examine(
    address: str, namespace: str, age_s_max: float, audit_records_max: int, settle_s: float, output: OutputFormat
) -> None:
    """Print the findings about a namespace.

    Parameters:
        age_s_max: how old what waits may be, in seconds.
        audit_records_max: the log is audited, too, if its audited topics hold no more records.
        settle_s: how long something has to stand to be wrong in a cluster at work.

    Raises:
        CliError: it could not look (exit code 2).
        typer.Exit: there are findings (exit code 1).
    """
    try:
        with opened(address, namespace) as (log, names):
            findings, unaudited = _findings(log, names, age_s_max, audit_records_max, settle_s)
    except LogError as error:
        raise CliError(describe_error(error), EXIT_UNABLE) from error
    rows = [finding._asdict() for finding in findings]
    if output is OutputFormat.JSON:
        print(to_json({"healthy": not rows, "audited": not unaudited, "findings": rows}, indent=2))
    elif output is OutputFormat.JSONL:
        print_rows(rows, output, ())
    else:
        for finding in findings:
            print(f"{finding.check}: {finding.subject}\n  {finding.finding}")
            print(f"  Cause: {finding.cause}\n  To do: {finding.fix}")
        if not findings:
            print(f"nothing found: namespace {namespace} is well")
    if unaudited:
        print(f"not audited: {unaudited} (run `perdure audit`, or raise --audit-records)", file=sys.stderr)
    if findings:
        raise typer.Exit(EXIT_FINDINGS)


def _findings(
    log: Log, names: TopicNames, age_s_max: float, audit_records_max: int, settle_s: float
) -> tuple[list[doctor.Finding], str]:
    """The findings, and why the log was not audited; empty if it was."""
    declared = topics_plan.declared_topics(names)
    found = log.describe_topics(list(declared))
    findings = doctor.topic_findings(names, found)
    if any(name not in found or found[name].partitions != names.partitions for name in declared):
        return findings, "topics are missing"
    findings += doctor.group_findings(lags_of(log, names), wall_clock_ms(), age_s_max)
    runs = open_runs(log, names)
    findings += doctor.run_findings(run for of in runs.values() for run in of.values())
    findings += doctor.letter_findings(plan_replay(log, names, list(letters_of(log, names))))
    outstanding = doctor.Outstanding(names)
    scan = TopicScan(log, names, [TASKS, TIMERS, WORKERS])
    try:
        for record in scan.to_end():
            outstanding.take(record)
    finally:
        scan.close()
    findings += outstanding.findings(wall_clock_ms(), age_s_max)
    offsets = _audited_offsets(log, names)
    if offsets > audit_records_max:
        return findings, f"its topics hold up to {offsets} records, more than {audit_records_max}"
    return findings + _audit(log, names, settle_s), ""


def _audited_offsets(log: Log, names: TopicNames) -> int:
    places = [TopicPartition(names.of(spec), number) for spec in AUDITED for number in range(names.partitions)]
    return sum(end - low for low, end in map(log.watermarks, places))


def _audit(log: Log, names: TopicNames, settle_s: float) -> list[doctor.Finding]:
    scan = TopicScan(log, names, AUDITED)
    try:
        check = Audit(names)
        for record in scan.to_end():
            check.take(record)
        return doctor.audit_findings(settled_breaches(check, scan, settle_s))
    finally:
        scan.close()
