"""Lists and counts as users ask for them, on both logs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from perdure import workflow
from perdure.client import Client, WorkflowExecutionStatus
from perdure.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from perdure.service import RPCError, RPCStatusCode
from perdure.worker import Worker
from perdure_readside.service import ReadSide
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames

AMOUNT = SearchAttributeKey.for_int("ListAmount")
REGION = SearchAttributeKey.for_keyword("ListRegion")


@workflow.defn
class Listed:
    """Ends at once, or waits."""

    @workflow.run
    async def run(self, wait: bool) -> None:
        await workflow.wait_condition(lambda: not wait)


def _attributes(amount: int, region: str) -> TypedSearchAttributes:
    return TypedSearchAttributes([SearchAttributePair(AMOUNT, amount), SearchAttributePair(REGION, region)])


async def _ids(client: Client, query: str) -> list[str]:
    return [run.id async for run in client.list_workflows(query)]


async def test_a_client_finds_what_it_wrote(client: Client, task_queue: str) -> None:
    here = f"TaskQueue = '{task_queue}'"
    async with Worker(client, task_queue=task_queue, workflows=[Listed]):
        for number in range(5):
            await client.start_workflow(
                Listed.run,
                number % 2 == 0,
                id=f"{task_queue}-{number}",
                task_queue=task_queue,
                search_attributes=_attributes(number, "eu" if number < 3 else "us"),
            )
            assert (await client.count_workflows(here)).count == number + 1
        for number in (1, 3):
            await client.get_workflow_handle(f"{task_queue}-{number}").result()
        assert await _ids(client, f"{here} AND ExecutionStatus = 'Completed' ORDER BY ListAmount") == [
            f"{task_queue}-1",
            f"{task_queue}-3",
        ]
        assert await _ids(client, f"{here} AND ListRegion = 'us' AND ListAmount > 3") == [f"{task_queue}-4"]
        counted = await client.count_workflows(f"{here} GROUP BY ExecutionStatus")
        assert {tuple(group.group_values): group.count for group in counted.groups} == {
            ("Completed",): 2,
            ("Running",): 3,
        }
        await client.get_workflow_handle(f"{task_queue}-0").terminate("enough")
        (closed,) = [run async for run in client.list_workflows(f"{here} AND ExecutionStatus = 'Terminated'")]
        assert closed.status is WorkflowExecutionStatus.TERMINATED
        assert closed.typed_search_attributes[REGION] == "eu"
        assert closed.close_time is not None
        assert closed.close_time <= datetime.now(UTC)


async def test_pages(embedded_client: Client, task_queue: str) -> None:
    for number in range(7):
        await embedded_client.start_workflow("Nobody", id=f"{task_queue}-{number}", task_queue=task_queue)
    query = "ORDER BY WorkflowId"
    iterator = embedded_client.list_workflows(query, page_size=3)
    assert iterator.current_page is None
    await iterator.fetch_next_page()
    assert iterator.current_page is not None
    assert [run.id[-1] for run in iterator.current_page] == ["0", "1", "2"]
    token = iterator.next_page_token
    assert [run.id[-1] async for run in iterator] == list("0123456")
    rest = embedded_client.list_workflows(query, page_size=2, next_page_token=token)
    assert [run.id[-1] async for run in rest] == list("3456")
    assert [run.id[-1] async for run in embedded_client.list_workflows(query, limit=4, page_size=3)] == list("0123")


async def test_a_wrong_filter_is_the_callers_error(embedded_client: Client) -> None:
    for ask in (
        embedded_client.list_workflows("Nonsense").fetch_next_page,
        lambda: embedded_client.count_workflows("="),
    ):
        with pytest.raises(RPCError, match="the filter") as caught:
            await ask()
        assert caught.value.status is RPCStatusCode.INVALID_ARGUMENT
    with pytest.raises(ValueError, match="page_size is 0"):
        embedded_client.list_workflows(page_size=0)


async def test_read_sides_share_the_questions_and_one_may_leave(
    platform: tuple[Log, TopicNames], task_queue: str, tmp_path: Path
) -> None:
    log, names = platform
    client = Client.from_log(log, namespace=names.namespace)
    another = ReadSide(log, names, tmp_path, instance=f"another-{task_queue}")
    another.start()
    try:
        for number in range(4):
            await client.start_workflow("Nobody", id=f"{task_queue}-{number}", task_queue=task_queue)
            assert (await client.count_workflows(f"TaskQueue = '{task_queue}'")).count == number + 1
    finally:
        another.stop()
    assert (await client.count_workflows(f"TaskQueue = '{task_queue}'")).count == 4
    await client.close()
