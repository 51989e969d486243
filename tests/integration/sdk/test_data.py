"""Data converters against a running engine: Pydantic models, large payloads in a store, and a codec server."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import BaseModel

from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError
from perdure.contrib.pydantic import pydantic_data_converter
from perdure.converter import DataConverter, ExternalStorage, FolderStorageDriver
from perdure.exceptions import ActivityError, ApplicationError
from perdure.worker import Worker
from perdure_schemas.limits import PAYLOAD_BYTES_MAX


class Amount(BaseModel):
    value: Decimal
    currency: str


def _client_with(base: Client, converter: DataConverter) -> Client:
    found = base._connection
    assert found is not None
    return Client.from_log(found.log, namespace=base.namespace, names=found.names, data_converter=converter)


@activity.defn
async def double(amount: Amount) -> Amount:
    return Amount(value=amount.value * 2, currency=amount.currency)


@workflow.defn
class Doubling:
    @workflow.run
    async def run(self, amounts: list[Amount]) -> dict[str, Amount]:
        found = {}
        for amount in amounts:
            doubled = await workflow.execute_activity(double, amount, start_to_close_timeout=timedelta(seconds=20))
            found[doubled.currency] = doubled
        return found


async def test_pydantic_models_are_arguments_and_results(client: Client, task_queue: str) -> None:
    typed = _client_with(client, pydantic_data_converter)
    amounts = [Amount(value=Decimal("1.25"), currency="EUR"), Amount(value=Decimal("0.1"), currency="CHF")]
    async with Worker(typed, task_queue=task_queue, workflows=[Doubling], activities=[double]):
        result = await typed.execute_workflow(Doubling.run, amounts, id=task_queue, task_queue=task_queue)
    assert result == {
        "EUR": Amount(value=Decimal("2.50"), currency="EUR"),
        "CHF": Amount(value=Decimal("0.2"), currency="CHF"),
    }


@activity.defn
async def repeat(text: str, times: int) -> str:
    return text * times


@workflow.defn
class Growing:
    @workflow.run
    async def run(self, text: str, times: int) -> str:
        return await workflow.execute_activity(repeat, args=[text, times], start_to_close_timeout=timedelta(seconds=20))


async def test_large_payloads_go_through_a_store(embedded_client: Client, task_queue: str, tmp_path: Path) -> None:
    storage = ExternalStorage([FolderStorageDriver(tmp_path)])
    stored = _client_with(embedded_client, dataclasses.replace(DataConverter.default, external_storage=storage))
    text = "0123456789"
    times = PAYLOAD_BYTES_MAX // len(text) + 1000
    async with Worker(stored, task_queue=task_queue, workflows=[Growing], activities=[repeat]):
        handle = await stored.start_workflow(Growing.run, args=[text, times], id=task_queue, task_queue=task_queue)
        assert await handle.result() == text * times
    assert len((await handle.fetch_history()).to_json()) < 10_000
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) > PAYLOAD_BYTES_MAX


async def test_without_a_store_a_large_result_is_a_clear_error(embedded_client: Client, task_queue: str) -> None:
    times = PAYLOAD_BYTES_MAX // 10 + 1000
    async with Worker(embedded_client, task_queue=task_queue, workflows=[Growing], activities=[repeat]):
        with pytest.raises(WorkflowFailureError) as caught:
            await embedded_client.execute_workflow(
                Growing.run, args=["0123456789", times], id=task_queue, task_queue=task_queue
            )
    assert isinstance(caught.value.cause, ActivityError)
    cause = caught.value.cause.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == "PayloadSizeExceeded" and cause.non_retryable
    assert f"{PAYLOAD_BYTES_MAX} are allowed" in cause.message
