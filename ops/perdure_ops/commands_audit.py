"""``perdure audit``, ``dump`` and ``load``: check everything in the log, here or elsewhere, and carry workflows over.

This module is loaded by every ``perdure`` command, so it stays cheap; what it does stands in ``perdure_ops.auditing``
and ``moving``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure_ops.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, Address, Namespace, Output, RunId, Yes
from perdure_ops.output import OutputFormat

SETTLE_S = 5.0


def audit(
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    dump_file: Annotated[
        Path | None, typer.Option("--dump", metavar="FILE", help="Check a dump instead of a cluster.")
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="State folder of a stopped engine (or a copy): compare it with the log."),
    ] = None,
    settle: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long a cluster at work has to be wrong to be wrong.")
    ] = SETTLE_S,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Check that nothing was lost, doubled or done too early, from the first record to the last. Changes nothing.

    Ends with 0 if all is sound, with 1 if not, and with 2 if it could not look.

    Example: perdure audit --address kafka://b1:9092 -o json
    """
    from perdure_ops import auditing

    auditing.audit(address, namespace, dump_file, state_dir, settle, output)


def dump(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, for example today.dump.")],
    workflow_id: Annotated[
        str | None, typer.Option("--workflow-id", "-w", metavar="ID", help="Only this workflow, for `perdure load`.")
    ] = None,
    run_id: RunId = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    all_topics: Annotated[
        bool, typer.Option("--all", help="Also what clients, workers and the engine tell each other.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Write the topics that an audit looks at, or one workflow, into a file. Payloads stand in it as in the log.

    Example: perdure dump today.dump --address kafka://b1:9092
    """
    if workflow_id is not None:
        from perdure_ops import moving

        moving.dump_workflow(file, address, namespace, workflow_id, run_id, force=force, output=output)
        return
    from perdure_ops import auditing

    auditing.dump(file, address, namespace, all_topics=all_topics, force=force, output=output)


def load(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `perdure dump FILE --workflow-id ID` wrote.")],
    workflow_id: Annotated[
        str | None, typer.Option("--workflow-id", "-w", metavar="ID", help="Its id here; the one it had if not given.")
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be begun.")] = False,
    yes: Yes = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Begin a workflow here with the history that it has in a file, up to its last workflow task, and go on from there.

    Activities that had finished by then are not run again; pending ones are. What the file was written from is left as
    it is: terminate it if this one takes its place. Loading a file again changes nothing.

    Example: perdure load order-17.json --address kafka://b1:9092 --namespace staging
    """
    from perdure_ops import moving

    moving.load_workflow(file, address, namespace, workflow_id, dry_run=dry_run, assume_yes=yes, output=output)
