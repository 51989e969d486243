"""Which commands a partition takes at all: what is wrong with one regardless of any state.

Invariant: what passes can be kept and answered, because names that become keys and ids are in bounds, and everything
else a workflow will get comes to this partition, too. Pure. Called by the partition handler.
"""

from __future__ import annotations

from perdure_schemas.keys import partition_of
from perdure_schemas.limits import NAME_CHARS_MAX, WORKFLOW_ID_CHARS_MAX
from perdure_schemas.records import Command, StartWorkflow

__all__ = ["UnacceptableCommandError", "check"]


class UnacceptableCommandError(ValueError):
    """A command that no state could make right. The message says what is wrong with it, and what to do."""


def check(command: Command, partition: int, partitions: int) -> None:
    """Refuse a command that this partition cannot take.

    Raises:
        UnacceptableCommandError: it belongs to another partition, or an id in it is not usable.
    """
    workflow_id = command.workflow_id
    belongs_to = partition_of(workflow_id, partitions)
    if belongs_to != partition:
        raise UnacceptableCommandError(
            f"the command for workflow {workflow_id[:80]!r} stands in partition {partition}, but belongs to"
            f" {belongs_to} of {partitions}: whoever sent it took the namespace for one with another number of"
            " partitions; restart it"
        )
    _check_length(command.command_id, "command id", 2 * NAME_CHARS_MAX)
    if not isinstance(command.body, StartWorkflow):  # the core answers a start with what is wrong with it
        _check_length(workflow_id, "workflow id", WORKFLOW_ID_CHARS_MAX)
        _check_length(command.run_id, "run id", NAME_CHARS_MAX)


def _check_length(text: str, what: str, chars_max: int) -> None:
    if len(text) > chars_max:
        raise UnacceptableCommandError(f"the {what} {text[:40]!r}… has {len(text)} characters; {chars_max} are allowed")
