"""How workflow code finds the run it belongs to: through the running event loop.

Invariant: only code that runs inside an activation, a query or the closing of a run finds an instance. Called by the
functions of :mod:`perdure.workflow`.
"""

from __future__ import annotations

from asyncio import events
from typing import TYPE_CHECKING

from perdure._runtime.errors import NotInWorkflowError
from perdure._runtime.loop import WorkflowLoop

if TYPE_CHECKING:
    from perdure._runtime.instance import WorkflowInstance


class InstanceLoop(WorkflowLoop):
    """The loop of a run, which knows its instance."""

    instance: WorkflowInstance
    #: Above zero, the code may call what is not deterministic.
    guards_off = 0


def new_loop(instance: WorkflowInstance, hash_salt: int) -> InstanceLoop:
    """A loop for an instance."""
    # What the loop refuses is added to its class by name, which a type checker does not see.
    loop = InstanceLoop(instance, hash_salt)  # type: ignore[abstract]
    loop.instance = instance
    return loop


def maybe_current_instance() -> WorkflowInstance | None:
    """The run whose code is running, or ``None`` outside of workflow code."""
    loop = events._get_running_loop()
    return loop.instance if isinstance(loop, InstanceLoop) else None


def current_instance() -> WorkflowInstance:
    """The run whose code is running.

    Raises:
        NotInWorkflowError: this is not workflow code.
    """
    loop = events._get_running_loop()
    if isinstance(loop, InstanceLoop):
        return loop.instance
    raise NotInWorkflowError("Not in workflow event loop: functions of perdure.workflow work in workflow code only")
