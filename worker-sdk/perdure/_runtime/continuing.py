"""Continue-as-new as the run makes it: what workflow code wants becomes the error that leaves the run method.

Invariant: what is wrong with a value is raised where ``workflow.continue_as_new`` is called. Called by that function,
or by the innermost interceptor if the worker has any.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from perdure._interceptors import ContinueAsNewInput
from perdure._runtime.errors import ContinueAsNewError
from perdure._search_attributes import encode_search_attributes
from perdure.common import to_milliseconds
from perdure_schemas.records import ContinueAsNewWorkflowExecution

if TYPE_CHECKING:
    from perdure._runtime.instance import WorkflowInstance


def raise_continue_as_new(instance: WorkflowInstance, wanted: ContinueAsNewInput) -> NoReturn:
    """Leave the run method for a new run.

    Raises:
        ContinueAsNewError: always, unless a value is wrong. TypeError, ValueError: one is.
    """
    initial = wanted.initial_versioning_behavior
    converter = instance.settings.payload_converter
    raise ContinueAsNewError(
        ContinueAsNewWorkflowExecution(
            workflow_type=wanted.workflow or instance.info.workflow_type,
            task_queue=wanted.task_queue or instance.info.task_queue,
            input=converter.to_payloads(wanted.args) if wanted.args else [],
            header=dict(wanted.headers),
            run_timeout_ms=_limit(wanted.run_timeout, "run_timeout"),
            task_timeout_ms=_limit(wanted.task_timeout, "task_timeout"),
            retry_policy=None if wanted.retry_policy is None else wanted.retry_policy.to_record(),
            replaces_memo=wanted.memo is not None,
            memo={key: converter.to_payload(value) for key, value in (wanted.memo or {}).items()},
            replaces_search_attributes=wanted.search_attributes is not None,
            search_attributes=encode_search_attributes(wanted.search_attributes),
            backoff_start_interval_ms=_limit(wanted.backoff_start_interval, "backoff_start_interval") or 0,
            initial_versioning_behavior=initial.name if initial else "",
        )
    )


def _limit(duration: timedelta | None, name: str) -> int | None:
    return None if duration is None else to_milliseconds(duration, name) or None
