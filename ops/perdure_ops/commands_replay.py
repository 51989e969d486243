"""``perdure workflow replay``: its options. What it does stands in :mod:`perdure_ops.replaying`.

This module is loaded by every ``perdure`` command, so it stays cheap.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure_ops.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, Address, Namespace, Output
from perdure_ops.output import OutputFormat

Module = Annotated[
    str,
    typer.Option(
        "--module",
        "-m",
        metavar="MODULE[:ATTRIBUTE]",
        help="Where the workflow classes are: all of a module, or a class or list of classes in it.",
    ),
]
File = Annotated[
    list[Path] | None,
    typer.Option(
        "--file", metavar="FILE", help="A history as `workflow show -o json` prints it; repeatable.", show_default=False
    ),
]
Sample = Annotated[int, typer.Option(min=1, metavar="N", help="How many of the newest runs to replay.")]
Type = Annotated[
    str | None,
    typer.Option(
        "--type", "--query-type", metavar="NAME", help="Only runs of this type; else all types of the module."
    ),
]


def replay(
    module: Module,
    file: File = None,
    sample: Sample = 100,
    type: Type = None,
    address: Address = DEFAULT_ADDRESS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Replay histories against workflow code that is to be deployed. Exit code 1 if the code does not fit one.

    Example: perdure workflow replay --module shop.workflows --sample 500
    """
    from perdure_ops import replaying

    classes = replaying.load_workflows(module)
    if file:
        replaying.replay_files(classes, file, output)
    else:
        replaying.replay_runs(classes, address, namespace, sample, type, output)
