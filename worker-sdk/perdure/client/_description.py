"""What a client learns about workflow runs: their summary, and what the engine knows of a running one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from perdure._search_attributes import TypedSearchAttributes, decode_search_attributes
from perdure.converter import DataConverter
from perdure_schemas.records import Described, ExecutionSummary, Payload, WorkflowStatus

_UNSET: Any = object()


class WorkflowExecutionStatus(IntEnum):
    """The status of a workflow run."""

    RUNNING = 1
    COMPLETED = 2
    FAILED = 3
    CANCELED = 4
    TERMINATED = 5
    CONTINUED_AS_NEW = 6
    TIMED_OUT = 7

    @staticmethod
    def of_record(status: WorkflowStatus) -> WorkflowExecutionStatus:
        """The status a record of the log names."""
        return WorkflowExecutionStatus[status.name]


class CarriesMemo:
    """The base of what carries a memo: its values, decoded."""

    data_converter: DataConverter

    def _memo_payloads(self) -> Mapping[str, Payload]:
        raise NotImplementedError

    async def memo(self) -> Mapping[str, Any]:
        """The memo's values, without type hints."""
        return {key: (await self.data_converter.decode([value]))[0] for key, value in self._memo_payloads().items()}

    async def memo_value(self, key: str, default: Any = _UNSET, *, type_hint: Any = None) -> Any:
        """One value of the memo.

        Args:
            key: Its key.
            default: What to return if there is none.
            type_hint: The type to convert it to.

        Raises:
            KeyError: there is none, and no default was given.
        """
        payload = self._memo_payloads().get(key)
        if payload is None:
            if default is _UNSET:
                raise KeyError(f"the memo has no value {key!r}")
            return default
        return (await self.data_converter.decode([payload], [type_hint] if type_hint is not None else None))[0]


@dataclass
class WorkflowExecution(CarriesMemo):
    """A workflow run, as lists show it. Times are aware and in UTC.

    Attributes:
        close_time: When it ended; ``None`` while it runs.
        execution_time: When its first workflow task was or is due: later than ``start_time`` if it was delayed.
        history_length: How many events its history has.
        id: Workflow id.
        namespace: Its namespace.
        parent_id / parent_run_id: The run that started it as its child; ``None`` if it is no child.
        root_id / root_run_id: The run at the top of its tree; ``None`` if it is no child.
        raw_info: The record of the log this was made from; ``raw_info.stuck_reason`` says why its workflow task fails
            again and again, if it does.
        run_id: Run id.
        start_time: When it was started.
        status: Its status.
        task_queue: Its task queue.
        workflow_type: Its workflow's name.
        typed_search_attributes: Its search attributes.
        data_converter: How its memo is decoded.
    """

    close_time: datetime | None
    execution_time: datetime | None
    history_length: int
    id: str
    namespace: str
    parent_id: str | None
    parent_run_id: str | None
    root_id: str | None
    root_run_id: str | None
    raw_info: ExecutionSummary
    run_id: str
    start_time: datetime
    status: WorkflowExecutionStatus | None
    task_queue: str
    workflow_type: str
    typed_search_attributes: TypedSearchAttributes
    data_converter: DataConverter

    @property
    def search_attributes(self) -> Mapping[str, Sequence[Any]]:
        """The search attributes without their types: each name with its values."""
        return {
            pair.key.name: list(pair.value) if isinstance(pair.value, list) else [pair.value]
            for pair in self.typed_search_attributes
        }

    def _memo_payloads(self) -> Mapping[str, Payload]:
        return self.raw_info.memo


@dataclass
class WorkflowExecutionDescription(WorkflowExecution):
    """A workflow run, as the engine describes it.

    Attributes:
        raw_description: The engine's answer, with pending activities and the pending workflow task.
    """

    raw_description: Described

    async def static_summary(self) -> str | None:
        """The line about the workflow that its start gave, if it did."""
        return await self._text(self.raw_description.static_summary)

    async def static_details(self) -> str | None:
        """The text about the workflow that its start gave, if it did."""
        return await self._text(self.raw_description.static_details)

    async def current_details(self) -> str | None:
        """What the workflow code last said of the run with ``set_current_details``, if it did."""
        return await self._text(self.raw_description.current_details) or None

    async def _text(self, payload: Payload | None) -> str | None:
        return None if payload is None else str((await self.data_converter.decode([payload], [str]))[0])


@dataclass
class WorkflowExecutionCountAggregationGroup:
    """The count of one group of a grouped count."""

    count: int
    group_values: Sequence[Any]


@dataclass
class WorkflowExecutionCount:
    """How many runs there are."""

    count: int
    groups: Sequence[WorkflowExecutionCountAggregationGroup]


def execution_of(summary: ExecutionSummary, namespace: str, converter: DataConverter) -> WorkflowExecution:
    """A run from its record."""
    return WorkflowExecution(**_fields_of(summary, namespace, converter))


def description_of(described: Described, namespace: str, converter: DataConverter) -> WorkflowExecutionDescription:
    """A run from the engine's answer."""
    return WorkflowExecutionDescription(
        **_fields_of(described.summary, namespace, converter), raw_description=described
    )


def _fields_of(summary: ExecutionSummary, namespace: str, converter: DataConverter) -> dict[str, Any]:
    parent = summary.parent
    return {
        "close_time": None if summary.close_time_ms is None else utc_time(summary.close_time_ms),
        "execution_time": utc_time(summary.execution_time_ms),
        "history_length": summary.history_length,
        "id": summary.workflow_id,
        "namespace": namespace,
        "parent_id": None if parent is None else parent.workflow_id,
        "parent_run_id": None if parent is None else parent.run_id,
        "root_id": None if parent is None else parent.root_workflow_id,
        "root_run_id": None if parent is None else parent.root_run_id,
        "raw_info": summary,
        "run_id": summary.run_id,
        "start_time": utc_time(summary.start_time_ms),
        "status": WorkflowExecutionStatus.of_record(summary.status),
        "task_queue": summary.task_queue,
        "workflow_type": summary.workflow_type,
        "typed_search_attributes": decode_search_attributes(summary.search_attributes),
        "data_converter": converter,
    }


def utc_time(time_ms: int) -> datetime:
    """A time of the log as an aware one."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)
