"""Workflows that talk to each other: one partition, whose commands to other workflows come back to it."""

from __future__ import annotations

from typing import Any

from perdure_runtime.log import LogRecord, NewRecord
from perdure_schemas import codec, keys
from perdure_schemas.records import (
    ChildWorkflowOptions,
    Command,
    Event,
    StartChildWorkflowExecution,
)
from tests.unit.history.harness import NAMES, History, payload


def child_options(workflow_id: str = "child", **fields: Any) -> ChildWorkflowOptions:
    defaults = {"workflow_id": workflow_id, "workflow_type": "Child", "task_queue": "kids", "input": [payload("in")]}
    return ChildWorkflowOptions(**{**defaults, **fields})


def start_child(workflow_id: str = "child", **fields: Any) -> StartChildWorkflowExecution:
    return StartChildWorkflowExecution(options=child_options(workflow_id, **fields))


class Family:
    """Delivers what runs send to each other, in order, each ``times`` times."""

    def __init__(self, history: History | None = None, *, times: int = 1) -> None:
        self.history = history or History()
        self.times = times
        self.delivered = 0

    def pending(self) -> list[Command]:
        """The commands on their way."""
        return [codec.decode_as(record.value, Command) for record in self._sent()[self.delivered :]]

    def pump(self) -> list[Command]:
        """Deliver all that is on its way, and what that leads to; returns what was delivered."""
        done = []
        while len(self._sent()) > self.delivered:
            record = self._sent()[self.delivered]
            self.delivered += 1
            for _ in range(self.times):
                self.deliver(record)
            done.append(codec.decode_as(record.value, Command))
        return done

    def drop(self) -> list[Command]:
        """Lose what is on its way."""
        lost = self.pending()
        self.delivered = len(self._sent())
        return lost

    def deliver(self, record: NewRecord) -> None:
        history = self.history
        assert record.key == codec.decode_as(record.value, Command).workflow_id.encode()
        offset, history.offset = history.offset, history.offset + 1
        history.deliver(LogRecord(NAMES.commands, 0, offset, record.key, record.value, history.now_ms))

    def act(self, run_id: str, *commands: Any, **fields: Any) -> None:
        """A run's workflow task asks for something, and everything follows from it."""
        self.ask(run_id, *commands, **fields)
        self.pump()

    def ask(self, run_id: str, *commands: Any, **fields: Any) -> None:
        """A run's workflow task asks for something; what that sends is still on its way."""
        self.history.complete_task(*commands, run_id=run_id, **fields)

    def current(self, workflow_id: str) -> str:
        run = self.history.handler._runs.current(workflow_id)
        assert run is not None
        return run.state.run_id

    def kinds(self, run_id: str) -> list[str]:
        return [type(event.attributes).__name__ for event in self.history.history(run_id)]

    def last(self, run_id: str, kind: type[Any]) -> Any:
        """The newest event of that kind."""
        found = [event.attributes for event in self.history.history(run_id) if isinstance(event.attributes, kind)]
        return found[-1]

    def events(self, run_id: str) -> list[Event]:
        return self.history.history(run_id)

    def _sent(self) -> list[NewRecord]:
        return [record for record in self.history.all_sent if record.topic == NAMES.commands]


def child_run(parent_run_id: str = "run", initiated_event_id: int = 4) -> str:
    return keys.child_run_id(parent_run_id, initiated_event_id)
