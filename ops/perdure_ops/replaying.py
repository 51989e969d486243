"""Replays histories against workflow classes that a module holds, and prints where they differ.

Nothing is written anywhere, and no activity runs: this may be pointed at a production namespace. Called by
:mod:`perdure_ops.commands_replay`.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from perdure._runtime.definition import WorkflowDefinition
from perdure.client import Client, WorkflowHistory
from perdure.worker import Replayer, WorkflowReplayResult
from perdure_ops import workflow_actions
from perdure_ops.errors import CliError, one_line
from perdure_ops.output import OutputFormat, print_rows

COLUMNS = ("workflow_id", "run_id", "type", "replays", "difference")


def load_workflows(reference: str) -> list[type]:
    """The workflow classes that ``MODULE[:ATTRIBUTE]`` names, with the current folder on the import path.

    Raises:
        CliError: there is no such module or attribute, or it holds no workflow class.
    """
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds texts
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    module_name, _, attribute = reference.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise
        raise CliError(
            f"--module {reference!r}: there is no module {error.name!r} here; the current folder is on the import path"
        ) from error
    for part in attribute.split(".") if attribute else ():
        if not hasattr(found, part):
            raise CliError(f"--module {reference!r}: module {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    if isinstance(found, ModuleType):
        found = list(vars(found).values())
    candidates = list(found) if isinstance(found, list | tuple | set) else [found]
    classes = [one for one in candidates if isinstance(one, type) and WorkflowDefinition.from_class(one) is not None]
    if not classes:
        raise CliError(f"--module {reference!r} holds no class decorated with workflow.defn")
    return list(dict.fromkeys(classes))


def replay_files(classes: Sequence[type], files: Sequence[Path], output: OutputFormat) -> None:
    """Replay histories from files, and print what came of it.

    Raises:
        CliError: the code does not fit one, or a file holds no history.
    """
    histories = []
    for path in files:
        try:
            histories.append(WorkflowHistory.from_json(path.stem, path.read_text()))
        except (ValueError, UnicodeDecodeError) as error:
            raise CliError(f"{path}: {error}") from error

    async def replayed() -> list[WorkflowReplayResult]:
        replayer = Replayer(workflows=classes)
        return [await replayer.replay_workflow(one, raise_on_replay_failure=False) for one in histories]

    _report(asyncio.run(replayed()), output)


def replay_runs(
    classes: Sequence[type],
    address: str,
    namespace: str,
    sample: int,
    workflow_type: str | None,
    output: OutputFormat,
) -> None:
    """Replay the newest runs of a namespace, and print what came of it.

    Args:
        classes: the workflow classes.
        address, namespace: where the runs are.
        sample: how many runs to replay at most.
        workflow_type: only runs of this type; runs of types that ``classes`` does not have are left out anyway.
        output: how to print.

    Raises:
        CliError: the code does not fit a history.
    """
    wanted = {WorkflowDefinition.must_from_class(cls).name for cls in classes}
    if workflow_type is not None:
        if workflow_type not in wanted:
            raise CliError(
                f"--type {workflow_type}: the module has no such workflow; it has {', '.join(sorted(wanted))}"
            )
        wanted = {workflow_type}
    results: list[WorkflowReplayResult] = []

    async def replayed(client: Client) -> None:
        replayer = Replayer(workflows=classes, namespace=namespace, data_converter=client.data_converter)
        async for history in _sampled(client, wanted, sample):
            results.append(await replayer.replay_workflow(history, raise_on_replay_failure=False))

    workflow_actions.run(address, namespace, replayed)
    _report(results, output)


async def _sampled(client: Client, wanted: set[str], sample: int) -> AsyncIterator[WorkflowHistory]:
    async for execution in client.list_workflows():
        if execution.workflow_type in wanted:
            yield await client.get_workflow_handle(execution.id, run_id=execution.run_id).fetch_history()
            sample -= 1
            if sample == 0:
                return


def _report(results: Sequence[WorkflowReplayResult], output: OutputFormat) -> None:
    print_rows([_row(result) for result in results], output, COLUMNS)
    failed = sum(result.replay_failure is not None for result in results)
    if failed:
        raise CliError(
            f"{failed} of {len(results)} histories do not replay: guard the change with workflow.patched(), or deploy "
            "the code under another workflow type"
        )


def _row(result: WorkflowReplayResult) -> dict[str, Any]:
    history, failure = result.history, result.replay_failure
    started = history.events[0].attributes if history.events else None
    return {
        "workflow_id": history.workflow_id,
        "run_id": history.run_id,
        "type": getattr(started, "workflow_type", ""),
        "replays": "yes" if failure is None else "NO",
        "difference": "" if failure is None else one_line(f"{type(failure).__name__}: {failure}"),
    }
