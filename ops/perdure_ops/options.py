"""Options that many commands share, declared once. Used in the signatures of the commands."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from perdure_ops.logs import LogLevel
from perdure_ops.output import OutputFormat

DEFAULT_ADDRESS = "localhost:7233"
DEFAULT_NAMESPACE = "default"


class SubjectNaming(StrEnum):
    """How subjects of a schema registry are called: by topic and record, or by record (namespaces share these)."""

    TOPIC_RECORD = "topic-record"
    RECORD = "record"


RegistryAuth = Annotated[
    str | None,
    typer.Option(
        envvar="PERDURE_SCHEMA_REGISTRY_AUTH", metavar="TEXT", help="The Authorization header for the registry."
    ),
]
Address = Annotated[
    str,
    typer.Option(
        envvar="PERDURE_ADDRESS",
        metavar="ADDRESS",
        help="HOST:PORT of a development server, or kafka://BROKER:PORT,…",
    ),
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", envvar="PERDURE_NAMESPACE", metavar="NAME", help="Namespace to use.")
]
Output = Annotated[OutputFormat, typer.Option("--output", "-o", help="How to print the result.")]
Level = Annotated[LogLevel, typer.Option("--log-level", envvar="PERDURE_LOG_LEVEL", help="What to log to stderr.")]
WorkflowId = Annotated[str, typer.Option("--workflow-id", "-w", metavar="ID", help="Workflow id.")]
RunId = Annotated[
    str | None, typer.Option("--run-id", "-r", metavar="ID", help="Run id; the current run if not given.")
]
Input = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", metavar="JSON", help="An argument as JSON; repeat it for more.", show_default=False),
]
InputFile = Annotated[
    list[Path] | None,
    typer.Option("--input-file", metavar="FILE", help="A file with an argument as JSON.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
CodecEndpoint = Annotated[
    str | None,
    typer.Option(
        envvar="PERDURE_CODEC_ENDPOINT",
        metavar="URL",
        help="A codec server, to encode what is sent and to decode what is shown.",
    ),
]
CodecAuth = Annotated[
    str | None,
    typer.Option(envvar="PERDURE_CODEC_AUTH", metavar="TEXT", help="The Authorization header for the codec server."),
]
