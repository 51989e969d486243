"""Writes the end of a run on the console: what was paid, what went wrong on the way, and whether it reconciles.

Called by the demo once the reconciliation is done.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from examples.payments.bank_statement import CallCounts
from examples.payments.models import Batch, Outcome, PaymentResult, euros
from examples.payments.reconcile import Difference, Reconciliation

DIFFERENCES_SHOWN_MAX = 50


@dataclass(frozen=True)
class Kill:
    """A process that was killed: its name, after how many payments, and how long until the next payment had ended."""

    name: str
    after_payments: int
    pause_s: float


@dataclass(frozen=True)
class RunFacts:
    """What the demo itself counted during a run."""

    kills: list[Kill]
    client_retries: int
    elapsed_s: float


def print_report(
    console: Console,
    batch: Batch,
    results: dict[str, PaymentResult],
    reconciliation: Reconciliation,
    calls: CallCounts,
    facts: RunFacts,
) -> None:
    """Prints the tables and the verdict."""
    console.print(_payments_table(batch, results, reconciliation))
    console.print(_trouble_table(calls, facts))
    rate = len(batch.payments) / facts.elapsed_s
    console.print(f"{len(batch.payments):,} payments in {facts.elapsed_s:.1f} s, {rate:,.0f} a second")
    print_verdict(console, batch, reconciliation.differences)


def print_verdict(console: Console, batch: Batch, differences: list[Difference]) -> None:
    """Prints whether the batch reconciles, and what does not."""
    if not differences:
        console.print(
            f"[bold green]RECONCILED[/]: all {len(batch.payments):,} payments settled, refused or undone, "
            f"none twice, none missing, {euros(batch.total_cents)} EUR to the cent",
            soft_wrap=True,
        )
        return
    console.print(f"[bold red]DOES NOT RECONCILE[/]: {len(differences):,} differences")
    for difference in differences[:DIFFERENCES_SHOWN_MAX]:
        console.print(f"  {escape(str(difference))}", soft_wrap=True, highlight=False)
    if len(differences) > DIFFERENCES_SHOWN_MAX:
        console.print(f"  ... and {len(differences) - DIFFERENCES_SHOWN_MAX:,} more")


def _payments_table(batch: Batch, results: dict[str, PaymentResult], reconciliation: Reconciliation) -> Table:
    table = Table(title="Payments, by the bank's ledger", title_justify="left")
    table.add_column("ended")
    table.add_column("payments", justify="right")
    table.add_column("EUR", justify="right")
    for outcome in Outcome:
        count = reconciliation.count_by_outcome.get(outcome, 0)
        cents = reconciliation.cents_by_outcome.get(outcome, 0)
        table.add_row(outcome, f"{count:,}", euros(cents))
        for (step, code), part in sorted(_reasons(results, outcome).items()):
            table.add_row(f"  at {step}: {escape(code)}", f"{part:,}", "", style="dim")
    table.add_section()
    table.add_row("still reserved", "", euros(reconciliation.held_cents))
    table.add_row("batch file", f"{len(batch.payments):,}", euros(batch.total_cents))
    return table


def _reasons(results: dict[str, PaymentResult], outcome: Outcome) -> Counter[tuple[str, str]]:
    return Counter(
        (result.failed_step, result.reason.partition(":")[0])
        for result in results.values()
        if result.outcome == outcome and result.failed_step
    )


def _trouble_table(calls: CallCounts, facts: RunFacts) -> Table:
    table = Table(title="What went wrong on the way", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_row("calls to the bank", f"{calls.calls:,}")
    table.add_row("  failed before the bank acted (503)", f"{calls.unavailable:,}")
    table.add_row("  reply dropped after the bank acted", f"{calls.replies_dropped:,}")
    table.add_row("  retries (calls repeated with the same key)", f"{calls.repeated:,}")
    table.add_row("client calls repeated by the demo", f"{facts.client_retries:,}")
    for kill in facts.kills:
        table.add_row(
            f"{escape(kill.name)} killed after {kill.after_payments:,} payments; next one ended after",
            f"{kill.pause_s:.1f} s",
        )
    if not facts.kills:
        table.add_row("processes killed", "0")
    return table
