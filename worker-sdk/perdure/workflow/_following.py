"""What workflow code does to go on as a new run, and what a run knows of those before it.

Names, parameters and defaults are those of ``temporalio.workflow``. Called by user code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import IntEnum
from typing import Any, NoReturn

from perdure._callables import UNSET, arguments_of
from perdure._interceptors import ContinueAsNewInput
from perdure._runtime.context import current_instance
from perdure._runtime.continuing import raise_continue_as_new
from perdure._runtime.definition import workflow_name_and_result_type
from perdure._search_attributes import TypedSearchAttributes
from perdure.common import RetryPolicy, require_unused

__all__ = [
    "ContinueAsNewVersioningBehavior",
    "continue_as_new",
    "get_last_completion_result",
    "get_last_failure",
    "has_last_completion_result",
]


class ContinueAsNewVersioningBehavior(IntEnum):
    """Where the first workflow task of a run continued as new goes."""

    #: A pinned run stays with its version.
    UNSPECIFIED = 0
    #: To the version that is current or, for this workflow id, ramping.
    AUTO_UPGRADE = 1
    #: To the ramping version, if there is one.
    USE_RAMPING_VERSION = 2


def continue_as_new(
    arg: Any = UNSET,
    *,
    args: Sequence[Any] = [],
    workflow: Callable[..., Any] | str | None = None,
    task_queue: str | None = None,
    run_timeout: timedelta | None = None,
    task_timeout: timedelta | None = None,
    backoff_start_interval: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
    memo: Mapping[str, Any] | None = None,
    search_attributes: TypedSearchAttributes | None = None,
    versioning_intent: Any = None,
    initial_versioning_behavior: ContinueAsNewVersioningBehavior | None = None,
) -> NoReturn:
    """Close this run at once, and go on as a new one with an empty history.

    Signals that have arrived and that this run's code has not seen yet keep the run open: its code runs again and sees
    them. What is pending (activities, timers) does not go over to the new run.

    Args:
        arg: The new run's only argument.
        args: Its arguments, if there are several.
        workflow: The workflow to go on as; the same one if not given.
        task_queue: Its task queue; the same one if not given.
        run_timeout: Limit for the new run; this run's if not given.
        task_timeout: How long a worker may take for one workflow task; this run's if not given.
        backoff_start_interval: How long the new run's first workflow task waits.
        retry_policy: How a failed run is repeated; this run's policy if not given.
        memo: The new run's memo; this run's if not given.
        search_attributes: The new run's search attributes; this run's if not given.
        versioning_intent: Not supported.
        initial_versioning_behavior: Where the new run's first workflow task goes; if not given, a pinned run stays
            with its version.

    Raises:
        ContinueAsNewError: always; let it leave the run method.
        NotImplementedError: an argument is not supported. TypeError, ValueError: one makes no sense.
    """
    require_unused({"versioning_intent": versioning_intent}, "continue_as_new")
    initial = ContinueAsNewVersioningBehavior(initial_versioning_behavior or 0)
    instance = current_instance()
    instance.loop.require_writable("continue as new")
    wanted = ContinueAsNewInput(
        workflow=None if workflow is None else workflow_name_and_result_type(workflow)[0],
        args=arguments_of(arg, args),
        task_queue=task_queue,
        run_timeout=run_timeout,
        task_timeout=task_timeout,
        backoff_start_interval=backoff_start_interval,
        retry_policy=retry_policy,
        memo=memo,
        search_attributes=search_attributes,
        headers={},
        initial_versioning_behavior=initial,
    )
    if instance.interception is not None:
        instance.interception.outbound.continue_as_new(wanted)
    raise_continue_as_new(instance, wanted)


def has_last_completion_result() -> bool:
    """Whether a run of this workflow's cron schedule has succeeded before."""
    return bool(current_instance().started.last_completion_result)


def get_last_completion_result(type_hint: type | None = None) -> Any | None:
    """What the last successful run of this workflow's cron schedule returned; ``None`` if there was none.

    Args:
        type_hint: The type to decode it to.
    """
    instance = current_instance()
    result = instance.started.last_completion_result
    return instance.settings.payload_converter.from_payload(result[0], type_hint) if result else None


def get_last_failure() -> BaseException | None:
    """How the run before this one failed, if this run follows a failed one: a retry, or a cron schedule's next."""
    instance = current_instance()
    failure = instance.started.last_failure
    if failure is None:
        return None
    return instance.settings.failure_converter.from_failure(failure, instance.settings.payload_converter)
