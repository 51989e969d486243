"""Continuing as new, and what a run carries, as the workflow runtime has it: commands, replay, errors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from perdure import workflow
from perdure.common import (
    RetryPolicy,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
)
from perdure_schemas import records as r
from tests.support.history_builder import Driver, History, kinds, payloads, run, runner, values

CUSTOMER = SearchAttributeKey.for_keyword("Customer")
AMOUNT = SearchAttributeKey.for_int("Amount")


@workflow.defn
class Continues:
    def __init__(self) -> None:
        self.asked = False

    @workflow.run
    async def run(self, number: int) -> None:
        await workflow.wait_condition(lambda: self.asked)
        try:
            workflow.continue_as_new(
                number + 1,
                task_queue="other",
                run_timeout=timedelta(seconds=5),
                retry_policy=RetryPolicy(maximum_attempts=2),
                memo={"m": 1},
                backoff_start_interval=timedelta(seconds=1),
            )
        except Exception:
            workflow.logger.error("an Exception it is not")

    @workflow.signal
    def ask(self) -> None:
        self.asked = True


@workflow.defn
class FromHandler:
    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    async def leave(self) -> None:
        workflow.continue_as_new(workflow="Other")


@workflow.defn
class Upserts:
    @workflow.run
    async def run(self) -> list[object]:
        workflow.upsert_memo({"a": 1, "b": None})
        workflow.upsert_search_attributes([CUSTOMER.value_set("ada"), AMOUNT.value_set(1), AMOUNT.value_unset()])
        await workflow.sleep(1)
        workflow.upsert_memo({"a": 2})
        attributes = workflow.info().typed_search_attributes
        return [workflow.memo_value("a"), "b" in workflow.memo(), attributes[CUSTOMER], AMOUNT in attributes]


@workflow.defn
class Suggested:
    def __init__(self) -> None:
        self.asked = 0

    @workflow.run
    async def run(self) -> list[object]:
        await workflow.wait_condition(lambda: self.asked > 0)
        info = workflow.info()
        return [info.get_current_history_size(), info.is_continue_as_new_suggested()]

    @workflow.signal
    def ask(self) -> None:
        self.asked += 1


@workflow.defn
class Remembers:
    @workflow.run
    async def run(self) -> list[object]:
        return [
            workflow.has_last_completion_result(),
            workflow.get_last_completion_result(int),
            str(workflow.get_last_failure()),
            workflow.info().cron_schedule,
            workflow.info().continued_run_id,
        ]


@workflow.defn
class BadValue:
    @workflow.run
    async def run(self) -> None:
        workflow.upsert_search_attributes([AMOUNT.value_set("many")])  # type: ignore[arg-type]


def test_continuing_closes_the_run_with_what_was_given() -> None:
    driver = Driver(Continues, 4)
    assert driver.commands() == []
    driver.history.signal("ask")
    (command,) = driver.attempt().commands  # type: ignore[union-attr]
    assert isinstance(command, r.ContinueAsNewWorkflowExecution)
    assert (command.workflow_type, command.task_queue, values(command.input)) == ("Continues", "other", [5])
    assert (command.run_timeout_ms, command.task_timeout_ms) == (5_000, None)
    assert (command.replaces_memo, command.replaces_search_attributes) == (True, False)
    assert command.backoff_start_interval_ms == 1_000
    assert command.retry_policy is not None


def test_a_signal_handler_may_continue_the_run_as_another_workflow() -> None:
    driver = Driver(FromHandler)
    driver.step()
    driver.history.signal("leave")
    (command,) = driver.commands()
    assert isinstance(command, r.ContinueAsNewWorkflowExecution)
    assert (command.workflow_type, command.task_queue, command.input) == ("Other", "queue", [])


def test_a_closed_run_is_replayed_for_queries() -> None:
    driver = Driver(FromHandler)
    driver.step()
    driver.history.signal("leave")
    driver.step()
    assert driver.history.closed
    with pytest.raises(Exception, match="nothing"):
        driver.query("nothing")


def test_upserts_are_commands_and_show_at_once() -> None:
    driver = Driver(Upserts, memo={"b": 3})
    first = driver.commands()
    assert kinds(first) == ["ModifyWorkflowProperties", "UpsertWorkflowSearchAttributes", "StartTimer"]
    assert first[0].removed_memo == ["b"]  # type: ignore[union-attr]
    assert list(first[1].search_attributes) == ["Customer"]  # type: ignore[union-attr]
    assert first[1].removed == ["Amount"]  # type: ignore[union-attr]
    driver.history.fire_timer("1")
    last = driver.commands()
    assert kinds(last) == ["ModifyWorkflowProperties", "CompleteWorkflowExecution"]
    assert values(last[1].result) == [[2, False, "ada", False]]  # type: ignore[union-attr]


def test_other_keys_on_replay_are_a_non_determinism() -> None:
    driver = Driver(Upserts)
    driver.step()
    driver.history.fire_timer("1")
    record = driver.history.records[2]
    changed = [
        r.Event(event_id=e.event_id, event_time_ms=e.event_time_ms, attributes=_renamed(e.attributes))
        for e in record.events
    ]
    driver.history.records[2] = r.HistoryRecord(
        workflow_id=record.workflow_id, run_id=record.run_id, command_offset=2, epoch=0, events=changed
    )
    failed = run(runner(Upserts), driver.history, driver.history.task())
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert failed.cause == "NON_DETERMINISTIC_ERROR"


def _renamed(attributes: r.EventAttributes) -> r.EventAttributes:
    if isinstance(attributes, r.WorkflowPropertiesModified):
        return r.WorkflowPropertiesModified(
            upserted_memo={"z": payloads(1)[0]},
            workflow_task_completed_event_id=attributes.workflow_task_completed_event_id,
        )
    return attributes


@pytest.mark.parametrize(("history_bytes", "suggested"), [(5_000, False), (4 * 1024 * 1024 + 1, True)])
def test_a_large_history_suggests_to_continue(history_bytes: int, suggested: bool) -> None:
    driver = Driver(Suggested)
    driver.step()
    driver.history.signal("ask")
    history = driver.history
    history.scheduled_task = history.last_event_id + 1
    history.add(
        r.WorkflowTaskScheduled(task_queue="queue", start_to_close_timeout_ms=10_000, history_bytes=history_bytes)
    )
    (command,) = driver.commands()
    assert values(command.result) == [[history_bytes, suggested]]  # type: ignore[union-attr]


def test_a_long_history_suggests_to_continue() -> None:
    driver = Driver(Suggested, check_replay=False)
    driver.step()
    for _ in range(4_096):
        driver.history.signal("ask")
    (command,) = driver.commands()
    assert values(command.result) == [[0, True]]  # type: ignore[union-attr]


def test_a_run_knows_what_came_before_it() -> None:
    history = History("Remembers")
    first = history.records[0]
    started = r.WorkflowExecutionStarted(
        workflow_type="Remembers",
        task_queue="queue",
        first_execution_run_id="first",
        start_command_id="start",
        continued_run_id="before",
        cron_schedule="@hourly",
        last_completion_result=payloads(7),
        last_failure=r.Failure(kind=r.FailureKind.APPLICATION, message="no", type="Oops"),
    )
    event = r.Event(event_id=1, event_time_ms=history.clock_ms, attributes=started)
    history.records[0] = r.HistoryRecord(
        workflow_id="wf", run_id=first.run_id, command_offset=0, epoch=0, events=[event]
    )
    done = run(runner(Remembers), history, history.task())
    assert isinstance(done, r.WorkflowTaskCompleted)
    assert values(done.commands[0].result) == [[True, 7, "Oops: no", "@hourly", "before"]]  # type: ignore[union-attr]


def test_a_value_of_another_type_fails_the_task() -> None:
    failed = Driver(BadValue).attempt()
    assert isinstance(failed, r.WorkflowTaskFailed)
    assert "'Amount' is a Int" in failed.failure.message


def test_outside_of_a_workflow_there_is_nothing_to_continue() -> None:
    with pytest.raises(workflow.NotInWorkflowError):
        workflow.continue_as_new()


def test_search_attributes_are_a_sorted_collection_by_key() -> None:
    due = SearchAttributeKey.for_datetime("Due")
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    attributes = TypedSearchAttributes([SearchAttributePair(due, noon), SearchAttributePair(CUSTOMER, "ada")])
    assert [pair.key.name for pair in attributes] == ["Customer", "Due"]
    assert (len(attributes), attributes[due], attributes.get(AMOUNT, 5)) == (2, noon, 5)
    assert attributes.updated(SearchAttributePair(CUSTOMER, "bob"))[CUSTOMER] == "bob"
    assert SearchAttributeKey.for_text("Customer") not in attributes
    assert due.value_type is datetime
    with pytest.raises(ValueError, match="given twice"):
        TypedSearchAttributes([SearchAttributePair(CUSTOMER, "a"), SearchAttributePair(CUSTOMER, "b")])
    with pytest.raises(KeyError):
        attributes[AMOUNT]
