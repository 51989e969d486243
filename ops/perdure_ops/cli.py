"""The ``perdure`` command: its tree of commands, and how it ends.

Invariants: a failure ends with an exit code that is not 0 and one line on stderr, never with a traceback unless
``PERDURE_DEBUG=1`` asks for it; importing this module stays cheap (see the package). Called by the ``perdure`` script
and by ``python -m perdure_ops``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from perdure_ops import (
    commands_activity,
    commands_audit,
    commands_batch,
    commands_cluster,
    commands_deployment,
    commands_dlq,
    commands_lifecycle,
    commands_log,
    commands_migrate,
    commands_operations,
    commands_replay,
    commands_reset,
    commands_schedule,
    commands_server,
    commands_sql,
    commands_task_queue,
    commands_topics,
    commands_update,
    commands_workflow,
    profiles,
)
from perdure_ops.errors import CliError, describe_error

DEBUG_VARIABLE = "PERDURE_DEBUG"
_EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="perdure",
    help="Durable execution on Kafka. Start with: perdure dev",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("dev")(commands_server.dev)
app.command("server")(commands_server.server)
app.command("audit")(commands_audit.audit)
app.command("dump")(commands_audit.dump)
app.command("load")(commands_audit.load)
app.command("partitions")(commands_log.partitions)
app.command("lag")(commands_log.lag)
app.command("sql")(commands_sql.sql)
app.command("rebuild-state")(commands_cluster.rebuild_state)
app.command("migrate-partitions")(commands_migrate.migrate_partitions)
app.add_typer(commands_cluster.reassign_app, name="reassign")
app.command("doctor")(commands_log.doctor)
app.add_typer(commands_log.history_app, name="history")
app.add_typer(commands_dlq.app, name="dlq")
app.add_typer(commands_topics.app, name="topics")
commands_workflow.app.command("replay")(commands_replay.replay)
commands_workflow.app.command("reset")(commands_reset.reset)
commands_lifecycle.add_to(commands_workflow.app)
commands_operations.add_to(commands_workflow.app, commands_activity.app)
commands_workflow.app.add_typer(commands_update.app, name="update")
app.add_typer(commands_workflow.app, name="workflow")
app.add_typer(commands_activity.app, name="activity")
commands_deployment.app.command("list")(commands_task_queue.list_workers)
app.add_typer(commands_batch.app, name="batch")
app.add_typer(commands_schedule.app, name="schedule")
app.add_typer(commands_task_queue.app, name="task-queue")
app.add_typer(commands_deployment.app, name="worker")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"perdure {version('perdure')}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    profile: Annotated[
        str | None,
        typer.Option(
            profiles.PROFILE_OPTION,
            envvar=profiles.PROFILE_VARIABLE,
            metavar="NAME",
            help='Connection profile; may stand anywhere. "default" if not given.',
        ),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            profiles.FILE_OPTION,
            envvar=profiles.FILE_VARIABLE,
            metavar="FILE",
            help="File of profiles; may stand anywhere. ~/.config/perdure/perdure.toml if not given.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Durable execution on Kafka. Start with: perdure dev"""
    values = profiles.option_values(profile, config_file)
    context.default_map = profiles.defaults_for(context.command, values)


@cache
def command() -> Callable[..., object]:
    """The tree as it is run. Built once in a process: it takes longer than most commands."""
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit.

    Args:
        arguments: the command line without the program's name; that of the process if not given.

    Raises:
        SystemExit: always; code 0 on success, 1 on failure, 2 on wrong usage, 130 when interrupted.
    """
    try:
        command()(args=profiles.to_front(sys.argv[1:] if arguments is None else arguments), prog_name="perdure")
    except KeyboardInterrupt:
        sys.exit(_EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has left (``perdure workflow list | head``); the rest has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        print(f"Error: {describe_error(error)}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, CliError) else 1)
    sys.exit(0)
