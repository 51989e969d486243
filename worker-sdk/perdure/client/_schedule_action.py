"""What a schedule does when it fires, and the schedule as a whole. Names are those of ``temporalio.client``.

Invariant: an action that was read from the log keeps its payloads as they are, so that an update of something else does
not change them, and needs no types. Called by the client's requests about schedules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Concatenate, overload

from perdure._callables import UNSET, arguments_of
from perdure._limits import check_memo, check_name, check_payloads, check_search_attributes, check_static_text
from perdure._runtime.definition import workflow_name_and_result_type
from perdure._search_attributes import TypedSearchAttributes, decode_search_attributes, encode_search_attributes
from perdure.client._schedule_spec import (
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    catchup_window_ms,
    overlap_record,
    policy_of,
    spec_of,
    spec_record,
    state_of,
)
from perdure.common import Payload, Priority, RetryPolicy, require_unused, to_milliseconds
from perdure.converter import DataConverter
from perdure.types import MethodAsyncNoParam, MethodAsyncSingleParam, MultiParamSpec, ParamType, ReturnType, SelfType
from perdure_schemas import records

_TASK_TIMEOUT_DEFAULT_MS = 10_000


class ScheduleAction(ABC):
    """What a schedule does when it fires; see :class:`ScheduleActionStartWorkflow`."""

    @abstractmethod
    async def to_record(self, converter: DataConverter) -> records.ScheduleAction:
        """The action as the log has it.

        Raises:
            TypeError, ValueError: a value makes no sense.
        """


class ScheduleActionStartWorkflow(ScheduleAction):
    """Start a workflow. Its id is ``id`` with the time of the fire behind it.

    The arguments are those of :meth:`Client.start_workflow`. In a description ``args``, the values of ``memo``,
    ``static_summary`` and ``static_details`` are payloads, as the log has them.
    """

    workflow: str
    args: Sequence[Any]
    id: str
    task_queue: str
    execution_timeout: timedelta | None
    run_timeout: timedelta | None
    task_timeout: timedelta | None
    retry_policy: RetryPolicy | None
    memo: Mapping[str, Any] | None
    typed_search_attributes: TypedSearchAttributes
    untyped_search_attributes: Mapping[str, Any]
    static_summary: str | Payload | None
    static_details: str | Payload | None
    priority: Priority
    headers: Mapping[str, Payload] | None

    @overload
    def __init__(
        self,
        workflow: MethodAsyncNoParam[SelfType, ReturnType],
        *,
        id: str,
        task_queue: str,
        execution_timeout: timedelta | None = None,
        run_timeout: timedelta | None = None,
        task_timeout: timedelta | None = None,
        retry_policy: RetryPolicy | None = None,
        memo: Mapping[str, Any] | None = None,
        typed_search_attributes: TypedSearchAttributes = ...,
        static_summary: str | None = None,
        static_details: str | None = None,
        priority: Priority = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
        arg: ParamType,
        *,
        id: str,
        task_queue: str,
        execution_timeout: timedelta | None = None,
        run_timeout: timedelta | None = None,
        task_timeout: timedelta | None = None,
        retry_policy: RetryPolicy | None = None,
        memo: Mapping[str, Any] | None = None,
        typed_search_attributes: TypedSearchAttributes = ...,
        static_summary: str | None = None,
        static_details: str | None = None,
        priority: Priority = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        id: str,
        task_queue: str,
        execution_timeout: timedelta | None = None,
        run_timeout: timedelta | None = None,
        task_timeout: timedelta | None = None,
        retry_policy: RetryPolicy | None = None,
        memo: Mapping[str, Any] | None = None,
        typed_search_attributes: TypedSearchAttributes = ...,
        static_summary: str | None = None,
        static_details: str | None = None,
        priority: Priority = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        workflow: str,
        arg: Any = ...,
        *,
        args: Sequence[Any] = [],
        id: str,
        task_queue: str,
        execution_timeout: timedelta | None = None,
        run_timeout: timedelta | None = None,
        task_timeout: timedelta | None = None,
        retry_policy: RetryPolicy | None = None,
        memo: Mapping[str, Any] | None = None,
        typed_search_attributes: TypedSearchAttributes = ...,
        static_summary: str | None = None,
        static_details: str | None = None,
        priority: Priority = ...,
    ) -> None: ...

    @overload
    def __init__(self, workflow: str, *, raw_info: records.ScheduleAction) -> None: ...

    def __init__(
        self,
        workflow: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = [],
        id: str | None = None,
        task_queue: str | None = None,
        execution_timeout: timedelta | None = None,
        run_timeout: timedelta | None = None,
        task_timeout: timedelta | None = None,
        retry_policy: RetryPolicy | None = None,
        memo: Mapping[str, Any] | None = None,
        typed_search_attributes: TypedSearchAttributes = TypedSearchAttributes.empty,
        untyped_search_attributes: Mapping[str, Any] = {},
        static_summary: str | Payload | None = None,
        static_details: str | Payload | None = None,
        headers: Mapping[str, Payload] | None = None,
        raw_info: records.ScheduleAction | None = None,
        priority: Priority = Priority.default,
    ) -> None:
        super().__init__()
        if raw_info is not None:
            self._take(raw_info)
            return
        if not id:
            raise ValueError("the action needs an id; the time of each fire is added to it")
        if not task_queue:
            raise ValueError("the action needs a task_queue")
        self.workflow, _ = workflow_name_and_result_type(workflow)
        self.args = arguments_of(arg, args)
        self.id = id
        self.task_queue = task_queue
        self.execution_timeout = execution_timeout
        self.run_timeout = run_timeout
        self.task_timeout = task_timeout
        self.retry_policy = retry_policy
        self.memo = memo
        self.typed_search_attributes = typed_search_attributes
        self.untyped_search_attributes = untyped_search_attributes
        self.static_summary = static_summary
        self.static_details = static_details
        self.headers = headers
        self.priority = priority

    def __repr__(self) -> str:
        return f"ScheduleActionStartWorkflow({self.workflow!r}, id={self.id!r}, task_queue={self.task_queue!r})"

    def _take(self, record: records.ScheduleAction) -> None:
        self.workflow = record.workflow_type
        self.args = record.input
        self.id = record.workflow_id
        self.task_queue = record.task_queue
        self.execution_timeout = _duration(record.execution_timeout_ms)
        self.run_timeout = _duration(record.run_timeout_ms)
        self.task_timeout = _duration(record.task_timeout_ms)
        self.retry_policy = None if record.retry_policy is None else RetryPolicy.from_record(record.retry_policy)
        self.memo = record.memo or None
        self.typed_search_attributes = decode_search_attributes(record.search_attributes)
        self.untyped_search_attributes = {}
        self.static_summary = record.static_summary
        self.static_details = record.static_details
        self.headers = record.header or None
        self.priority = Priority.default
        if record.priority != records.TaskPriority():
            self.priority = Priority(
                priority_key=record.priority.priority,
                fairness_key=record.priority.fairness_key or None,
                fairness_weight=record.priority.fairness_weight,
            )

    async def to_record(self, converter: DataConverter) -> records.ScheduleAction:
        """The action as the log has it.

        Raises:
            TypeError, ValueError: a value makes no sense.
        """
        require_unused({"untyped_search_attributes": self.untyped_search_attributes}, "a schedule's action")
        check_name(self.workflow, "workflow type")
        check_name(self.task_queue, "task queue")
        what = f"of workflow {self.id!r}"
        payloads = [await _payload(converter, value) for value in self.args]
        header = dict(self.headers or {})
        check_payloads([*payloads, *header.values()], f"the input {what}")
        memo = {key: await _payload(converter, value) for key, value in (self.memo or {}).items()}
        check_memo(memo, f"the memo {what}")
        attributes = encode_search_attributes(self.typed_search_attributes)
        check_search_attributes(attributes)
        return records.ScheduleAction(
            workflow_id=self.id,
            workflow_type=self.workflow,
            task_queue=self.task_queue,
            input=payloads,
            header=header,
            execution_timeout_ms=_milliseconds(self.execution_timeout, "execution_timeout"),
            run_timeout_ms=_milliseconds(self.run_timeout, "run_timeout"),
            task_timeout_ms=_milliseconds(self.task_timeout, "task_timeout") or _TASK_TIMEOUT_DEFAULT_MS,
            retry_policy=None if self.retry_policy is None else self.retry_policy.to_record(),
            memo=memo,
            search_attributes=attributes,
            static_summary=await _text(converter, self.static_summary, "static_summary"),
            static_details=await _text(converter, self.static_details, "static_details"),
            priority=self.priority.to_record(),
        )


@dataclass
class Schedule:
    """A schedule: what it does, when, by which policies, and its switches."""

    action: ScheduleAction
    spec: ScheduleSpec
    policy: SchedulePolicy = field(default_factory=SchedulePolicy)
    state: ScheduleState = field(default_factory=ScheduleState)


async def definition_record(
    schedule: Schedule,
    converter: DataConverter,
    memo: Mapping[str, Payload],
    search_attributes: Mapping[str, Payload],
) -> records.ScheduleDefinition:
    """What a schedule is, as the log has it; without its switches.

    Raises:
        TypeError, ValueError: a value makes no sense.
    """
    return records.ScheduleDefinition(
        action=await schedule.action.to_record(converter),
        spec=spec_record(schedule.spec),
        overlap=overlap_record(schedule.policy.overlap),
        catchup_window_ms=catchup_window_ms(schedule.policy),
        pause_on_failure=schedule.policy.pause_on_failure,
        memo=dict(memo),
        search_attributes=dict(search_attributes),
    )


def schedule_of(definition: records.ScheduleDefinition, progress: records.ScheduleProgress) -> Schedule:
    """A schedule of the log as users have it."""
    return Schedule(
        action=ScheduleActionStartWorkflow(definition.action.workflow_type, raw_info=definition.action),
        spec=spec_of(definition.spec),
        policy=policy_of(definition),
        state=state_of(progress),
    )


def _duration(duration_ms: int | None) -> timedelta | None:
    return None if duration_ms is None else timedelta(milliseconds=duration_ms)


def _milliseconds(duration: timedelta | None, what: str) -> int | None:
    return None if duration is None else to_milliseconds(duration, what) or None


async def _payload(converter: DataConverter, value: Any) -> Payload:
    return value if isinstance(value, Payload) else (await converter.encode([value]))[0]


async def _text(converter: DataConverter, text: str | Payload | None, what: str) -> Payload | None:
    if text is None:
        return None
    payload = await _payload(converter, text)
    check_static_text(payload, what)
    return payload
